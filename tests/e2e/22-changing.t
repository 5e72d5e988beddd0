#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Files that vanish, change or still grow while they are read."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(12)]))
OTHER = pdf.build(pdf.pages([pdf.text(b"Other %d" % n) for n in range(5)]))


def disturbed(disturb):
    """Start on a slow document, disturb it once it is being read, and see the run end."""
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", "80", more="dpi: 72\n")
    file = spool.drop(BOOK, "null/book.pdf")
    spool.drop(SAMPLES / "scans" / "index-card.pgm", "null/card.pgm")
    run = spool.start("--once", "-j", "1")
    wait_for(lambda: any(p.stat().st_size > 300 for p in
                         (spool.root / "state" / "tmp").glob("*/pages")))
    disturb(file)
    code = run.wait(60)
    return spool, code


spool, code = disturbed(lambda file: file.unlink())
ok(code in (0, 1), "a file that vanishes: the run ends", code)
ok(spool.result("null/book.pdf") or not list((spool.root / "out" / "null").glob("book*")),
   "it has a whole result or none")
ok(spool.result("null/card.pgm"), "the document beside it is read")
same(spool.tokens(), [], "no token is left")


def overwrite(file):
    with open(file, "r+b") as out:
        out.write(OTHER)
        out.truncate()


spool, code = disturbed(overwrite)
ok(code in (0, 1), "a file that is overwritten: the run ends", code)
result = spool.result("null/book.pdf")
places = list((spool.root / "done").rglob("book.pdf")) + list((spool.root / "failed").rglob("book.pdf"))
if result:
    problems(result_problems(result, places[0] if places else None), "its result is of one version")
else:
    why = spool.why("null/book.pdf")
    ok(why and "changed" in why["reason"], "it fails as changed", why)
ok(spool.result("null/card.pgm"), "the document beside it is read")

# Still being copied: not admitted before it has stood still.
spool = Spool(settle=1)
spool.null_pipeline("null", more="dpi: 72\n")
folder = spool.root / "in" / "null"
folder.mkdir(parents=True)
run = spool.start("-j", "1")
with open(folder / "slow.pdf", "wb") as out:
    step = len(BOOK) // 12 + 1
    for start_of in range(0, len(BOOK), step):
        out.write(BOOK[start_of:start_of + step])
        out.flush()
        time.sleep(0.25)
ok(wait_for(lambda: spool.result("null/slow.pdf")), "a file that was copied slowly is read")
result = spool.result("null/slow.pdf")
same(result and len(result.pages), 12, "whole")
for name in (".hidden.pdf", "half.pdf.part", "half.tmp", "a.filepart", "b.crdownload", "c.pdf~"):
    (folder / name).write_bytes(BOOK)
(folder / ".moved").write_bytes(OTHER)
os.rename(folder / ".moved", folder / "moved.pdf")
ok(wait_for(lambda: spool.result("null/moved.pdf")), "a file that is moved in is read")
same([n for n in sorted(spool.results()) if "half" in n or "hidden" in n], [],
     "unfinished names are passed over")
run.terminate()
same(run.wait(20), 143, "TERM ends a run that watches: 128 + 15")
same(len(spool.left()), 6, "they stay where they are")
done()
