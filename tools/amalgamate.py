#!/usr/bin/env python3
"""Makes the single header: include/polyproc/polyproc.hpp with every header of ours put where it is included.

Each part stands once, where it is first needed. Ours that are included under an #if stand in that branch; when several
branches need the same one, it stands before the #if, under a condition that holds in just those branches. Other headers
that are included unconditionally stand once; what is included under an #if stays there, for it may be needed elsewhere.

usage: amalgamate.py [--check] [-o FILE]
  --check   change nothing; exit status 1 and instructions when the file is stale
"""
import argparse
import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = os.path.join(ROOT, "include")
START = "polyproc/polyproc.hpp"
TARGET = os.path.join(ROOT, "single_include", "polyproc", "polyproc.hpp")

OURS = re.compile(r"\s*#\s*include\s*<(polyproc/[^>]+)>")
OTHER = re.compile(r"\s*#\s*include\s*(<[^>]+>|\"[^\"]+\")")
OPENS = re.compile(r"\s*#\s*if(def|ndef)?\b")
TURNS = re.compile(r"\s*#\s*(else|elif)\b")
CLOSES = re.compile(r"\s*#\s*endif\b")
ONCE = re.compile(r"\s*#\s*pragma\s+once\b")


class failure(Exception):
    pass


def read(name):
    path = os.path.join(INCLUDE, *name.split("/"))
    try:
        with open(path, encoding="utf-8", newline="") as text:
            return text.read().replace("\r\n", "\n").splitlines()
    except OSError as problem:
        raise failure(f"{name}: {problem.strerror}") from problem


def pieces(name):
    """(kind, value, branch) of each line: kind is ours, other or text; branch the path of conditions around it."""
    branch, number = [], 0
    for line in read(name):
        if ONCE.match(line):
            continue
        if OPENS.match(line):
            yield "text", line, tuple(branch)
            number += 1
            branch.append((number, 0))
            continue
        if TURNS.match(line) or CLOSES.match(line):
            if not branch:
                raise failure(f"{name}: an #else or #endif too many: {line}")
            open_number, turn = branch.pop()
            yield "text", line, tuple(branch)
            if TURNS.match(line):
                branch.append((open_number, turn + 1))
            continue
        ours, other = OURS.match(line), OTHER.match(line)
        if ours:
            yield "ours", ours.group(1), tuple(branch)
        elif other:
            yield "other", line.strip(), tuple(branch)
        else:
            yield "text", line, tuple(branch)
    if branch:
        raise failure(f"{name}: an #if without an #endif")


def everything_below(name, seen=None):
    """`name` and all of ours that it needs, what is needed before what needs it."""
    seen = {} if seen is None else seen
    if name not in seen:
        for kind, value, _ in pieces(name):
            if kind == "ours":
                everything_below(value, seen)
        seen[name] = None
    return seen


def chains(name):
    """The outermost #if chains of a file: for each, by number, the conditions of its branches (None for #else)."""
    found, open_chains, number = {}, [], 0
    for line in read(name):
        if OPENS.match(line):
            number += 1
            open_chains.append(number)
            found[number] = [condition(line)]
        elif TURNS.match(line):
            found[open_chains[-1]].append(condition(line))
        elif CLOSES.match(line):
            open_chains.pop()
    return found


def condition(line):
    said = re.match(r"\s*#\s*(ifdef|ifndef|if|elif|else)\b\s*(.*?)\s*(?://.*)?$", line)
    word, expression = said.groups()
    if word == "else":
        return None
    return {"ifdef": "defined(%s)", "ifndef": "!defined(%s)"}.get(word, "%s") % expression


def one_of(conditions, branches):
    """The expression that is true when one of these branches of the chain is taken."""
    if len(branches) == len(conditions) and conditions[-1] is None:
        return "1"

    def taken(k):
        parts = [f"!({c})" for c in conditions[:k]] + ([f"({conditions[k]})"] if conditions[k] is not None else [])
        return " && ".join(parts)

    # The first branches together need no word about the others.
    plain = [f"({conditions[k]})" for k in sorted(branches) if set(range(k)) <= branches and conditions[k] is not None]
    rest = [f"({taken(k)})" for k in sorted(branches)][len(plain):]
    return " || ".join(plain + rest)


