#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cloister check --recogniser: our own recognisers pass, and one that is wrong in one point fails on the line
that is about it, and on no other."""

import concurrent.futures
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

WRONG = BUILD / "tests" / "tools" / "wrong-recogniser"
MODEL = ROOT / "samples" / "model"

# Which lines fail. The first two have to hold for the others to be tried.
FAULTS = {
    "no-hello": ["hello"], "no-json": ["hello"], "early-end": ["hello"], "old-version": ["hello"],
    "never-ready": ["hello"], "early-answer": ["hello"], "wide-window": ["hello"], "short-hash": ["hello"], "odd-takes": ["hello"],
    "chatter": ["first request"], "silent": ["first request"], "bad-confidence": ["first request"],
    "no-text": ["first request"], "too-long": ["first request"],
    "changing": ["same again"], "grey-only": ["colour page"], "no-blanks": ["blank page", "window"],
    "divides": ["page of one pixel"], "small": ["huge page"], "missing-ok": ["page missing"],
    "missing-dies": ["page missing"], "cut-ok": ["page cut short"], "pages-only": ["text"],
    "empty-dies": ["empty text"], "long-text-lost": ["long text"], "strict": ["unknown keys"],
    "latin-1": ["unicode"], "echo": ["control characters", "long prompt"],
    "short-lines": ["long text", "long prompt"], "prompt-needed": ["no prompt"], "mixed": ["window"],
    "one-of-all": ["window"], "twice": ["window"], "once-an-id": ["ids"], "float-ids": ["ids"],
    "impatient": ["idle"], "talks-idle": ["idle"], "stays": ["end of input"],
    "ends-with-1": ["end of input"], "half-line": ["end of input"],
}
WAITS = ("no-hello", "never-ready", "silent", "long-text-lost", "one-of-all", "once-an-id", "stays")  # for its time


def check(*arguments, **environment):
    """(exit code, {check: line}) of check --recogniser --json."""
    done = cloister("check", "--json", *map(str, arguments), env={**os.environ, **environment})
    try:
        report = json.loads(done.out)
    except ValueError:
        return done.returncode, {"none": {"passed": False, "reason": done.out + done.err}}
    same(report["passed"], done.returncode == 0, "the exit code says what the report says")
    return done.returncode, {line["check"]: line for line in report["checks"]}


def failures(lines):
    return {name: line["reason"] for name, line in lines.items() if line["passed"] is False}


code, lines = check("--recogniser", WRONG)
same((code, failures(lines)), (0, {}), "one that is right passes")
same([name for name, line in lines.items() if not line["passed"]], [], "and everything was tried")
known = list(lines)
same(sorted({name for names in FAULTS.values() for name in names}), sorted(known),
     "each line has a fault that it finds")
table = cloister("check", "--recogniser", "--", WRONG)
ok(table.out.startswith("CHECK") and table.out.endswith("pass: it keeps to the protocol\n")
   and len(table.out.splitlines()) == len(known) + 2, "the table has a line for each", table.out, table.err)

code, lines = check("--recogniser", WRONG, "loads")
same((code, failures(lines), len(lines)), (0, {}, len(known)), "one that says hello first and loads then passes")

# Ours.
code, lines = check("--recogniser", BUILD / "cloister-tesseract", "--pages", ".")
same((code, failures(lines)), (0, {}), "cloister-tesseract passes")
same([name for name, line in lines.items() if line["passed"] is None],
     ["text", "empty text", "long text", "window"], "all but what it does not offer was tried")
ok("TWELVE MEN WAIT" in lines["first request"]["reason"], "and its answer is shown", lines)
if (MODEL / "model.safetensors").exists():
    code, lines = check("--pipeline", MODEL / "sample-model.yaml", "--recogniser",
                        CLOISTER_MODELS=str(ROOT / "samples"))
    same((code, failures(lines), [n for n, l in lines.items() if not l["passed"]]), (0, {}, []),
         "cloister-model with the sample model passes, and does everything")
else:
    skip("cloister-model with the sample model passes", "the sample model has no weights here")

# Wrong ones.
def try_fault(fault):
    seconds = "4" if fault in WAITS else "20"
    done = cloister("check", "--json", "--seconds", seconds, "--recogniser", WRONG, fault)
    try:
        report = json.loads(done.out)
        return done.returncode, {line["check"]: line for line in report["checks"]}
    except ValueError:
        return done.returncode, {"none": {"passed": False, "reason": done.out + done.err}}


with concurrent.futures.ThreadPoolExecutor(8) as threads:
    for fault, (code, lines) in zip(FAULTS, threads.map(try_fault, FAULTS)):
        found = failures(lines)
        ok((code, list(found)) == (1, FAULTS[fault]), f"{fault}: {', '.join(FAULTS[fault])} fails, nothing else",
           f"code {code}", found)
        ok(all(found.values()), f"{fault}: it says why", found)
figure("cloister check --recogniser", f"{len(FAULTS)} wrong recognisers, each found on its line, {len(known)} lines")

same(cloister("check", "--recogniser").returncode, 2, "no command is a usage error")
same(cloister("check", "--recogniser", "reader").returncode, 78, "no path either")
same(cloister("check").returncode, 2, "no file is one")
done_ = cloister("check", "--seconds", "5", "a.yaml")
same(done_.returncode, 2, "--seconds without --recogniser", )
done_ = cloister("check", "a.yaml", "--recogniser", WRONG)
same((done_.returncode, "unexpected argument a.yaml" in done_.err), (2, True), "files before --recogniser")
done()
