#!/usr/bin/env python3
"""The house is built as it is drawn: operating systems live on floor 0, includes go down, there is no circle.

Of every header under include/polyproc:
1. `#pragma once` comes first; it declares its names in `polyproc::inline vMAJOR_MINOR` of version.hpp; no `#define`.
2. It includes our headers as <polyproc/...>, the standard library's by name, and outside backend/ nothing else.
3. It includes only from its own floor and those below; the graph of includes has no circle.
4. Outside backend/, no macro, call or name of an operating system is in its code (comments and texts may speak of them).
First the check is tried on a house with every one of these faults.

usage: layers.py     exit status: 0 all is well, 1 something is not
"""
import os
import re
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402

# From the ground up. memory/ stands on sync/: its books are kept under a lock, and a lock needs no segment of its own.
FLOORS = ["backend", "wire", "sync", "memory", "channel", "process", "task", "service"]
# Belong to no floor: may be included from anywhere and include nothing / include everything.
GROUND, ROOF = {"version.hpp", "fwd.hpp"}, {"polyproc.hpp"}

STANDARD = set("""algorithm any array atomic bit bitset cassert ccomplex cctype cerrno cfenv cfloat charconv chrono cinttypes
climits clocale cmath codecvt compare complex concepts condition_variable coroutine csetjmp csignal cstdarg cstddef cstdint
cstdio cstdlib cstring ctime cuchar cwchar cwctype deque exception execution filesystem forward_list fstream functional
future initializer_list iomanip ios iosfwd iostream istream iterator limits list locale map memory memory_resource mutex new
numbers numeric optional ostream queue random ranges ratio regex scoped_allocator set shared_mutex source_location span
sstream stack stdexcept streambuf string string_view system_error thread tuple type_traits typeindex typeinfo unordered_map
unordered_set utility valarray variant vector version""".split())
# The compiler's, on every system that has it: the C++ ABI, for the names of types.
STANDARD |= {"cxxabi.h"}
# Not in every C++20 library that we support, or broken in one (waits there lose wake-ups).
UNUSABLE = set("format expected stop_token semaphore barrier latch syncstream".split())
# They cost more to compile than all of ours.
EXPENSIVE = set("iostream regex filesystem fstream iomanip locale codecvt valarray".split())

SYSTEM_MACROS = re.compile(
    r"\b(_WIN32|_WIN64|WIN32|_MSC_VER|__MINGW\w*|__CYGWIN__|__linux__|__linux|linux|__gnu_linux__|__unix__|__unix|__APPLE__"
    r"|__MACH__|__FreeBSD__|__NetBSD__|__OpenBSD__|__DragonFly__|__ANDROID__|__GLIBC__|__GLIBC_PREREQ|_GNU_SOURCE"
    r"|_POSIX_\w+|_XOPEN_\w+|POLYPROC_BACKEND_POSIX|errno|E(?:INTR|AGAIN|EXIST|INVAL|NOENT|NOMEM|PIPE|SRCH|PERM|BUSY)"
    r"|SIG(?:KILL|TERM|STOP|CONT|CHLD|PIPE|IO)|O_\w+|MAP_\w+|PROT_\w+|FUTEX_\w+|CLOCK_\w+|WNOHANG|PTHREAD_\w+)\b")
SYSTEM_NAMES = re.compile(r"\b\w*(?:linux|win32|posix|darwin|freebsd|futex|pidfd|memfd|epoll)\w*\b", re.I)
# Calls whose names nobody would give to anything else, and those that are meant when they are written with ::.
SYSTEM_CALLS = re.compile(
    r"(?<![\w.>:])(?:::\s*)?(?:mmap|munmap|mprotect|shm_open|shm_unlink|ftruncate|waitpid|waitid|vfork|execve|execvp|execl"
    r"|posix_spawn\w*|pthread_\w+|sigaction|sigprocmask|getpid|getppid|gettid|setsid|setpgid|pipe2|dup2|fcntl|ioctl|usleep"
    r"|nanosleep|clock_gettime|sched_\w+|sysconf|prctl|syscall|dlopen|dlsym|dladdr|dl_iterate_phdr|sem_\w+|mq_\w+|flock"
    r"|CreateProcess\w*|CreateFile\w*|CreateEvent\w*|MapViewOfFile\w*|WaitFor\w*Object\w*|WaitOnAddress|CloseHandle"
    r"|GetLastError|TerminateProcess|VirtualAlloc\w*|DuplicateHandle|GetModuleHandle\w*|GetProcAddress)\s*\("
    r"|(?<![\w:>])::\s*(?:fork|kill|pipe|wait|read|write|open|close|signal|poll|exit|_exit|raise|stat|unlink|dup|send"
    r"|recv|environ|getenv|setenv)\b")


