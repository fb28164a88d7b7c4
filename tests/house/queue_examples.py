#!/usr/bin/env python3
"""The examples of queues and pipes do what they say, under every start method, on every backend: they compile without a
warning, print what they should, end with 0, and leave nothing behind, no process either.

Built and run as those of processes (process_examples.py): on the native and the portable POSIX backend by fork, spawn and
forkserver, also on one processor; with mingw-w64 under Wine where both are here. Programs that meet by a name are started
one by one, and some are killed.

usage: queue_examples.py     exit status: 0 all is well, 1 something is not
"""
import concurrent.futures
import os
import re
import shutil
import sys
import tempfile
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import examples  # noqa: E402
import house  # noqa: E402
from process_examples import lines, runner, tells  # noqa: E402

EXAMPLES = ("writer_reader", "producers_consumers", "father_and_son", "named_queue")

# In each, "..." stands for the rest of a line.

LETTERS = "ABCDE"
WRITER_READER = "".join(f"writer: puts {x}\n" for x in LETTERS) + "writer: closes the queue\n" + "".join(
    f"reader: got {x}\n" for x in LETTERS) + """\
reader: the queue is closed and empty
main: a new queue: size 0 of 2, empty
main: after one put: size 1 of 2
main: after another: size 2 of 2, full
main: a third one within 20 ms: no
main: put_nowait: polyproc: the queue is full...
main: got 1 and 2
main: a third one within 20 ms: no
main: get_nowait: polyproc: the queue is empty...
main: try_get: empty
main: try_get after close: closed
main: put after close: polyproc: the queue is closed...
main: within 20 ms all tasks are done: no
""" + "".join(f"task-{n} is done\n" for n in range(1, 7)) + "main: all tasks are done\n"
WRITER_READER_ORDER = [(f"writer: puts {x}", f"reader: got {x}") for x in LETTERS] + [
    # The queue holds two: the fourth is put when the first has been taken, which is told a moment later.
    ("writer: closes the queue", "reader: the queue is closed and empty"),
    ("reader: the queue is closed and empty", "main: a new queue...")] + [
    pair for n in range(1, 7) for pair in (("main: within 20 ms all tasks...", f"task-{n} is done"),
                                           (f"task-{n} is done", "main: all tasks are done"))]

FATHER_AND_SON = """\
father: something to receive: no
father: something to receive within a minute: yes
father: got "hello father"
son: got "hello son"
father: got "you said: hello son"
son: got "eat your soup"
father: got "you said: eat your soup"
father: within 20 ms nothing
son: end of file, and I have nothing to say
father: end of file
father: my son has counted, the sum is 50005000
father: got "I am listening"
father: he was killed: end of file
son: got "stay here", and leave
father: come back: the pipe is broken
"""

NAMED_QUEUE = """\
main: there is none
main: 3 messages of at most 100
has A in hand, and is killed
got A
got B
got C
main: it is no queue of numbers
main: create: there is one already
main: now there is none
"""


def writer_reader(text):
    parts = re.split(r"^-- (\w+)\n", text, flags=re.M)
    return parts[0] == "" and parts[1::2] == ["processes", "threads"] and all(
        tells(part, WRITER_READER, WRITER_READER_ORDER) for part in parts[2::2])


def producers_consumers(text):
    rows = text.splitlines()
    found = [re.fullmatch(r"(consumer|producer) (\d) (?:put|got) (\d+) items in \d+ ms", row) for row in rows[:10]]
    if len(rows) != 12 or not all(found):
        return False
    names = [(f.group(1), f.group(2)) for f in found]
    return (names == [(kind, str(n)) for kind in ("consumer", "producer") for n in range(5)]
            and sum(int(f.group(3)) for f in found[:5]) == 5000 and all(f.group(3) == "1000" for f in found[5:])
            and rows[10] == "main: 5000 items were put and 5000 were got, each producer's in order; 0 are left"
            and re.fullmatch(r"main: all of it took \d+ ms", rows[11]) is not None)


def strangers(r, unix):
    """Programs that have nothing in common but a name."""
    name = "polyproc-test-" + uuid.uuid4().hex
    none = 'polyproc: there is no shared memory "' + name + '"...'
    r.check("named_queue", lines(none), "--get", name, ends_with=1)

    def talk(serving):
        said = serving.stdout.readline()
        for texts in (["hello"], ["wide", "world"], ["stop"]):
            r.check("named_queue", "", "--put", name, *texts)
        return said
    r.check("named_queue", "server: ready\nserver: got hello\nserver: got wide\nserver: got world\n", "--serve", name,
            during=talk)
    r.check("named_queue", lines(none), "--get", name, ends_with=1)
    if not unix:
        return  # there it went with the server

    def fill(serving):
        said = serving.stdout.readline()
        serving.kill()
        return said
    r.check("named_queue", "server: ready\n", "--serve", name, during=fill, ends_with=None)
    r.check("named_queue", "", "--put", name, "one", "two", "three")
    r.check("named_queue", "has one in hand, and is killed\n", "--die", name, ends_with=-9)
    r.check("named_queue", "got one\ngot two\ngot three\n", "--get", name)
    r.check("named_queue", "", "--get", name)
    r.check("named_queue", "", "--remove", name)
    r.check("named_queue", lines(none), "--put", name, "four", ends_with=1)


def check_all(book, way, where):
    r = runner(book, way, where)
    unix = not way.before
    rounds = [[]]
    if unix and shutil.which("taskset"):
        rounds.append(["taskset", "-c", str(min(os.sched_getaffinity(0)))])  # all on one processor
    for around in rounds:
        for method in ("fork", "spawn", "forkserver") if unix else ("spawn",):
            def check(example, good):
                r.check(example, good, "--start", method, around=around)
            check("writer_reader", writer_reader)
            check("producers_consumers", producers_consumers)
            check("father_and_son", lines(FATHER_AND_SON, [("father: got \"hello father\"", "son: got \"hello son\""),
                                                           ("son: got \"hello son\"", "father: got \"you said: hello son\""),
                                                           ("son: end of file...", "father: end of file")]))
            check("named_queue", NAMED_QUEUE)
    strangers(r, unix)
    for example in EXAMPLES:
        r.check(example, lambda text: f"usage: {example} [--start fork|spawn|forkserver]" in text, "--frob", ends_with=2)


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
