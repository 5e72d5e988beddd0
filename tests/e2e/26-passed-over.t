#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Folders of in/ that cannot be read stay as they are, are named once, and the run does not say that all
is done; when they can be read, so are their documents."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

CARD = SAMPLES / "scans" / "index-card.pgm"
spool = Spool()
spool.null_pipeline("null")
spool.drop(CARD, "null/good.pgm")
deep = "null/" + "d/" * 70
spool.drop(CARD, deep + "deep.pgm")
run = spool.run()
warned = [line for line in run.err.splitlines() if "passed over" in line]
same((run.returncode, len(warned)), (1, 1), "a folder that lies too deep: the run ends with 1, one warning")
ok(warned and 'folder "null/d/d' in warned[0] and "too deep" in warned[0], "the warning names it", run.err)
ok(spool.result("null/good.pgm"), "the document beside it is read")
same(spool.left(), [deep + "deep.pgm"], "its document stays where it is")
(spool.root / "in" / (deep + "deep.pgm")).rename(spool.root / "in/null/raised.pgm")
shutil.rmtree(spool.root / "in/null/d")
same((spool.run().returncode, bool(spool.result("null/raised.pgm"))), (0, True), "moved up, it is read")

if os.geteuid() == 0:
    skip("a folder that may not be read", "root may read every folder")
else:
    spool.drop(CARD, "null/closed/card.pgm")
    os.chmod(spool.root / "in/null/closed", 0)
    run = spool.run()
    same((run.returncode, run.err.count("passed over: Permission denied")), (1, 1), "so does one that may not be read")
    os.chmod(spool.root / "in/null/closed", 0o755)
    same((spool.run().returncode, spool.left()), (0, []), "and read when it may")
done()
