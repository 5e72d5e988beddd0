#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The same input, pipeline and model give the same result, whatever runs beside it."""

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

NAMES = ["booklet/ferry.pdf", "scans/turned.pdf", "scans/telegram.png", "archives/week-12.tar.zst"]


def read(jobs, names):
    spool = Spool()
    for name in names:
        spool.drop(SAMPLES / name, f"tesseract/{name}")
    run = spool.run("-j", str(jobs))
    same(run.returncode, 0, f"a run with {jobs} recognisers ends with 0")
    return {name: result.stable() for name, result in spool.results().items()}


one, two = read(1, NAMES), read(3, reversed(NAMES))
same(sorted(one), sorted(two), "the same results exist")
for name in sorted(one):
    for file in sorted(one[name]):
        same(two.get(name, {}).get(file), one[name][file], f"{name}: {file} is the same")
done()
