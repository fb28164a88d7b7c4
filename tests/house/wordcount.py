#!/usr/bin/env python3
"""The example that does the main job: its totals are those of a plain program, again and again, whether or not a worker is
shot; what cannot be read is reported; and when the program itself is killed, nothing of it is left a moment
later (the check gives it ten seconds).

On the native and the portable POSIX backend. POLYPROC_WORDCOUNT_RUNS sets how often the totals are compared (default 12).

usage: wordcount.py     exit status: 0 all is well, 1 something is not
"""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import examples  # noqa: E402
import house  # noqa: E402

CHECK = os.path.join(house.ROOT, "tools", "wordcount_check.py")
RUNS = int(os.environ.get("POLYPROC_WORDCOUNT_RUNS", "12"))


def make_tree(where):
    """About 12 MB: many small files, a large one without a line end, odd names, an empty one, a link to follow nowhere."""
    chance = random.Random(20)
    words = ["alpha", "Beta", "GAMMA", "x1", "_y", "zeta9", "caf\u00e9", "the", "of", "-", ";;", "0x1F"]
    for i in range(300):
        folder = os.path.join(where, f"d{i % 17}", "sub dir")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, f"f{i}.txt"), "w", encoding="utf-8") as out:
            out.write(" ".join(chance.choice(words) for _ in range(chance.randrange(4000))))
    with open(os.path.join(where, "large"), "w", encoding="utf-8") as out:
        for _ in range(300000):
            out.write(chance.choice(words) + chance.choice([" ", "\n", ",", ""]) + str(chance.randrange(5000)) + " ")
    with open(os.path.join(where, "one word"), "w", encoding="utf-8") as out:
        out.write("long" * 700000)  # longer than any piece
    open(os.path.join(where, "empty"), "w", encoding="utf-8").close()
    os.symlink("/nonexistent", os.path.join(where, "link"))
    os.symlink("..", os.path.join(where, "d1", "up"))
    for folder, _, _ in os.walk(where):
        os.chmod(folder, 0o755)


def processes_of(program):
    """The numbers of all processes that run that file, zombies left out."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{pid}/exe").split(" (deleted)")[0] == program:
                found.append(int(pid))
        except OSError:
            pass
    return found


def left_in(*folders):
    return {os.path.join(f, n) for f in folders if os.path.isdir(f) for n in os.listdir(f)}


def totals_agree(program, tree, where, options):
    result = os.path.join(where, "result.json")
    if os.path.exists(result):
        os.remove(result)
    done = house.run([program, tree, "--no-compare", "--top", "50", "--json", result, *options], timeout=60)
    if done.returncode != 0:
        return False, f"exit status {done.returncode}\n{done.stdout}"
    compared = house.run([sys.executable, CHECK, tree, "--compare", result])
    if compared.returncode != 0:
        return False, compared.stdout + done.stdout
    with open(result, encoding="utf-8") as said:
        lost = json.load(said)["lost"]
    if "--crash" in options and lost == 0:
        return False, "no worker was counting when it was shot"
    return True, ""


def killed_leaves_nothing(program, tree, where):
    temporary = os.path.join(where, "tmp")
    os.makedirs(temporary, exist_ok=True)
    before = left_in("/dev/shm", temporary)
    # Many passes over the tree, so that it is in the middle for long enough.
    running = subprocess.Popen([program, tree, "--workers", "4"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "TMPDIR": temporary})
    until = time.monotonic() + 20
    while len(processes_of(program)) < 3 and running.poll() is None and time.monotonic() < until:
        time.sleep(0.001)
    workers = len(processes_of(program)) - 1
    running.send_signal(signal.SIGKILL)
    running.wait()
    until = time.monotonic() + 10
    while processes_of(program) and time.monotonic() < until:
        time.sleep(0.01)
    left = processes_of(program)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    files = left_in("/dev/shm", temporary) - before
    if workers < 1:
        return False, "it had no worker when it was killed"
    return not left and not files, f"processes left: {left}, files left: {sorted(files)}"


def main():
    book = house.book()
    with tempfile.TemporaryDirectory() as where:
        os.chmod(where, 0o755)
        tree = os.path.join(where, "tree")
        os.makedirs(tree)
        make_tree(tree)

        book.check_all([(f"{way.name}: wordcount compiles", lambda way=way: way.build(where, "wordcount"))
                        for way in (examples.native(), examples.posix())])
        for name in ("native", "posix"):
            program = os.path.join(where, f"wordcount-{name}")
            if not os.path.exists(program):
                continue
            shot = 0
            wrong = None
            for i in range(RUNS):
                options = [["--workers", "2"], ["--workers", "3", "--crash"]][i % 2]
                good, why = totals_agree(program, tree, where, options)
                if not good:
                    wrong = f"run {i + 1} with {' '.join(options)}: {why}"
                    break
                shot += "--crash" in options
            book.check(wrong is None, f"{name}: {RUNS} runs have the totals of a plain count", wrong or "")
            book.check(shot == RUNS // 2 or wrong is not None, f"{name}: in half of them a worker was shot while it counted")
            for i in range(3):
                good, why = killed_leaves_nothing(program, tree, where)
                if not book.check(good, f"{name}: killed in the middle, it leaves nothing", why):
                    break
            if os.geteuid() == 0 and shutil.which("setpriv"):
                nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            else:
                nobody = []
            if os.geteuid() != 0 or nobody:
                secret = os.path.join(tree, "d1", "secret")
                with open(secret, "w", encoding="utf-8") as out:
                    out.write("not for everybody")
                os.chmod(secret, 0)
                os.chmod(program, 0o755)
                done = house.run([*nobody, program, tree, "--no-compare", "--top", "0"], cwd="/")
                book.check(done.returncode == 0 and "skipped, cannot be read: " in done.stdout and "secret" in done.stdout,
                           f"{name}: what cannot be read is reported and skipped", done.stdout)
                os.remove(secret)
            else:
                book.skip(f"{name}: a file that cannot be read", "everything can be read by root, and setpriv is missing")
            for arguments in ([], ["/nonexistent"], [tree, "--workers", "0"], [tree, "--top"], [tree, "--frob"], [tree, tree]):
                done = house.run([program, *arguments], timeout=20)
                book.check(done.returncode in (1, 2) and done.stdout.startswith("wordcount: "),
                           f"{name}: wordcount {' '.join(arguments)} is refused with a sentence", done.stdout)
    book.finish()


if __name__ == "__main__":
    main()
