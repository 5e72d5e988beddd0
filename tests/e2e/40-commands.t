#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""submit, ls, show, status, hold, release, retry, and the exit codes."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

CARD = SAMPLES / "scans" / "index-card.pgm"
COMMANDS = ("run", "submit", "ocr", "status", "ls", "show", "hold", "release", "retry", "check")

for command in COMMANDS:
    run = cloister(command, "--help")
    ok(run.returncode == 0 and run.out.startswith(("Usage: cloister " + command,
                                                   "usage: cloister " + command))
       and not run.err, f"{command} --help", run.out, run.err)
run = cloister("--version")
ok(run.returncode == 0 and "cloister" in run.out, "--version")
for arguments in (["frobnicate"], ["run", "--twice"], ["run", "-j", "0"], ["submit"], [],
                  ["status"], ["submit", "--priority", "11", "x"]):
    run = cloister(*arguments, env={k: v for k, v in os.environ.items() if k != "CLOISTER_SPOOL"})
    same((run.returncode, run.out), (2, ""), f"usage error: cloister {' '.join(arguments)}")
ok("submit" in cloister("sumbit").err, "a mistyped command: what was meant")

spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
run = spool.command("submit", CARD, "--pipeline", "null", "--priority", "2")
same(run.returncode, 0, "submit")
ok("null/index-card.pgm" in run.out, "says what it is called there", run.out)
run = spool.command("submit", CARD, "--pipeline", "null")
ok("null/index-card~2.pgm" in run.out, "a name that is taken gets a number", run.out)
ok(CARD.exists(), "submit copies")
same(spool.command("submit", spool.path / "nothing.pdf", "--pipeline", "null").returncode, 1,
     "submit of a file that is not there fails")
ok(spool.command("submit", CARD, "--pipeline", "nul").returncode != 0,
   "submit to a pipeline that is not there fails")
listing = spool.command("ls").out
ok(listing.count("waiting") == 2, "ls shows them waiting", listing)
same(spool.command("status").returncode, 0, "status of a spool that nobody works on")

# hold and release act on what is in the queue: a run that is killed leaves it there.
spool.drop(b"never a document", "null/bad.bin")
book = pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(40)]))
spool.null_pipeline("slow", "--delay-ms", "100", more="dpi: 72\n")
for n in range(4):
    spool.drop(book + b"%% %d" % n, f"slow/book{n}.pdf")
run = spool.start("-j", "1")
waiting = wait_for(lambda: "slow/book" in (spool.command("ls", "--state", "ready").out) and
                   spool.command("ls", "--state", "active").out)
ok(waiting, "ls shows active and ready documents of a run that goes on")
status = json.loads(spool.command("status", "--json").out)
same(status["state"], "running", "status from another process: running")
ok(wait_for(lambda: json.loads(spool.command("status", "--json").out)["pages"]["ok"] > 2),
   "and its count of pages grows")
ready = [line.split()[-1] for line in spool.command("ls", "--state", "ready").out.splitlines()]
held = ready[-1] if ready else "none"
same(spool.command("hold", held).returncode, 0, "hold a document of the queue")
ok(held in spool.command("ls", "--state", "hold").out, "ls shows it")
run.terminate()
same(run.wait(30), 75, "TERM drains: work remains")
same(spool.results().get(held), None, "what is held is not read")
ok(os.listdir(spool.root / "state" / "active") == [], "nothing is active after a drain",
   os.listdir(spool.root / "state" / "active"))
before = len(spool.results())

spool.null_pipeline("slow", more="dpi: 72\n")
run = spool.run("-j", "2")
ok(held not in spool.results(), "a held document stays held in the next run")
same(run.returncode, 0, "which is as the operator wants it")
same(spool.command("release", held).returncode, 0, "release")
run = spool.run("-j", "2")
same(run.returncode, 0, "the next run ends with 0")
ok(held in spool.results(), "and reads it")
problems([p for r in spool.results().values() for p in result_problems(r)], "results hold together")

run = spool.command("show", "slow/book1.pdf")
ok(run.returncode == 0 and "done" in run.out and "slow/book1.pdf" in run.out, "show a document",
   run.out, run.err)
shown = json.loads(spool.command("show", "--json", "null/bad.bin").out)
ok("unknown-type" in json.dumps(shown), "show tells why one failed", shown)
ok("failed" in spool.command("ls").out, "ls shows it as failed")
same(spool.command("show", "null/nobody.pdf").returncode, 1, "show of nothing fails")
same(spool.command("retry", "null/bad.bin").returncode, 0, "retry")
ok("null/bad.bin" in spool.left() and not spool.why("null/bad.bin"), "drops it in again")
same(spool.run().returncode, 1, "where it fails again")
same(spool.command("retry", "--all").returncode, 0, "retry --all")
ok("null/bad.bin" in spool.left(), "takes all that failed")

# Configuration.
spool.configure("settle_second: 1\n")
run = spool.run()
ok(run.returncode == 78 and "cloister.yaml:1" in run.err and "settle_seconds" in run.err,
   "a wrong cloister.yaml: 78, with line and what was meant", run.returncode, run.err)
spool.configure("settle_seconds: 0\n")
os.chmod(spool.root / "cloister.yaml", 0o666)
same(spool.run().returncode, 78, "one that others may write: 78")
os.chmod(spool.root / "cloister.yaml", 0o644)
same(cloister("status", "--spool", spool.path / "nowhere").returncode, 78, "no spool there: 78")
done()
