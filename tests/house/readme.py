#!/usr/bin/env python3
"""Programs shown in README.md and docs/ are programs: each ```cpp block with an `int main` is compiled, linked and run.

A block that is followed by a ```text or ``` block under a line that says `prints` must print that. What a program needs
on its command line does not exist here: each is run without arguments and must end with 0 within 60 seconds.

A page with a comment <!-- fragments ... --> promises that its other blocks compile too, together, behind the lines of that
comment: definitions as they stand, statements each in a function of its own.

usage: readme.py     exit status: 0 all is well, 1 something is not, 77 there is no program
"""
import glob
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def with_lines(code, page, line):
    return f'#line {line + 1} "{page}"\n{code}'


def fragments(text, page):
    """The blocks of a page that are no programs, as one source; empty, where it does not promise that they compile."""
    prelude = re.search(r"^<!-- fragments\n(.*?)^-->", text, re.M | re.S)
    if not prelude:
        return ""
    parts = [with_lines(prelude.group(1), page, text.count("\n", 0, prelude.start()) + 1)]
    for number, found in enumerate(BLOCK.finditer(text), 1):
        code = found.group(1)
        if MAIN.search(code):
            continue
        code = with_lines(code, page, text.count("\n", 0, found.start()) + 1)
        defines = re.match(r"(struct|class|template|[\w:<>]+ \w+\([^;{]*\) \{$)", found.group(1), re.M)
        parts.append(code if defines else f"void fragment_{number}() {{\n{code}}}\n")
    return "".join(parts)


BLOCK = re.compile(r"^```(?:cpp|c\+\+)\n(.*?)^```", re.M | re.S)
MAIN = re.compile(r"^\s*(int|auto) main\s*\(", re.M)


def main():
    book = house.book()
    with tempfile.TemporaryDirectory() as where:
        jobs = []
        for page in [os.path.join(house.ROOT, "README.md"), *sorted(glob.glob(os.path.join(house.ROOT, "docs", "*.md")))]:
            if not os.path.exists(page):
                continue
            text = house.read(page)
            shown = os.path.relpath(page, house.ROOT)
            if source := fragments(text, shown):
                def compiles(source=source):
                    done = house.compile_text(house.gcc(), source, "-Wall", "-Wextra", "-I" + house.INCLUDE)
                    return done.returncode == 0, done.stdout
                jobs.append((f"the fragments of {shown}", compiles))
            for number, found in enumerate(BLOCK.finditer(text), 1):
                code = found.group(1)
                if not MAIN.search(code):
                    continue
                output = re.match(r"\n*(?:[^\n]*\bprints?\b[^\n]*\n+)```(?:text)?\n(.*?)```", text[found.end():], re.S)
                line = text.count("\n", 0, found.start()) + 1
                name = f"{shown}:{line}"
                base = os.path.join(where, f"{os.path.basename(page)}_{number}")

                def build_and_run(code=code, base=base, output=output):
                    with open(base + ".cpp", "w", encoding="utf-8") as out:
                        out.write(code)
                    # clang++ takes half the time; the fragments are for g++.
                    compiler = house.clangs()[-1][1] if house.clangs() else house.gcc()
                    done = house.run([compiler, "-std=c++20", "-O0", "-Wall", "-Wextra", "-pthread", "-I" + house.INCLUDE,
                                      base + ".cpp", "-o", base])
                    if done.returncode != 0:
                        return False, done.stdout
                    ran = house.run([base], timeout=60, stdin=-3, cwd=where)
                    if ran.returncode != 0:
                        return False, f"exit status {ran.returncode}\n{ran.stdout}"
                    if output and ran.stdout.strip() != output.group(1).strip():
                        return False, f"it prints\n{ran.stdout}\nand not\n{output.group(1)}"
                    return True, ""
                jobs.append((f"the program at {name}", build_and_run))
        if not jobs:
            book.skip("programs in README.md", "there are none")
        book.check_all(jobs)
    book.finish()


if __name__ == "__main__":
    main()
