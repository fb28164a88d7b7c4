#!/usr/bin/env python3
"""For Meson, which has no glob: prints `path|floor|name|own-main or -|seconds|alone or -` for each test of a backend.

usage: list.py BACKEND        the rules are those of tests/CMakeLists.txt
"""
import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FLOORS = ("backend", "wire", "memory", "sync", "channel", "process", "task", "service", "model", "crash")

for path in sorted(p for floor in FLOORS for p in glob.glob(os.path.join(HERE, floor, "*_test.cpp"))):
    floor, name = os.path.basename(os.path.dirname(path)), os.path.basename(path)[:-len("_test.cpp")]
    if floor in ("model", "crash") and sys.argv[1] != "linux":
        continue
    only = re.match(r"(linux|posix|win32)_", name)
    if only and only.group(1) != sys.argv[1]:
        continue
    with open(path, encoding="utf-8") as file:
        says = [line for line in list(file)[:20] if re.match(r"// *(own-main|timeout: *\d+|alone)", line)]
    seconds = re.search(r"timeout: *(\d+)", "".join(says))
    print("|".join([f"{floor}/{name}_test.cpp", floor, name, "own-main" if any("own-main" in s for s in says) else "-",
                    seconds.group(1) if seconds else "120", "alone" if any("alone" in s for s in says) else "-"]))
