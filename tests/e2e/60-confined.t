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
for program, where in (("cloister-decode", "state"), ("cloister-tesseract", "state"),
                       ("null-recogniser", "state")):
    def locked():
        for pid in children(run.pid, program):
            try:
                text = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            found = dict(re.findall(r"^(\w+):\s*(\S+)", text, re.M))
            if found.get("Seccomp") == "2":
                return found
        return None
    found = wait_for(locked, 20)
    if ok(found, f"{program}: works behind a system-call filter"):
        same(found["NoNewPrivs"], "1", f"{program}: cannot gain privileges")
        same(int(found["CapEff"], 16), 0, f"{program}: has no capability")
text = pathlib.Path(f"/proc/{run.pid}/status").read_text()
same(re.search(r"Seccomp:\s*(\d)", text).group(1), "2", "cloister: behind a filter too")
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
