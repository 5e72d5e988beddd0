#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Originals on mounts of their own beneath in/, that nobody can move: each is read once, its result is
in out/ or its reason in failed/, and it is taken in again when it was changed or is retried."""

import concurrent.futures
import ctypes
import os
import random
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import Steps, figure
from images import enter_namespace
from promises import Drop, book, interrupted, recover, settled, spool_with

missing = enter_namespace()
if missing:
    skip_all(missing)
# What root starts from here on may not read files that are closed to it, as any other user.
libc = ctypes.CDLL(None)
if libc.prctl(24, 1) or libc.prctl(24, 2):  # PR_CAPBSET_DROP: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    skip_all("capabilities cannot be dropped")

KILL_AT = BUILD / "tests" / "tools" / "kill-at"
COMMIT = "renameat,renameat2,linkat,unlinkat,mkdirat,fsync,ftruncate,write"
GOOD, OTHER = book("Good", 2), book("Other", 1)
DROPS = {"null/fixed/good.pdf": GOOD, "null/fixed/sub/bad.pdf": Drop(b"%PDF-1.4 nonsense", 0),
         "null/fixed/what.bin": Drop(bytes(range(256)), 0), "null/fixed/none.pdf": Drop(b"", 0),
         "null/fixed/locked.pdf": Drop(b"%PDF-1.4 locked", 0),
         "null/single.pdf": Drop(b"%PDF-1.4 alone", 0), "nosuch/fixed/lost.pdf": Drop(b"lost", 0)}
LINK = {"null/fixed/link.pdf": Drop(GOOD.data, 0)}
FAILED = 7


def mount(source, target, *options):
    subprocess.run(["mount", "--bind", source, target], check=True)
    atexit.register(subprocess.run, ["umount", "-l", target], stderr=subprocess.DEVNULL)
    if options:
        subprocess.run(["mount", "-o", "remount,bind," + ",".join(options), target], check=True)


def new_spool(drops, policy, *options, config=""):
    """A spool whose drops lie in SPOOL.path/source: each folder "fixed" is mounted whole, other files
    one by one."""
    spool = spool_with({}, config=config)
    spool.null_pipeline("null", more=f"dpi: 72\noriginals: {policy}\n")
    spool.source = spool.path / "source"
    for name, drop in drops.items():
        put(spool, name, drop.data)
    (spool.source / "null" / "fixed").mkdir(parents=True, exist_ok=True)
    if (spool.source / "null/fixed/locked.pdf").exists():
        (spool.source / "null/fixed/locked.pdf").chmod(0)
    if LINK.items() <= drops.items():
        (spool.source / "null/fixed/link.pdf").unlink()
        (spool.source / "null/fixed/link.pdf").symlink_to("good.pdf")
    for path in sorted(spool.source.glob("*/*")):
        target = spool.root / "in" / path.relative_to(spool.source)
        target.parent.mkdir(exist_ok=True)
        target.mkdir() if path.is_dir() else target.touch()
        mount(path, target, *options)
    return spool


def put(spool, name, data):
    path = spool.source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    spool.old = getattr(spool, "old", time.time() - 100) + 1
    os.utime(path, (spool.old, spool.old))


def reasons(spool):
    """Of each failure its reason and when it was written."""
    found = {}
    for path in (spool.root / "failed").rglob("*.why.json"):
        name = str(path.relative_to(spool.root / "failed")).removesuffix(".why.json")
        found[name] = (spool.why(name)["reason"], path.stat().st_mtime_ns)
    return found


def finished(spool):
    return reasons(spool), {name: result.document["key"] for name, result in spool.results().items()}


def nothing_to_do(spool, name):
    before = finished(spool)
    run = spool.run("-q")
    same((run.returncode, finished(spool), spool.tokens()), (0, before, []), name)


# Read-only, as in a container: all of it ends in out/ or failed/.
spool = new_spool({**DROPS, **LINK}, "keep", "ro")
run = spool.run("-q")
same(run.returncode, 1, "a run that meets damaged originals it may not move: done, some failed")
problems(settled(spool, {**DROPS, **LINK}, originals="keep").problems, "all are in out/ or failed/")
same(len(reasons(spool)), FAILED, f"{FAILED} reasons")
same(spool.files("failed"), sorted(f"{name}.why.json" for name in reasons(spool)),
     "and nothing but reasons in failed/")
same({name.rsplit("/")[-1]: reason for name, (reason, when) in reasons(spool).items()},
     {"bad.pdf": "damaged", "what.bin": "unknown-type", "none.pdf": "empty", "locked.pdf": "unreadable",
      "link.pdf": "not-a-regular-file", "single.pdf": "damaged", "lost.pdf": "unknown-pipeline"},
     "each its own")
original = spool.why("null/fixed/sub/bad.pdf")["original"]
same((original["in"], original["stays"]), ("null/fixed/sub/bad.pdf", "Invalid cross-device link"),
     "a reason says where the original stays, and why")
same(spool.why("null/single.pdf")["original"]["stays"], "Device or resource busy",
     "so does that of a file which is a mount itself")
listed = [json.loads(line) for line in spool.command("ls", "--json").out.splitlines()]
same(sorted((d["path"], d["state"]) for d in listed),
     sorted([("null/fixed/good.pdf", "done"), *((name, "failed") for name in reasons(spool))]),
     "ls: each once, failed or done")
same(len(spool.command("ls", "--state", "failed").out.splitlines()), FAILED, "ls --state failed")
shown = spool.command("show", "null/fixed/sub/bad.pdf").out
ok("null/fixed/sub/bad.pdf\n  because     Invalid" in shown, "show: that it stays, and why", shown)
status = json.loads((spool.root / "state" / "status.json").read_text())["documents"]
same((status["done"], status["failed"]), (1, FAILED), "status.json counts them")
ok(f'cloister_documents_finished_total{{result="failed"}} {FAILED}' in
   (spool.root / "state" / "cloister.prom").read_text(), "so do the metrics")
nothing_to_do(spool, "the next run leaves them alone")
(spool.root / "state" / "index").unlink()
nothing_to_do(spool, "and so does one without the index")

# Changed: taken in again, and the reason goes.
put(spool, "null/fixed/sub/bad.pdf", OTHER.data)
put(spool, "null/fixed/what.bin", b"still nothing")
put(spool, "null/fixed/good.pdf", b"%PDF-1.4 broken now")
before = reasons(spool)
same(spool.run("-q").returncode, 1, "two were changed and fail")
after = reasons(spool)
same({name for name in after if after[name] != before.get(name)},
     {"null/fixed/what.bin", "null/fixed/good.pdf"}, "these have a new reason, and no others")
same((spool.result("null/fixed/sub/bad.pdf").states(), "null/fixed/sub/bad.pdf" in after),
     (["ok"], False), "one was changed and is read: it has its result and no reason")
nothing_to_do(spool, "afterwards they are left alone")

# What it was read with was changed.
spool.null_pipeline("nosuch", more="originals: keep\ndpi: 72\n")
same(spool.run("-q").returncode, 1, "the pipeline is there now: it is read, and fails")
same(spool.why("nosuch/fixed/lost.pdf")["reason"], "unknown-type", "for another reason")
nothing_to_do(spool, "and that only once")

# Retried, while nothing runs and while a run goes on.
before = reasons(spool)
retried = spool.command("retry", "null/fixed/none.pdf")
same((retried.returncode, "null/fixed/none.pdf" in reasons(spool), spool.tokens()), (0, False, []),
     "retry: its reason is gone")
same([line.split()[0] for line in spool.command("ls").out.splitlines() if "none.pdf" in line],
     ["waiting"], "it waits")
same(spool.run("-q").returncode, 1, "it is read again")
ok(before["null/fixed/none.pdf"] < reasons(spool)["null/fixed/none.pdf"], "and has failed again")
spool.configure("settle_seconds: 0\nrescan_seconds: 1\n")
before = finished(spool)
run = spool.start("-q")
wait_for(lambda: "running" in spool.command("status").out)
time.sleep(2.5)
same(finished(spool), before, "a run that goes on leaves them alone at each look")
same(spool.command("retry", "null/fixed/none.pdf").returncode, 0, "retry beside it")
ok(wait_for(lambda: reasons(spool).get("null/fixed/none.pdf", before[0]["null/fixed/none.pdf"]) >
            before[0]["null/fixed/none.pdf"], 20), "it is read again by that run")
run.send_signal(signal.SIGTERM)
run.wait(30)
(spool.source / "null/fixed/none.pdf").unlink()
gone = spool.command("retry", "null/fixed/none.pdf")
ok(gone.returncode == 1 and "gone from in/" in gone.err, "retry says when the original is gone",
   gone.err)

# Other policies: results are not made again and again, and the original is moved once it can be.
for policy in ("move", "delete"):
    for options in ((), ("ro",)):
        where = f"originals: {policy}, mounted {'read-only' if options else 'to be written'}"
        spool = new_spool({"null/fixed/good.pdf": GOOD}, policy, *options)
        run = spool.run("-q")
        result = spool.result("null/fixed/good.pdf")
        same((run.returncode, result and result.states()), (0, ["ok", "ok"]), f"{where}: it is read")
        if policy == "delete" and not options:
            same(spool.left(), [], f"{where}: and removed")
            continue
        same(spool.left(), ["null/fixed/good.pdf"], f"{where}: the original stays")
        nothing_to_do(spool, f"{where}: it is not read again")
        (spool.root / "state" / "index").unlink()
        nothing_to_do(spool, f"{where}: nor without the index")
        subprocess.run(["umount", spool.root / "in/null/fixed"], check=True)
        shutil.move(spool.source / "null/fixed/good.pdf", spool.root / "in/null/fixed")
        nothing_to_do(spool, f"{where}: nor when it can be moved")
        same((spool.left(), spool.files("done")),
             ([], ["null/fixed/good.pdf"] if policy == "move" else []), f"{where}: then it is moved")

# Killed at calls that write: the next run puts it right.
CHOSEN = {"null/fixed/sub/bad.pdf": DROPS["null/fixed/sub/bad.pdf"], "null/fixed/good.pdf": GOOD, **LINK}


def kill_at(spool, k):
    return subprocess.run([KILL_AT, "self", COMMIT, str(k), CLOISTER, "run", spool.root, "--once", "-q",
                           "-j", "1"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=100, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"})


def kill(step):
    spool = new_spool(CHOSEN, "keep", "ro")
    killed = kill_at(spool, step.number).stdout.startswith("killed")
    found = interrupted(spool, {}) + recover(spool, "-j", "1")
    found += settled(spool, CHOSEN, originals="keep").problems
    before = finished(spool)
    if spool.run("-q").returncode or finished(spool) != before:
        found.append("the run after that has read again")
    return killed, [f"{step.number}: {problem}" for problem in found] + [step.replay()] * bool(found)


counted = kill_at(new_spool(CHOSEN, "keep", "ro"), 0)
if "may not trace" in counted.stderr:
    skip("killed at calls that write", "processes may not be traced here")
    done()
calls = range(1, len(counted.stdout.splitlines()))
steps = Steps(fast=random.Random(1).sample(calls, 16), full=calls)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    outcomes = list(pool.map(kill, steps))
kills = sum(killed for killed, found in outcomes)
problems([line for killed, found in outcomes for line in found], "killed: it ends the same")
ok(kills, f"{kills} kills")
figure("kills at a call, originals that stay",
       f"{kills} of {len(calls)} calls, {sum(bool(found) for killed, found in outcomes)} wrong")
done()
