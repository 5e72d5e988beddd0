#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No process of a run makes a socket, and every child is locked down while it works."""

import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

spool = Spool()
spool.null_pipeline("null", "--delay-ms", "50", more="dpi: 72\n")
spool.drop(pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(40)])), "null/book.pdf")
spool.drop(SAMPLES / "letters" / "harbour-letter.pdf", "tesseract/letter.pdf")
run = spool.start("-j", "2")
ok(wait_for(lambda: children(run.pid)), "a run has begun")


def status_of(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(re.findall(r"^(\w+):\s*(\S+)", text, re.M))


own = int(status_of(run.pid)["Seccomp_filters"])
for program in ("cloister-decode", "cloister-tesseract", "null-recogniser"):
    def locked():
        """Status of one that has added a filter of its own to the supervisor's."""
        for found in map(status_of, children(run.pid, program)):
            if int(found.get("Seccomp_filters", 0)) > own:
                return found
        return None
    found = wait_for(locked, 20)
    if ok(found, f"{program}: works behind a filter of its own"):
        same(found["NoNewPrivs"], "1", f"{program}: cannot gain privileges")
        # Foreign programs may still read files of root's (bits 1 and 2), where Landlock lets them.
        allowed = 6 if program == "null-recogniser" else 0
        same(int(found["CapEff"], 16) & ~allowed, 0, f"{program}: has no other capability")
same(status_of(run.pid)["Seccomp"], "2", "cloister: behind a filter too")
ok(wait_for(lambda: spool.result("null/book.pdf") and spool.result("tesseract/letter.pdf"), 60),
   "the documents are read meanwhile")
run.terminate()
run.wait(20)

# A build with sanitizers, or a machine that forbids tracing, says so instead of passing.
if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode:
    skip("no socket call", "strace does not work here")
    done()
spool = Spool()
for name in ("scans/index-card.pgm", "forms/signal-book.pdf", "archives/week-12.tar.zst",
             "protected/ledger.pdf", "protected/ledger.pdf.cloister.yaml"):
    spool.drop(SAMPLES / name, f"tesseract/{name}")
trace = spool.path / "trace"
traced = subprocess.run(["strace", "-f", "-qq", "-e", "trace=%network", "-e", "signal=none", "-o",
                         trace, CLOISTER, "run", spool.root, "--once", "-j", "2"],
                        capture_output=True, text=True, timeout=100)
same(traced.returncode, 0, "a traced run ends with 0")
ok(len(spool.results()) >= 5, "and reads its documents")
calls = [line for line in trace.read_text().splitlines()
         if re.match(r"\d+ +[a-z_0-9]+\(", line) and "+++" not in line]
problems(calls[:10], "no process of the family makes a network call")
done()
