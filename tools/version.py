#!/usr/bin/env python3
"""Prints the version, which stands in include/polyproc/version.hpp."""
import os
import re

with open(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "include", "polyproc", "version.hpp"),
          encoding="utf-8") as file:
    text = file.read()
print(".".join(re.search(rf"version_{part} = (\d+);", text).group(1) for part in ("major", "minor", "patch")))
