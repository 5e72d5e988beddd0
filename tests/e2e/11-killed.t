#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGKILL of any process in the middle of a run: the next run ends with the results of an undisturbed
one, and pages that were finished are not read again."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PAGES = 24


def document():
    """Each page has a width of its own, which the null recogniser tells."""
    return pdf.build(pdf.pages([pdf.text(b"Page number %d" % n) for n in range(1, PAGES + 1)],
                               widen=1))


def spool_with(delay):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", str(delay), more="dpi: 72\n")
    spool.drop(document(), "null/book.pdf")
    return spool


def finished(spool):
    """Pages in the journals of attempts."""
    best = 0
    for path in (spool.root / "state" / "tmp").glob("*/pages"):
        try:
            best = max(best, path.read_bytes().count(b'"page":'))
        except OSError:
            pass
    return best


undisturbed = spool_with(60)
same(undisturbed.run().returncode, 0, "an undisturbed run ends with 0")
want = undisturbed.result("null/book.pdf")
same(want.states(), ["ok"] * PAGES, "and reads all pages")
same([page["result"]["text"] for page in want.lines()], [f"page {300 + n}x80" for n in range(PAGES)],
     "each as what it is")

# The supervisor, in the middle.
spool = spool_with(60)
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: finished(spool) >= 8), "a run has finished some pages")
kids = children(run.pid)
kill(run.pid)
run.wait()
ok(wait_for(lambda: not any(os.path.exists(f"/proc/{kid}") for kid in kids), 10),
   "children end when the supervisor is killed")
reusable = finished(spool)
ok(8 <= reusable < PAGES, "it was killed in the middle", f"{reusable} pages were finished")
same(spool.results(), {}, "nothing was published by halves")
second = spool.run("-j", "1")
same(second.returncode, 0, "the next run ends with 0")
got = spool.result("null/book.pdf")
got_files, want_files = got.stable() if got else {}, want.stable()
for file in want_files:
    same(got_files.get(file), want_files[file], f"{file}: is that of an undisturbed run")
status = json.loads((spool.root / "state" / "status.json").read_text())
ok(status["pages"]["reused"] >= reusable - 1, "finished pages are not read again",
   f"{reusable} finished, {status['pages']}")
same(spool.tokens(), [], "no token is left")
same(os.listdir(spool.root / "state" / "tmp"), [], "no attempt is left")

# Each kind of child, in the middle: the document is finished by this very run.
for program, name in (("cloister-decode", "the decoder"), ("null-recogniser", "the recogniser")):
    spool = spool_with(60)
    run = spool.start("--once", "-j", "1")
    ok(wait_for(lambda: finished(spool) >= 4), f"a run has finished some pages before {name} dies")
    victims = children(run.pid, program)
    ok(victims and all([kill(pid) for pid in victims]), f"{name} is killed", victims)
    code = run.wait(60)
    got = spool.result("null/book.pdf")
    ok(code in (0, 1) and got, f"the run outlives {name}", f"exit code {code}")
    if got:
        problems(result_problems(got), "its result holds together")
        lost = sum(state != "ok" for state in got.states())
        ok(lost <= 1, f"{name}'s death costs one page at most", got.states())

# The writer lives too briefly to be met: a supervisor killed at many moments around it must do.
for moment in range(6):
    spool = Spool()
    spool.null_pipeline("null", more="dpi: 72\n")
    for n in range(6):
        spool.drop(pdf.build(pdf.pages([pdf.text(b"Note %d" % n)])), f"null/{n}.pdf")
    run = spool.start("--once", "-j", "2")
    wait_for(lambda: len(list((spool.root / "out").glob("null/*/document.json"))) >= moment, 10,
             step=0.001)
    kill(run.pid)
    run.wait()
    for result in spool.results().values():
        problems(result_problems(result), f"kill {moment}: what is published is whole")
    spool.run()
    same(sorted(spool.results()), [f"null/{n}.pdf" for n in range(6)],
         f"kill {moment}: each document has one result")
    same((spool.left(), spool.tokens()), ([], []), f"kill {moment}: nothing is left over")
done()
