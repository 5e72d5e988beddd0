#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Names that are as long as a file system takes, and names that get into each other's way."""

import io
import os
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def page(text):
    return pdf.build(pdf.pages([pdf.text(text)]))


def places(spool, part, suffix=""):
    return sorted(str(p.relative_to(spool.root / part)) for p in (spool.root / part).rglob("*" + suffix)
                  if p.is_file())


# 255 bytes, good and bad, and twice: every place a document can end in adds something to its name.
LONG = "n" * 251 + ".pdf"
spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
spool.drop(page(b"Good"), "null/" + LONG)
spool.drop(b"%PDF-1.4 bad", "null/b" + LONG[1:])
run = spool.run(timeout=20)
same(run.returncode, 1, "names of 255 bytes: the run ends")
ok(spool.result("null/" + LONG), "the good one has a result")
failed = places(spool, "failed")
same([name[-9:] == ".why.json" for name in failed], [False, True],
     "the bad one lies in failed/, with the reason")
ok(len(failed) == 2 and failed[1] == failed[0] + ".why.json", "beside it", failed)
spool.drop(page(b"Other"), "null/" + LONG)
spool.drop(b"%PDF-1.4 worse", "null/b" + LONG[1:])
run = spool.run(timeout=20)
same((run.returncode, spool.left(), spool.tokens()), (1, [], []), "once more the same names")
same(sorted(r.text() for r in spool.results().values()), ["page 300x80"] * 2, "two good results")
same(len(places(spool, "failed", ".why.json")), 2, "two bad documents")
same(len(places(spool, "done")), 2, "two originals")

# A name of a folder that a document has had before.
spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
spool.drop(page(b"File"), "null/batch")
spool.drop(b"%PDF-1.4 bad", "null/bad")
run = spool.run(timeout=20)
same(run.returncode, 1, "documents without a suffix")
spool.drop(page(b"In a folder"), "null/batch/page.pdf")
spool.drop(b"%PDF-1.4 worse", "null/bad/page.pdf")
run = spool.run(timeout=20)
same((run.returncode, spool.left(), spool.tokens()), (1, [], []),
     "folders of the same names: the run ends")
ok(spool.result("null/batch/page.pdf"), "a document in such a folder is read")
same(places(spool, "done"), ["null/batch", "null/batch~2/page.pdf"], "its original lies beside")
same(places(spool, "failed"), ["null/bad", "null/bad.why.json", "null/bad~2/page.pdf",
                               "null/bad~2/page.pdf.why.json"], "a bad one, too")

# An archive that is damaged goes to failed/, and so does a member of it.
store = io.BytesIO()
with zipfile.ZipFile(store, "w") as archive:
    archive.writestr("bad.pdf", b"%PDF-1.4 bad")
    archive.writestr("good.pdf", page(b"Good"))
    archive.writestr("tail.pdf", page(b"Tail"))
spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
spool.drop(store.getvalue()[:-len(page(b"Tail")) - 200], "null/cut.zip")
run = spool.run(timeout=20)
same((run.returncode, spool.left(), spool.tokens()), (1, [], []),
     "a damaged archive with a bad member: the run ends")
ok("null/cut.zip" in places(spool, "failed"), "the archive has failed")
ok([n for n in places(spool, "failed", ".why.json") if "bad.pdf" in n], "and the bad member",
   places(spool, "failed"))
ok([n for n in spool.results() if "good.pdf" in n], "the good member is read")
done()
