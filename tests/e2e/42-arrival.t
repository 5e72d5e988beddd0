#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How documents come in: renamed in, copied slowly, deep down, under the longest names; and two runs
that work on one spool."""

import os
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def letter(name, pages=1):
    return pdf.build(pdf.pages([pdf.text(b"%s %d" % (name.encode()[:40], n)) for n in range(pages)]))


# While a run watches: what is renamed in is read at once, what is written has to stand still first.
spool = Spool(settle=2)
spool.null_pipeline("null", more="dpi: 72\n")
folder = spool.root / "in" / "null"
folder.mkdir(parents=True)
run = spool.start("-j", "1")
(folder / ".first.pdf").write_bytes(letter("First"))
wait_for(lambda: json.loads((spool.root / "state" / "status.json").read_text())["state"] == "running"
         if (spool.root / "state" / "status.json").exists() else False)
time.sleep(1.2)  # the first scan, and the next that a new folder may ask for, are over
begin = time.monotonic()
os.rename(folder / ".first.pdf", folder / "first.pdf")
ok(wait_for(lambda: spool.result("null/first.pdf"), 10, step=0.01), "a document renamed in is read")
took = time.monotonic() - begin
ok(took < 2, "within two seconds, though files have to stand still for as long", took)

slow = letter("Slowly", 8)
step = len(slow) // 8 + 1
early = []
for at in range(0, len(slow), step):
    with open(folder / "slow.pdf", "ab") as out:  # closed after each piece
        out.write(slow[at:at + step])
    written = time.monotonic()
    time.sleep(0.5)
    early += spool.tokens() + list(spool.results())[1:]
same(early, [], "a file written in pieces is not admitted before its end")
ok(wait_for(lambda: spool.result("null/slow.pdf"), 10, step=0.01), "then it is read")
took = time.monotonic() - written
result = spool.result("null/slow.pdf")
same((result and len(result.pages), spool.why("null/slow.pdf")), (8, None), "whole, by the first attempt")
ok(1.9 < took < 6, "settle_seconds: 2 after the last piece", took)
run.terminate()
run.wait(20)

# Renamed again while its admission waits for the recogniser: it still gets one token.
spool = Spool()
spool.pipeline("odd", f"recogniser: command\ncommand: [{BUILD}/tests/tools/odd-recogniser, --mode, slow-start]\n"
                      "dpi: 72\n")
again = spool.drop(letter("Again", 30), "odd/again.pdf")
run = spool.start("-j", "1")
ok(wait_for(lambda: children(run.pid, "odd-recogniser")), "a recogniser is started that takes its time")
for _ in range(2):
    os.rename(again, again.with_name(".again"))
    os.rename(again.with_name(".again"), again)
    time.sleep(0.2)
same(spool.tokens(), [], "nothing is admitted before it is ready")
tokens = wait_for(spool.tokens, step=0.001)
most = set(tokens)
while tokens:
    tokens = spool.tokens()
    most = max(most, set(tokens), key=len)
ok(len(most) == 1, "a document that is renamed meanwhile has one token", *most)
ok(wait_for(lambda: spool.result("odd/again.pdf")), "and is read")
run.terminate()
run.wait(20)

# 64 levels of folders, and names of 255 bytes: out/ or failed/ with a reason, nothing is lost.
spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
spool.drop(letter("Deep"), "null/" + "d/" * 63 + "deep.pdf")
longest = {"null/" + letters[0] * 251 + ".pdf": data for letters, data in
           (("good", letter("Long")), ("bad", b"no document"))}
longest["null/" + "\u00fc" * 125 + "x.pdf"] = letter("Wide")  # two bytes each
for name, data in longest.items():
    spool.drop(data, name)
try:
    code = spool.run(timeout=20).returncode
except subprocess.TimeoutExpired:
    code = "time is up"
same(code, 1, "a run over the deepest and longest names ends, and says that one failed")
ok(spool.result("null/" + "d/" * 63 + "deep.pdf"), "64 folders deep: read")
said = [json.loads(path.read_text()) for path in (spool.root / "failed").rglob("*.json")]
for name, data in longest.items():
    what = f"a name of 255 bytes ({name[5]}...)"
    failed = [why for why in said if why["document"] == name and why["reason"]]
    ok(spool.result(name) or failed, f"{what}: in out/, or in failed/ with a reason", said)
    kept = [path for part in ("done", "failed") for path in (spool.root / part).rglob("*")
            if path.is_file() and path.read_bytes() == data]
    same(len(kept), 1, f"{what}: the original lies in done/ or failed/")
ok([why for why in said if why["document"].startswith("null/bbb") and why["reason"] == "unknown-type"],
   "what is no document fails for that, not for its name", said)
same(spool.left(), [], "none is left in in/")

# Deeper than that a document is not read; that is said.
deeper = "null/" + "d/" * 70 + "deeper.pdf"
spool.drop(letter("Deeper"), deeper)
run = spool.run()
ok(spool.result(deeper) or spool.why(deeper) or ("d/d/d" in run.err and "deep" in run.err),
   "70 folders deep: read, failed, or at least told", run.returncode, run.err)

# Two runs at a time on one spool.
spool = Spool()
spool.null_pipeline("null", "--delay-ms", "10", more="dpi: 72\nduplicates: process\n")
names = [f"null/{n % 4}/{n}.pdf" for n in range(40)]
for name in names:
    spool.drop(letter(name, 3), name)
runs = [spool.start("--once", "-j", "1") for _ in range(2)]
same([run.wait(60) for run in runs], [0, 0], "two runs at a time: both end with 0")
results = spool.results()
same(sorted(results), sorted(names), "each document has one result")
problems([p for name, result in results.items() for p in
          result_problems(result, spool.root / "done" / name)], "which holds together")
same([result.document["attempt"] for result in results.values()], [1] * len(names),
     "by its first attempt")
same((spool.left(), spool.tokens(), os.listdir(spool.root / "failed"),
      os.listdir(spool.root / "state" / "tmp"), os.listdir(spool.root / "state" / "active")),
     ([], [], [], [], []), "nothing failed and nothing is left over")
done()
