#!/usr/bin/env python3
"""The examples of locks and shared memory do what they say, on every backend: they compile without a warning, print what
they should, end with 0, and leave nothing behind.

On the native and the portable POSIX backend, and with mingw-w64 under Wine where both are here (tools/test sets
WINEPREFIX). What differs from run to run is told from what must not; what must happen only sometimes (lines that mix,
tickets sold twice without the lock) is tried a few times.

Here is also how all checks of examples build them. The native ones are the programs that the build tree has. For the other
ways all examples are one program, compiled from one file in which each has a namespace of its own; which of them it is, its
name tells. What takes the compiler's time is the library, which is so compiled once for each way, not once for each example.
The checks share what the first of them has built (build/house).

usage: examples.py     exit status: 0 all is well, 1 something is not
"""
import concurrent.futures
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402
from single_header import wine  # noqa: E402

EXAMPLES = ("lock_or_join", "primitives", "shared_memory", "ticket_rush")
TRIES = 6  # for what must happen sometimes

PRIMITIVES = """\
recursive_mutex: 2 processes moved 1000 each, locking twice over: 0 left, 2000 arrived
shared_mutex: 3 readers inside; a writer must wait
shared_mutex: the readers left, and the writer wrote
semaphore: 5 released, 5 acquired, 0 left; one more in vain: not within 10 ms
bounded_semaphore: 6 processes, 2 permits: never more than 2 inside
bounded_semaphore: a holder was killed, and both permits are there
bounded_semaphore: a release too many is an error
condition_variable: ping
condition_variable: pong
condition_variable: ping
condition_variable: pong
event: before set() 0 went on, after it 3
latch: 3 are ready
barrier: phase 1: all 3 took their step
barrier: phase 2: all 3 took their step
barrier: phase 3: all 3 took their step
barrier: a member was killed, and the others are told
once_flag: 3 processes called, done 1 time
guarded: 3000 games, 9000 points
"""
SHARED_MEMORY = r"""array: 1 to 40 went through 8 places, their sum is 820
notice: "fresh eggs", reader 1
notice: "fresh eggs", reader 2
another type: polyproc: the shared memory "polyproc-example-\d+" cannot be opened as a shared object: it holds another type .*
the name again: polyproc: shared memory "polyproc-example-\d+" exists already; .*
reader: 3 euros
writer: gets around the compiler \.\.\.
writer: ended with -11; still 3 euros
heap: two processes put 100 squares into one vector, the largest is 9801
"""


def source_of(example):
    return os.path.join(house.ROOT, "examples", example + ".cpp")


def all_examples():
    return sorted(os.path.basename(path)[:-4] for path in glob.glob(source_of("*")))


def fits(text):
    """Whether an example can be one of many."""
    return house.fits_a_namespace(text) and text.endswith("\n}\n")


def includes(text):
    """The lines that include, with the conditions that they stand under."""
    kept = "".join(line + "\n" for line in text.splitlines() if re.match(r"# *(?:if|el|endif|include)", line))
    without = None
    while without != kept:
        kept, without = re.sub(r"# *if.*\n(?:# *el.*\n)*# *endif.*\n", "", kept), kept
    return kept


def all_in_one(texts):
    """The source of a program that is any of some examples, whichever its name begins with."""
    parts = [includes(text) for text in texts.values()]
    for name, text in texts.items():
        # What ends without a return in main may not do so in another function.
        parts += [f"namespace example_{name} {{\n#define main main_of_example\n#line 1 \"examples/{name}.cpp\"\n",
                  text[:-2], "  return 0;\n}\n#undef main\n}\n"]
    parts += ["#include <cstdio>\n#include <string_view>\n\nint main(int argc, char** argv) {\n",
              "  polyproc::init(argc, argv);  // a child is one of a program of any name\n",
              "  std::string_view name = argv[0];\n",
              "  name.remove_prefix(name.find_last_of(\"/\\\\\") + 1);\n",
              "  name = name.substr(0, name.find_first_of(\"-.\"));\n"]
    parts += [f"  if (name == \"{name}\") return example_{name}::main_of_example(argc, argv);\n" for name in texts]
    parts += ["  std::fprintf(stderr, \"%s is no example\\n\", argv[0]);\n  return 127;\n}\n"]
    return "".join(parts)


