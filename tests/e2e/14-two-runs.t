#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Several runs on one spool, one after the other and side by side: who admits changes, tokens come
and go behind a run's back, and a worker of another boot has died."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def page(text):
    return pdf.build(pdf.pages([pdf.text(text)]))


def status(spool):
    return json.loads((spool.root / "state" / "status.json").read_text())


# The second run takes over when the first, which admitted all the documents, is gone.
spool = Spool()
spool.null_pipeline("null", "--delay-ms", "300", "--window", "1", more="dpi: 72\n")
for n in range(12):
    spool.drop(page(b"Note %d" % n), f"null/{n}.pdf")
first = spool.start("-j", "1")
ok(wait_for(lambda: len(spool.tokens()) >= 8), "the first run admits documents")
second = spool.start("-j", "1", "--once")
time.sleep(0.5)
kill(first.pid)
first.wait()
code = second.wait(60)
same(code, 0, "a second run goes on alone")
same(sorted(spool.results()), sorted(f"null/{n}.pdf" for n in range(12)),
     "each document has one result")
same((spool.left(), spool.tokens()), ([], []), "nothing is left over")

# What the other run finished may be dropped again under its name.
spool = Spool()
spool.configure("settle_seconds: 0\nrescan_seconds: 1\n")
spool.null_pipeline("null", "--delay-ms", "400", "--window", "1", more="dpi: 72\n")
names = [f"null/{n}.pdf" for n in range(6)]
runs = [spool.start("-j", "1"), spool.start("-j", "1")]
time.sleep(0.5)
for n, name in enumerate(names):
    spool.drop(page(b"First %d" % n), name)
ok(wait_for(lambda: len(spool.results()) == 6), "two runs share the work", list(spool.results()))
wait_for(lambda: not spool.left())
for n, name in enumerate(names):
    spool.drop(page(b"Again %d" % n), name)
ok(wait_for(lambda: len(spool.results()) == 12, 20), "all names are taken a second time",
   spool.left(), list(spool.results()))
for run in runs:
    run.terminate()
for run in runs:
    run.wait(20)

# Held and released while a run goes on.
spool = Spool()
spool.configure("settle_seconds: 0\nrescan_seconds: 1\n")
spool.null_pipeline("null", "--delay-ms", "700", "--window", "1", more="dpi: 72\n")
for n in range(5):
    spool.drop(page(b"Note %d" % n), f"null/{n}.pdf")
run = spool.start("-j", "1")
held = wait_for(lambda: len(spool.tokens()) >= 5 and
                spool.command("hold", "null/4.pdf").returncode == 0)
ok(held, "a document that waits is held")
ok(wait_for(lambda: len(spool.results()) == 4), "the others are read")
same(spool.command("release", "null/4.pdf").returncode, 0, "it is released")
ok(wait_for(lambda: spool.result("null/4.pdf"), 10), "and read by the run that goes on")
run.terminate()
run.wait(20)

# Machines that do not see each other's locks may take in one drop under two keys. It fails once.
spool = Spool()
spool.null_pipeline("null", "--delay-ms", "5000", more="dpi: 72\n")
for n in range(8):
    spool.drop(page(b"Note %d" % n), f"null/{n}.pdf")
spool.drop(b"%PDF-1.4 never a document", "null/bad.pdf")
run = spool.start("-j", "1")
token = wait_for(lambda: next((path for path in (spool.root / "state/ready").rglob("*.a0")
                               if "bad.pdf" in path.read_text()), None))
kill(run.pid)
run.wait()
spool.null_pipeline("null", more="dpi: 72\n")
second = token.with_name("2001" + token.name[4:])
second.write_text(token.read_text().replace(token.stem, second.stem))
same(spool.run("-j", "1").returncode, 1, "one drop under two keys")
same((spool.files("failed"), spool.why("null/bad.pdf")["reason"]), (["null/bad.pdf", "null/bad.pdf.why.json"], "damaged"),
     "fails once, for its own reason")
same((spool.left(), spool.tokens()), ([], []), "nothing is left over")

# A worker of another boot (or container) died: its pid tells nothing, its lease has to run out.
spool = Spool()
spool.configure("settle_seconds: 0\nlease_seconds: 3\n")
spool.null_pipeline("null", "--delay-ms", "5000", more="dpi: 72\n")
spool.drop(page(b"Note"), "null/note.pdf")
run = spool.start("-j", "1")
ok(wait_for(lambda: list((spool.root / "state" / "active").glob("*/*.a1"))), "a run takes it on")
kill(run.pid)
run.wait()
for beat in (spool.root / "state" / "active").glob("*/hb"):
    fields = beat.read_text().split()
    beat.write_text(" ".join([fields[0], "another-boot", *fields[2:]]) + "\n")
spool.null_pipeline("null", more="dpi: 72\n")
same(spool.run("-j", "1").returncode, 0, "a run that ends when all is done")
ok(spool.result("null/note.pdf"), "waits until the dead worker's document can be taken back",
   spool.tokens())
same((spool.left(), spool.tokens()), ([], []), "nothing is left over")
done()
