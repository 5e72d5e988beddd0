#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cloister ocr: one shot, without a spool."""

import os
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

folder = tempfile.TemporaryDirectory(prefix="cloister-test-")
telegram, card = SAMPLES / "scans" / "telegram.png", SAMPLES / "scans" / "index-card.pgm"
here = set(os.listdir(folder.name))

run = cloister("ocr", telegram, cwd=folder.name)
same(run.returncode, 0, "one file: 0")
text = (TEXTS / "scans" / "telegram.png.txt").read_text()
ok(cer.rate(text, run.out.replace("[page 1]", "")) < 0.01, "its text on standard output", run.out)
same(set(os.listdir(folder.name)), here, "nothing is left in the current folder")

run = cloister("ocr", telegram, card, cwd=folder.name)
ok(run.out.index("GRANDMOTHER") < run.out.index("sextant"), "several: in the order given", run.out)
ok("telegram.png" in run.out and "index-card.pgm" in run.out, "each with its name")

out = os.path.join(folder.name, "results")
run = cloister("ocr", "-o", out, telegram, card)
same((run.returncode, run.out.count("sextant")), (0, 0), "-o: no text on standard output")
for file in (telegram, card):
    result = Result(os.path.join(out, file.name))
    problems(result_problems(result, file), f"-o: {file.name} holds together")
same(sorted(os.listdir(out)), ["index-card.pgm", "telegram.png"], "-o: nothing else in it")
run = cloister("ocr", "-o", out, card)
same((run.returncode, sorted(os.listdir(out))), (0, ["index-card.pgm", "index-card.pgm~2",
                                                     "telegram.png"]), "-o: nothing is replaced")

lines = cloister("ocr", "--json", card).out.splitlines()
same([json.loads(line)["page"] for line in lines], [1], "--json: a line a page")
run = cloister("ocr", os.path.join(folder.name, "nothing.pdf"))
ok(run.returncode != 0 and "nothing.pdf" in run.err, "a file that is not there", run.err)
bad = os.path.join(folder.name, "bad.bin")
with open(bad, "wb") as file:
    file.write(b"\x01\x02\x03")
run = cloister("ocr", bad, card)
ok(run.returncode == 1 and "sextant" in run.out and "bad.bin" in run.err,
   "a bad file among good ones: 1, and the good one is read", run.returncode, run.out, run.err)
run = cloister("ocr", SAMPLES / "protected" / "ledger.pdf")
ok("Balance" not in run.out or run.returncode == 0, "a ticket beside a file does not confuse it")
run = cloister("ocr", "--languages", "eng+tlh", card)
ok(run.returncode != 0 and "tlh" in run.err, "a language that is not installed is named", run.err)
done()
