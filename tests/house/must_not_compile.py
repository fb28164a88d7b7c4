#!/usr/bin/env python3
"""Programs that must not compile, and the sentence that each must provoke.

Each tests/must_not_compile/NAME.cpp has lines `// expect: REGEX`, each of which must match what g++ (and clang++) say.
With -DFIXED the same file must compile, which shows that nothing else is wrong with it: all in one, each in a namespace of
its own, and each alone only where that fails. The library is read before, once for each compiler: its headers take most of
the time.

usage: must_not_compile.py     exit status: 0 all is well, 1 something is not, 77 there are no such programs
"""
import glob
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def precompiled(compiler, where):
    """The flags that let it be read before the first line; none, where that cannot be."""
    header = os.path.join(where, os.path.basename(compiler) + ".hpp")
    with open(header, "w", encoding="utf-8") as out:
        out.write("#include <polyproc/polyproc.hpp>\n")
    clang = "clang" in os.path.basename(compiler)
    made = header + (".pch" if clang else ".gch")
    once = ["-fpch-instantiate-templates"] if clang else []  # not in each program again
    done = house.run([compiler, "-std=c++20", *once, "-I" + house.INCLUDE, "-x", "c++-header", header, "-o", made])
    if done.returncode != 0:
        return []
    return ["-include-pch", made] if clang else ["-include", header]


def all_fixed(compiler, programs, read):
    """Those that compile with -DFIXED when all are in one file: all that can be there, or none."""
    programs = [p for p in programs if house.fits_a_namespace(house.read(p))]
    parts = [line for p in programs for line in house.read(p).splitlines() if re.match("# *include", line)]
    for program in programs:
        name = os.path.basename(program)[:-4]
        parts += [f"namespace program_{name} {{", f"#define main main_of_{name}", f'#include "{program}"', "#undef main", "}"]
    done = house.compile_text(compiler, "\n".join(parts) + "\n", "-w", "-DFIXED", *read, "-I" + house.INCLUDE)
    return programs if done.returncode == 0 else []


def main():
    book = house.book()
    programs = sorted(glob.glob(os.path.join(house.ROOT, "tests", "must_not_compile", "*.cpp")))
    if not programs:
        book.skip("programs that must not compile", "there are none")
    compilers = ([house.gcc()] if house.gcc() else []) + [c for _, c in house.clangs()][:1]
    with tempfile.TemporaryDirectory() as where:
        read = {c: precompiled(c, where) for c in compilers}
        jobs = []
        together = all_fixed(compilers[0], programs, read[compilers[0]]) if compilers else []
        for program in programs:
            name = os.path.basename(program)
            expected = re.findall(r"^// *expect: *(.*?) *$", house.read(program), re.M)
            book.check(bool(expected), f"{name} says what it expects (// expect: REGEX)")
            for compiler in compilers:
                def refused(c=compiler, p=program, all_of=expected):
                    done = house.run([c, "-std=c++20", "-fsyntax-only", *read[c], "-I" + house.INCLUDE, p])
                    if done.returncode == 0:
                        return False, "it compiles"
                    missing = [e for e in all_of if not re.search(e, done.stdout)]
                    return not missing, "not said: " + "; ".join(missing) + "\n" + done.stdout

                def fixed(c=compiler, p=program):
                    if p in together:
                        return True, ""
                    done = house.run([c, "-std=c++20", "-fsyntax-only", "-DFIXED", *read[c], "-I" + house.INCLUDE, p])
                    return done.returncode == 0, done.stdout

                jobs.append((f"{name} is refused, {os.path.basename(compiler)}", refused))
                if compiler == compilers[0]:
                    jobs.append((f"{name} compiles with -DFIXED, {os.path.basename(compiler)}", fixed))
        book.check_all(jobs)
    book.finish()


if __name__ == "__main__":
    main()
