"""Tables, in Markdown, from what suite.py measured. Nothing that failed is left out: it has its word in the table."""
from measure import median_and_spread
from rows import ALL_BOUND, BOOT_BOUND, GROUPS, MEMORY_BOUND, ROW_BOUND, geometric_mean, slowdown


class Report:
    def __init__(self, data):
        self.data, self.columns, self.rows = data, data["columns"], data["rows"]
        self.base = "native" if "native" in self.columns else None
        self.reference, self.compared = self.find_reference()
        self.unit, self.cells = {}, {}
        for name in self.columns:
            for row in self.rows:
                self.cells[name, row] = self.cell(name, row)

    def find_reference(self):
        """({row: the first column's check}, {rows that some other column computed too})"""
        reference, compared = {}, set()
        for column in self.columns.values():
            seen = {row: check for run in reversed(column["runs"]) for row, check in run["checks"].items()}
            compared.update(row for row in seen if row in reference)
            reference = {**seen, **reference}
        return reference, compared

    def cell(self, name, row):
        """{value, spread, wrong: [reasons], clock}: value only when there is any good run."""
        values, wrong, clock = [], [], False
        column = self.columns[name]
        for number, run in enumerate(column["runs"], 1):
            figure = run["rows"].get(row)
            if row not in column["rows"]:
                wrong.append((number, "not run", "-"))
            elif not figure:
                wrong.append((number, f"no result (status {run['status']})", "MISSING"))
            elif "fail" in figure:
                wrong.append((number, figure["fail"], "skipped" if figure.get("skip") else "FAIL"))
            elif run["checks"].get(row, "") != self.reference.get(row, ""):
                reason = f"computed {run['checks'].get(row, 'nothing')}, not {self.reference[row]}"
                wrong.append((number, reason, "WRONG"))
            else:
                values.append(figure["value"])
                clock |= figure.get("clock", False)
                self.unit[row] = figure["unit"]
        cell = {"wrong": wrong, "clock": clock}
        if values:
            cell["value"], cell["spread"] = median_and_spread(values)
        return cell

    def ratio(self, name, row):
        """Times slower than native, or None; a row that failed in any run has none."""
        cell, base = self.cells[name, row], self.cells.get((self.base, row), {})
        if cell["wrong"] or "value" not in cell or "value" not in base:
            return None
        return slowdown(self.unit[row], cell["value"], base["value"])

    def cell_text(self, name, row):
        cell, words = self.cells[name, row], []
        if "value" in cell:
            words.append(f"{cell['value']:.4g}")
            if len(self.columns[name]["runs"]) > 1:
                words.append(f"±{cell['spread']:.0%}")
        if cell["wrong"]:
            words.append("/".join(sorted({kind for _, _, kind in cell["wrong"]})))
        elif name != self.base and self.ratio(name, row):
            words.append(f"({self.ratio(name, row):.2f}x)")
        return " ".join(words + ["clock!"] * cell["clock"])

    def mean_text(self, name, rows, bound):
        ratios = [r for r in (self.ratio(name, row) for row in rows) if r]
        if not ratios:
            return "-"
        mean = geometric_mean(ratios)
        missing = f" ({len(ratios)} of {len(rows)} rows)" if len(ratios) < len(rows) else ""
        return f"{mean:.2f}{missing}" + self.over(name, mean, bound)

    @staticmethod
    def over(name, value, bound):
        return " over" if bound and value > bound and name.startswith("ringer") else ""

    def rows_table(self):
        table = Table(["row", "unit", *self.columns])
        for row in self.rows:
            table.add(row, self.unit.get(row, ""), *(self.cell_text(name, row) for name in self.columns))
        return table.text()

    def groups_table(self):
        others = [name for name in self.columns if name != self.base]
        table = Table(["times slower than native", "bound", *others])
        for title, bound, rows in GROUPS.values():
            rows = [row for row in rows if row in self.rows]
            if len(rows) > 1:
                table.add(f"{title} ({len(rows)})", bound or "", *(self.mean_text(n, rows, bound) for n in others))
        for row, bound in ROW_BOUND.items():
            if row in self.rows:
                table.add(row, bound, *(self.mean_text(n, [row], bound) for n in others))
        table.add(f"all rows ({len(self.rows)})", ALL_BOUND,
                  *(self.mean_text(n, self.rows, ALL_BOUND) for n in others))
        if "qemu" in others:
            table.add("rows slower than qemu", 0, *(self.slower_than(n, "qemu") for n in others))
        return table.text()

    def slower_than(self, name, peer):
        slower = [row for row in self.rows if name != peer and (self.ratio(name, row) or 0) > (self.ratio(peer, row) or 1e9)]
        return f"{len(slower)}" + (": " + " ".join(slower) if slower else "") if name != peer else "-"

    def machine_table(self):
        others = [name for name in self.columns if name != self.base]
        table = Table(["", "bound", *others])

        def add(title, bound, list_name, key):
            texts = []
            for name in others:
                values = [run[key] for run in self.columns[name][list_name] if key in run]
                if not values:
                    texts.append("MISSING" if self.columns[name][list_name] else "-")
                    continue
                middle, spread = median_and_spread(values)
                part = f" ±{spread:.0%}" if len(values) > 1 else ""
                texts.append(f"{middle:.3g}{part}" + self.over(name, middle, bound))
            table.add(title, bound, *texts)

        add("start to user space, small image, s", BOOT_BOUND, "boots", "userspace_s")
        add("start to user space, this image, s", "", "runs", "userspace_s")
        add("start to exit, s", "", "runs", "seconds")
        add("guest memory touched, MiB", "", "runs", "guest_mib")
        add("memory beside it, MiB", MEMORY_BOUND, "runs", "beside_mib")
        add("peak of the process (VmHWM), MiB", "", "runs", "peak_mib")
        return table.text()

    def notes(self):
        for name, column in self.columns.items():
            if column["note"]:
                yield f"{name}: {column['note']}"
            for row in self.rows:
                for number, reason, kind in self.cells[name, row]["wrong"]:
                    if kind != "-":
                        yield f"{kind}: {name} run {number}: {row}: {reason}"
            for kind in ("runs", "boots"):
                for number, run in enumerate(column[kind], 1):
                    yield from self.run_notes(f"{name} {kind[:-1]} {number}", run, kind == "runs" and name != self.base)
        unchecked = [row for row in self.rows if row not in self.compared]
        if unchecked:
            yield "results not compared (no checksum, or only one column has it): " + " ".join(unchecked)

    @staticmethod
    def run_notes(what, run, says_done):
        if run["status"] != 0:
            yield f"FAIL: {what}: exit status {run['status']}"
        elif says_done and not run["done"]:
            yield f"FAIL: {what}: ended before the guest was done"
        for row, figure in run["rows"].items():
            if figure.get("clock"):
                yield (f"clock: {what}: {row}: {figure['guest_s']:.3f} s by the guest's clock, {figure['host_s']:.3f} s "
                       "by the host's, which counts")
        if run["others"] > 0.15 or run["stolen"] > 0.05:
            yield f"noise: {what}: others used {run['others']:.2f} of a processor, {run['stolen']:.2f} was stolen"

    def text(self):
        meta = self.data["meta"]
        parts = [f"{meta['cpu']}, {meta['cpus']} processors, {meta['host']}; {meta['when']}; 1 vCPU, "
                 f"{meta['memory_mib']} MiB; {meta['runs']} run(s) in turn, median ± half the range",
                 "\n".join(f"- {name}: {c['version']}" for name, c in self.columns.items()),
                 self.rows_table()]
        if self.base and len(self.columns) > 1:
            parts.append(self.groups_table())
        if any(name != self.base for name in self.columns):
            parts.append(self.machine_table())
        parts.append("\n".join(f"- {note}" for note in self.notes()))
        return "\n\n".join(part for part in parts if part) + "\n"

    def failed(self):
        """Whether Ringer got anything wrong (being slow is not wrong)."""
        return any(kind not in ("-", "skipped") for name in self.columns if name.startswith("ringer")
                   for row in self.rows for _, _, kind in self.cells[name, row]["wrong"])


class Table:
    def __init__(self, head):
        self.lines = [head]

    def add(self, *cells):
        self.lines.append([str(cell) for cell in cells])

    def text(self):
        rule = ["---"] * 2 + ["---:"] * (len(self.lines[0]) - 2)
        return "\n".join("| " + " | ".join(line) + " |" for line in [self.lines[0], rule, *self.lines[1:]])
