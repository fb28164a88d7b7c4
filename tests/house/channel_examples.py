#!/usr/bin/env python3
"""The examples of streams and connections do what they say, under every start method, on every backend: they compile
without a warning, print what they should, end with 0, and leave nothing behind, no process, socket or FIFO either.

On the native and the portable POSIX backend by fork, spawn and forkserver, also on one processor; with mingw-w64 under Wine
where both are here (tools/test sets WINEPREFIX). The clients of upper_server are Python's sockets, and netcat where it is.

usage: channel_examples.py     exit status: 0 all is well, 1 something is not
"""
import concurrent.futures
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import examples  # noqa: E402
import house  # noqa: E402
import process_examples  # noqa: E402
from process_examples import lines  # noqa: E402

EXAMPLES = ("auth", "fifo_reader", "fifo_writer", "upper_server")

AUTH = """\
shop: a key of 32 bytes was made at the start
shop: 6 eggs for child
child: here you are
shop: polyproc: a client was turned away, because it does not have the listener's authkey
stranger: they do not let me in
shop: turned away: 1
"""
AUTH_ORDER = [("shop: a key of 32 bytes was made at the start", "child: here you are"),
              ("child: here you are", "stranger: they do not let me in"),
              ("stranger: they do not let me in", "shop: turned away: 1")]
FIFO = """\
reader: one
reader: two
reader: and three
reader: end of file
"""
CLIENTS = 6


class wrong(Exception):
    pass


def expect(is_so, what):
    if not is_so:
        raise wrong(what)


def answer(client, bytes_wanted):
    got = b""
    while len(got) < bytes_wanted:
        part = client.recv(bytes_wanted - len(got))
        if not part:
            break
        got += part
    return got


def come_and_go(port):
    """What several clients do; the server ends after CLIENTS of them."""
    def client():
        made = socket.create_connection(("127.0.0.1", port), timeout=30)
        made.settimeout(30)
        return made

    # One alone.
    with client() as one:
        one.sendall(b"hello\n")
        expect(answer(one, 6) == b"HELLO\n", "the first client's answer")
    # One that stays while others come and go.
    with client() as stays:
        stays.sendall(b"stays, ")
        expect(answer(stays, 7) == b"STAYS, ", "the staying client's first answer")
        with client() as guest:
            guest.sendall(b"a guest")
            guest.shutdown(socket.SHUT_WR)
            expect(answer(guest, 100) == b"A GUEST", "the guest's answer, and its end")
        # One that is gone in the middle. It was answered before: whoever is gone before that may never have been accepted.
        with client() as rude:
            rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            rude.sendall(b"x" * 1000)
            expect(answer(rude, 1) == b"X", "the beginning of the rude client's answer")
        # A large amount, written while it is read.
        text = b"abcdefgh" * 250000
        with client() as large:
            writer = threading.Thread(target=lambda: (large.sendall(text), large.shutdown(socket.SHUT_WR)))
            writer.start()
            expect(answer(large, len(text) + 1) == text.upper(), "the large answer")
            writer.join()
        stays.sendall(b"and goes")
        expect(answer(stays, 8) == b"AND GOES", "the staying client's last answer")
    netcat = shutil.which("nc") or shutil.which("ncat") or shutil.which("netcat")
    if netcat:
        said = subprocess.run([netcat, "-N" if "openbsd" in os.path.realpath(netcat) else "-w2", "127.0.0.1", str(port)],
                              input=b"by netcat\n", stdout=subprocess.PIPE, timeout=30, check=False).stdout
        expect(said == b"BY NETCAT\n", f"netcat's answer: {said!r}")
    else:
        with client() as last:
            last.sendall(b"the last")
            last.shutdown(socket.SHUT_WR)
            expect(answer(last, 100) == b"THE LAST", "the last client's answer")


def visit(running):
    first = running.stdout.readline()
    try:
        come_and_go(int(first.split()[-1]))
    except (wrong, OSError, ValueError, IndexError, subprocess.TimeoutExpired) as problem:
        running.kill()
        return f"{first}{type(problem).__name__}: {problem}\n"
    return first


