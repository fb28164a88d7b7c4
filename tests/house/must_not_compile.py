#!/usr/bin/env python3
"""Programs that must not compile, and the sentence that each must provoke.

Each tests/must_not_compile/NAME.cpp has lines `// expect: REGEX`, each of which must match what g++ (and clang++) say.
With -DFIXED the same file must compile, which shows that nothing else is wrong with it.

usage: must_not_compile.py     exit status: 0 all is well, 1 something is not, 77 there are no such programs
"""
import glob
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def main():
    book = house.book()
    programs = sorted(glob.glob(os.path.join(house.ROOT, "tests", "must_not_compile", "*.cpp")))
    if not programs:
        book.skip("programs that must not compile", "there are none")
    compilers = ([house.gcc()] if house.gcc() else []) + [c for _, c in house.clangs()][:1]
    jobs = []
    for program in programs:
        name = os.path.basename(program)
        expected = re.findall(r"^// *expect: *(.*?) *$", house.read(program), re.M)
        book.check(bool(expected), f"{name} says what it expects (// expect: REGEX)")
        for compiler in compilers:
            def refused(c=compiler, p=program, all_of=expected):
                done = house.run([c, "-std=c++20", "-fsyntax-only", "-I" + house.INCLUDE, p])
                if done.returncode == 0:
                    return False, "it compiles"
                missing = [e for e in all_of if not re.search(e, done.stdout)]
                return not missing, "not said: " + "; ".join(missing) + "\n" + done.stdout

            def fixed(c=compiler, p=program):
                done = house.run([c, "-std=c++20", "-fsyntax-only", "-DFIXED", "-I" + house.INCLUDE, p])
                return done.returncode == 0, done.stdout

            jobs.append((f"{name} is refused, {os.path.basename(compiler)}", refused))
            if compiler == compilers[0]:
                jobs.append((f"{name} compiles with -DFIXED, {os.path.basename(compiler)}", fixed))
    book.check_all(jobs)
    book.finish()


if __name__ == "__main__":
    main()
