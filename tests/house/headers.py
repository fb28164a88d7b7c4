#!/usr/bin/env python3
"""Every public header compiles alone, and without a warning, with every compiler that is here.

Each header is a translation unit by itself, with g++, those of Windows with mingw-w64's. Before the first line of another it
stands as it does alone: what another includes first is not tried a second time. Then the umbrella and programs that use the
whole library, because much of a header is only looked at when it is used: with g++, clang++ (the distribution's and the
newest) and mingw-w64's g++, with and without run-time type information. Some warnings come only with optimization, nearly all
of those from g++. So g++ optimizes (for the portable backend in posix_symbols.py), and the newest clang++ makes code once;
elsewhere the programs are only read, in a quarter of the time.

usage: headers.py     exit status: 0 all is well, 1 something is not
"""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402


def seen_alone(headers):
    """Those that must be compiled, so that each of them stands once where nothing is before it."""
    first = set()
    for header in headers:
        text = house.read(os.path.join(house.INCLUDE, header))
        found = re.match(r"(?:\s*//.*\n|\s*#pragma once\n|\s*\n)*#include <(polyproc/.*)>", text)
        if found:
            first.add(found.group(1))
    return headers - first


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
    # How those are compiled that are more than read.
    made = {("g++", "wordcount.cpp"): "-O2", ("g++", "posix_everything.cpp"): "-O2",
            ("mingw-w64 g++", "wordcount.cpp"): "-O2"}
    if len(native) > 1:
        made[native[-1][0], "posix_everything.cpp"] = "-O0"
    with tempfile.TemporaryDirectory() as where:
        jobs = []
        for number, (name, compiler, flags, others) in enumerate(ways):
            flags = [*house.WARNINGS, *flags, "-I" + house.INCLUDE]
            # What a header forgets to include, one compiler tells as well as the others; only the backends differ.
            alone = {"polyproc/polyproc.hpp"}
            if number == 0:
                alone = seen_alone(set(house.headers()) - others)
            elif compiler == house.mingw():
                alone |= seen_alone(windows_only)
            elif "rtti" not in name:
                alone |= {h for h in floor if h.endswith("/posix.hpp")}
            for header in sorted(alone):
                jobs.append((f"{header} alone, {name}",
                             lambda c=compiler, f=flags, h=header: house.compile_text(c, f"#include <{h}>\n", *f)))
            for user in users:
                if not os.path.exists(user) or (house.mingw() == compiler and "posix" in user):
                    continue
                level = made.get((name, os.path.basename(user)))
                thing = os.path.join(where, f"{number}_{os.path.basename(user)}.o")
                how = [level, "-c", "-o", thing] if level else ["-fsyntax-only"]
                jobs.append((" ".join([f"{os.path.relpath(user, house.ROOT)}, {name}", *how[:1]]),
                             lambda c=compiler, f=flags, u=user, h=how: house.run([c, "-std=c++20", *h, *f, u])))
        book.check_compiles(jobs)
    book.finish()


if __name__ == "__main__":
    main()
