#!/usr/bin/env python3
"""The examples of pools and futures do what they say, under every start method, on every backend: they compile without a
warning, print what they should, end with 0, and leave nothing behind, no process either.

Built and run as those of processes (process_examples.py): on the native and the portable POSIX backend by fork, spawn and
forkserver, also on one processor; with mingw-w64 under Wine where both are here. They print times. A time that is too short is
always wrong; one that is too long is tried again, and may be ten times as late as is promised.

usage: task_examples.py     exit status: 0 all is well, 1 something is not
"""
import concurrent.futures
import os
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import examples  # noqa: E402
import house  # noqa: E402
from process_examples import runner  # noqa: E402

EXAMPLES = ("sync_async", "pool_async", "pools", "concurrent_parallel")
TRIES = 6      # for what a busy machine spoils
LATE = 1000    # ms: for what is started meanwhile, or computes
PROMISED = 200  # ms: ten times what timed forms promise

# --- sync_async

SUBMISSION = r"""-- (?P<pool>process_pool|thread_pool): submission, and the outcome
apply: 49 after (?P<apply>\d+)
submit: returned after (?P<submit>\d+)
asking: ready at first: no, later: yes, 64 after (?P<asking>\d+), having asked more than once
waiting: wait_for\(30ms\): not yet after (?P<limited>\d+), get: 81 after (?P<get>\d+)
on_done: main went on after (?P<on>\d+); it was told 100 after (?P<told>\d+)
then: main went on after (?P<then>\d+); the square is 121 after (?P<after>\d+)
co_await: (?:main went on after \d+; 81 after (?P<twice>\d+), two tasks one after the other|this compiler has no coroutines)
-- (?P=pool): four ways
4 tasks of 100 ms .*
synchronous, blocking +(?P<way1>\d+ +\d+ +\d+)
synchronous, non-blocking +(?P<way2>\d+ +\d+ +\d+)
asynchronous, blocking +(?P<way3>\d+ +\d+ +\d+)
asynchronous, non-blocking +(?P<way4>\d+ +\d+ +\d+)
"""
WAITING = r"-- what can wait, in three forms\n.*\n((?:.+\n)+)"
CAN_WAIT = ("submit to a full pool", "a future", "join of a process", "put to a full queue", "get from an empty one",
            "recv from a pipe", "a lock", "a semaphore", "an event")


def between(least, value, most):
    return least <= int(value) <= most


def submission(found):
    ways = [[int(x) for x in found[f"way{n}"].split()] for n in (1, 2, 3, 4)]
    (took1, slept1, steps1), (took2, slept2, steps2), (took3, slept3, steps3), (took4, slept4, steps4) = ways
    return (between(98, found["apply"], LATE) and between(0, found["submit"], PROMISED)
            and all(between(98, found[x], LATE) for x in ("asking", "get", "told", "after"))
            and between(29, found["limited"], 30 + PROMISED) and between(0, found["on"], PROMISED)
            and between(0, found["then"], PROMISED) and (found["twice"] is None or between(196, found["twice"], LATE))
            # Main sleeps in calls or gets work done; one after the other takes four times as long as side by side.
            and took1 >= 392 and slept1 >= 392 and steps1 == 0 and took2 >= 392 and slept2 == 0 and steps2 > 10
            and took3 >= 98 and slept3 >= 90 and steps3 == 0 and took4 >= 98 and slept4 == 0 and steps4 > 2
            and took3 < took1 / 2 and took4 < took2 / 2)


def sync_async(text):
    found = re.fullmatch("(?P<a>(?:(?!-- what).*\n)+)" + WAITING, text)
    if found is None:
        return False
    parts = list(re.finditer(SUBMISSION, found.group("a")))
    if "".join(p.group(0) for p in parts) != found.group("a") or [p["pool"] for p in parts] != ["process_pool", "thread_pool"]:
        return False
    rows = [re.fullmatch(r"(.+?) +no +(\d+) +no +(\d+) +(\d+)", row) for row in found.group(2).splitlines()]
    return (all(rows) and [row.group(1) for row in rows] == list(CAN_WAIT) and all(map(submission, parts))
            and all(between(0, row.group(2), PROMISED) and between(29, row.group(3), 30 + PROMISED)
                    and between(0, row.group(4), LATE) for row in rows))


# --- pool_async

POOL_ASYNC = r"""-- 4 processes, 20 tasks
(?P<tasks>(?:pool-[1-4]: task \d+\n){20})all done
""" + "".join(f"result {n}: {n * n}\n" for n in range(20)) + r"""-- apply waits, submit does not
apply: 20 tasks that sleep 50 ms took (?P<apply>\d+) ms
submit: all were submitted after (?P<returned>\d+) ms, and done after (?P<submit>\d+) ms
the ratio is (?P<ratio>\d\.\d)
-- map and the like
map: 1 4 9 16
starmap: 1024 81 49
imap, the first takes longest: 1 4 9 16
imap_unordered: 16 9 4 1
imap over endless input: the first 100 squares make 338350, and at most 8 more were taken: yes
-- callbacks
heard of: 1 4 9 25 36, and of a problem: there is no task 4
on a thread of the library's: yes
then: 72
-- an initializer
soup, number 1 from Eggs with 80 pages
omelette, number 2 from Eggs with 80 pages
-- workers that leave after 3 tasks
12 tasks ran in (?P<workers>\d+) processes, in none more than [123]
-- the end of a pool
join before close: polyproc: join of a pool that still accepts tasks would wait for ever; .*
submit after close: polyproc: this pool is closed and accepts no more tasks; .*
what was submitted before is done: yes, 81
terminate: 8 of 8 tasks of an hour were given up at once
"""


