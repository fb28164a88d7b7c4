#!/usr/bin/env python3
"""Counts the words of a directory tree in one process, to check examples/wordcount against.

A word is a run of ASCII letters, digits and underscores; upper and lower case are the same. Every regular file below DIR
is read as bytes; symbolic links are not followed; a file that cannot be read is reported on stderr and skipped.

usage: wordcount_check.py DIR [--top K]                     prints {files, skipped, words, distinct, top} as JSON
       wordcount_check.py DIR --compare FILE...             exit status 1 and the differences, if a FILE says otherwise
"""
import argparse
import collections
import json
import os
import re
import stat
import sys

WORD = re.compile(rb"[A-Za-z0-9_]+")
# Files larger than this are read in parts; a word may go on in the next.
PART = 1 << 24


def count_file(path, counts):
    rest = b""
    own = collections.Counter()
    with open(path, "rb") as file:
        while True:
            part = file.read(PART)
            text = rest + part
            if part:
                end = len(text)
                while end > 0 and WORD.match(text, end - 1, end):
                    end -= 1
                text, rest = text[:end], text[end:]
            own.update(WORD.findall(text.lower()))
            if not part:
                break
    counts.update(own)  # only when all of it could be read


def count(root):
    counts, files, skipped = collections.Counter(), 0, 0

    def unreadable(problem):
        print(f"skipped, cannot be read: {problem.filename}", file=sys.stderr)

    for folder, folders, names in os.walk(root, onerror=unreadable):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            try:
                if not stat.S_ISREG(os.lstat(path).st_mode):
                    continue
                count_file(path, counts)
                files += 1
            except OSError as problem:
                print(f"skipped, cannot be read: {path}: {problem.strerror}", file=sys.stderr)
                skipped += 1
    return counts, files, skipped


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("dir")
    arguments.add_argument("--top", type=int, default=10)
    arguments.add_argument("--compare", nargs="+", metavar="FILE", default=[])
    given = arguments.parse_args()
    counts, files, skipped = count(given.dir)
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    result = {"files": files, "skipped": skipped, "words": sum(counts.values()), "distinct": len(counts),
              "top": [[word.decode("ascii"), n] for word, n in order[:given.top]]}
    if not given.compare:
        print(json.dumps(result))
        return 0
    wrong = 0
    for path in given.compare:
        with open(path, encoding="ascii") as file:
            said = json.load(file)
        expected = dict(result, top=[[word.decode("ascii"), n] for word, n in order[:len(said["top"])]])
        for key, value in expected.items():
            if said.get(key) != value:
                print(f"{path}: {key} is {said.get(key)} and should be {value}")
                wrong = 1
    if not wrong:
        print(f"{result['words']} words in {files} files, as counted by one process in Python"
              f" ({len(given.compare)} result{'s' if len(given.compare) != 1 else ''} agree)")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
