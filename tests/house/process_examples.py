#!/usr/bin/env python3
"""The examples of processes do what they say, under every start method, on every backend: they compile without a warning,
print what they should, end with 0, and leave nothing behind, no process either.

On the native and the portable POSIX backend by fork, spawn and forkserver, also on one processor; with mingw-w64 under Wine
where both are here (tools/test sets WINEPREFIX). What children print at the same time may come in any order: then each
one's own lines are compared, and those whose order is promised.

usage: process_examples.py     exit status: 0 all is well, 1 something is not
"""
import concurrent.futures
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import examples  # noqa: E402
import house  # noqa: E402

EXAMPLES = ("hello_process", "join_order", "lifecycle", "daemon", "endings", "isolation", "fork_and_wait",
            "orphan_and_zombie", "process_tree", "ctrl_c", "give_handle")
MARK = "POLYPROC_EXAMPLE"  # in the environment of all that a run starts

# In each, "..." stands for the rest of a line. One possible order of the lines; the pairs below say which are promised.

HELLO_PROCESS = """\
main: four processes are made, none was started
alex running
ben running
coco running
egon running
egon is 18
alex done
ben done
coco done
egon done
main: all have ended
a second start: polyproc: this process was already started...
a function got 1 in the first child
a lambda got 2 in the second child
a function object makes 13 of 3 in adder-6
download: check() of eggs.txt in main
download: run() of eggs.txt in download-7
download: run() of eggs.txt in main
"""
HELLO_PROCESS_ORDER = [(before, f"{name} {what}") for name in ("alex", "ben", "coco", "egon")
                       for before, what in (("main: four...", "running"),)] + [
    (f"{name} done", "main: all have ended") for name in ("alex", "ben", "coco", "egon")] + [
    ("main: all have ended", "a second start..."), ("a function object...", "download: check()...")]

JOIN_ORDER = """\
child 3 ends
child 2 ends
child 1 ends
main: joined all, the first one first
main: after 1 s the child that takes 2 s has not ended, it is alive
main: within another minute it has ended, exit code 0
join before start: polyproc: join of a process that was not started...
the target runs in main
join after run() alone: polyproc: join of a process that was not started...
"""
LIFECYCLE = r"""main: pid (\d+), parent (\d+), started by polyproc: no
main: its name is sleeper-1
main: before the start: pid none, not alive, exit code none, active children 0
dozer: pid (\d+), parent \1, whose name is main
main: after the start: pid \3, alive, exit code none, active children 1
main: an active child: dozer, pid \3
main: polyproc: set_name of a process that was started.*
main: after terminate and join: pid \3, not alive, exit code -15, active children 0
main: after two more requests: pid \3, not alive, exit code -15, active children 0
sleeper-2: pid (\d+), parent \1, whose name is main
main: after kill and join: pid \4, not alive, exit code -9, active children 0
"""
DAEMON = """\
main: polyproc: set_daemon of a process that was started...
daemon: polyproc: a daemon may not start processes...
daemon: my first line
worker: the daemon is alive
main: {}
worker: the daemon has ended, and I still work
"""
DAEMON_ORDER = [("daemon: my first line", "worker: the daemon is alive"), ("worker: the daemon is alive", "main: {}"),
                ("main: {}", "worker: the daemon has ended...")]
ENDINGS = """\
normal: exit code 0, success
code: exit code 3, an error of its own: code 3
polyproc: process exception ended by an uncaught std::runtime_error: no more eggs
exception: exit code 1, an exception: std::runtime_error, "no more eggs"
fault: exit code -11, a fault: signal 11
terminated: exit code -15, ended by another: signal 15
killed: exit code -9, ended by another: signal 9
"""
ISOLATION = """\
child: n == 200, *common == 200
main: n == 100, *common == 200
"""
FORK_AND_WAIT = r"""child: number == 200, my parent's pid is (\d+)
parent: number == 100, my pid is \1
parent: the child that ended is mine, its result is 7
parent: there are no more
"""
NO_FORK = "this system cannot copy a running process: there is no fork here\n"
WAYS_TO_REAP = ("join()", "active_children()", "the next start()", "the end of its object")
ORPHAN_AND_ZOMBIE = """\
orphan: my parent is middle, it is alive
main: the table has orphan below middle
orphan: my parent has ended, I go on
main: middle has ended, orphan is alive
main: {}
orphan: enough
main: orphan has ended too
"""
ORPHAN_ORDER = [("main: the table has orphan below middle", "orphan: my parent has ended, I go on"),
                ("orphan: enough", "main: orphan has ended too")]
