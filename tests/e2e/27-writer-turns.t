#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A writer that turns in circles is ended by its limit of processor time: its document fails and says so,
and its neighbours are done."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

CARD = SAMPLES / "scans" / "index-card.pgm"
spool = Spool()
libexec = spool.path / "libexec"
libexec.mkdir()
for name in ("cloister-decode", "cloister-tesseract"):
    (libexec / name).symlink_to(BUILD / name)
# The job of a document says its name; the others get the writer itself.
(libexec / "cloister-write").write_text(f"""#!/bin/sh
read -r job
case $job in *circles*) while :; do :; done ;; esac
printf '%s\\n' "$job" | {BUILD}/cloister-write "$@"
""")
(libexec / "cloister-write").chmod(0o755)
spool.null_pipeline("null", more="limits:\n  page_cpu_seconds: 1\n")
spool.drop(CARD, "null/circles.pgm")
spool.drop(CARD, "null/good.pgm")
run = spool.run(env={"CLOISTER_LIBEXEC": str(libexec)}, timeout=400)
same(run.returncode, 1, "the run ends, with 1")
why = spool.why("null/circles.pgm")
same(why and why["reason"], "limit:page-cpu-seconds", "the document fails by its limit")
ok(why and "the writer took more than 1 seconds of processor time" in why["text"], "the reason names the writer", why)
ok(spool.result("null/good.pgm"), "its neighbour is done")
same(spool.left(), [], "nothing is left")
done()
