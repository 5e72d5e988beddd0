#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sample documents, from the drop box to results."""

import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

# Path: states of its pages, highest character error rate. English alone is installed for sure, so
# German keeps its umlauts' errors; a table has no spaces that Tesseract and a person would agree on.
SAMPLES_EXPECTED = {
    "letters/harbour-letter.pdf": (2, 0.005),
    "letters/scanned-minutes.pdf": (2, 0.01),
    "letters/bericht.png": (1, 0.10),
    "photos/notice.jpg": (1, 0.01),
    "photos/receipt.webp": (1, 0.01),
    "scans/field-notebook.tif": (3, 0.015),
    "scans/catalogue-card.jp2": (1, 0.01),
    "scans/index-card.pgm": (1, 0.01),
    "scans/telegram.png": (1, 0.01),
    "scans/turned.pdf": (3, 0.01),
    "forms/booking-form.pdf": (1, 0.02),
    "forms/signal-book.pdf": (1, 0.005),
    "protected/ledger.pdf": (1, 0.005),
    "booklet/ferry.pdf": (3, 0.005),
    "booklet/courier.png": (1, 0.01),
    "booklet/tide-table.png": (1, 0.08),
}
MEMBERS_EXPECTED = {
    "letters/invitation.pdf.gz": ["invitation.pdf"],
    "archives/parish-papers.zip": ["parish/bells/register.pdf", "parish/bills/clock.png"],
    "archives/week-12.tar.zst": ["week-12/monday.png", "week-12/tuesday.png"],
}

spool = Spool()
shutil.copytree(SAMPLES, spool.root / "in" / "tesseract")
before = {name: sha256(SAMPLES / name) for name in [*SAMPLES_EXPECTED, *MEMBERS_EXPECTED]}

run = spool.run("-j", "2")
same(run.returncode, 0, "a run over the samples ends with 0")
same(spool.left(), [], "nothing is left in the drop box")
same(spool.tokens(), [], "nothing is left in the queue")
same(sorted(os.listdir(spool.root / "failed")), [], "nothing failed")
lines = [line for line in run.out.splitlines() if "harbour-letter.pdf" in line]
same(len(lines), 1, "one line of output for a document")

results = spool.results()
same(len(results), len(SAMPLES_EXPECTED) + sum(map(len, MEMBERS_EXPECTED.values())),
     "one result for each document and member")

for name, (pages, worst) in SAMPLES_EXPECTED.items():
    result = results.get(f"tesseract/{name}")
    if not ok(result, f"{name}: has a result"):
        continue
    same(len(result.pages), pages, f"{name}: pages in = pages out")
    problems(result_problems(result, SAMPLES / name), f"{name}: the result holds together")
    error = cer_of(result, name)
    ok(error <= worst, f"{name}: character error rate at most {worst}", f"is {error:.4f}",
       result.text())
    done_file = spool.root / "done" / "tesseract" / name
    ok(done_file.exists() and sha256(done_file) == before[name],
       f"{name}: the original lies in done/, unchanged")

for name, members in MEMBERS_EXPECTED.items():
    folder = spool.root / "out" / "tesseract" / name
    if not ok((folder / "archive.json").exists(), f"{name}: has an archive.json"):
        continue
    index = json.loads((folder / "archive.json").read_text("utf-8"))
    same([m["member"] for _, m in sorted(index["files"].items())], members,
         f"{name}: archive.json lists the members")
    for number, member in enumerate(members, 1):
        base = os.path.basename(member)
        result = results.get(f"tesseract/{name}/{number:04}-{base}")
        if not ok(result, f"{name}: member {number} has a result"):
            continue
        problems(result_problems(result), f"{name}: {base} holds together")
        error = cer_of(result, f"{name}/{member}")
        ok(error <= 0.01, f"{name}: {base} is read", f"CER {error:.4f}", result.text())
    ok((spool.root / "done" / "tesseract" / name).exists(), f"{name}: lies in done/")
same({name: sha256(SAMPLES / name) for name in before}, before, "the samples are as they were")

# What is special about some of them.
same(results["tesseract/booklet/ferry.pdf"].states(), ["ok"] * 3, "a blank page is ok")
same([p["source"] == "blank" for p in results["tesseract/booklet/ferry.pdf"].pages],
     [False, True, False], "and recorded as blank")
same([p["rotation"] for p in results["tesseract/scans/turned.pdf"].pages], [90, 180, 270],
     "turned pages are found and turned")
ok("outside the crop box" not in results["tesseract/forms/signal-book.pdf"].text(),
   "what the crop box hides is not read")
form = results["tesseract/forms/booking-form.pdf"].text()
ok("Philippa Marlow" in form and "Checked by the warden" in form,
   "fields and annotations are read", form)
same([p["dpi"] for p in results["tesseract/letters/scanned-minutes.pdf"].pages], [300, 300],
     "a scan is read at its own resolution")
same([(p["width"], p["height"]) for p in results["tesseract/letters/scanned-minutes.pdf"].pages],
     [(1749, 2481)] * 2, "pixel for pixel")
same([p["native"] for p in results["tesseract/letters/harbour-letter.pdf"].pages], [False] * 2,
     "other pages are rendered")
notice = results["tesseract/photos/notice.jpg"].pages[0]
ok(notice["height"] > notice["width"], "EXIF orientation is applied")
letter = results["tesseract/letters/harbour-letter.pdf"]
same(letter.document["pipeline"]["name"], "tesseract", "the pipeline is named")
same(len(letter.document["pipeline"]["hash"]), 64, "with its hash")
ok(letter.document["recogniser"]["name"] == "tesseract" and letter.document["recogniser"]["version"]
   and len(letter.document["recogniser"]["model"]["sha256"]) == 64, "and so is the recogniser",
   letter.document["recogniser"])
ok(all(0.5 < p["confidence"]["mean"] <= 1 and p["confidence"]["worst"] <= p["confidence"]["mean"]
       for p in letter.pages), "pages have mean and worst confidence")
ok("Harbour Master" in letter.read("text.txt") and "Harbour Master" in letter.read("text.md"),
   "text.txt and text.md have the text")

again = spool.run()
same((again.returncode, again.out), (0, ""), "a second run finds nothing to do")
same({name: (r.folder / "document.json").stat().st_mtime_ns for name, r in spool.results().items()},
     {name: (r.folder / "document.json").stat().st_mtime_ns for name, r in results.items()},
     "and writes nothing")
done()
