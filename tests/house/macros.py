#!/usr/bin/env python3
"""What macros reach those who include polyproc: the preprocessor is asked, and told apart by where each comes from.

All macros after <polyproc/polyproc.hpp> are compared with those after the standard headers that it includes. What is
left must be:
- on Windows: nothing but names that are reserved for the implementation (_X, __x). Floor 0 declares what it needs.
- on Unix: what the system's own headers on the list below define, each listed with who needs it. There a call cannot be
  declared by hand: types and constants differ from system to system, and a hand-made declaration clashes with the
  system's own. POSIX reserves those names (SIG*, O_*, ...), so a portable program cannot have used them; of lower-case
  names only those are let through that POSIX itself has as members of structs.
- of ours: none.
First the check is tried on headers that break these rules.

usage: macros.py     exit status: 0 all is well, 1 something is not
"""
import collections
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

UNIX_HEADERS = {
    "cxxabi.h": "the name of an exception's type, in full",
    "dirent.h": "what creators of names have left behind (portable backend)",
    "dlfcn.h": "code in shared libraries",
    "fcntl.h": "open, fcntl",
    "link.h": "the modules of this process and where they lie",
    "poll.h": "poll",
    "pwd.h": "the names of users",
    "pthread.h": "what to do around fork; signals of a thread",
    "sched.h": "sched_yield",
    "signal.h": "sending signals",
    "spawn.h": "a child from a fresh image (portable backend)",
    "sys/mman.h": "shared mappings",
    "sys/resource.h": "how many descriptors may be open (portable backend)",
    "sys/socket.h": "descriptors from one process to another",
    "sys/stat.h": "fstat",
    "sys/types.h": "pid_t",
    "sys/un.h": "addresses of local sockets",
    "sys/wait.h": "how a child ended",
    "time.h": "clocks",
    "unistd.h": "fork, pipe, read, write, close",
}
LINUX_HEADERS = {
    "linux/futex.h": "waiting on a word",
    "sys/prctl.h": "the end with the parent",
    "sys/syscall.h": "calls that the C library does not wrap",
    "sys/file.h": "flock",
    "sys/random.h": "getrandom",
}
# Members of structs that POSIX lets be macros.
LOWER = re.compile(r"(st|si|sa|sc|sv|uc|pw|sigev|d|ru|rlim|tm|tv|it)_[a-z_0-9]+$|sigmask$")
# Known to break other people's code, wherever they come from.
NEVER = set("min max major minor makedev linux unix near far interface small ERROR DELETE IN OUT OPTIONAL CONST VOID "
            "Yield GetObject SendMessage CreateWindow CreateEvent CreateProcess".split())


def macros(compiler, text, flags):
    """Macro -> (the header through which it came, the file that defines it). Through: included by the text or by ours."""
    done = house.run([compiler, "-std=c++20", "-dD", "-E", *flags, "-x", "c++", "-"], input=text)
    if done.returncode != 0:
        raise RuntimeError(done.stdout)
    stack, found = [""], {}
    for line in done.stdout.splitlines():
        if line.startswith("#"):
            marker = re.match(r'# \d+ "(.*?)"((?: \d)*)', line)
            if marker:
                name, turns = marker.group(1), marker.group(2).split()
                if "1" in turns:
                    stack.append(name)
                elif "2" in turns and len(stack) > 1:
                    stack.pop()
                stack[-1] = name
                continue
            defined = re.match(r"#\s*define (\w+)", line)
            if defined:
                through = next((f for f in stack if is_system(f)), stack[-1])
                found[defined.group(1)] = (through, stack[-1])
                continue
            gone = re.match(r"#\s*undef (\w+)", line)
            if gone:
                found.pop(gone.group(1), None)
    return found


def is_system(path):
    return bool(path) and not path.startswith("<") and "/polyproc/" not in path


