#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGKILL at the system calls of each program of the family, one after the other. When it was the
supervisor, the next run puts right whatever was begun; when it was a child, this very run does.

A step is SCENARIO:TARGET:CALLS:K, the last three as kill-at.c has them. Full: every call of every
program by which it changes what another process, or the next run, can see, and a sample of the others,
while an archive, a document with a ticket that is damaged, one without a pipeline and one that is sound
are read. Between two such calls one moment to die is like the next: a death closes, unlocks and frees by
itself. CLOISTER_TEST_EVERY_CALL=1 takes each all the same. Fast: every call of the commit path for one page,
and a sample of the others."""

import concurrent.futures
import io
import itertools
import os
import random
import shutil
import subprocess
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Steps, figure
from promises import Drop, Verdict, book, interrupted, recover, settled, spool_with

KILL_AT = BUILD / "tests" / "tools" / "kill-at"
CALLS = {"all": "all",
         "seen": "renameat,renameat2,linkat,symlinkat,unlinkat,mkdirat,creat,ftruncate,fallocate,write,writev,"
                 "pwrite64,sendto,sendmsg,copy_file_range,fsync,fdatasync,utimensat,fchmod,fchown,flock,fcntl,"
                 "clone,clone3,vfork,execve,kill,pidfd_send_signal,exit_group",
         "commit": "renameat,renameat2,linkat,unlinkat,mkdirat,fsync,ftruncate,write",
         "move": "renameat2"}
CHILDREN = ("fork", "cloister-decode+--slots", "cloister-decode+--unpack", "cloister-tesseract",
            "cloister-write")
ASIDES = ("cloister-decode+--figures", "cloister-decode+--html", "cloister-write", "self")  # where a page has a picture
FIGURE = '<div data-bbox="[0,0,512,512]" data-label="Figure"></div>'
EVERY_CALL = bool(os.environ.get("CLOISTER_TEST_EVERY_CALL"))
SAMPLE = 4  # of each child, in the fast set
SAMPLE_FULL = 60
SUPERVISOR_SAMPLE = 25
MORE = 8  # the supervisor's turns, and with them its calls, are not the same in every run

member, store = book("Member", 1), io.BytesIO()
with zipfile.ZipFile(store, "w") as archive:
    archive.writestr("a/note.pdf", member.data)
    archive.writestr("b/words.txt", b"words")
ALL = {"null/sub/book.pdf": book("Book", 2), "null/bad.pdf": Drop(b"%PDF-1.4 nonsense", 0),
       "nosuch/none.pdf": Drop(b"no pipeline", 0),
       "null/store.zip": Drop(store.getvalue(), members={
           "0001-note.pdf": member, "0002-words.txt": Drop(b"words", 0)})}
SCENARIOS = {"page": {"null/page.pdf": book("Page", 1)}, "all": ALL,
             "figures": {"null/page.pdf": Drop(book("Page", 1).data, 1)}}


def kill_at(spool, target, calls, k):
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}  # it cannot be traced twice
    command = [KILL_AT, target, CALLS[calls], str(k), CLOISTER, "run", spool.root, "--once", "-q",
               "-j", "1"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
                          env=environment)


def new_spool(scenario, target):
    """A spool and what was dropped into it."""
    drops = SCENARIOS[scenario]
    spool = spool_with(drops)
    if scenario == "all":
        spool.drop(b"priority: 7\n", "null/bad.pdf.cloister.yaml")
    if scenario == "figures":
        spool.null_pipeline("null", "--layout", FIGURE, more="dpi: 72\noutputs: [text.md, pages.jsonl, document.html]\n")
    if target == "cloister-tesseract":
        spool.pipeline("null", "dpi: 72\nrotate: none\n")
        drops = {name: Drop(drop.data, drop.pages, members=drop.members and {
            name: Drop(inner.data, inner.pages) for name, inner in drop.members.items()})
            for name, drop in drops.items()}  # what it reads at 72 dpi is no matter
    return spool, drops


def files(spool):
    """Names of all files that a user, or the next run, would see."""
    return sorted(str(path.relative_to(spool.root)) for path in spool.root.rglob("*")
                  if not path.is_dir() and path.name != "index")


def count(scenario, target, calls):
    """How many there are in an undisturbed run."""
    spool, drops = new_spool(scenario, target)
    run = kill_at(spool, target, calls, 0)
    if "may not trace" in run.stderr:
        skip_all("processes may not be traced here")
    verdict = settled(spool, drops)
    problems(verdict.problems + ([] if run.returncode in (0, 1) else [run.stderr]),
             f"{scenario}: a run undisturbed, {target} watched")
    FILES[scenario] = files(spool)
    shutil.rmtree(spool.path)
    return len(run.stdout.splitlines()) - 1


def kill(name):
    """One step: problems, Verdict, whether there was such a call."""
    scenario, target, calls, k = name.split(":")
    spool, drops = new_spool(scenario, target)
    run = kill_at(spool, target, calls, k)
    killed = run.stdout.startswith("killed")
    found = []
    if target == "self" and killed:
        found = interrupted(spool, drops) + recover(spool, "-j", "1")
    elif run.returncode not in (0, 1):
        found = [f"the run ends with {run.returncode}", *run.stderr.splitlines()[-5:]]
    verdict = settled(spool, drops)
    found += verdict.problems
    if verdict.pages_not_ok:
        found.append(f"{verdict.pages_not_ok} pages are not ok")
    if scenario in FILES and files(spool) != FILES[scenario]:
        found.append(f"files are {sorted(set(files(spool)) ^ set(FILES[scenario]))} more or less")
    if not found:
        shutil.rmtree(spool.path)
    return found, verdict, run.stdout.splitlines()[0] if killed else ""


def names(scenario, target, calls, sample=None):
    """Of all steps, or of a sample."""
    last = count(scenario, target, calls)
    if sample is None:
        return [f"{scenario}:{target}:{calls}:{k + 1}" for k in range(last + MORE * FULL)]
    return [f"{scenario}:{target}:{calls}:{k + 1}" for k in random.Random(target).sample(
        range(last), min(sample, last))]


def every_step():
    """Replaying one step, nothing has to be counted."""
    if "--step" in sys.argv:
        return []
    if FULL:
        pairs = [("all", target) for target in ("self", *CHILDREN)] + [("figures", target) for target in ASIDES]
        if EVERY_CALL:
            return [name for pair in pairs for name in names(*pair, "all")]
        return [name for pair in pairs for name in names(*pair, "seen") + names(*pair, "all", SAMPLE_FULL)]
    sampled = [name for target in CHILDREN for name in names("all", target, "all", SAMPLE)] + \
        [name for target in ASIDES for name in names("figures", target, "all", SAMPLE)]
    return sampled + names("page", "self", "commit") + names("all", "self", "all", SUPERVISOR_SAMPLE)


FILES = {}
every = every_step()
steps = Steps(fast=every, full=every)
total, kills = Verdict(), 0
# A document whose child was killed waits a second for its next attempt.
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    done_steps = zip(steps, pool.map(kill, [step.number for step in steps]))
    for target, group in itertools.groupby(done_steps, lambda one: one[0].number.rsplit(":", 1)[0]):
        wrong, made = [], 0
        for step, (found, verdict, killed) in group:
            made += bool(killed)
            total.add(verdict)
            if found:
                wrong += [f"{step.number}: {killed or 'not killed'}", *found, step.replay()]
        ok(made and not wrong, f"{target}: {made} kills", *wrong)
        kills += made

# A power cut may take the content of a token along that had not reached the disk: what has been
# published under it is found all the same.
spool, drops = new_spool("page", "self")
for k in range(1, 20):
    kill_at(spool, "self", "move", k)
    if spool.result("null/page.pdf"):
        break
tokens = spool.tokens()
same((len(tokens), spool.left()), (1, ["null/page.pdf"]),
     "killed between a result and the move of its original")
for token in tokens:
    os.truncate(spool.root / "state" / token, 0)
problems(recover(spool) + settled(spool, drops).problems, "the token torn: no second result")
figure("kills at a system call", f"{kills}: {total}")
done()