def pool_async(text):
    found = re.fullmatch(POOL_ASYNC, text)
    if found is None:
        return False
    tasks = re.findall(r"pool-(\d): task (\d+)", found["tasks"])
    return (sorted(int(n) for _, n in tasks) == list(range(20)) and len({w for w, _ in tasks}) == 4
            and int(found["apply"]) >= 20 * 49 and int(found["submit"]) >= 5 * 49
            and int(found["returned"]) < int(found["submit"]) / 2
            and 3.0 <= float(found["ratio"]) <= 5.0 and int(found["workers"]) >= 4)


def with_progress(text):
    rest, lines = re.subn(r"^tasks: 20/20 \(100%\), \S+/s, 0:0\d\n", "", text, flags=re.M)
    return lines == 1 and pool_async(rest)


# --- pools

TOUR = """\
a future: ready at first: no, after wait: yes; its value: 1
an exception: std::invalid_argument, no such dish
a callback heard of a value, 2
another one heard of std::invalid_argument, no such dish
then, and then: three makes 4
cancel of one that waits: yes, task_cancelled; it never began
cancel of one that runs: yes, task_cancelled
cancel of one that is done: no
a time limit: time_limit_exceeded
wait for the first: done 1, not done 0 2
wait for all: done 0 1 2, not done
wait for the first exception: done 1 2, not done 0
as_completed: 10 20 30
when_all: 30 10 20
when_any: number 1, 10
map: 1 4 9 16 25
so far 26 gave a value, 3 failed, 3 were stopped, 0 were lost; restarted workers: 0
"""
POOLS = f"""\
-- process_pool
{TOUR}-- thread_pool
{TOUR}-- only processes
an endless loop is cancelled: task_cancelled, at once
a crash: worker_lost, and its message names the task
the pool goes on: 36 49 64, with 3 workers
-- only threads
a capture by reference: 7 eggs
tasks that wait for tasks of their own pool: 5 13 25 41 61 85
"""

# --- concurrent_parallel

TIMELINES = r"""-- {pool}: (?P<n{pool}>\d) tasks, (?P<how{pool}>one worker|\d workers on one processor): (?P<few{pool}>\d+) ms
{picture}-- {pool}: \d tasks, \d workers on all processors: (?P<many{pool}>\d+) ms
{picture}{pool}: all processors are (?P<ratio{pool}>\d\.\d) times as fast
"""
PICTURE = r"""  the whole of it, \d+ ms wide:
(?:  task \d \|[-# ]{60}\|
){2,8}  a close look, 30 ms wide:
(?:  task \d \|[-# ]{60}\|
){2,8}"""
NO_AFFINITY = "-- {pool}: this system has no call that keeps a worker on a processor\n"


def concurrent_parallel(affinity, processors, faster):
    """`faster`: whether it has to be, this time."""
    pattern = f"this program may use {processors} processor(?:s|: nothing can be parallel)\n" + "".join(
        ("" if affinity else NO_AFFINITY.format(pool=p)) + TIMELINES.replace("{picture}", PICTURE).replace("{pool}", p)
        for p in ("process_pool", "thread_pool"))

    def judge(text):
        found = re.fullmatch(pattern, text)
        if found is None or any("#" not in part for part in text.split("-- ")[1:] if "wide" in part):
            return False
        return not faster or all(float(found["ratio" + p]) >= 1.3 for p in ("process_pool", "thread_pool"))
    return judge


def is_busy():
    return os.getloadavg()[0] > 0.7 * (os.cpu_count() or 1)


# --- all of them

def check_again(r, example, judge, *options, last=None, **more):
    """A few times, until it is as it should be; `last` judges what came out at last, if that never was."""
    for _ in range(TRIES):
        what, said = r.run(example, *options, **more)
        if judge(said):
            break
    else:
        if last and last(said) and is_busy():
            return r.book.skip(what, "the machine has other things to do: " + said.splitlines()[-1])
    r.book.check(judge(said), what, said)


def check_all(book, way, where):
    r = runner(book, way, where)
    unix = not way.before
    affinity = way.name != "posix"
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    methods = ("fork", "spawn", "forkserver") if unix else ("spawn",)
    for method in methods:
        start = ("--start", method)
        check_again(r, "sync_async", sync_async, *start)
        check_again(r, "pool_async", pool_async, *start)
        check_again(r, "pools", lambda text: text == POOLS, *start)
        check_again(r, "concurrent_parallel", concurrent_parallel(affinity, processors, processors > 1), *start,
                    last=concurrent_parallel(affinity, processors, False))
    if unix and shutil.which("taskset"):
        alone = ["taskset", "-c", str(min(os.sched_getaffinity(0)))]  # all on one processor
        seen = 1 if way.name == "native" else r"\d+"
        check_again(r, "sync_async", sync_async, around=alone)
        check_again(r, "pool_async", pool_async, around=alone)
        check_again(r, "pools", lambda text: text == POOLS, around=alone)
        check_again(r, "concurrent_parallel", concurrent_parallel(affinity, seen, False), around=alone)
    check_again(r, "pool_async", with_progress, "--progress")
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
        for way in ways:  # one after the other: they look at the clock
            check_all(book, way, where)
        left = examples.left_in_memory(before)
        book.check(not left, "nothing is left in /dev/shm", str(left))
        left = os.listdir(os.path.join(where, "tmp"))
        book.check(not left, "nothing is left in the directory for temporary files", str(left))
    book.finish()


if __name__ == "__main__":
    main()
