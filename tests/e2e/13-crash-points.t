#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGKILL, or no room, at the system calls of the commit path, one after the other: the next run puts
right whatever was begun, and nothing is doubled, lost or left over."""

import io
import os
import shutil
import subprocess
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

# Every Nth call of a kind; the rare ones are the ones that matter most.
CALLS = {"renameat2": 1, "fsync": 2, "renameat": 3, "unlinkat": 3, "mkdirat": 4}
STRACE = shutil.which("strace")
probe = STRACE and subprocess.run([STRACE, "-o", "/dev/null", "true"], capture_output=True)
if not probe or probe.returncode:
    skip_all("strace is missing or may not trace")


def book(pages, text):
    return pdf.build(pdf.pages([pdf.text(text + b" %d" % n) for n in range(pages)], widen=1))


store = io.BytesIO()
with zipfile.ZipFile(store, "w") as archive:
    archive.writestr("a/note.pdf", book(1, b"Member"))
DROPS = {"null/sub/book.pdf": book(2, b"Book"), "null/bad.pdf": b"%PDF-1.4 nonsense",
         "null/store.zip": store.getvalue(), "nosuch/none.pdf": b"no pipeline"}


def new_spool():
    spool = Spool()
    spool.null_pipeline("null", more="dpi: 72\n")
    for name, content in DROPS.items():
        spool.drop(content, name)
    (spool.root / "in" / "null" / "bad.pdf.cloister.yaml").write_text("priority: 7\n")
    return spool


def run(spool, *before):
    return subprocess.run([*before, CLOISTER, "run", spool.root, "--once", "-q", "-j", "2"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=60)


def strace(call, more, output="/dev/null"):
    return (STRACE, "-o", output, "-e", f"trace={call}", *more)


def outcome(spool):
    """Everything in the spool that a user, or the next run, would see."""
    root = spool.root
    found = {"out": {name: [(page["page"], page["status"]) for page in result.pages]
                     for name, result in spool.results().items()}}
    for part in ("in", "done", "failed", "state"):
        found[part] = sorted(str(p.relative_to(root)) for p in (root / part).rglob("*")
                             if not p.is_dir() or part == "state")
    # Lanes are left for the next documents.
    found["state"] = [p for p in found["state"] if not p.startswith("state/ready/") or ".a" in p]
    found["archives"] = sorted(str(p.relative_to(root)) for p in root.rglob("archive.json"))
    return found


spool = new_spool()
trace = spool.path / "trace"
same(run(spool, *strace(",".join(CALLS), (), trace)).returncode, 1, "an undisturbed run")
WANT = outcome(spool)
same([sorted(WANT["out"]), WANT["in"], WANT["failed"], WANT["done"]],
     [["null/store.zip/0001-note.pdf", "null/sub/book.pdf"], [],
      ["failed/nosuch/none.pdf", "failed/nosuch/none.pdf.why.json", "failed/null/bad.pdf",
       "failed/null/bad.pdf.cloister.yaml", "failed/null/bad.pdf.why.json"],
      ["done/null/store.zip", "done/null/sub/book.pdf"]], "has all there is to have")
made = [line.split("(")[0] for line in trace.read_text().splitlines()]

for call, step in CALLS.items():
    points, wrong = range(1, made.count(call) + 1, step), []
    for k in points:
        spool = new_spool()
        run(spool, *strace(call, ("-e", f"inject={call}:signal=KILL:when={k}")))
        second = run(spool)
        got = outcome(spool)
        for part in WANT:
            if got[part] != WANT[part]:
                wrong.append(f"killed at {call} {k}: {part} is {got[part]}, not {WANT[part]}")
        if second.returncode not in (0, 1):
            wrong.append(f"killed at {call} {k}: then exit code {second.returncode}")
        shutil.rmtree(spool.path)
    ok(points and not wrong, f"killed at {len(points)} calls of {call}", *wrong)

# A disk that is full for a moment: the run waits, and ends as if nothing had been.
wrong, points = [], range(1, made.count("renameat2") + 1)
for k in points:
    spool = new_spool()
    run(spool, *strace("renameat2", ("-e", f"inject=renameat2:error=ENOSPC:when={k}")))
    run(spool)
    got = outcome(spool)
    wrong += [f"no room at renameat2 {k}: {part} is {got[part]}, not {WANT[part]}"
              for part in WANT if got[part] != WANT[part]]
    shutil.rmtree(spool.path)
ok(points and not wrong, f"no room at {len(points)} calls of renameat2", *wrong)

# A power cut may take the content of a token along that had not reached the disk: what has been
# published under it is found all the same.
spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
spool.drop(DROPS["null/sub/book.pdf"], "null/book.pdf")
for k in range(1, 20):
    run(spool, *strace("renameat2", ("-e", f"inject=renameat2:signal=KILL:when={k}")))
    if spool.result("null/book.pdf"):
        break
tokens = list((spool.root / "state").rglob("*.a[0-9]*"))
same((len(tokens), spool.left()), (1, ["null/book.pdf"]),
     "killed between a result and the move of its original")
for token in tokens:
    os.truncate(token, 0)
run(spool)
same((sorted(spool.results()), spool.left(), spool.tokens()), (["null/book.pdf"], [], []),
     "the token torn: no second result")
done()
