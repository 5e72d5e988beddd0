#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser that misbehaves costs its own pages at most, and nobody else anything."""

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

ODD = BUILD / "tests" / "tools" / "odd-recogniser"


def book(pages):
    return pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(1, pages + 1)]))


BOOK = book(2)


def read(mode, limits="{}", document=BOOK, jobs=2):
    """A book through a misbehaving recogniser, and one beside it through a good one."""
    spool = Spool()
    spool.pipeline("odd", f"recogniser: command\ncommand: [{ODD}, --mode, {mode}]\ndpi: 72\n"
                          f"limits: {limits}\n")
    spool.null_pipeline("null", more="dpi: 72\n")
    spool.drop(document, "odd/book.pdf")
    spool.drop(BOOK, "null/book.pdf")
    run = spool.run("-j", str(jobs), timeout=60)
    beside = spool.result("null/book.pdf")
    ok(beside and beside.states() == ["ok"] * 2, f"{mode}: the document beside it is read")
    return spool, run, spool.result("odd/book.pdf")


for mode in ("good", "exit-after=1", "slow-start"):
    spool, run, result = read(mode)
    same((run.returncode, result and result.states()), (0, ["ok"] * 2), f"{mode}: all pages are read")

for mode, limits in (("error", "{}"), ("hang", "{read_seconds: 1}"), ("bad-utf8", "{}"),
                     ("huge-line", "{result_kibibytes: 64}"), ("garbage", "{}"), ("crash", "{}"),
                     ("wrong-id", "{}")):
    spool, run, result = read(mode, limits)
    ok(run.returncode in (1, 75, 78), f"{mode}: the run ends and says that not all is well",
       run.returncode, run.err)
    if result:
        same([s for s in result.states() if s == "ok"], [], f"{mode}: no page is ok")
        problems(result_problems(result), f"{mode}: each page says why")
    else:
        ok(spool.why("odd/book.pdf") or spool.tokens(), f"{mode}: failed or still queued, not lost",
           run.err)

# A line that is whole, but longer than the pipeline allows, costs its page and no more: the pages
# after it are read by the same process.
spool, run, result = read("long-line", "{result_kibibytes: 64}", book(4), jobs=1)
same((run.returncode, result and result.states()), (1, ["ok", "failed", "ok", "ok"]),
     "long-line: the page with too long a result fails alone")
same([page.get("reason") for page in result.pages], [None, "limit:result-kibibytes", None, None],
     "long-line: and says which limit it passed")
same([(page.get("result") or {}).get("text") for page in result.lines()],
     ["answer 1", None, "answer 3", "answer 4"], "long-line: the recogniser goes on")
spool, run, result = read("long-line", "{result_kibibytes: 128}", book(2), jobs=1)
same((run.returncode, result and result.states()), (0, ["ok", "ok"]),
     "long-line: below the limit it is read")
done()
