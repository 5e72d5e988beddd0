#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two runs share a spool, and one of them is stopped for longer than its lease: the other takes its
documents over. When it goes on it must not commit anything of what is no longer its own: it ends, and
nothing is doubled, lost or torn. Documents that arrive meanwhile are read, at the latest when it has
ended (it may have been the one that admits).

Three kinds of steps in turn: a run stopped at one call of its commit path (kill-at.c); a run stopped at
any time, its children with it or not; a single child, whose run lives and keeps its documents."""

import concurrent.futures
import os
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import Steps, figure
from promises import Verdict, book, recover, settled, spool_with

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the leak check at a process's end does not work while it is traced")

KILL_AT = BUILD / "tests" / "tools" / "kill-at"
COMMIT = "renameat,renameat2,linkat,unlinkat,mkdirat,fsync,ftruncate,write"
START = 27  # calls until a run has its lease, the last of them its rename
LEASE = 3  # seconds, as short as it may be
FENCED = 75


class Two:
    """Two runs on a spool, and documents that arrive."""

    def __init__(self, step):
        self.random, self.drops = step.random, {}
        self.spool = spool_with({}, "--delay-ms", "10",
                                config=f"rescan_seconds: 1\nlease_seconds: {LEASE}\n")
        (self.spool.root / "in" / "null").mkdir()
        self.runs = []

    def arrive(self, documents):
        for n in range(documents):
            name = f"{len(self.drops):03}.pdf"
            drop = self.drops[f"null/{name}"] = book(f"Note {name}", self.random.randrange(1, 9))
            self.spool.drop(drop.data, ".arriving")
            os.rename(self.spool.root / "in" / ".arriving", self.spool.root / "in" / "null" / name)

    def start(self, *before, **options):
        run = subprocess.Popen([*before, CLOISTER, "run", self.spool.root, "-q", "-j", "1"],
                               stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
        atexit.register(lambda: run.poll() is None and run.kill())
        self.runs.append(run)
        return run

    def evicted(self, pid):
        """The other run has found this one dead, and read all that was admitted. Problems."""
        gone = wait_for(lambda: not list((self.spool.root / "state" / "active").glob(f"*.{pid}.*"))
                        and not self.spool.tokens(), 40, 0.1)
        return [] if gone else ["the other run does not take over", *self.spool.tokens()]

    def all_read(self):
        done = wait_for(lambda: not self.spool.left() and not self.spool.tokens(), 30, 0.1)
        return [] if done else ["not all is read", *self.spool.left(), *self.spool.tokens()]

    def finish(self):
        """Problems, and a Verdict."""
        for run in self.runs:
            if run.poll() is None:
                run.terminate()
        found = [f"a run ended with {run.returncode}: {run.stderr.read()}" for run in self.runs
                 if run.wait(30) not in (0, 1, FENCED, 128 + signal.SIGTERM)]
        found += recover(self.spool)
        verdict = settled(self.spool, self.drops)
        if verdict.pages_not_ok:
            found.append(f"{verdict.pages_not_ok} pages are not ok")
        return found + verdict.problems, verdict


def go_on(run, stopped):
    """The zombie goes on, and ends by itself. Problems."""
    for pid in stopped:
        kill(pid, signal.SIGCONT)
    try:
        return [] if run.wait(LEASE + 7) == FENCED else [f"the zombie ended with {run.returncode}"]
    except subprocess.TimeoutExpired:
        return ["the zombie lives on"]


def at_a_call(two):
    """Stopped after one call of the commit path."""
    two.arrive(3)
    k = two.random.randrange(START, START + 160)
    while True:
        zombie = two.start(KILL_AT, "--stop", "self", COMMIT, str(k), stdout=subprocess.PIPE)
        where = zombie.stdout.readline().strip()
        if not where.startswith("stopped"):
            return [f"call {k}: {where}"]
        pid = children(zombie.pid)[0]
        if list((two.spool.root / "state" / "active").glob(f"[!.]*.{pid}.*")):
            break
        # It has no lease yet: it looks at the pages of each other run on this machine first, a call each.
        two.runs.remove(zombie)
        kill(pid)
        zombie.wait(30)
        k += 1
    two.start()
    two.arrive(1)
    found = two.evicted(pid) + go_on(zombie, [pid]) + two.all_read()
    return [f"call {k}, {where}: {problem}" for problem in found]


def at_any_time(two):
    """A whole run, or its supervisor alone."""
    zombie = two.start()
    two.start()
    two.arrive(8)
    wait_for(lambda: two.spool.results(), 10)
    time.sleep(two.random.random() * 0.3)
    stopped = [zombie.pid, *(children(zombie.pid) if two.random.random() < 0.5 else ())]
    stopped = [pid for pid in stopped if kill(pid, signal.SIGSTOP)]
    two.arrive(4)
    return two.evicted(zombie.pid) + go_on(zombie, stopped) + two.all_read()


def single_child(two):
    run, other = two.start(), two.start()
    two.arrive(8)
    wait_for(lambda: two.spool.results(), 10)
    kids = children(run.pid) + children(other.pid)
    stopped = two.random.choice(kids or [0])
    if not stopped or not kill(stopped, signal.SIGSTOP):
        return two.all_read()  # all was read before one could be caught
    two.arrive(4)
    time.sleep(LEASE * 1.5)
    kill(stopped, signal.SIGCONT)
    found = two.all_read()
    if run.poll() is not None or other.poll() is not None:
        found.append("a run ended of which one child was stopped")
    return found


def run_step(step):
    two = Two(step)
    kind = (at_a_call, at_any_time, single_child)[step.number % 3]
    found = kind(two)
    problems_after, verdict = two.finish()
    found += problems_after
    if not found:
        shutil.rmtree(two.spool.path)
    return kind, found, verdict


steps, total, zombies = Steps(fast=9, full=150), Verdict(), 0
with concurrent.futures.ThreadPoolExecutor(9) as pool:  # most of the time they wait
    for step, (kind, found, verdict) in zip(steps, pool.map(run_step, steps)):
        total.add(verdict)
        zombies += kind is not single_child and not found
        ok(not found, f"step {step.number}, {kind.__name__.replace('_', ' ')}: {verdict}", *found,
           step.replay())
figure("runs that outlived their lease", f"{zombies} fenced; {total}")
done()
