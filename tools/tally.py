#!/usr/bin/env python3
"""Counts what a ctest run did: test cases, not just programs.

usage: tally.py TITLE JUNIT.xml    prints one line and the names of what failed; the last line is `PASSED FAILED SKIPPED`.
What the failed ones complained about goes to standard error.

A program's own last words count: Catch2's summary (versions 2 and 3), or a line `N passed, N failed, N skipped`. One that
said nothing of the kind, because it crashed or ran out of time, counts as one.
"""
import re
import sys
import xml.etree.ElementTree

PLAIN = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped\s*$", re.M)
ALL = re.compile(r"^All tests passed \(.*? in (\d+) test cases?\)", re.M)
SOME = re.compile(r"^test cases: .*$", re.M)


def counted(output):
    """(passed, failed, skipped) as the program says, or nothing."""
    found = [(m.start(), m) for pattern in (PLAIN, ALL, SOME) for m in pattern.finditer(output)]
    if not found:
        return None
    said = max(found, key=lambda f: f[0])[1]
    if said.re is PLAIN:
        return tuple(int(n) for n in said.groups())
    if said.re is ALL:
        return int(said.group(1)), 0, 0
    passed = failed = skipped = 0
    for number, what in re.findall(r"(\d+) (passed|failed as expected|failed|skipped)", said.group(0)):
        if what == "failed":
            failed += int(number)
        elif what == "skipped":
            skipped += int(number)
        else:
            passed += int(number)
    return passed, failed, skipped


COMPLAINT = re.compile(r"FAILED:|ERROR: |WARNING: ThreadSanitizer|runtime error: |[Aa]ssertion|terminate called")


def complaints(output):
    """The lines about what went wrong, with what is around them; the last ones, where none says so."""
    lines = output.splitlines()
    where = [i for i, line in enumerate(lines) if COMPLAINT.search(line)]
    shown = sorted({j for i in where for j in range(i - 6, i + 25 if "Sanitizer" in lines[i] else i + 7) if 0 <= j < len(lines)})
    if not shown:
        shown = list(range(max(len(lines) - 20, 0), len(lines)))
    return [lines[i][:300] for i in shown[:80]]


def main():
    title, path = sys.argv[1:]
    passed = failed = skipped = programs = 0
    bad = []
    for case in xml.etree.ElementTree.parse(path).getroot().iter("testcase"):
        name, status = case.get("name"), case.get("status")
        programs += 1
        left_out = case.find("skipped")
        if left_out is not None and "SKIP_" in (left_out.get("message") or ""):
            status = "skipped"
        output = case.findtext("system-out") or ""
        p, f, s = counted(output) or (0, 0, 0)
        if status == "skipped" or status == "disabled":
            p, f, s = 0, 0, max(s, 1)
        elif status == "run":
            if f:
                bad.append((name, output))
            if p + f + s == 0:
                p = 1
        else:
            f = max(f, 1)
            bad.append((name, output))
        passed, failed, skipped = passed + p, failed + f, skipped + s
    line = f"{title}: {passed + failed + skipped} tests in {programs} programs: {passed} passed, {failed} failed"
    print(line + (f", {skipped} skipped" if skipped else ""))
    for name, output in bad:
        print(f"  FAILED: {name}")
        print(f"-- {name} said:", *complaints(output), "--", sep="\n", file=sys.stderr)
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