def check_house(include, version):
    """The faults of the house under `include`, each a line; and how many headers were looked at."""
    faults = []
    root = os.path.join(include, "polyproc")
    graph = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), root).replace(os.sep, "/")
            if not name.endswith(".hpp"):
                faults.append(f"{path}: not a header (.hpp)")
                continue
            graph[path] = []
    wanted = f"namespace polyproc::inline v{version[0]}_{version[1]}"
    for path in sorted(graph):
        text = house.read(os.path.join(root, path))
        code = house.strip_code(text)
        floor = path.split("/")[0] if "/" in path else None

        def fault(what, at=None):
            line = f":{code.count(chr(10), 0, at) + 1}" if at is not None else ""
            faults.append(f"{path}{line}: {what}")

        if floor is not None and floor not in FLOORS:
            fault(f"there is no floor {floor}")
            continue
        if floor is None and path not in GROUND | ROOF:
            fault("belongs on a floor")
        if not re.match(r"\s*#pragma once\b", code):
            fault("#pragma once is not its first line of code")
        if path not in ROOF and wanted not in code:
            fault(f"does not say {wanted}")
        for found in re.finditer(r"\binline\s+v\d+\w*", code):
            if found.group(0).split()[-1] != wanted.split()[-1]:
                fault(f"speaks of {found.group(0)}", found.start())
        for found in re.finditer(r"^[ \t]*#[ \t]*define\b[^\n]*", code, re.M):
            fault(f"defines a macro: {found.group(0).strip()}", found.start())
        for found in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*(<([^>]*)>|"[^"]*"|\S+)', code, re.M):
            shown, what = found.group(1), found.group(2)
            if what is None:
                fault(f"includes {shown}; ours are written <polyproc/...>", found.start())
            elif what.startswith("polyproc/"):
                target = what[len("polyproc/"):]
                if target not in graph:
                    fault(f"includes {shown}, which is not there", found.start())
                    continue
                graph[path].append(target)
                if target in GROUND or path in ROOF:
                    continue
                if path in GROUND or target in ROOF:
                    fault(f"includes upwards: {shown}", found.start())
                    continue
                if floor is not None and FLOORS.index(target.split("/")[0]) > FLOORS.index(floor):
                    fault(f"includes upwards: {shown}", found.start())
            elif what in UNUSABLE:
                fault(f"includes {shown}, which not every supported standard library has sound", found.start())
            elif what in EXPENSIVE:
                fault(f"includes {shown}, which costs too much to compile", found.start())
            elif what not in STANDARD and floor != "backend":
                fault(f"includes {shown}, which is not of the standard library", found.start())
        if floor != "backend":
            bare = re.sub(r"^[ \t]*#[ \t]*include[^\n]*", "", code, flags=re.M)
            for kind, pattern in (("macro", SYSTEM_MACROS), ("name", SYSTEM_NAMES), ("call", SYSTEM_CALLS)):
                for found in pattern.finditer(bare):
                    fault(f"uses an operating system's {kind} outside backend/: {found.group(0).strip()}", found.start())

    state = {}

    def walk(path, way):
        state[path] = "open"
        for target in graph[path]:
            if state.get(target) == "open":
                faults.append("circle: " + " -> ".join([*way[way.index(target):], target]))
            elif target not in state:
                walk(target, [*way, target])
        state[path] = "done"

    for path in sorted(graph):
        if path not in state:
            walk(path, [path])
    return faults, len(graph)