class way:
    """How examples are compiled and run for one backend."""

    def __init__(self, name, compiler, flags, before=(), suffix=""):
        self.name, self.compiler, self.flags, self.before, self.suffix = name, compiler, flags, list(before), suffix
        self.building = threading.Lock()
        self.made_of_all = None

    def build(self, where, example):
        if self.name == "native" and house.built_example(example):
            shutil.copy(house.built_example(example), self.program(where, example))
            return True, ""
        if self.name != "native" and fits(house.read(source_of(example))):
            with self.building:
                if self.made_of_all is None:
                    self.made_of_all = self.build_all(where)
            if self.made_of_all[0]:
                try:
                    os.link(self.program(where, "all"), self.program(where, example))
                except OSError:  # not every file system has links
                    shutil.copy(self.program(where, "all"), self.program(where, example))
            return self.made_of_all
        return self.compile_and_link(source_of(example), os.path.join(where, f"{example}-{self.name}.o"),
                                     self.program(where, example))

    def build_all(self, where):
        """The program of all examples; a copy, where an earlier check has made it of the same."""
        texts = {name: house.read(source_of(name)) for name in all_examples()}
        text = all_in_one({name: text for name, text in texts.items() if fits(text)})
        program = self.program(where, "all")
        room = house.room() or where
        name = f"examples-{self.name}"
        kept = os.path.join(room, f"{name}-{house.mark(self.compiler, *self.compiling(), text)}")
        if os.path.exists(kept):
            shutil.copy(kept, program)
            return True, ""
        source = os.path.join(room, name + ".cpp")
        house.replace(source, text)
        good, said = self.compile_and_link(source, os.path.join(where, f"all-{self.name}.o"), program)
        if good:
            for old in glob.glob(os.path.join(room, name + "-*")):
                os.remove(old)
            new = os.path.join(room, f"new-{os.getpid()}-{self.name}")
            shutil.copy(program, new)
            os.replace(new, kept)
        return good, said

    def compiling(self):
        return [self.compiler, "-std=c++20", "-O0", *house.WARNINGS, *self.flags, "-Iinclude", "-Iexamples", "-c"]

    def compile_and_link(self, source, thing, program):
        """In two steps, and from the root, so that ccache, where it is, can help, another checkout's too."""
        cache = ["ccache"] if shutil.which("ccache") else []
        built = house.run([*cache, *self.compiling(), os.path.relpath(source, house.ROOT), "-o", thing], cwd=house.ROOT,
                          timeout=1200)
        if built.returncode != 0:
            return False, built.stdout
        self_contained = ["-static"] if self.suffix else []
        linked = house.run([self.compiler, *self.flags, *self_contained, thing, "-o", program])
        return linked.returncode == 0, linked.stdout

    def program(self, where, example):
        return os.path.join(where, f"{example}-{self.name}{self.suffix}")

    def start(self, where, example, *options):
        """For one that is to stay."""
        return subprocess.Popen([*self.before, self.program(where, example), *options], cwd=where, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def run(self, where, example, *options, around=()):
        # Wine has one server for each TMPDIR, and Windows' programs do not look there.
        more = {} if self.before else {"TMPDIR": os.path.join(where, "tmp")}
        done = house.run([*around, *self.before, self.program(where, example), *options], cwd=where, timeout=60,
                         stdin=subprocess.DEVNULL, env={**os.environ, **more})
        # Wine tells of the fault that is part of the show.
        done.stdout = re.sub(r"^wine: .*\n", "", done.stdout.replace("\r\n", "\n"), flags=re.M)
        return done


def native():
    return way("native", house.gcc(), ["-pthread"])


def posix():
    """By the newest clang++ where there is one: it takes half the time, and g++ has looked at the native ones."""
    compiler = house.clangs()[-1][1] if house.clangs() else house.gcc()
    return way("posix", compiler, ["-pthread", "-DPOLYPROC_BACKEND_POSIX"])


def ways(book):
    """Those that are here; the book is told of those that are not."""
    found = [native(), posix()]
    if not house.mingw():
        book.skip("mingw-w64", "x86_64-w64-mingw32-g++ is not here")
    elif not wine() or "WINEPREFIX" not in os.environ:
        book.skip("mingw-w64", "Wine is not here, or has no WINEPREFIX (tools/test sets one up)")
    else:
        # Unoptimized, the larger ones have more sections than an object file can hold, and links take minutes.
        found.append(way("mingw", house.mingw(), ["-O1", "-Wa,-mbig-obj"], before=[wine()], suffix=".exe"))
    return found


def said(done):
    return f"exit status {done.returncode}\n{done.stdout}"


# --- lock_or_join

def section(text, title):
    """The lines below `-- title...`."""
    found = re.search(rf"^-- {title}[^\n]*\n(.*?)(?=^-- |\Z)", text, flags=re.M | re.S)
    return found.group(1).splitlines() if found else []


def three_each(lines):
    return [f"{name} line {i}" for name in ("Anna", "Ben", "Carla") for i in (1, 2, 3)] == sorted(
        x for x in lines if " line " in x)


def interleaved(lines):
    names = [x.split()[0] for x in lines if " line " in x]
    return any(len(set(names[i:i + 3])) != 1 for i in range(0, len(names), 3))


def check_lock_or_join(book, w, where, around):
    done = w.run(where, "lock_or_join", around=around)
    lines = section(done.stdout, "with a lock")
    book.check(done.returncode == 0 and three_each(lines) and not interleaved(lines) and lines[-1] == "  together",
               f"{w.name}: lock_or_join: with the lock the lines stay together", said(done))
    lines = section(done.stdout, "with join")
    in_order = three_each(lines) and [x for x in lines if " line " in x] == sorted(x for x in lines if " line " in x)
    book.check(in_order and lines[-1] == "  in order", f"{w.name}: lock_or_join: with join they are in order", said(done))
    book.check(section(done.stdout, "the same lock") == ["  the child waited for 50 ms and did not get it"]
               and section(done.stdout, "a guard unlocks") == ["  the child says: it stumbled", "  main has the lock"],
               f"{w.name}: lock_or_join: one lock for all, and guards", said(done))
    again = section(done.stdout, "a second lock by the holder")
    book.check(len(again) == 1 and "already holds" in again[0],
               f"{w.name}: lock_or_join: a second lock is an error", said(done))


def check_without_lock(book, w, where):
    for _ in range(TRIES):
        done = w.run(where, "lock_or_join", "--no-lock")
        lines = section(done.stdout, "without the lock")
        whole = done.returncode == 0 and three_each(lines)
        if not whole or interleaved(lines):
            break
    book.check(whole and interleaved(lines), f"{w.name}: lock_or_join: without the lock the lines mix", said(done))


# --- ticket_rush

def counts(text):
    found = re.findall(r"^(\d+) sold of (\d+), (\d+) left in the file", text, flags=re.M)
    return [tuple(map(int, one)) for one in found]


def seconds(text):
    return [float(x) for x in re.findall(r"^([\d.]+) s with ", text, flags=re.M)]


def sold_out(where, file):
    path = os.path.join(where, file)
    return os.path.exists(path) and house.read(path) == '{"tickets": 0}\n'


def check_tickets(book, w, where, around):
    done = w.run(where, "ticket_rush", around=around)
    first = done.stdout.split("sold of", maxsplit=1)[0]
    bought = re.findall(r"^buyer \d bought a ticket, (\d) left$", first, flags=re.M)
    book.check(done.returncode == 0 and bought == ["2", "1", "0"] and first.count("finds it sold out") == 7
               and counts(done.stdout) == [(3, 3, 0)] * 2,
               f"{w.name}: ticket_rush: 3 tickets for 10, with a fine and with a coarse lock", said(done))
    file = f"tickets-{w.name}.json"
    done = w.run(where, "ticket_rush", "--tickets", "8", "--coarse", "--file", file, "--keep")
    book.check(done.returncode == 0 and counts(done.stdout) == [(8, 8, 0)] and sold_out(where, file),
               f"{w.name}: ticket_rush: 8 tickets, and the file is kept", said(done))


def check_faster(book, w, where):
    for _ in range(TRIES):
        done = w.run(where, "ticket_rush", "--tickets", "1")
        times = seconds(done.stdout)
        good = done.returncode == 0 and len(times) == 2
        if not good or times[0] < times[1]:
            break
    book.check(good and times[0] < times[1], f"{w.name}: ticket_rush: the fine lock takes less time", said(done))


def check_oversold(book, w, where):
    for _ in range(TRIES):
        done = w.run(where, "ticket_rush", "--no-lock")
        sold = counts(done.stdout)
        good = done.returncode == 0 and len(sold) == 1 and sold[0][0] >= 3
        if not good or sold[0][0] > 3:
            break
    book.check(good and sold[0][0] > 3, f"{w.name}: ticket_rush: without the lock too many are sold", said(done))


def check_killed(book, w, where, tickets, around):
    file = f"killed-{w.name}.json"
    done = w.run(where, "ticket_rush", "--kill", "--tickets", str(tickets), "--file", file, "--keep", around=around)
    text = done.stdout
    victim = re.search(r"^buyer (\d) was terminated while it held the lock", text, flags=re.M)
    told = re.findall(r"^buyer (\d) is told that a holder of the lock died$", text, flags=re.M)
    repaired = re.findall(r"^buyer (\d) repairs the file: (\d) sold, so (\d) left$", text, flags=re.M)
    good = (done.returncode == 0 and victim is not None and len(repaired) == 1 and repaired[0][0] in told
            and victim.group(1) not in told and f"{len(told)} were told, 1 repaired\n" in text
            and int(repaired[0][1]) + int(repaired[0][2]) == tickets and int(repaired[0][1]) == tickets // 2
            and counts(text) == [(tickets, tickets, 0)] and len(re.findall(r" bought a ticket", text)) == tickets
            and sold_out(where, file))
    book.check(good, f"{w.name}: ticket_rush: a holder is terminated, the file is repaired, {tickets} are sold", said(done))


# --- shared_memory

def check_unrelated(book, w, where, others):
    name = f"polyproc-house-{os.getpid()}-{w.name}"

    def call(*options, by=w):
        return by.run(where, "shared_memory", *options)

    nothing = call("--show", name)
    book.check(nothing.returncode == 1 and "there is no shared memory" in nothing.stdout,
               f"{w.name}: shared_memory: a name that is not there", said(nothing))
    creator = w.start(where, "shared_memory", "--create", name)
    if w.suffix:  # it stays, since the name would go with it
        created = creator.stdout.readline().strip()
    else:
        created = creator.communicate(timeout=60)[0].strip()
    text = re.fullmatch(r'created: ("written by program \d+")', created)
    book.check(text is not None, f"{w.name}: shared_memory: a program makes a name", created)
    try:
        shown = [call("--show", name) for _ in range(2)]
        expected = [f"notice: {text.group(1) if text else ''}, reader {i}\n" for i in (1, 2)]
        book.check([s.stdout for s in shown] == expected and all(s.returncode == 0 for s in shown),
                   f"{w.name}: shared_memory: two other programs find it", "".join(map(said, shown)))
        again = call("--create", name)
        book.check(again.returncode == 1 and "exists already" in again.stdout,
                   f"{w.name}: shared_memory: a name is given once", said(again))
        for other in others:
            foreign = call("--show", name, by=other)
            book.check(foreign.returncode == 1 and "with another backend" in foreign.stdout,
                       f"{w.name}: shared_memory: a program with backend {other.name} is refused", said(foreign))
    finally:
        removed = call("--remove", name)
        if w.suffix:
            try:
                creator.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                creator.kill()
                creator.communicate()
    book.check(removed.returncode == 0 and removed.stdout == "removed\n" and creator.returncode == 0,
               f"{w.name}: shared_memory: the name is removed", f"{said(removed)}creator: exit status {creator.returncode}")
    gone = call("--remove", name)
    book.check(gone.returncode == 1 and "there is no shared memory" in gone.stdout,
               f"{w.name}: shared_memory: it is gone then", said(gone))


def left_in_memory(before):
    """What stands in /dev/shm and did not before; waits a little for those of others, which go by themselves."""
    until = time.monotonic() + 5
    while True:
        left = set(os.listdir("/dev/shm")) - before if os.path.isdir("/dev/shm") else set()
        if not left or time.monotonic() > until:
            return sorted(left)
        time.sleep(0.1)


def check_all(book, w, where, others):
    rounds = [([], (1, 9))]
    if shutil.which("taskset") and not w.suffix:
        rounds.append((["taskset", "-c", str(min(os.sched_getaffinity(0)))], (3,)))  # all on one processor
    for around, kills in rounds:
        check_lock_or_join(book, w, where, around)
        done = w.run(where, "primitives", around=around)
        book.check(done.returncode == 0 and done.stdout == PRIMITIVES, f"{w.name}: primitives", said(done))
        done = w.run(where, "shared_memory", around=around)
        book.check(done.returncode == 0 and re.fullmatch(SHARED_MEMORY, done.stdout) is not None,
                   f"{w.name}: shared_memory", said(done))
        check_tickets(book, w, where, around)
        for tickets in kills:
            check_killed(book, w, where, tickets, around)
    check_without_lock(book, w, where)
    check_faster(book, w, where)
    check_oversold(book, w, where)
    check_unrelated(book, w, where, others)
    for example in EXAMPLES:
        done = w.run(where, example, "--frob")
        book.check(done.returncode == 2 and "usage: " + example in done.stdout,
                   f"{w.name}: {example} --frob is refused", said(done))


def main():
    book = house.book()
    if not house.gcc():
        book.skip("the examples", "g++ is not here")
        book.finish()
    available = ways(book)
    with tempfile.TemporaryDirectory() as where:
        os.mkdir(os.path.join(where, "tmp"))
        book.check_all([(f"{w.name}: {e} compiles without a warning", lambda w=w, e=e: w.build(where, e))
                        for e in EXAMPLES for w in available])
        if book.failed:
            book.finish()
        before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
        # They sleep most of the time, and each has files of its own.
        with concurrent.futures.ThreadPoolExecutor(len(available)) as pool:
            rooms = []
            for w in available:
                others = [o for o in available[:2] if o is not w and not w.suffix]
                rooms.append(pool.submit(check_all, book, w, where, others))
            for room in rooms:
                room.result()
        book.check(not left_in_memory(before), "nothing is left in /dev/shm", str(left_in_memory(before)))
        book.check(not os.listdir(os.path.join(where, "tmp")), "nothing is left in the directory for temporary files",
                   str(os.listdir(os.path.join(where, "tmp"))))
    book.finish()


if __name__ == "__main__":
    main()
