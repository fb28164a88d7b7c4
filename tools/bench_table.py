#!/usr/bin/env python3
"""One table of Google Benchmark's reports. Names are GROUP/CONTENDER[/options].

usage: bench_table.py REPORT.json...
"""
import json
import os
import platform
import sys


def shown(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds:.1f} ns"


def main():
    groups = {}
    for path in sys.argv[1:]:
        if os.path.getsize(path) == 0:  # the filter left nothing of it
            continue
        with open(path, encoding="utf-8") as file:
            for row in json.load(file)["benchmarks"]:
                if row.get("run_type", "iteration") != "iteration":
                    continue
                parts = row["name"].split("/")
                if row.get("error_occurred"):
                    groups.setdefault(parts[0], []).append((parts[1], None, row.get("error_message", "")))
                    continue
                nanoseconds = row["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row["time_unit"]]
                rate = row.get("items_per_second")
                each = 1e9 / rate if rate else nanoseconds
                groups.setdefault(parts[0], []).append((parts[1] if len(parts) > 1 else parts[0], each, rate))
    print(f"\n{os.cpu_count()} processors, {platform.system()} {platform.release().split('-')[0]}, {platform.machine()}")
    print(f"{'':32} {'time each':>12} {'a second':>14} {'against':>24}")
    for group in sorted(groups):
        print(group)
        rows = groups[group]
        times = {name: each for name, each, _ in rows if each}
        measure = next((n for n in times if n.startswith("limit")), next((n for n in times if n.startswith("polyproc")), None))
        for name, each, rate in sorted(rows, key=lambda row: (row[1] is None, row[1])):
            if each is None:
                print(f"  {name:30} failed: {rate}")
                continue
            ratio = f"{each / times[measure]:.2f} x {measure}" if measure and name != measure else ""
            print(f"  {name:30} {shown(each):>12} {1e9 / each:>14,.0f} {ratio:>24}")
    return 0 if groups else 1


if __name__ == "__main__":
    sys.exit(main())