def try_on_faults(book, version):
    """Every rule finds its own fault, in a house that has them all."""
    space = f"namespace polyproc::inline v{version[0]}_{version[1]} {{\n%s\n}}\n"
    planted = {
        "sync/no_pragma.hpp": (space % "", "#pragma once is not its first"),
        "sync/no_namespace.hpp": ("#pragma once\nnamespace polyproc {}\n", "does not say namespace"),
        "sync/old_namespace.hpp": ("#pragma once\n" + space % "" + "namespace polyproc::inline v9_9 {}\n", "speaks of"),
        "sync/macro.hpp": ("#pragma once\n#define POLYPROC_X 1\n" + space % "", "defines a macro"),
        "sync/upwards.hpp": ("#pragma once\n#include <polyproc/task/pool.hpp>\n" + space % "", "includes upwards"),
        "task/pool.hpp": ("#pragma once\n#include <polyproc/version.hpp>\n" + space % "", None),
        "sync/quotes.hpp": ('#pragma once\n#include "macro.hpp"\n' + space % "", "ours are written"),
        "sync/nowhere.hpp": ("#pragma once\n#include <polyproc/sync/gone.hpp>\n" + space % "", "is not there"),
        "sync/system_header.hpp": ("#pragma once\n#include <unistd.h>\n" + space % "", "not of the standard library"),
        "sync/unusable.hpp": ("#pragma once\n#include <semaphore>\n" + space % "", "supported standard library"),
        "sync/circle_a.hpp": ("#pragma once\n#include <polyproc/sync/circle_b.hpp>\n" + space % "", "circle: "),
        "sync/circle_b.hpp": ("#pragma once\n#include <polyproc/sync/circle_a.hpp>\n" + space % "", "circle: "),
        "sync/if_windows.hpp": ("#pragma once\n#if defined(_WIN32)\n#endif\n" + space % "", "system's macro"),
        "sync/error_number.hpp": ("#pragma once\n" + space % "inline int f() { return errno; }", "system's macro"),
        "sync/call.hpp": ("#pragma once\n" + space % "inline void* f() { return mmap(nullptr); }", "system's call"),
        "sync/global_call.hpp": ("#pragma once\n" + space % "inline void f() { (void)::kill(1, 9); }", "system's call"),
        "sync/name.hpp": ("#pragma once\n" + space % "using b = linux_backend;", "system's name"),
        "stray.hpp": ("#pragma once\n" + space % "", "belongs on a floor"),
        "cellar/x.hpp": ("#pragma once\n" + space % "", "there is no floor"),
        # What is allowed must not be found.
        "backend/own.hpp": ("#pragma once\n#include <unistd.h>\n#if defined(_WIN32)\n#endif\n" +
                            space % "inline int f() { return ::getpid(); }", None),
        "sync/fine.hpp": ("/// On Linux: mmap(2).\n#pragma once\n#include <vector>\n" +
                          space % 'inline auto f(auto& p) { p.kill(); /* _WIN32 */ return "errno 1\'000 on linux"; }', None),
        "version.hpp": ("#pragma once\n" + space % "", None),
    }
    with tempfile.TemporaryDirectory() as where:
        for path, (text, _) in planted.items():
            full = os.path.join(where, "polyproc", path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as out:
                out.write(text)
        faults, _ = check_house(where, version)
    for path, (_, expected) in planted.items():
        mine = [f for f in faults if f.startswith(path) or (f.startswith("circle") and path in f)]
        if expected is None:
            book.check(not mine, f"self-test: {path} is in order", "\n".join(mine))
        else:
            book.check(any(expected in f for f in mine), f"self-test: the fault of {path} is found", "\n".join(mine))


def main():
    book = house.book()
    version = house.version()
    try_on_faults(book, version)
    faults, count = check_house(house.INCLUDE, version)
    for fault in faults:
        book.check(False, fault)
    book.check(count > 0, "there are headers")
    book.passed += count if not faults else 0
    book.finish()


if __name__ == "__main__":
    main()