PROCESS_TREE = r"""computes: new
(?P<table> *PID +PARENT +STATE +USER +THREADS +CPU +MEMORY +OPEN +PRIORITY +NAME
(?:.*\n)+?)computes, pid (?P<computes>\d+): (?:running|ready)
sleeps, pid (?P<sleeps>\d+): blocked
waits, pid (?P<waits>\d+): blocked
computes, pid (?P=computes): stopped
computes, pid (?P=computes): (?:running|ready)
computes, pid (?P=computes): ended
sleeps, pid (?P=sleeps): ended
waits, pid (?P=waits): ended
"""
CTRL_C = """\
main: heeds was ended by signal {}
main: ignores is alive
{}ignores: finished my work
main: ignores exited with code 0
"""
GIVE_HANDLE = """\
warden: homely is alive
warden: homely has ended by itself
warden: stubborn has not ended within 50 ms
warden: stubborn was ended by me
main: homely exited with code 0
main: stubborn was ended by signal 15 (terminated)
"""


def is_like(line, wanted):
    return line.startswith(wanted[:-3]) if wanted.endswith("...") else line == wanted


def are_like(lines, wanted):
    return len(lines) == len(wanted) and all(map(is_like, lines, wanted))


def tells(text, wanted, order=None):
    """Whether the text has the wanted lines: in that order, or, given pairs (earlier, later), at least each speaker's own
    and those pairs."""
    lines, wanted = text.splitlines(), wanted.splitlines()
    if order is None:
        return are_like(lines, wanted)

    def by(speaker, among):
        return [line for line in among if line.split()[0] == speaker]

    speakers = {line.split()[0] for line in wanted + [x for x in lines if x.strip()]}
    if len(lines) != len(wanted) or not all(are_like(by(s, lines), by(s, wanted)) for s in speakers):
        return False

    def place(of):
        return next(i for i, line in enumerate(lines) if is_like(line, of))

    return all(place(earlier) < place(later) for earlier, later in order)


