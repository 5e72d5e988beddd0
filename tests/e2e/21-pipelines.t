#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pipelines that do not exist or are wrong, and what the file says when one is right."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

CARD = SAMPLES / "scans" / "index-card.pgm"

# A folder without a pipeline stops nobody else.
spool = Spool()
spool.null_pipeline("null")
spool.drop(CARD, "invoces/card.pgm")
spool.drop(CARD, "null/card.pgm")
run = spool.run()
same(run.returncode, 1, "an unknown pipeline folder: the run ends with 1")
why = spool.why("invoces/card.pgm")
same(why and why["reason"], "unknown-pipeline", "its document fails as unknown-pipeline")
ok(why and "invoces" in why["text"], "which says the folder's name", why)
ok(spool.result("null/card.pgm"), "the document beside it is read")

# A wrong file: file, line, key, and what was meant.
WRONG = {
    "unknown key": ("recogniser: tesseract\nlanguags: [eng]\n", "2", "languags", "languages"),
    "wrong value": ("recogniser: tesserakt\n", "1", "recogniser", "tesseract"),
    "out of range": ("dpi: 300\n\ndpi: 9000\n".replace("dpi: 300\n\n", "\n\n"), "3", "dpi", "1200"),
    "wrong type": ("recogniser: tesseract\ndpi: [300]\n", "2", "dpi", ""),
    "unknown limit": ("limits:\n  page_second: 4\n", "2", "page_second", "page_seconds"),
    "not YAML": ("recogniser: [tesseract\n", "", "", ""),
    "twice": ("dpi: 300\ndpi: 200\n", "2", "dpi", ""),
}
for name, (text, line, key, meant) in WRONG.items():
    spool.pipeline("wrong", text)
    file = spool.root / "pipelines" / "wrong.yaml"
    run = cloister("check", file)
    same(run.returncode, 78, f"{name}: check ends with 78")
    where = f"wrong.yaml:{line}" if line else "wrong.yaml"
    ok(where in run.err + run.out and key in run.err + run.out and meant in run.err + run.out,
       f"{name}: file, line, key and what was meant", run.err + run.out)
spool.drop(CARD, "wrong/card.pgm")
run = spool.run()
ok(run.returncode in (1, 78), "a run with a wrong pipeline says so with its exit code",
   run.returncode)
why = spool.why("wrong/card.pgm")
ok("wrong.yaml" in (why["text"] if why else run.err), "and names the file", why, run.err)
ok(why or "wrong/card.pgm" in spool.left(), "its document waits or fails, and is not lost")

# A file that others may write is refused.
spool.pipeline("open", "recogniser: tesseract\n")
os.chmod(spool.root / "pipelines" / "open.yaml", 0o666)
run = cloister("check", spool.root / "pipelines" / "open.yaml")
ok(run.returncode == 78 and "can write it" in run.err + run.out,
   "a pipeline that others may write is refused", run.err + run.out)

# Right ones.
for file in sorted((BUILD / "pipelines").glob("*.yaml")):
    same(cloister("check", file).returncode, 0, f"{file.name}, shipped, is right")
spool.pipeline("right", "recogniser: tesseract\nlanguages: [eng]\noutputs: [text.txt]\n")
same(cloister("check", spool.root / "pipelines" / "right.yaml").returncode, 0, "a right one is 0")

# A pipeline put right is used without more ado.
spool.pipeline("wrong", f"recogniser: command\ncommand: [{NULL_RECOGNISER}]\n")
if spool.why("wrong/card.pgm"):
    same(spool.command("retry", "wrong/card.pgm").returncode, 0, "retry drops it in again")
run = spool.run()
same(run.returncode, 0, "with the pipeline put right the run ends with 0")
ok(spool.result("wrong/card.pgm"), "and the document is read")
# Without the programs that do the work nothing is begun, and nothing of it is a document's fault.
spool = Spool()
spool.null_pipeline("null")
spool.drop(b"P5 1 1 255 x", "null/page.pgm")
run = spool.run("-q", env={**os.environ, "CLOISTER_LIBEXEC": str(spool.path)})
same((run.returncode, spool.left()), (78, ["null/page.pgm"]), "a missing decoder ends the run at its start")
ok("cloister-decode cannot be started" in run.err, "which says so", run.err)
done()
