#!/usr/bin/env python3
"""One table of Google Benchmark's reports. Names are GROUP/CONTENDER[/options].

usage: bench_table.py REPORT.json...
"""
import json
import os
import platform
import statistics
import sys


def shown(nanoseconds):
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.2f} {unit}"
    return f"{nanoseconds:.1f} ns"


# What Google Benchmark itself writes of a run; whatever else a row has is a counter of the benchmark's.
ITS_OWN = {"name", "family_index", "per_family_instance_index", "run_name", "run_type", "repetitions",
           "repetition_index", "threads", "iterations", "real_time", "cpu_time", "time_unit", "items_per_second",
           "label"}


class Contender:
    """All runs of one contender. Its figures are medians; of a counter named worst_... the worst."""

    def __init__(self):
        self.times = []
        self.counters = {}
        self.failed = None

    def take(self, row):
        if row.get("error_occurred"):
            self.failed = row.get("error_message", "")
            return
        nanoseconds = row["real_time"] * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[row["time_unit"]]
        rate = row.get("items_per_second")
        self.times.append(1e9 / rate if rate else nanoseconds)
        for key in row.keys() - ITS_OWN:
            self.counters.setdefault(key, []).append(row[key])

    def each(self):
        return statistics.median(self.times)

    def remarks(self):
        return ", ".join(f"{key} {(max if key.startswith('worst') else statistics.median)(self.counters[key]):.2f}"
                         for key in sorted(self.counters))


def main():
    groups = {}
    for path in sys.argv[1:]:
        if os.path.getsize(path) == 0:  # the filter left nothing of it
            continue
        with open(path, encoding="utf-8") as file:
            # Their order is mixed; the index is that of the program's text.
            for row in sorted(json.load(file)["benchmarks"], key=lambda row: row.get("family_index", 0)):
                if row.get("run_type", "iteration") != "iteration":
                    continue
                parts = row["name"].split("/")
                contenders = groups.setdefault(parts[0], {})
                contenders.setdefault(parts[1] if len(parts) > 1 else parts[0], Contender()).take(row)
    runs = max((len(c.times) for contenders in groups.values() for c in contenders.values()), default=0)
    kernel = f"{platform.system()} {platform.release().split('-')[0]}"
    print(f"\n{os.cpu_count()} processors, {kernel}, {platform.machine()}; medians of {runs} runs")
    print(f"{'':32} {'time each':>12} {'a second':>14} {'against':>24}")
    for group in sorted(groups):
        print(group)
        times = {name: c.each() for name, c in groups[group].items() if c.failed is None}
        # Of several of ours the one without further words, else the first.
        measure = next((n for n in times if n.startswith("limit")), None) or (
            "polyproc" if "polyproc" in times else next((n for n in times if n.startswith("polyproc")), None))
        for name in sorted(times, key=times.get):
            ratio = f"{times[name] / times[measure]:.2f} x {measure}" if measure and name != measure else ""
            line = f"  {name:30} {shown(times[name]):>12} {1e9 / times[name]:>14,.0f} {ratio:>24}"
            print(f"{line}  {groups[group][name].remarks()}".rstrip())
        for name, contender in groups[group].items():
            if contender.failed is not None:
                print(f"  {name:30} failed: {contender.failed}")
    return 0 if groups else 1


if __name__ == "__main__":
    sys.exit(main())
