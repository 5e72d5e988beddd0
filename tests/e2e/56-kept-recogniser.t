#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser is kept over documents, and is replaced when it dies without a page lost or doubled."""

import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def book(pages, name):
    return pdf.build(pdf.pages([pdf.text(b"%s, page %d" % (name, n)) for n in range(pages)], widen=1))


def asked(result):
    """(width, pid) of each page's answer."""
    return [tuple(map(int, re.match(r"page (\d+)x\d+, request \d+ of (\d+)$", line["result"]["text"]).groups()))
            for line in result.lines()]


# Kept: documents that come one after another are read by one process.
spool = Spool()
spool.null_pipeline("null", "--serial", more="dpi: 72\n")
run = spool.start("-j", "1")
for n in range(3):
    spool.drop(book(2, b"Book %d" % n), f"null/{n}.pdf")
    ok(wait_for(lambda: spool.result(f"null/{n}.pdf")), f"document {n} is read")
pids = {pid for n in range(3) for _, pid in asked(spool.result(f"null/{n}.pdf"))}
same(len(pids), 1, "one process has read all three")
kill(run.pid)
run.wait()

# Replaced: killed in the middle of 40 pages, twice.
spool = Spool()
spool.null_pipeline("null", "--serial", "--delay-ms", "150", "--window", "1", more="dpi: 72\n")
spool.drop(book(40, b"Long"), "null/long.pdf")
run = spool.start("-j", "1", "--once")


def pages_read():
    """How many pages an attempt has put away."""
    try:
        status = json.loads((spool.root / "state" / "status.json").read_text())
        return max((d["page"] for d in status.get("active", [])), default=0)
    except (OSError, ValueError):
        return 0


killed = []
for pages in (8, 24):
    wait_for(lambda: pages_read() >= pages)
    found = children(run.pid, "null-recogniser")
    ok(found and found[0] not in killed and kill(found[0]), f"SIGKILL of the recogniser after {pages} pages or more",
       pages_read(), found)
    killed += found
same(run.wait(60), 0, "the run goes on and ends well")
result = spool.result("null/long.pdf")
problems(result_problems(result), "its result holds together")
answers = asked(result)
same([width for width, _ in answers], [300 + n for n in range(40)], "each of 40 pages is there once, in its place")
used = list(dict.fromkeys(pid for _, pid in answers))
same((len(used), used[:2]), (3, killed), "read by three processes, one after another")

done()
