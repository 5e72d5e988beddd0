#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whose turn it is: priorities, and letters beside volumes. Order is told by the lines of output."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def book(name, pages):
    return pdf.build(pdf.pages([pdf.text(b"%s %d" % (name, n)) for n in range(pages)]))


def order(run):
    return [line.split()[0] for line in run.out.splitlines()]


# 0 comes before 9, though all of 9 came earlier. A first run admits them all and is stopped.
spool = Spool()
spool.null_pipeline("null", "--delay-ms", "2000", more="dpi: 72\n")
late, soon = [f"null/nine{n}.pdf" for n in range(8)], [f"null/zero{n}.pdf" for n in range(4)]
for age, (name, priority) in enumerate([(n, 9) for n in late] + [(n, 0) for n in soon]):
    file = spool.drop(book(name.encode(), 2), name)
    os.utime(file, (time.time() - 1000 + age,) * 2)
    spool.drop(b"priority: %d\n" % priority, f"{name}.cloister.yaml")
run = spool.start("-j", "1")
ok(wait_for(lambda: len(spool.tokens()) == len(late + soon)), "all are admitted")
for _ in range(2):
    run.terminate()
    time.sleep(0.1)
run.wait(20)
same(spool.results(), {}, "and none is finished")
spool.null_pipeline("null", "--delay-ms", "20", more="dpi: 72\n")
done_in = order(spool.run("-j", "1"))
same(sorted(done_in), sorted(late + soon), "documents of both priorities are read")
# Documents of 9 may begin while the last of 0 are opened and written, so that nobody is idle.
ok(set(soon) <= set(done_in[:len(soon) + 3]), "priority 0 is finished before priority 9", done_in)

# A volume in one pipeline does not make a letter in the other wait, nor one in its own.
spool = Spool()
for name in ("volumes", "letters"):
    spool.null_pipeline(name, "--delay-ms", "10", more="dpi: 72\n")
spool.drop(book(b"Volume", 200), "volumes/volume.pdf")
run = spool.start("-j", "1")


def pages_read():
    return max([p.read_bytes().count(b'"page":') for p in
                (spool.root / "state" / "tmp").glob("*/pages")], default=0)


def deliver(name):
    """Drop a letter while the volume is being read; pages that the volume advanced meanwhile."""
    hidden = spool.drop(book(name.encode(), 1), f"{name.split('/')[0]}/.letter")
    before = pages_read()
    os.rename(hidden, spool.root / "in" / name)
    came = wait_for(lambda: spool.result(name), 10, step=0.005)
    return pages_read() - before if came and not spool.result("volumes/volume.pdf") else None


wait_for(lambda: pages_read() >= 20)
(spool.root / "in" / "letters").mkdir()
for name in ("volumes/letter.pdf", "letters/first.pdf", "letters/second.pdf"):
    # A scan, at most a second away, has to find the folder before it is watched.
    passed = deliver(name)
    ok(passed is not None and passed < 130, f"{name} is finished while the volume is read", passed)
ok(wait_for(lambda: spool.result("volumes/volume.pdf"), 20), "and the volume gets on with it")
run.terminate()
run.wait(20)
problems([p for r in spool.results().values() for p in result_problems(r)], "results hold together")
done()
