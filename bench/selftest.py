#!/usr/bin/env python3
"""Checks that the benchmark's tables show what went wrong: monitors that are shell scripts, no machine, no time asserted."""
import os
import unittest

import measure
import rows
from report import Report

GOOD = "USERSPACE; RUN int.crc; BENCH int.crc 100 MB/s 0.001 00000000d4cdb391; RUN perl; BENCH perl 0.1 s 0.01 -; CHECK perl 7; DONE"


def column(script, names=("int.crc", "perl"), runs=1, timeout=20, boots=()):
    argv = ["sh", "-c", script]
    results = [measure.parse(measure.run(argv, dict(os.environ), timeout, 0, lambda *_: None)) for _ in range(runs)]
    for result in results:      # the machine that runs this test is not quiet
        result["others"] = result["stolen"] = 0
    return {"version": "", "note": "", "rows": list(names), "runs": results, "boots": list(boots), "command": argv}


def says(text):
    """A monitor that prints these lines, `;` between them."""
    return "printf '%s\\n' " + " ".join(f"'{line.strip()}'" for line in text.split(";"))


def report(**columns):
    meta = {"cpu": "", "cpus": 1, "host": "", "when": "", "memory_mib": 1024, "runs": 1}
    names = {name.replace("_", "-"): c for name, c in columns.items()}
    return Report({"meta": meta, "rows": ["int.crc", "perl"], "columns": names})


class Tables(unittest.TestCase):
    def against_native(self, text, script=None, **options):
        return report(native=column(says(GOOD)), ringer=column(script or says(text), **options))

    def test_good(self):
        r = self.against_native(GOOD.replace("100 MB/s", "50 MB/s").replace("perl 0.1 s", "perl 0.3 s"))
        self.assertAlmostEqual(r.ratio("ringer", "int.crc"), 2)
        self.assertAlmostEqual(r.ratio("ringer", "perl"), 3)
        self.assertIn("| all rows (2) | 1.8 | 2.45 over |", r.text())
        self.assertNotIn("FAIL", r.text())
        self.assertFalse(r.failed())

    def test_wrong_checksum(self):
        for text in (GOOD.replace("d4cdb391", "d4cdb390"), GOOD.replace("CHECK perl 7", "CHECK perl 8"),
                     GOOD.replace("CHECK perl 7;", "")):
            r = self.against_native(text)
            self.assertIn("WRONG", r.rows_table())
            self.assertIn("(1 of 2 rows)", r.groups_table())
            self.assertIn("WRONG: ringer run 1:", r.text())
            self.assertTrue(r.failed())

    def test_fail(self):
        r = self.against_native(GOOD.replace("BENCH perl 0.1 s 0.01 -", "FAIL perl status 0x8b"))
        self.assertIn("FAIL: ringer run 1: perl: status 0x8b", r.text())
        self.assertIn("| perl | s | 0.1 | FAIL |", r.rows_table())

    def test_died(self):
        r = self.against_native("USERSPACE; RUN int.crc", script=says("USERSPACE; RUN int.crc") + "; exit 3")
        self.assertIn("int.crc: began and did not end", r.text())
        self.assertIn("MISSING: ringer run 1: perl: no result (status 3)", r.text())
        self.assertIn("FAIL: ringer run 1: exit status 3", r.text())

    def test_hangs(self):
        r = self.against_native("", script=says("USERSPACE") + "; sleep 1000 & sleep 1000", timeout=0.3)
        self.assertIn("exit status timeout", r.text())

    def test_zero_and_rubbish(self):
        for figure in ("0 MB/s 1.0 -", "nan MB/s 1.0 -", "inf MB/s 1.0 -", "x MB/s 1.0 -", "5 MB/s 0 -"):
            r = self.against_native(GOOD.replace("100 MB/s 0.001 00000000d4cdb391", figure))
            self.assertIn("FAIL", r.rows_table(), figure)

    def test_one_bad_run_of_two(self):
        first = column(says(GOOD))
        first["runs"].append(column(says(GOOD.replace("CHECK perl 7", "CHECK perl 9")))["runs"][0])
        r = report(native=column(says(GOOD)), ringer=first)
        self.assertIn("WRONG: ringer run 2: perl: computed 9, not 7", r.text())
        self.assertIsNone(r.ratio("ringer", "perl"))

    def test_clock(self):
        row = measure.figure("BENCH a 100 MB/s 1.0 -".split(), 2.0)
        self.assertTrue(row["clock"])
        self.assertEqual(row["value"], 50)
        row = measure.figure("BENCH a 100 ns/call 1.0 -".split(), 2.0)
        self.assertEqual(row["value"], 200)
        self.assertNotIn("clock", measure.figure("BENCH a 100 MB/s 1.0 -".split(), 1.01))
        self.assertIn("fail", measure.figure("BENCH a 100 MB/s 1.0 -".split(), 0.0))
        r = self.against_native(GOOD)
        r.columns["ringer"]["runs"][0]["rows"]["perl"].update(clock=True, guest_s=1.0, host_s=2.0)
        r = Report(r.data)
        self.assertIn("clock!", r.rows_table())
        self.assertIn("clock: ringer run 1: perl", r.text())

    def test_slower_than_qemu(self):
        r = report(native=column(says(GOOD)), ringer=column(says(GOOD.replace("perl 0.1 s", "perl 0.5 s"))),
                   qemu=column(says(GOOD.replace("perl 0.1 s", "perl 0.4 s"))))
        self.assertIn("1: perl", r.groups_table())

    def test_uncompared_is_said(self):
        self.assertIn("results not compared", report(ringer=column(says(GOOD))).text())


class Rows(unittest.TestCase):
    def test_select(self):
        self.assertEqual(rows.select(""), rows.ORDER)
        self.assertEqual(rows.select("perl,int.crc,perl"), ["int.crc", "perl"])
        self.assertEqual(rows.select("mem"), rows.GROUPS["mem"][2])
        self.assertEqual(rows.select("ind.*"), ["ind.vm", "ind.call"])
        for bad in ("nonsense", "int.crc,", "int.crc,nonsense"):
            self.assertRaises(ValueError, rows.select, bad)

    def test_once_each(self):
        self.assertEqual(len(rows.ORDER), len(set(rows.ORDER)))
        self.assertLessEqual(set(rows.ROW_BOUND), set(rows.ORDER))


if __name__ == "__main__":
    unittest.main()