class writer:
    """A place is a tuple of (file, chain, branches): what surrounds a line, from the outside in."""

    def __init__(self):
        self.lines, self.done, self.system, self.way = [], {}, set(), []

    @staticmethod
    def visible(at, here):
        """Whether what stands at `at` is always seen from `here`."""
        return len(at) <= len(here) and all(a[:2] == h[:2] and h[2] <= a[2] for a, h in zip(at, here))

    def add(self, name, outer):
        if name in self.way:
            raise failure("a circle of includes: " + " -> ".join([*self.way, name]))
        if name in self.done:
            if self.visible(self.done[name], outer):
                return
            raise failure(f"{name} is needed both under a condition and outside of it; include it before the #if")
        self.way.append(name)
        body, conditions = list(pieces(name)), chains(name)
        self.lines += ["", f"// ---- {name}", ""]
        # What several branches of one chain need stands before it, under a condition that is true for just those.
        needed = {}
        for kind, value, branch in body:
            if kind == "ours" and branch:
                chain, turn = branch[0]
                for part in everything_below(value):
                    needed.setdefault(chain, {}).setdefault(part, set()).add(turn)
        opened = 0
        for kind, value, branch in body:
            here = outer + tuple((name, chain, frozenset([turn])) for chain, turn in branch)
            if kind == "text":
                if OPENS.match(value):
                    opened += 1
                    if not branch:
                        self.add_before(name, opened, conditions[opened], needed.get(opened, {}), outer)
                self.lines.append(value)
            elif kind == "ours":
                self.add(value, here)
            elif value not in self.system:
                # Under a condition it may be needed elsewhere too.
                if not here:
                    self.system.add(value)
                self.lines.append(value)
        self.lines.append("")
        self.way.pop()
        self.done[name] = outer

    def add_before(self, name, chain, conditions, needed, outer):
        for part, branches in needed.items():
            if len(branches) < 2 or (part in self.done and self.visible(self.done[part], outer)):
                continue
            expression = one_of(conditions, branches)
            if expression == "1":
                self.add(part, outer)
            else:
                self.lines.append(f"#if {expression}")
                self.add(part, (*outer, (name, chain, frozenset(branches))))
                self.lines.append(f"#endif  // {part}")


def amalgamate():
    version = "\n".join(read("polyproc/version.hpp"))
    numbers = [re.search(rf"version_{part} = (\d+);", version) for part in ("major", "minor", "patch")]
    if not all(numbers):
        raise failure("polyproc/version.hpp does not say the version")
    made = writer()
    made.add(START, ())
    lines, blank = [], False
    for line in made.lines:  # no two empty lines in a row
        line = line.rstrip()
        if line or not blank:
            lines.append(line)
        blank = not line
    with open(os.path.join(ROOT, "LICENSE"), encoding="utf-8") as text:
        licence = ["// " + line if line.strip() else "//" for line in text.read().strip().splitlines()]
    banner = [
        f"// polyproc {'.'.join(n.group(1) for n in numbers)}: multiprocessing for C++20, in one file.",
        "//",
        "// Generated by tools/amalgamate.py from include/polyproc; do not edit.",
        "//",
        *licence,
        "#pragma once",
    ]
    return "\n".join(banner + lines).rstrip() + "\n"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("-o", "--output", default=TARGET)
    given = arguments.parse_args()
    try:
        text = amalgamate()
    except failure as problem:
        print(f"amalgamate.py: {problem}", file=sys.stderr)
        return 2
    shown = os.path.relpath(given.output)
    if given.check:
        try:
            with open(given.output, encoding="utf-8", newline="") as old:
                if old.read() == text:
                    return 0
            what = "is stale"
        except FileNotFoundError:
            what = "is not there"
        print(f"{shown} {what}. Run tools/amalgamate.py and commit what it writes.", file=sys.stderr)
        return 1
    os.makedirs(os.path.dirname(os.path.abspath(given.output)), exist_ok=True)
    with open(given.output, "w", encoding="utf-8", newline="\n") as out:
        out.write(text)
    print(f"{shown}: {text.count(chr(10))} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
