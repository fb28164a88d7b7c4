#!/usr/bin/env python3
"""Everything that reads bytes of others is given bytes of every kind (tests/fuzz/decode_fuzz.cpp, with libFuzzer).

usage: fuzz.py [PROGRAM]      PROGRAM: decode_fuzz, already built, and what it finds is kept beside it

The committed inputs are read; the seeds among them are what the program would write now; from there it goes on for
POLYPROC_FUZZ_SECONDS (15), always with the same choices unless POLYPROC_FUZZ_SEED is another number; and decoders that are
known to be wrong are found. `fuzz.py --renew` writes the seeds anew, when the format or the list of what is read has changed.
"""
import base64
import glob
import os
import re
import shutil
import sys
import tempfile

import house

HERE = os.path.join(house.ROOT, "tests", "fuzz")
CORPUS = os.path.join(HERE, "corpus")
SANITIZERS = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all"]
LIMITS = ["-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-malloc_limit_mb=64"]
# What is wrong, how long a search may take, and what must be said of it.
WRONG = [
    ("length", "more memory was asked for than the input justifies"),
    ("end", "heap-buffer-overflow"),
    ("spelling", "what was read is written in another way"),
    ("key", "somebody without the key is let in"),
]


def compiler():
    """The first that can link a fuzzer: its runtime is a package of its own in places."""
    for _, name in house.clangs():
        with tempfile.TemporaryDirectory() as there:
            text = 'extern "C" int LLVMFuzzerTestOneInput(unsigned char const*, unsigned long) { return 0; }'
            tried = house.run([name, *SANITIZERS, "-x", "c++", "-", "-o", os.path.join(there, "tried")], input=text)
            if tried.returncode == 0:
                return name
    return None


def build(there):
    name = compiler()
    if name is None:
        return None, ""
    thing, program = os.path.join(there, "decode_fuzz.o"), os.path.join(there, "decode_fuzz")
    cache = ["ccache"] if shutil.which("ccache") else []
    # From the root, so that another checkout's cache can help.
    done = house.run([*cache, name, "-std=c++20", "-O1", "-g1", *SANITIZERS, *house.WARNINGS, "-Iinclude", "-c",
                      "tests/fuzz/decode_fuzz.cpp", "-o", thing], cwd=house.ROOT)
    if done.returncode == 0:
        done = house.run([name, *SANITIZERS, thing, "-o", program, "-pthread"])
    return program if done.returncode == 0 else "", done.stdout


def fuzz(program, there, folders, seconds, seed, **environment):
    return house.run([program, f"-artifact_prefix={there}/", f"-seed={seed}", f"-max_total_time={seconds}",
                      "-print_final_stats=1", *LIMITS, *folders],
                     timeout=seconds + 120, env={**os.environ, **environment})


def found(there):
    """The inputs that were complained of, in a form that a log can hold."""
    text = ""
    for path in sorted(glob.glob(os.path.join(there, "*-*"))):
        if re.match(r"(crash|leak|oom|timeout|slow-unit)-", os.path.basename(path)):
            with open(path, "rb") as file:
                text += f"\n{os.path.basename(path)} (base64): {base64.b64encode(file.read()).decode()}"
    return text


def what_was_said(done):
    """A fuzzer says much; the complaint comes first."""
    lines = done.stdout.splitlines()
    begin = next((i for i, line in enumerate(lines) if re.search(r"decode_fuzz: |ERROR: |runtime error: ", line)), -15)
    return "\n".join(lines[begin:][:25])


def contents(folder):
    all_of = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            all_of[name] = file.read()
    return all_of


def main():
    seconds = int(os.environ.get("POLYPROC_FUZZ_SECONDS", "15"))
    seed = int(os.environ.get("POLYPROC_FUZZ_SEED", "1"))
    book = house.book()
    with tempfile.TemporaryDirectory() as there:
        given = [a for a in sys.argv[1:] if a != "--renew"]
        program, said = (os.path.abspath(given[0]), "") if given else build(there)
        if program is None:
            print("SKIPPED: fuzzing: no clang with libFuzzer here")
            return house.SKIPPED
        if not book.check(program, "decode_fuzz is compiled", said):
            book.finish()

        seeds = os.path.join(there, "seeds")
        os.mkdir(seeds)
        done = house.run([program], env={**os.environ, "POLYPROC_FUZZ_SEEDS": seeds})
        book.check(done.returncode == 0, "the seeds are written", done.stdout)
        if "--renew" in sys.argv:
            for path in glob.glob(os.path.join(CORPUS, "*")):
                if not os.path.basename(path).startswith("found-"):
                    os.remove(path)
            for path in glob.glob(os.path.join(seeds, "*")):
                shutil.copy(path, CORPUS)
        committed = contents(CORPUS)
        now = contents(seeds)
        differ = sorted(n for n in now.keys() | {c for c in committed if not c.startswith("found-")}
                        if now.get(n) != committed.get(n))
        book.check(not differ, "the seeds in tests/fuzz/corpus are those of now (fuzz.py --renew)", "\n".join(differ))

        done = house.run([program, f"-artifact_prefix={there}/", *LIMITS, *sorted(glob.glob(os.path.join(CORPUS, "*")))])
        book.check(done.returncode == 0, f"the {len(committed)} committed inputs are read",
                   what_was_said(done) + found(there))

        kept = os.path.join(os.path.dirname(program), "found") if given else os.path.join(there, "found")
        os.makedirs(kept, exist_ok=True)
        done = fuzz(program, kept if given else there, [kept, CORPUS], seconds, seed)
        book.check(done.returncode == 0, "nothing is found",
                   what_was_said(done) + found(kept if given else there))
        runs = re.search(r"Done (\d+) runs in (\d+) second", done.stdout)
        if runs:
            print(f"{runs.group(1)} inputs in {runs.group(2)} s")

        for name, complaint in WRONG:
            lair = os.path.join(there, name)
            os.mkdir(lair)
            done = fuzz(program, lair, [], 20, 1, POLYPROC_FUZZ_WRONG=name)
            book.check(done.returncode != 0 and complaint in done.stdout, f"what is wrong in \"{name}\" is found",
                       f"exit status {done.returncode}\n" + what_was_said(done))
    return book.finish()


if __name__ == "__main__":
    sys.exit(main())
