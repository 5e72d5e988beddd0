#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Originals that are replaced while they are read, that stay where they are, and results that are
taken away: each document is read once, and none is taken for another."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def book(pages, text):
    return pdf.build(pdf.pages([pdf.text(text + b" %d" % n) for n in range(pages)]))


def new_spool(more=""):
    spool = Spool()
    spool.null_pipeline("null", more=f"dpi: 72\n{more}")
    return spool


# A new version is renamed over a document that is being read.
for name, content in (("good", book(8, b"Old")), ("bad", b"%PDF-1.4 bad")):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", "150", "--window", "1", more="dpi: 72\n")
    spool.drop(book(12, b"Slow"), "null/a-slow.pdf")
    file = spool.drop(content, "null/book.pdf")
    run = spool.start("--once", "-j", "1")
    # The bad one may have failed before anybody looks: then the new version is a new document.
    wait_for(lambda: len(spool.tokens()) == 2 or (spool.root / "failed/null/book.pdf").exists())
    new = spool.drop(book(3, b"New"), "null/.new")
    os.rename(new, file)
    run.wait(60)
    result = spool.result("null/book.pdf")
    same(result and len(result.pages), 3, f"a {name} document replaced: the new version is read")
    same((spool.left(), spool.tokens(), len(spool.results())), ([], [], 2), "and only that")

spool = Spool()
spool.null_pipeline("null", "--delay-ms", "150", "--window", "1", more="dpi: 72\n")
file = spool.drop(book(12, b"Old"), "null/book.pdf")
run = spool.start("--once", "-j", "1")
wait_for(lambda: any(p.stat().st_size > 300 for p in
                     (spool.root / "state" / "tmp").glob("*/pages")))
os.rename(spool.drop(book(3, b"New"), "null/.new"), file)
run.wait(60)
same({len(result.pages) for result in spool.results().values()} & {3}, {3},
     "replaced in the middle: the new version is read")
same(sha256(spool.root / "done" / "null" / "book.pdf"), sha256_of_new := hashlib.sha256(
    book(3, b"New")).hexdigest(), "and moved to done/")

# Kept originals, two of them alike.
for policy in ("link", "skip", "process"):
    spool = new_spool(f"originals: keep\nduplicates: {policy}\n")
    spool.drop(book(1, b"Same"), "null/a.pdf")
    spool.drop(book(1, b"Same"), "null/b.pdf")
    spool.run(timeout=20)
    first = sorted(spool.results())
    ok("null/a.pdf" in first or "null/b.pdf" in first, f"keep, {policy}: read", first)
    for _ in range(2):
        spool.run(timeout=20)
    same(sorted(spool.results()), first, f"keep, {policy}: not read again by the next run")
    same(spool.left(), ["null/a.pdf", "null/b.pdf"], f"keep, {policy}: both stay")

spool = new_spool("originals: keep\n")
spool.configure("settle_seconds: 0\ndefault_pipeline: 'null'\n")
spool.drop(book(1, b"Top"), "top.pdf")
spool.run(timeout=20)
same([line.split()[0] for line in spool.command("ls").out.splitlines()], ["done"],
     "a kept original in in/ itself is listed once, as done")

# An original that cannot be moved. Root may do all: there it takes a mount (25-read-only-originals.t).
if os.geteuid():
    spool = new_spool()
    spool.drop(book(1, b"Stays"), "null/fixed/a.pdf")
    os.chmod(spool.root / "in" / "null" / "fixed", 0o555)
    for _ in range(2):
        spool.run(timeout=20)
    os.chmod(spool.root / "in" / "null" / "fixed", 0o755)
    same((sorted(spool.results()), spool.left()), (["null/fixed/a.pdf"], ["null/fixed/a.pdf"]),
         "an original that cannot be moved is read once, and stays")
else:
    skip("an original that cannot be moved is read once, and stays", "root may move everything")

# Scanners use names again, and results are collected.
spool = new_spool()
spool.drop(book(1, b"One"), "null/scan.pdf")
spool.run()
shutil.rmtree(spool.root / "out" / "null" / "scan.pdf")
spool.drop(book(2, b"Two"), "null/scan.pdf")
spool.run()
spool.drop(book(1, b"One"), "null/again.pdf")
spool.run()
result = spool.result("null/again.pdf")
same(result and result.states(), ["ok"],
     "a document whose result was collected is not taken for what came under its name")
done()
