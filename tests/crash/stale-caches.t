#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two machines share a spool over a file system that keeps stale copies, as NFS does: each sees it
through a FUSE mount of its own that believes names, missing names and attributes for CACHE seconds,
tells nothing of what happens on the other side, and has locks that the other does not know.

A machine has its own mount, network, process and host name spaces; killed, all of it is gone at once.
Documents arrive through either side while runs and whole machines are killed, and runs are stopped for
longer than a lease and go on: nothing is lost, doubled or torn."""

import atexit
import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Steps, figure
from promises import Drop, Verdict, recover, settled
import pdf

CACHE, LEASE = 1, 4
HIDDEN = ".fuse_hidden"  # removed while open; what a mount that was killed left, as .nfs* of NFS
DOCUMENTS = 100 if FULL else 24
KILLS = (["run"] * 12 + ["machine"] * 4 + ["zombie"] * 4) if FULL else ["run", "machine", "zombie"]
# A document may have been in the hands of one run after the other that was killed.
MAY_FAIL = ("too-many-attempts",) if FULL else ()
OPTIONS = ",".join(f"{name}_timeout={CACHE}" for name in ("attr", "entry", "negative", "ac_attr"))
BOOT = 'hostname "$1" && bindfs -o "$2" "$3" "$4" && : > "$5" && exec sleep infinity'


class Machine:
    def __init__(self, spool, name):
        self.spool, self.name, self.run, self.view = spool, name, None, spool.path / "view"
        self.view.mkdir(exist_ok=True)
        self.boot()

    def boot(self):
        up = self.spool.path / f"{self.name}.up"
        up.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", BOOT, "sh", self.name, OPTIONS, self.spool.root, self.view, up],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        atexit.register(self.die)
        if not wait_for(lambda: up.exists() or self.process.poll() is not None, 10) or not up.exists():
            self.die()
            skip_all("needs root, bindfs and /dev/fuse: "
                     + self.process.stderr.read().decode(errors="replace").strip()[-100:])
        self.init = children(self.process.pid)[0]

    def start(self, *arguments):
        self.run = subprocess.Popen(
            ["nsenter", "-t", str(self.init), "-m", "-n", "-p", "-u", CLOISTER, "run", self.view, "-j",
             "1", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(self.spool.path / "log", "a"))
        wait_for(lambda: self.runs() or self.run.poll() is not None, 60)

    def runs(self):
        """The supervisor, as seen from here."""
        found = children(self.run.pid, "cloister")
        return [pid for pid in found if not set(found) & {_parent(pid)}]

    def end(self, number=signal.SIGKILL):
        for pid in self.runs():
            kill(pid, number)
        return self.run.wait(60)

    def die(self):
        """All at once, as when the plug is pulled."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.run:
            self.run.wait(60)

    def inside(self, path):
        return pathlib.Path(f"/proc/{self.init}/root{path}")


def _parent(pid):
    try:
        return int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def document(step, number):
    if number % 12 == 7:
        return f"null/{number}.pdf", Drop(b"%%PDF-1.4 %d %d" % (step.number, number), pages=0)
    if number % 12 == 3:
        members, store = [Drop(b"P5 40 30 255\n" + step.random.randbytes(1200), pages=1)
                          for _ in range(3)], io.BytesIO()
        with zipfile.ZipFile(store, "w") as archive:
            for n, member in enumerate(members):
                archive.writestr(f"{n}.pnm", member.data)
        return f"null/{number}.zip", Drop(store.getvalue(), members={
            f"{n + 1:04}-{n}.pnm": member for n, member in enumerate(members)})
    pages = 1 + number % 4
    text = b"Step %d note %d" % (step.number, number)
    return f"null/{number}.pdf", Drop(pdf.build(pdf.pages([pdf.text(text)] * pages)), pages=pages)


def arrive(machine, name, drop, renamed):
    target = machine.inside(machine.view / "in" / name)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part") if renamed else target
    part.write_bytes(drop.data)
    if renamed:
        part.rename(target)


def disturb(machines, what, random, counts):
    """Kill a run, or a machine, or stop a run until everybody must take it for dead."""
    machine = random.choice(machines)
    counts[what] += 1
    if what == "machine":
        machine.die()
        machine.boot()
    elif what == "zombie":
        stopped = machine.runs()
        for pid in stopped:
            kill(pid, signal.SIGSTOP)
        time.sleep(LEASE * 1.6)
        for pid in [*stopped, machine.run.pid]:  # nsenter stops with what it has started
            kill(pid, signal.SIGCONT)
        if wait_for(lambda: machine.run.poll() is not None, LEASE):
            counts["evicted"] += machine.run.returncode == 75
        else:
            return
    else:
        machine.end()
    time.sleep(random.random())
    machine.start("-q")


def play(step, total, counts):
    spool = Spool()
    spool.configure(f"settle_seconds: 2\nrescan_seconds: 1\nlease_seconds: {LEASE}\n")
    spool.null_pipeline("null", "--delay-ms", "60", "--window", "1", more="dpi: 72\n")
    machines, drops = [Machine(spool, f"m{n}") for n in (1, 2)], {}
    for machine in machines:
        machine.start("-q")
    kills = step.random.sample(range(DOCUMENTS), len(KILLS))
    kinds = step.random.sample(KILLS, len(KILLS))
    for number in range(DOCUMENTS):
        name, drop = document(step, number)
        drops[name] = drop
        arrive(step.random.choice(machines), name, drop, step.random.random() < 0.5)
        if number in kills:
            disturb(machines, kinds.pop(), step.random, counts)
        time.sleep(step.random.random() * 0.2)
    begun = time.monotonic()
    wait_for(lambda: not [path for path in spool.left() if HIDDEN not in path] and not spool.tokens(),
             120, 0.2)
    print(f"# step {step.number}: all read {time.monotonic() - begun:.0f} s after the last arrival")
    # A worker that died with its machine is only known to be dead when its lease has run out.
    wait_for(lambda: not os.listdir(spool.root / "state" / "tmp"), 3 * LEASE, 0.2)
    found = []
    for machine in machines:  # one that was evicted as a zombie has ended with 75
        code = machine.end(signal.SIGTERM)
        if code not in (75, 143):
            found.append(f"{machine.name} ends with {code}")
    found += recover(spool)
    for machine in machines:
        machine.die()
    for path in spool.root.rglob(HIDDEN + "*"):
        path.unlink()
    verdict = settled(spool, drops, may_fail=MAY_FAIL)
    total.add(verdict)
    if found or verdict.problems:
        found = [step.replay(), *found, *verdict.problems[:20],
                 *(spool.path / "log").read_text(errors="replace").splitlines()[-30:]]
    problems(found, f"step {step.number}: {DOCUMENTS} documents through either side, {len(KILLS)} kills")
    shutil.rmtree(spool.path, ignore_errors=True)


for tool in ("bindfs", "unshare", "nsenter"):
    if not shutil.which(tool):
        skip_all(f"{tool} is missing: install bindfs and util-linux")
if os.geteuid() or not os.path.exists("/dev/fuse"):
    skip_all("needs root and /dev/fuse")
total, counts = Verdict(), {"run": 0, "machine": 0, "zombie": 0, "evicted": 0}
for step in Steps(fast=1, full=3):
    play(step, total, counts)
figure("two machines, stale caches", f"{total}, {len(total.given_up)} given up; {counts['run']} runs and {counts['machine']} machines "
       f"killed, {counts['zombie']} runs stopped for {1.6 * LEASE:.0f} s, {counts['evicted']} of them "
       f"evicted, lease {LEASE} s, "
       f"caches {CACHE} s")
done()
