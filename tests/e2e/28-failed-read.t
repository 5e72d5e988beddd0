#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each read of the supervisor fails once for lack of memory: what it was told by a decoder, by an unpacker,
by what cuts pictures out, makes HTML or writes the result is asked for again, and no page says a word of
it."""

import concurrent.futures
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import faults

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the sanitizer stands between the program and the C library itself")


def run_with(fault):
    """The process, with what became of the pages, and the names of all files; calls by kind."""
    spool = faults.new_spool()
    counter = faults.Counts(spool.root)
    run = faults.run(spool, environment={**os.environ, **faults.seam(counter, fault)}, patience=60)
    run.result = {page["status"] for result in spool.results().values() for page in result.pages}, spool.files("out")
    return run, counter.read()


run, calls = run_with("")
whole = run.result
ok(whole[0] == {"ok"} and any(name.endswith(".png") for name in whole[1]), "an undisturbed run", run.err, *whole)
points = [(call, k) for call in ("read", "pread") for k in range(1, calls[call] + 1)]
with concurrent.futures.ThreadPoolExecutor(8) as pool:  # most of them pause for two seconds
    runs = list(pool.map(lambda p: run_with(f"{p[0]} {faults.ERRORS['ENOMEM']} {p[1]}")[0], points))
wrong, refused = [], 0
for (call, k), run in zip(points, runs):
    refused += run.returncode == 78  # its configuration cannot be read: it has not begun
    if (run.returncode, run.result) not in ((1, whole), (78, (set(), []))):
        wrong.append(f"{call} {k}: ends with {run.returncode}, {run.result}: {run.err[-300:]}")
problems(wrong, f"{len(points)} failed reads: each run has the same result")
ok(refused < 5 < len(points), "or says that it cannot begin", refused)
done()