def still_running(mark):
    """What a run has left running, by its environment."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc") if os.path.isdir("/proc") else []):
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment:
                if f"{MARK}={mark}".encode() not in environment.read():
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as command:
                found.append(pid + " " + command.read().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            pass  # it has ended, or is none of ours
    return found


class runner:
    """Runs the examples of one way, and looks after each run for what it has left."""

    def __init__(self, book, way, where):
        self.book, self.way, self.where = book, way, where

    def run(self, example, *options, around=(), during=None, ends_with=0):
        mark = uuid.uuid4().hex
        # Wine has one server for each TMPDIR, and Windows' programs do not look there.
        more = {} if self.way.before else {"TMPDIR": os.path.join(self.where, "tmp")}
        command = [*around, *self.way.before, self.way.program(self.where, example), *options]
        what = " ".join([f"{self.way.name}: {example}", *options, *(["on one processor"] if around else [])])
        running = subprocess.Popen(command, cwd=self.where, text=True, errors="replace", stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                                   env={**os.environ, **more, MARK: mark})
        said = ""
        try:
            if during:
                said = during(running)
            # Until the last one who could write has ended, not only the program itself.
            said += running.communicate(timeout=60)[0]
        except subprocess.TimeoutExpired:
            said += "took longer than 60 s\n"
        until = time.monotonic() + 5
        while (left := still_running(mark)) and time.monotonic() < until:
            time.sleep(0.01)
        self.book.check(not left, f"{what}: no process is left", "\n".join(left))
        if left:
            for one in left:
                try:
                    os.kill(int(one.split()[0]), signal.SIGKILL)
                except ProcessLookupError:
                    pass
            running.wait()
        # Wine tells of the fault that is part of the show.
        said = re.sub(r"^wine: .*\n", "", said.replace("\r\n", "\n"), flags=re.M)
        code = running.returncode
        self.book.check(ends_with is None or code == ends_with, f"{what}: exit status {ends_with}",
                        f"exit status {code}\n{said}")
        return what, said

    def check(self, example, good, *options, **more):
        """`good` judges the output, or is one of the texts above."""
        what, said = self.run(example, *options, **more)
        well = said == good if isinstance(good, str) else good(said)
        self.book.check(well, what, said)


def regex(pattern):
    return lambda text: re.fullmatch(pattern, text) is not None


def lines(wanted, order=None):
    return lambda text: tells(text, wanted, order)


def daemon(last):
    return lines(DAEMON.format(last), [(a.format(last), b.format(last)) for a, b in DAEMON_ORDER])


def orphan_and_zombie(unix):
    def judge(text):
        zombies = [x for x in text.splitlines() if x.startswith("zombie: ")]
        seen = "zombie: the table says " + ("ended" if unix else "gone: there are none on Windows")
        wanted = [x for way in WAYS_TO_REAP for x in (seen, f"zombie: after {way} the table says gone")]
        rest = "".join(x + "\n" for x in text.splitlines() if not x.startswith("zombie: "))
        moved = "the table has orphan below another parent" if unix else "Windows gives an orphan no other parent"
        return zombies == wanted and tells(rest, ORPHAN_AND_ZOMBIE.format(moved), ORPHAN_ORDER)
    return judge


def process_tree(unix):
    def judge(text):
        if not unix:  # Wine does not tell what a process does; Windows would
            text = re.sub(r"\b(running|ready|blocked|stopped)\b", "unknown", text)
        pattern = PROCESS_TREE if unix else re.sub(r"\(\?:running\|ready\)|blocked|stopped", "unknown", PROCESS_TREE)
        found = re.fullmatch(pattern, text)
        if found is None:
            return False
        states = {row.split()[0]: row.split()[2] for row in found.group("table").splitlines()[1:]}
        expected = {"computes": "running ready", "sleeps": "blocked", "waits": "blocked"}
        return all(states.get(found.group(name)) in (state.split() if unix else ["unknown"])
                   for name, state in expected.items())
    return judge


def press_ctrl_c(running):
    """What a terminal does."""
    said = ""
    while "press Ctrl-C" not in said:
        line = running.stdout.readline()
        if not line:
            return said
        said += line
    os.killpg(running.pid, signal.SIGINT)
    return said


def check_all(book, way, where):
    r = runner(book, way, where)
    unix = not way.before
    ways_to_start = ["fork", "spawn", "forkserver"] if unix else ["spawn"]
    rounds = [[]]
    if unix and shutil.which("taskset"):
        rounds.append(["taskset", "-c", str(min(os.sched_getaffinity(0)))])  # all on one processor
    by_interrupt = "2 (interrupted)" if unix else "15 (terminated)"
    for around in rounds:
        for method in ways_to_start:
            def check(example, good, *options, **more):
                r.check(example, good, "--start", method, *options, around=around, **more)
            check("hello_process", lines(HELLO_PROCESS, HELLO_PROCESS_ORDER))
            check("join_order", lines(JOIN_ORDER), "--quick")
            check("lifecycle", regex(LIFECYCLE))
            check("daemon", daemon("returns"))
            check("daemon", daemon("kills itself"), "--kill", ends_with=-signal.SIGKILL if unix else None)
            check("endings", ENDINGS)
            check("isolation", ISOLATION)
            check("fork_and_wait", regex(FORK_AND_WAIT if unix else NO_FORK))
            check("orphan_and_zombie", orphan_and_zombie(unix))
            check("process_tree", process_tree(unix))
            check("ctrl_c", CTRL_C.format(by_interrupt, ""))
            if unix:  # Wine has no terminal here
                check("ctrl_c", "main: press Ctrl-C\n" + CTRL_C.format(by_interrupt, "main: I was interrupted as well\n"),
                      "--wait", during=press_ctrl_c)
            check("give_handle", GIVE_HANDLE)
    r.check("join_order", lines(JOIN_ORDER))  # with whole seconds
    r.check("isolation", ISOLATION)           # by default
    for example in EXAMPLES:
        r.check(example, lambda text: f"usage: {example} [--start fork|spawn|forkserver]" in text, "--frob", ends_with=2)
    r.check("isolation", lambda text: "usage: isolation" in text, "--start", "thread", ends_with=2)
    if not unix:
        for method in ("fork", "forkserver"):
            r.check("isolation", lines("polyproc: this system cannot copy a running process..."), "--start", method, ends_with=2)


def main():
    book = house.book()
    if not house.gcc():
        book.skip("the examples", "g++ is not here")
        book.finish()
    with tempfile.TemporaryDirectory() as where:
        os.mkdir(os.path.join(where, "tmp"))
        ways = examples.ways(book)
        book.check_all([(f"{w.name}: {e} compiles without a warning", lambda w=w, e=e: w.build(where, e))
                        for e in EXAMPLES for w in ways])
        if book.failed:
            book.finish()
        before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
        with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:
            for room in [pool.submit(check_all, book, w, where) for w in ways]:
                room.result()
        left = examples.left_in_memory(before)
        book.check(not left, "nothing is left in /dev/shm", str(left))
        left = os.listdir(os.path.join(where, "tmp"))
        book.check(not left, "nothing is left in the directory for temporary files", str(left))
    book.finish()


if __name__ == "__main__":
    main()
