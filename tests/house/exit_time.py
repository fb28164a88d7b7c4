#!/usr/bin/env python3
"""No static object of the headers has a destructor that runs at the exit.

Threads and exit handlers of the library use its static objects to the end. And on Windows a thread that comes to a static object
with a destructor for the first time, while the program ends, waits for the exit, which may be waiting for the thread. Objects that
are never destroyed are made with detail::lasting.

clang++ warns of such destructors, also in templates, where they are used: by programs that use much of the library, for each
backend. For Windows it reads the headers of mingw-w64's g++.

usage: exit_time.py     exit status: 0 it is so, 1 it is not, 77 there is no clang++
"""
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

# Each with the reason.
ALLOWED = [
    ("polyproc/backend/thread_own.hpp", r"thread_local", "of a thread, not of the program"),
    ("polyproc/wire/exception.hpp", r"detail::exception_makers::entry entered_", "made before main, and leaves when its library does"),
]
# What calls templates that are compiled nowhere else; those of Unix alone are not for Windows.
USERS = ["tests/task/executor_test.cpp", "tests/task/async_test.cpp", "tests/channel/listener_test.cpp", "examples/wordcount.cpp"]
UNIX_USERS = ["tests/house/posix_everything.cpp"]

FAULTY = """
#include <string>
inline std::string& kept() { static std::string one; return one; }
inline std::string& lasting() { static auto* const one = new std::string; return *one; }
int main() { return static_cast<int>(kept().size() + lasting().size()); }
"""


def warned(output, root):
    """The places below `root` of which it warned: pairs of a path and the line there."""
    found = set()
    for path, line in re.findall(r"^(\S+?):(\d+):\d+: warning: declaration requires an exit-time destructor", output, re.M):
        path = os.path.realpath(path)
        if path.startswith(root + os.sep):
            found.add((os.path.relpath(path, root).replace(os.sep, "/"), int(line)))
    return found


def allowed(place, root):
    path, line = place
    text = house.read(os.path.join(root, path)).splitlines()[line - 1]
    return any(path == where and re.search(what, text) for where, what, _ in ALLOWED)


def windows_flags():
    """What makes clang++ read what mingw-w64's g++ reads."""
    told = house.run([house.mingw(), "-v", "-E", "-x", "c++", os.devnull]).stdout
    folders = [os.path.realpath(f) for f in re.search(r"search starts here:\n(.*?)End of search list", told, re.S).group(1).split()
               if f.startswith(os.sep)]
    # The compiler's own (intrinsics) are clang's.
    wanted = [f for f in folders if "c++" in f.split(os.sep) or not re.search(r"/include(-fixed)?$", f) or "/gcc/" not in f]
    return ["--target=x86_64-w64-windows-gnu", "-nostdinc++", *[f"-isystem{f}" for f in wanted]]


def main():
    book = house.book()
    if not house.clangs():
        book.skip("exit-time destructors", "clang++ is not here")
        book.finish()
    name, compiler = house.clangs()[0]
    flags = ["-std=c++20", "-fsyntax-only", "-Wexit-time-destructors", "-I" + house.INCLUDE, "-I" + os.path.join(house.ROOT, "tests")]

    faulty = house.run([compiler, *flags, "-x", "c++", "-"], input=FAULTY).stdout
    book.check(len(re.findall("exit-time destructor", faulty)) == 1, "a static string is seen, and none that is never destroyed", faulty)

    ways = [("Linux", ["-pthread"], USERS + UNIX_USERS), ("portable", ["-pthread", "-DPOLYPROC_BACKEND_POSIX"], USERS + UNIX_USERS)]
    if house.mingw():
        ways.append(("Windows", windows_flags(), USERS))
    else:
        book.skip("Windows", "mingw-w64 is not here")

    def job(more, user):
        def look():
            done = house.run([compiler, *flags, *more, os.path.join(house.ROOT, *user.split("/"))])
            if done.returncode != 0:
                return False, done.stdout
            bad = [f"{path}:{line}" for path, line in sorted(warned(done.stdout, house.INCLUDE))
                   if not allowed((path, line), house.INCLUDE)]
            return not bad, "\n".join(bad)
        return look

    book.check_all([(f"no destructor at the exit: {where}, {user} ({name})", job(more, user))
                    for where, more, users in ways for user in users])
    book.finish()


if __name__ == "__main__":
    main()
