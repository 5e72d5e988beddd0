#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each allocation of the supervisor and of the writer fails, once or from then on: no crash, nothing
lost, nothing wrong called done."""

import concurrent.futures
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Steps, figure
import faults
import promises

PROGRAMS = ("cloister", "cloister-write")
NO_MEMORY = faults.ERRORS["ENOMEM"]


def begin(program, fault):
    spool = faults.new_spool()
    counter = faults.Counts(spool.root)
    if program == "cloister":
        environment = {**os.environ, **faults.seam(counter, fault)}
    else:
        environment = faults.wrapped(spool.path, program, counter, fault)
    return spool, counter, faults.run(spool, environment=environment, patience=4 if fault else 60)


def try_point(program, k, plus):
    spool, counter, run = begin(program, f"malloc {NO_MEMORY} {k}{plus}")
    struck, code = counter.read()["malloc"] >= k, run.returncode
    problems = promises.interrupted(spool, faults.DROPS)
    if run.stuck:
        problems.append("it does not end when it is told to")
    elif code not in (0, 1, 70, 75, 78) and not (run.told and code == 128 + 15):
        problems.append(f"it ends with {code}")
    elif code in (0, 1) and program == "cloister":
        problems += [f"called done: {p}" for p in promises.settled(spool, faults.DROPS).problems
                     if not p.startswith("left over")]
    problems += promises.recover(spool, timeout=60)
    if [why for why in (spool.root / "failed").rglob("*.why.json") if why.name != "bad.pdf.why.json"]:
        # A writer that never gets memory is an explained failure of its document.
        program == "cloister" and problems.append("a document was given up")
        spool.command("retry", "--all")
        problems += promises.recover(spool, timeout=60)
    problems += promises.settled(spool, faults.DROPS).problems
    if problems:
        problems += run.err.splitlines()[-24:]
    shutil.rmtree(spool.path, ignore_errors=True)
    return problems, struck


if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the sanitizer has an allocator of its own")
counts = {}
for name in PROGRAMS:
    spool, counter, run = begin(name, "")
    counts[name] = counter.read()["malloc"]
    same((run.returncode, promises.settled(spool, faults.DROPS).problems), (1, []),
         f"{name}: an undisturbed run has {counts[name]} allocations")

# The long way each of them is struck, about half of them with all that follow.
steps = Steps(fast=16, full=sum(counts.values()))
points = []
for step in steps:
    if FULL:
        program = PROGRAMS[step.number >= counts[PROGRAMS[0]]]
        k = step.number % counts[PROGRAMS[0]] + 1
    else:
        program = PROGRAMS[step.random.random() < 0.3]
        k = step.random.randint(1, counts[program])
    points.append((step, (program, k, step.random.choice(["", "+"]))))
wrong, struck = 0, dict.fromkeys(PROGRAMS, 0)
with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for (step, point), (problems, hit) in zip(points, pool.map(lambda p: try_point(*p[1]), points)):
        struck[point[0]] += hit
        wrong += bool(problems)
        if problems:
            ok(False, "allocation " + " ".join(map(str, point)), *problems[:40], step.replay())
ok(any(struck.values()) and not wrong, f"{sum(struck.values())} failing allocations")
figure("failing allocations", ", ".join(f"{n} in {name}" for name, n in struck.items()) +
       f" (of {sum(counts.values())}), {wrong} with a crash or something lost")
done()
