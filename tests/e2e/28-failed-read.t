#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each read of the supervisor fails once for lack of memory: what it was told by a decoder, by an unpacker,
by what cuts pictures out, makes HTML or writes the result is asked for again, and no page says a word of
it."""

import concurrent.futures
import io
import os
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import faults

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the sanitizer stands between the program and the C library itself")
FIGURE = '<div data-bbox="[0,0,1024,1024]" data-label="Figure"></div><p>Below it</p>'


# Far more than a pipe holds: who stops to listen to its unpacker keeps it from ending.
data = io.BytesIO()
with zipfile.ZipFile(data, "w") as archive:
    archive.writestr("page.pgm", b"P5 1000 1000 255\n" + bytes(range(250)) * 4000)
STORE = data.getvalue()


def read_with(fault):
    """Process, with what became of the pages, and the names of all files; its calls of read(2)."""
    spool = Spool()
    spool.configure("settle_seconds: 0\n")
    spool.null_pipeline("null", "--layout", FIGURE, more="outputs: [text.md, document.html]\ndpi: 72\n")
    spool.drop(faults.book(2, b"Book"), "null/book.pdf")
    spool.drop(STORE, "null/store.zip")
    counter = faults.Counts(spool.root)
    run = faults.run(spool, environment={**os.environ, **faults.seam(counter, fault)}, patience=60)
    run.result = {page["status"] for result in spool.results().values() for page in result.pages}, spool.files("out")
    return run, counter.read()["read"]


run, reads = read_with("")
whole = run.result
ok(whole[0] == {"ok"} and sum(name.endswith(".png") for name in whole[1]) == 3, "an undisturbed run",
   run.err, *whole)
wrong, refused = [], 0
with concurrent.futures.ThreadPoolExecutor(8) as pool:  # most of them pause for two seconds
    runs = list(pool.map(lambda k: read_with(f"read {faults.ERRORS['ENOMEM']} {k}")[0], range(1, reads + 1)))
for k, run in enumerate(runs, 1):
    refused += run.returncode == 78  # its configuration cannot be read: it has not begun
    if (run.returncode, run.result) not in ((0, whole), (78, (set(), []))):
        wrong.append(f"read {k}: ends with {run.returncode}, {run.result}: {run.err[-300:]}")
problems(wrong, f"{reads} failed reads: each run has the same result")
ok(refused < 5 < reads, "or says that it cannot begin", refused)
done()