def shown(path):
    """sys/mman.h for /usr/include/x86_64-linux-gnu/sys/mman.h."""
    return re.sub(r"^.*?/include/(?:c\+\+/[^/]+/)?(?:x86_64-linux-gnu/|[a-z0-9_]+-linux-gnu/)?", "", path)


def judge(compiler, include, flags, allowed):
    """Faults, and how many macros came through which header."""
    standard = sorted({name for header in walk(include)
                       for name in re.findall(r"^\s*#\s*include <([a-z_0-9]+)>", house.read(header), re.M)})
    flags = [*flags, "-I" + include]
    before = macros(compiler, "".join(f"#include <{s}>\n" for s in standard), flags)
    after = macros(compiler, "#include <polyproc/polyproc.hpp>\n", flags)
    faults, counts = [], collections.Counter()
    for name in sorted(set(after) - set(before)):
        through, source = after[name]
        if "/polyproc/" in source:
            faults.append(f"{name}: a macro of ours, in {source}")
        elif name in NEVER:
            faults.append(f"{name}: known to break programs; from {shown(source)} through {shown(through)}")
        elif re.match(r"_[A-Z_]", name):
            continue  # reserved for the implementation: no program may have it
        elif shown(through) not in allowed:
            faults.append(f"{name}: from {shown(source)} through {shown(through)}, which is not on the list")
        elif not re.match(r"[A-Z_][A-Za-z0-9_]*$", name) and not LOWER.match(name):
            faults.append(f"{name}: a lower-case macro; from {shown(source)} through {shown(through)}")
        else:
            counts[shown(through)] += 1
    return faults, counts


def walk(include):
    for folder, _, names in os.walk(os.path.join(include, "polyproc")):
        for name in names:
            if name.endswith(".hpp"):
                yield os.path.join(folder, name)


def try_on_faults(book):
    """A header with each fault, and one without."""
    planted = [
        ("a macro of ours", "#define POLYPROC_SPIN 1\n", house.gcc(), "a macro of ours"),
        ("a header that is not listed", "#include <sys/ipc.h>\n", house.gcc(), "not on the list"),
        ("lower-case macros", "#include <sys/sysmacros.h>\n", house.gcc(), "known to break"),
        ("<windows.h>", "#include <windows.h>\n", house.mingw(), "known to break"),
        ("nothing at all", "#include <vector>\n#include <unistd.h>\n", house.gcc(), None),
    ]
    for what, text, compiler, expected in planted:
        if not compiler:
            continue
        with tempfile.TemporaryDirectory() as where:
            os.makedirs(os.path.join(where, "polyproc"))
            with open(os.path.join(where, "polyproc", "polyproc.hpp"), "w", encoding="utf-8") as out:
                out.write("#pragma once\n" + text)
            faults, _ = judge(compiler, where, [], {} if compiler == house.mingw() else UNIX_HEADERS)
        book.check(not faults if expected is None else any(expected in f for f in faults), f"self-test: {what}",
                   "\n".join(faults[:5]))


def main():
    book = house.book()
    try_on_faults(book)
    ways = []
    if house.gcc() and sys.platform.startswith("linux"):
        ways.append(("linux", house.gcc(), [], {**UNIX_HEADERS, **LINUX_HEADERS}))
        ways.append(("posix", house.gcc(), ["-DPOLYPROC_BACKEND_POSIX"], UNIX_HEADERS))
    if house.mingw():
        ways.append(("win32", house.mingw(), [], {}))
    else:
        book.skip("win32", "x86_64-w64-mingw32-g++ is not here")
    for name, compiler, flags, allowed in ways:
        faults, counts = judge(compiler, house.INCLUDE, flags, allowed)
        for fault in faults:
            book.check(False, f"{name}: {fault}")
        if not faults:
            book.passed += 1
        said = ", ".join(f"{n} through <{h}>" for h, n in counts.most_common(4))
        print(f"{name}: {sum(counts.values())} macros of the system are visible" + (f" ({said}, ...)" if counts else ""))
    book.finish()


if __name__ == "__main__":
    main()
