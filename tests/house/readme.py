#!/usr/bin/env python3
"""Programs shown in README.md and docs/ are programs: each ```cpp block with an `int main` is compiled, linked and run.

A block that is followed by a ```text or ``` block under a line that says `prints` must print that. What a program needs
on its command line does not exist here: each is run without arguments and must end with 0 within 60 seconds.

usage: readme.py     exit status: 0 all is well, 1 something is not, 77 there is no program
"""
import glob
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def main():
    book = house.book()
    with tempfile.TemporaryDirectory() as where:
        jobs = []
        for page in [os.path.join(house.ROOT, "README.md"), *sorted(glob.glob(os.path.join(house.ROOT, "docs", "*.md")))]:
            if not os.path.exists(page):
                continue
            text = house.read(page)
            for number, found in enumerate(re.finditer(r"^```(?:cpp|c\+\+)\n(.*?)^```", text, re.M | re.S), 1):
                code = found.group(1)
                if not re.search(r"^\s*(int|auto) main\s*\(", code, re.M):
                    continue
                output = re.match(r"\n*(?:[^\n]*\bprints?\b[^\n]*\n+)```(?:text)?\n(.*?)```", text[found.end():], re.S)
                line = text.count("\n", 0, found.start()) + 1
                name = f"{os.path.relpath(page, house.ROOT)}:{line}"
                base = os.path.join(where, f"{os.path.basename(page)}_{number}")

                def build_and_run(code=code, base=base, output=output):
                    with open(base + ".cpp", "w", encoding="utf-8") as out:
                        out.write(code)
                    done = house.run([house.gcc(), "-std=c++20", "-O1", "-Wall", "-Wextra", "-pthread", "-I" + house.INCLUDE,
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
