#!/usr/bin/env python3
"""Prints `passed failed skipped` of a Meson testlog.json."""
import json
import sys

PASSED = {"OK", "EXPECTEDFAIL"}


def main():
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with open(sys.argv[1]) as log:
        for line in log:
            result = json.loads(line)["result"]
            kind = "passed" if result in PASSED else "skipped" if result == "SKIP" else "failed"
            counts[kind] += 1
    print(counts["passed"], counts["failed"], counts["skipped"])


if __name__ == "__main__":
    main()
