#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The ways a run is told to stop: a window that closes, TERM, and TERM once more."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PAGES = 25


def book(name):
    return pdf.build(pdf.pages([pdf.text(b"%s %d" % (name, n)) for n in range(PAGES)], widen=1))


def library(delay):
    """Two books and a recogniser that needs seconds for each."""
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", str(delay), more="dpi: 72\n")
    spool.drop(book(b"First"), "null/first.pdf")
    spool.drop(book(b"Second"), "null/second.pdf")
    return spool


def goes_on(spool, why):
    """A later run finishes what is left, and does not read again what was read."""
    same(spool.run("-j", "6").returncode, 0, f"{why}: a later run ends with 0")
    results = spool.results()
    same(sorted(results), ["null/first.pdf", "null/second.pdf"], f"{why}: and has finished both")
    same([page["result"]["text"] for r in results.values() for page in r.lines()],
         [f"page {300 + n}x80" for n in range(PAGES)] * 2, f"{why}: with every page in its place")
    same((spool.left(), spool.tokens()), ([], []), f"{why}: nothing is left")
    return json.loads((spool.root / "state" / "status.json").read_text())["pages"]["reused"]


# A time zone of our own, in which the next full minute is three seconds away.
spool = library(100)
now = time.time()
os.environ["TZ"] = "TEST0:00:%02d" % ((int(now) - 57) % 60)
time.tzset()
soon = time.strftime("%H:%M", time.localtime(now + 4))
run = cloister("run", spool.root, "--once", "-j", "1", "--until", soon)
took = time.time() - now
del os.environ["TZ"]
time.tzset()
same(run.returncode, 75, "--until: 75 when the window closes before all is done")
ok(1.5 < took < 6, "it closes at the full minute, and pages in hand are all that is waited for", took)
same(spool.results(), {}, "no book is done, and nothing is published by halves")
same(len([t for t in spool.tokens() if t.startswith("ready/")]), 2, "the rest stays queued")
same(os.listdir(spool.root / "state" / "active"), [], "nothing is active any more")
reused = goes_on(spool, "--until")
ok(reused >= 10, "pages of the first window are not read again", reused)

run = library(0).run("--until", "25:00")
same(run.returncode, 2, "--until 25:00 is a usage error")

# TERM, while a page takes long: it is waited for, and no longer after a second TERM.
def slow_run():
    spool = library(2500)
    run = spool.start("-j", "1")
    wait_for(lambda: children(run.pid, "null-recogniser") and
             list((spool.root / "state" / "tmp").glob("*/pages")))
    time.sleep(0.3)
    return spool, run


spool, run = slow_run()
begin = time.monotonic()
run.terminate()
time.sleep(0.5)
ok(run.poll() is None, "TERM: a page in hand is waited for")
run.terminate()
same(run.wait(10), 143, "TERM once more: ends with 128 + 15")
took = time.monotonic() - begin
ok(took < 1.5, "at once", took)
same(children(run.pid), [], "and leaves no child behind")
same(len([t for t in spool.tokens() if t.startswith("ready/")]), 2, "what it had is back in the queue")
spool.null_pipeline("null", more="dpi: 72\n")
goes_on(spool, "TERM twice")
done()
