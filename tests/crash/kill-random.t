#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGKILL of random processes of the family while documents keep arriving; a supervisor that was killed
is started again. In every other step two runs share the spool.

A step is a spool of its own with KILLS kills. What the recognisers answered is counted by the system
(one write an answer), so it is known how many pages were read in vain: no more than a recogniser had in
hand when it or its supervisor was killed."""

import io
import os
import shutil
import signal
import sys
import time
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import Steps, figure
from promises import Drop, Verdict, book, interrupted, settled, spool_with

KILLS, JOBS, WINDOW, PAGES_MAX = 10, 2, 4, 40
RECOGNISER = "null-recogniser"
# A sound document fails when it was killed for twice, or when five runs died over it.
MAY_FAIL = ("decoder-crash", "writer", "recogniser-crash", "too-many-attempts")


def archive(words):
    members, data = {}, io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        for n in range(1, 4):
            drop = members[f"{n:04}-{n}.pdf"] = book(f"{words} member {n}", n)
            packed.writestr(f"{n}.pdf", drop.data)
    return Drop(data.getvalue(), members=members)


def reaches(pid, states):
    """Does it come into one of these states of /proc/PID/stat, or go?"""
    def is_there():
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[0] in states
        except OSError:
            return True
    return bool(wait_for(is_there, 10, step=0.001))


def halt(pid):
    """Stop it; true when it stands still. One that waits for a processor may be in the middle of a write, and
    stops behind it."""
    return kill(pid, signal.SIGSTOP) and reaches(pid, "TZX")


class Family:
    """The runs on one spool, what they read, and who of them dies."""

    def __init__(self, spool, random, runs):
        self.spool, self.random = spool, random
        self.answers = {}  # of each recogniser, by pid and time of its start
        self.in_hand = 0   # pages that recognisers may have had in hand when somebody was killed
        self.runs = [self.begin() for _ in range(runs)]

    def begin(self, *arguments):
        return self.spool.start("-q", "-j", str(JOBS), *arguments)

    def count(self):
        """Note what each living recogniser has answered. The first line it wrote says who it is."""
        for run in self.runs:
            for pid in children(run.pid, RECOGNISER):
                try:
                    fields = pathlib.Path(f"/proc/{pid}/io").read_text().split()
                    born = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[19]
                except OSError:
                    continue
                self.answers[pid, born] = max(self.answers.get((pid, born), 0),
                                              int(fields[fields.index("syscw:") + 1]) - 1)

    def kill(self):
        """One process, whichever. True when it was a supervisor, which is started again."""
        run = self.random.choice(self.runs)
        stopped = [run.pid] if halt(run.pid) else []  # first: it starts no other recogniser, and sends no page, then
        victim = self.random.choice([run.pid, *children(run.pid)])
        recognisers = children(run.pid, RECOGNISER)
        stopped += [pid for pid in recognisers if halt(pid)]
        self.count()
        dying = recognisers if victim == run.pid else [*children(victim, RECOGNISER), victim]
        self.in_hand += WINDOW * len(set(dying) & set(recognisers))
        kill(victim)
        reaches(victim, "ZX")  # a keeper takes its recogniser along, which answers no more when it goes on
        for pid in stopped:
            kill(pid, signal.SIGCONT)
        if victim != run.pid:
            return False
        run.wait()
        return True

    def restart(self):
        self.runs = [run if run.poll() is None else self.begin() for run in self.runs]

    def wait(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.count()
            time.sleep(0.01)

    def finish(self):
        """All but a last run that ends when all is done are killed; its problems. Who reads what is left keeps
        its recognisers until they have been counted: a run with --once may end between two looks."""
        while self.runs:
            self.random.shuffle(self.runs)
            halt(self.runs[0].pid)
            for pid in children(self.runs[0].pid, RECOGNISER):
                self.in_hand += WINDOW * halt(pid)
            self.count()
            kill(self.runs[0].pid)
            self.runs.pop(0).wait()
        self.runs = [self.begin()]
        wait_for(lambda: self.count() or not self.spool.tokens() and not self.spool.left(), 60)
        self.count()
        self.runs[0].terminate()
        self.runs[0].wait(30)
        last = self.begin("--once")
        self.runs = [last]
        until = time.monotonic() + 60
        while last.poll() is None and time.monotonic() < until:
            self.wait(0.01)
        return [] if last.poll() in (0, 1) else [
            f"the last run ends with {last.poll()}", last.stderr.read().decode() if last.poll() else ""]


def arrive(spool, drops, random, serial):
    """A few documents are moved into in/."""
    for n in range(random.randrange(4)):
        name = f"null/{serial:03}-{n}"
        drop = drops[name] = archive(name) if random.random() < 0.2 else book(
            name, random.randrange(1, PAGES_MAX + 1))
        spool.drop(drop.data, ".arriving")
        os.rename(spool.root / "in" / ".arriving", spool.root / "in" / "null" / f"{serial:03}-{n}")


def run_step(step):
    drops = {}
    spool = spool_with(drops, "--delay-ms", "5", "--window", str(WINDOW),
                       config="rescan_seconds: 1\nlease_seconds: 3\n")
    (spool.root / "in" / "null").mkdir()
    family = Family(spool, step.random, 1 + step.number % 2)
    found = []
    for serial in range(KILLS):
        arrive(spool, drops, step.random, serial)
        family.wait(step.random.random() * 0.4)
        if family.kill() and len(family.runs) == 1:
            found += interrupted(spool, drops)
        family.restart()
    found += family.finish()
    verdict = settled(spool, drops, may_fail=MAY_FAIL)
    found += verdict.problems
    # A page that was given up, because its decoder was killed too often, has no answer.
    in_vain = sum(family.answers.values()) - (verdict.pages - verdict.pages_not_ok)
    # All that was read of documents that were given up is in vain.
    allowed = family.in_hand + PAGES_MAX * len(verdict.given_up)
    if not 0 <= in_vain <= allowed:
        found.append(f"{in_vain} pages read in vain, allowed are 0 to {allowed}")
    if not found:
        shutil.rmtree(spool.path)
    return found, verdict, in_vain, allowed


steps, total, in_vain, in_hand = Steps(fast=4, full=100), Verdict(), 0, 0
for step in steps:
    found, verdict, wasted, allowed = run_step(step)
    total.add(verdict)
    in_vain, in_hand = in_vain + wasted, in_hand + allowed
    ok(not found, f"step {step.number}: {verdict}, {wasted} of {allowed} in hand read in vain", *found,
       step.replay())
kills = KILLS * steps.count
figure("kills of random processes", f"{kills}: {total}, {in_vain} pages read in vain of {in_hand} in hand, "
       f"{len(total.given_up)} documents and {total.pages_not_ok} pages given up, killed too often")
done()
