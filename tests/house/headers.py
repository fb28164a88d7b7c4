#!/usr/bin/env python3
"""Every public header compiles alone, and without a warning, with every compiler that is here.

Each header is a translation unit by itself, with g++; those of the backends with every compiler.
Then the umbrella and programs that use the whole library, because much of a header is only looked at when it is used:
optimized, since some warnings come only then; with g++, clang++ (the distribution's and the newest) and mingw-w64's g++,
with and without run-time type information.

usage: headers.py     exit status: 0 all is well, 1 something is not
"""
import os
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def main():
    book = house.book()
    floor = [f"polyproc/backend/{name}" for name in sorted(os.listdir(os.path.join(house.INCLUDE, "polyproc", "backend")))]
    unix_only = {h for h in floor if h.split("/")[-1].startswith(("unix_", "linux", "posix"))}
    windows_only = {h for h in floor if h.split("/")[-1].startswith("win32")}
    ways = []  # name, compiler, flags, headers that are not for it
    native = [("g++", house.gcc())] if house.gcc() else []
    native += house.clangs()
    for name, compiler in native:
        ways.append((name, compiler, ["-pthread"], windows_only))
        if compiler not in (native[0][1], native[-1][1]):
            continue  # one of each kind is enough for what follows
        ways.append((f"{name} -fno-rtti -fvisibility=hidden", compiler, ["-pthread", "-fno-rtti", "-fvisibility=hidden"],
                     windows_only))
    for name, compiler in native[:1]:
        ways.append((f"{name} -DPOLYPROC_BACKEND_POSIX", compiler, ["-pthread", "-DPOLYPROC_BACKEND_POSIX"], windows_only))
    if house.mingw():
        ways.append(("mingw-w64 g++", house.mingw(), [], unix_only))
    else:
        book.skip("mingw-w64", "x86_64-w64-mingw32-g++ is not here")
    if len(native) < 2:
        book.skip("clang++", "not here")

    users = [os.path.join(house.ROOT, *path.split("/"))
             for path in ("examples/wordcount.cpp", "tests/house/posix_everything.cpp")]
    with tempfile.TemporaryDirectory() as where:
        jobs = []
        for number, (name, compiler, flags, others) in enumerate(ways):
            flags = [*house.WARNINGS, *flags, "-I" + house.INCLUDE]
            # What a header forgets to include, one compiler tells as well as the others; only the backends differ.
            alone = house.headers() if number == 0 else ["polyproc/polyproc.hpp"]
            if number != 0 and "rtti" not in name:
                alone += [h for h in house.headers() if "/backend/" in h]
            for header in alone:
                if header in others:
                    continue
                jobs.append((f"{header} alone, {name}",
                             lambda c=compiler, f=flags, h=header: house.compile_text(c, f"#include <{h}>\n", *f)))
            for user in users:
                if not os.path.exists(user) or (house.mingw() == compiler and "posix" in user):
                    continue
                made = os.path.join(where, f"{number}_{os.path.basename(user)}.o")
                jobs.append((f"{os.path.relpath(user, house.ROOT)}, {name}",
                             lambda c=compiler, f=flags, u=user, m=made:
                             house.run([c, "-std=c++20", "-O2", "-c", *f, u, "-o", m])))
        book.check_compiles(jobs)
    book.finish()


if __name__ == "__main__":
    main()
