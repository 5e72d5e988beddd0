#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A document that was read before: link, skip or process; how much is read is told by the recogniser."""

import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PAGES = 3
BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(PAGES)]))


def dropped_twice(policy, more=""):
    """One document in one run, the same one under another name in the next."""
    spool = Spool()
    spool.null_pipeline("null", "--serial", more=f"dpi: 72\nduplicates: {policy}\n{more}")
    spool.drop(BOOK, "null/first.pdf")
    same(spool.run(timeout=10).returncode, 0, f"{policy}: the first is read")
    spool.drop(BOOK, "null/sub/second.pdf")
    run = spool.run(timeout=10)
    same(run.returncode, 0, f"{policy}: a run with the second ends with 0")
    same(spool.tokens(), [], f"{policy}: no token is left")
    status = json.loads((spool.root / "state" / "status.json").read_text())
    return spool, run, status["pages"]["ok"]


spool, run, read = dropped_twice("link")
second = spool.result("null/sub/second.pdf")
same(read, 0, "link: no page is read again")
same(second and second.document["input"].get("duplicate_of"), "null/first.pdf",
     "link: the result says which one it repeats")
same(second and (second.document["input"]["sha256"], second.pages), (sha256(
    spool.root / "done" / "null" / "sub" / "second.pdf"), []), "link: and has no pages of its own")

for rebuilt in (False, True):
    if rebuilt:
        (spool.root / "state" / "index").unlink()
    spool.drop(BOOK, f"null/sub/another-{rebuilt}.pdf")
    spool.run(timeout=10)
    same(spool.result(f"null/sub/another-{rebuilt}.pdf").document["input"].get("duplicate_of"), "null/first.pdf",
         f"link: the next one repeats what was read, not its repetition{', also from a new index' * rebuilt}")

spool, run, read = dropped_twice("skip")
same((read, sorted(spool.results())), (0, ["null/first.pdf"]), "skip: there is no second result")
ok("null/sub/second.pdf" in run.out and "duplicate" in run.out, "skip: but a line that says so", run.out)
same(sha256(spool.root / "done" / "null" / "sub" / "second.pdf"),
     sha256(spool.root / "done" / "null" / "first.pdf"), "skip: the original lies in done/")

spool, run, read = dropped_twice("process")
same(read, PAGES, "process: all pages are read again")
texts = [[re.sub(r"\d+$", "", page["result"]["text"]) for page in spool.result(name).lines()]
         for name in ("null/first.pdf", "null/sub/second.pdf")]
same(texts[1], texts[0], "process: to the same result")

# Other settings make it another document: it is read.
spool.null_pipeline("null", "--serial", more="dpi: 144\nduplicates: link\n")
spool.drop(BOOK, "null/third.pdf")
spool.run()
same([round(page["dpi"]) for page in spool.result("null/third.pdf").pages], [144] * PAGES,
     "the same document under other settings is no duplicate")

# Kept originals: each is read, or found to be a duplicate, once and for all.
for policy, results in (("link", 2), ("skip", 1), ("process", 2)):
    try:
        spool, run, read = dropped_twice(policy, "originals: keep\n")
        again = spool.run(timeout=10)
    except subprocess.TimeoutExpired:
        ok(False, f"{policy}, originals: keep: the run ends")
        continue
    same(len(spool.results()), results, f"{policy}, originals: keep: as many results as there should be")
    lines = len(run.out.splitlines())
    ok((lines == 1 or policy == "skip" and lines == 0) and not again.out,
       f"{policy}, originals: keep: nothing is taken on a second time", run.out[:400], again.out[:400])
    same(spool.left(), ["null/first.pdf", "null/sub/second.pdf"], f"{policy}, originals: keep: both stay")
done()