def served(text):
    """Each client came, in order, and each left or was gone; then the server ended."""
    said = text.splitlines()
    if len(said) != 2 * CLIENTS + 2 or not said[0].startswith("server: at port ") or said[-1] != "server: that was the last one":
        return False
    came = [x for x in said if x.endswith(" came")]
    ends = [x for x in said[1:-1] if not x.endswith(" came")]
    if came != [f"server: client {i} came" for i in range(1, CLIENTS + 1)]:
        return False
    # The rude one's server may have read all before it learnt of the end.
    bytes_of = {1: 6, 2: 15, 3: 7, 5: 2000000, 6: (10, 8)}
    for i in range(1, CLIENTS + 1):
        mine = [x for x in ends if x.startswith(f"server: client {i} ")]
        wanted = bytes_of.get(i)
        good = [f"server: client {i} left after {n} bytes" for n in (wanted if isinstance(wanted, tuple) else (wanted,))]
        if i == 4:
            good = ["server: client 4 is gone", "server: client 4 left after 1000 bytes"]
        if len(mine) != 1 or mine[0] not in good or said.index(mine[0]) < said.index(f"server: client {i} came"):
            return False
    return True


def two_programs(r, writer_first):
    """fifo_reader and fifo_writer, which come in either order."""
    name = "example-" + uuid.uuid4().hex[:12]
    way = r.way

    def start_writer():
        return subprocess.Popen([*way.before, way.program(r.where, "fifo_writer"), name, "one", "two", "and three"],
                                cwd=r.where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    writers = [start_writer()] if writer_first else []

    def during(_running):
        if not writers:
            writers.append(start_writer())
        return ""

    r.check("fifo_reader", FIFO, name, during=during)
    said = writers[0].communicate(timeout=60)[0].replace("\r\n", "\n")
    r.book.check(said == "writer: 3 lines written\n" and writers[0].returncode == 0, f"{way.name}: fifo_writer", said)


def check_all(book, way, where):
    r = process_examples.runner(book, way, where)
    unix = not way.before
    rounds = [[]]
    if unix and shutil.which("taskset"):
        rounds.append(["taskset", "-c", str(min(os.sched_getaffinity(0)))])  # all on one processor
    for around in rounds:
        for method in ["fork", "spawn", "forkserver"] if unix else ["spawn"]:
            r.check("auth", lines(AUTH, AUTH_ORDER), "--start", method, around=around)
            r.check("upper_server", served, str(CLIENTS), "--start", method, around=around, during=visit)
    for writer_first in (False, True):
        two_programs(r, writer_first)
    r.check("auth", lambda text: "usage: auth [--start fork|spawn|forkserver]" in text, "--frob", ends_with=2)
    r.check("fifo_writer", "usage: fifo_writer NAME LINE...\n", ends_with=2)
    r.check("fifo_reader", "usage: fifo_reader NAME\n", ends_with=2)


def left_behind():
    return {x for x in os.listdir("/tmp") if x.startswith(("polyproc-socket.", "polyproc-fifo.", ".polyproc."))}


def main():
    book = house.book()
    if not house.gcc():
        book.skip("the examples", "g++ is not here")
        book.finish()
    before = left_behind() if os.path.isdir("/tmp") else set()
    with tempfile.TemporaryDirectory() as where:
        os.mkdir(os.path.join(where, "tmp"))
        ways = examples.ways(book)
        book.check_all([(f"{w.name}: {e} compiles without a warning", lambda w=w, e=e: w.build(where, e))
                        for e in EXAMPLES for w in ways])
        if book.failed:
            book.finish()
        with concurrent.futures.ThreadPoolExecutor(len(ways)) as pool:
            for room in [pool.submit(check_all, book, w, where) for w in ways]:
                room.result()
        left = os.listdir(os.path.join(where, "tmp"))
        book.check(not left, "nothing is left in the directory for temporary files", str(left))
    left = {x for x in left_behind() - before if "example-" in x or x.startswith(".polyproc.")}
    book.check(not left, "no socket and no FIFO is left", str(left))
    book.finish()


if __name__ == "__main__":
    main()
