#!/usr/bin/env python3
"""The single header is up to date and is all that a program needs.

1. tools/amalgamate.py --check: the committed file is what the headers make now; made twice, it is the same.
2. In an empty directory with that file alone and no flag but -std=c++20 -pthread: a program of two files that both include
   it is compiled, linked and run; also with -fno-rtti and -fvisibility=hidden, for the portable Unix backend, with clang++
   and with mingw-w64 (run under Wine where it is).
3. No warning, as for the headers (headers.py): the larger of the two files is compiled with them all, by g++ with
   optimization.

usage: single_header.py     exit status: 0 all is well, 1 something is not
"""
import os
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def wine():
    found = shutil.which("wine64") or next((p for p in ("/usr/lib/wine/wine64", "/usr/lib64/wine/wine64")
                                            if os.access(p, os.X_OK)), None)
    return found or shutil.which("wine")


def main():
    book = house.book()
    tool = os.path.join(house.ROOT, "tools", "amalgamate.py")
    checked = house.run([sys.executable, tool, "--check"])
    book.check(checked.returncode == 0, "the single header is up to date", checked.stdout)

    with tempfile.TemporaryDirectory() as where:
        # What the headers make now: whether that works is another question than whether it has been committed.
        fresh = os.path.join(where, "fresh", "polyproc.hpp")
        again = os.path.join(where, "again.hpp")
        made = house.run([sys.executable, tool, "-o", fresh])
        if not book.check(made.returncode == 0, "tools/amalgamate.py makes the single header", made.stdout):
            book.finish()
        house.run([sys.executable, tool, "-o", again])
        book.check(house.read(fresh) == house.read(again), "the single header is the same when it is made again")

        native = ([("g++", house.gcc())] if house.gcc() else []) + house.clangs()
        ways = [(name, compiler, ["-pthread"]) for name, compiler in native]
        for name, compiler in native[-1:]:  # clang++ where it is: it takes half the time, and headers.py asks g++ as well
            ways.append((f"{name} -fno-rtti -fvisibility=hidden", compiler, ["-pthread", "-fno-rtti", "-fvisibility=hidden"]))
            ways.append((f"{name} -DPOLYPROC_BACKEND_POSIX", compiler, ["-pthread", "-DPOLYPROC_BACKEND_POSIX"]))
        if house.mingw():
            ways.append(("mingw-w64", house.mingw(), ["-static"]))
        else:
            book.skip("mingw-w64", "x86_64-w64-mingw32-g++ is not here")

        jobs = []
        for number, (name, compiler, flags) in enumerate(ways):
            room = os.path.join(where, str(number))
            os.mkdir(room)
            for file in ("single_main.cpp", "single_other.cpp"):
                shutil.copy(os.path.join(HERE, file), room)
            shutil.copy(fresh, room)

            def works(name=name, compiler=compiler, flags=flags, room=room, level="-O2" if name == "g++" else "-O0"):
                program = "program.exe" if name == "mingw-w64" else "program"
                quiet = house.run([compiler, "-std=c++20", level, *house.WARNINGS, *[f for f in flags if f != "-static"],
                                   "-c", "single_main.cpp", "-o", "single_main.o"], cwd=room)
                if quiet.returncode != 0 or quiet.stdout.strip():
                    return False, quiet.stdout
                built = house.run([compiler, "-std=c++20", *flags, "single_main.o", "single_other.cpp", "-o", program],
                                  cwd=room)
                if built.returncode != 0:
                    return False, built.stdout
                command = [os.path.join(room, program)]
                if name == "mingw-w64":
                    if not wine() or "WINEPREFIX" not in os.environ:  # tools/test sets one up
                        return True, ""
                    command.insert(0, wine())
                ran = house.run(command, cwd=room, timeout=120, stdin=-3)
                return ran.returncode == 0 and "right" in ran.stdout, f"exit status {ran.returncode}\n{ran.stdout}"

            jobs.append((f"a program of two files with the single header, without a warning, {name}", works))
        book.check_all(jobs)
    book.finish()


if __name__ == "__main__":
    main()
