#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Settings that change what comes out: tickets, text layer, blank pages, outputs, dpi."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

FERRY = SAMPLES / "booklet" / "ferry.pdf"
LEDGER = SAMPLES / "protected" / "ledger.pdf"
CARD = SAMPLES / "scans" / "index-card.pgm"

spool = Spool()
spool.null_pipeline("null")
spool.null_pipeline("few", more="outputs: [text.txt]\n")
spool.null_pipeline("coarse", more="dpi: 72\n")
spool.null_pipeline("open", more="passwords: [wrong, heron]\n")
spool.null_pipeline("keep", more="originals: keep\n")
spool.null_pipeline("delete", more="originals: delete\n")
spool.null_pipeline("again", more="duplicates: process\n")
spool.pipeline("layer", "recogniser: tesseract\ntext_layer: prefer\n")

# Tickets.
spool.drop(FERRY, "null/dpi.pdf")
spool.drop(b"dpi: 100\noutputs: [text.md, document.hocr]\n", "null/dpi.pdf.cloister.yaml")
spool.drop(LEDGER, "null/ledger.pdf")
spool.drop(b"password: heron\n", "null/ledger.pdf.cloister.yaml")
spool.drop(LEDGER, "null/locked.pdf")
spool.drop(b"password: crane\n", "null/locked.pdf.cloister.yaml")
spool.drop(CARD, "null/wrong.pgm")
spool.drop(b"dpi: 100\nlanguags: [eng]\n", "null/wrong.pgm.cloister.yaml")
# Pipelines.
spool.drop(LEDGER, "open/ledger.pdf")
spool.drop(CARD, "few/card.pgm")
spool.drop(FERRY, "coarse/ferry.pdf")
spool.drop(CARD, "keep/card.pgm")
spool.drop(CARD, "delete/card.pgm")
# Text layer: two pages with text, one scan between them that has none.
prose = [b"This page was made by a program and never saw a scanner,", b"so that its text can be taken"
         b" as it stands in the file,", b"letter by letter, and no recogniser needs to look at it."]
layout = b" ".join(pdf.text(line, 40, 150 - 30 * n, 14) for n, line in enumerate(prose))
bars = pdf.zlib.compress((b"\xff" * 2083 * 20 + b"\0" * 2083 * 5) * 33)
mixed = pdf.pages([layout, b"", layout], box=(500, 200),
                  images={2: pdf.grey_image(2083, 825, bars)})
spool.drop(pdf.build(mixed), "layer/mixed.pdf")
# Blank pages.
white = pdf.zlib.compress(b"\xff" * 1250 * 333)
rows = [bytearray(b"\xff" * 1250) for _ in range(333)]
for x, y in ((17, 23), (810, 90), (333, 240)):
    rows[y][x] = 0
specks = pdf.zlib.compress(b"".join(rows))
spool.drop(pdf.build(pdf.pages([b"", pdf.text(b"Text"), b"", b""],
                               images={3: pdf.grey_image(1250, 333, white),
                                       4: pdf.grey_image(1250, 333, specks)})), "null/blanks.pdf")

run = spool.run("-j", "2")
same(run.returncode, 1, "two of the documents fail")

result = spool.result("null/dpi.pdf")
same([round(p["dpi"]) for p in result.pages], [100] * 3, "a ticket sets the dpi")
same(sorted(os.listdir(result.folder)), ["document.hocr", "document.json", "text.md"],
     "a ticket sets the outputs; document.json is always there")
ok(spool.result("null/ledger.pdf"), "a ticket's password opens a document")
for name in ("null/ledger.pdf", "open/ledger.pdf"):
    data = b"".join(p.read_bytes() for p in (spool.root / "out" / name).glob("*"))
    ok(data and b"heron" not in data.replace(b"Opened with the word heron", b""),
       f"{name}: the password is not in the results")
ok("heron" not in run.err + run.out and "crane" not in run.err + run.out, "nor in the log")
left = [str(p) for p in (spool.root / "state").rglob("*")
        if p.is_file() and b"heron" in p.read_bytes()]
same(left, [], "nor left behind in state/")
same((spool.why("null/locked.pdf") or {}).get("reason"), "encrypted", "a wrong one does not")
why = spool.why("null/wrong.pgm") or {}
same(why.get("reason"), "ticket", "a wrong ticket fails its document")
ok("wrong.pgm.cloister.yaml:2" in why.get("text", "") and "languags" in why.get("text", ""),
   "and says file, line and key", why)
ok((spool.root / "failed" / "null" / "wrong.pgm.cloister.yaml").exists(), "the ticket lies beside it")
ok((spool.root / "done" / "null" / "ledger.pdf.cloister.yaml").exists(),
   "a ticket goes to done/ with its document")
ok(spool.result("open/ledger.pdf"), "a pipeline's password opens a document")
same(sorted(os.listdir(spool.root / "out" / "few" / "card.pgm")), ["document.json", "text.txt"],
     "outputs of the pipeline")
same([round(p["dpi"]) for p in spool.result("coarse/ferry.pdf").pages], [72] * 3,
     "dpi of the pipeline")
ok((spool.root / "in" / "keep" / "card.pgm").exists() and spool.result("keep/card.pgm"),
   "originals: keep leaves it in in/")
ok(spool.result("delete/card.pgm") and not list(spool.root.glob("in/delete/*"))
   and not list(spool.root.glob("done/delete/*")), "originals: delete takes it away")

result = spool.result("layer/mixed.pdf")
ok(result and "letter by letter, and no recogniser" in result.text(), "text_layer: prefer takes the text")
lines = result.lines()
same([bool(page.get("evidence")) for page in lines], [True] * 3,
     "and records for each page why")
same([page["source"] for page in result.pages], ["text-layer", "recogniser", "text-layer"],
     "page by page")
problems(result_problems(result), "its result holds together")

result = spool.result("null/blanks.pdf")
same([p.get("reason") for p in result.pages], ["blank", None, "suspect-blank", "blank"],
     "no content: blank; a white picture: suspect; a picture with nothing but specks: blank")
same(result.states(), ["ok", "ok", "flagged", "ok"], "a suspect page is never plain ok")

# Duplicates.
spool.drop(CARD, "keep/copy.pgm")
spool.drop(CARD, "again/one.pgm")
spool.drop(CARD, "again/two.pgm")
run = spool.run()
same(run.returncode, 0, "a run with duplicates ends with 0")
copy = spool.root / "out" / "keep" / "copy.pgm" / "document.json"
copy = json.loads(copy.read_text()) if copy.exists() else {}
# Several pipelines with the same settings have read it: any of their results will do.
first = spool.result(copy.get("input", {}).get("duplicate_of") or "none")
ok(first and first.pages and first.document["identity"] == copy["identity"],
   "duplicates: link says what it repeats", copy)
ok(spool.result("again/one.pgm") and spool.result("again/two.pgm").pages, "duplicates: process reads on")
side = Spool()
side.null_pipeline("side", more="dpi: 72\nshort_side: 1000\n")
side.drop(FERRY, "side/ferry.pdf")
side.drop(CARD, "side/card.pgm")
side.run()
same([min(p["width"], p["height"]) for p in side.result("side/ferry.pdf").pages], [1000] * 3,
     "short_side raises the dpi")
card = side.result("side/card.pgm").pages[0]
ok(b"\n%d %d\n" % (card["width"], card["height"]) in CARD.read_bytes()[:20] and card["height"] < 1000,
   "but leaves an image as it is", card)
done()
