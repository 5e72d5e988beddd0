#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The power fails at a random moment, on real file systems: what was acknowledged is there.

A spool lies on a file system of its own. Documents arrive by `cloister submit`, and files are moved
in; two runs work on them. At a random moment the file system is shut down without writing its log
(the ioctl that xfstests use), the processes are killed, and it is mounted again, log replayed. Then:
what submit said is in the spool is there whole; each result of which the original had left in/ is
there whole, and so is each that a run had reported; and after one more run the promises hold.

The control switches all syncing off. It has to lose something, or this test could not fail.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Steps, figure
from promises import Drop, Verdict, interrupted, recover, settled, where
import images
import pdf

KINDS = ("ext4", "xfs", "btrfs")
OUTSIDE = pathlib.Path(tempfile.mkdtemp(prefix="cloister-test-"))  # where submitted files come from
atexit.register(shutil.rmtree, OUTSIDE, ignore_errors=True)
CONTROLS = 40 if FULL else 2


def book(pages, serial):
    return pdf.build(pdf.pages([pdf.text(b"Book %d" % serial)] * pages, widen=1))


def store(serial):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a/scan.pgm", scan(serial))
        archive.writestr("note.pdf", book(2, serial))
    return data.getvalue()


def scan(serial):
    return b"P5 40 200 255\n" + (b"%08d" % serial + bytes(32)) * 200


def make(random, serial):
    """A document that has not been seen yet: its name and what has to become of it."""
    kind = random.choice(["pgm"] * 6 + ["pdf"] * 3 + ["zip", "bad"])
    if kind == "zip":
        return f"{serial}.zip", Drop(store(serial), members={
            "0001-scan.pgm": Drop(scan(serial), 1), "0002-note.pdf": Drop(book(2, serial), 2)})
    if kind == "bad":
        return f"{serial}.bad", Drop(b"%PDF-1.4 nonsense " + str(serial).encode(), 0)
    if kind == "pdf":
        pages = random.randint(1, 4)
        return f"{serial}.pdf", Drop(book(pages, serial), pages)
    return f"{serial}.pgm", Drop(scan(serial), 1)


class Arrivals(threading.Thread):
    """Documents that keep coming until the power fails."""

    def __init__(self, spool, random, serials, syncing, environment):
        super().__init__(daemon=True)
        self.spool, self.random, self.serials = spool, random, serials
        self.syncing, self.environment = syncing, environment
        self.over = False
        self.submitted, self.moved, self.begun = {}, {}, {}

    def run(self):
        while not self.over:
            name, drop = make(self.random, next(self.serials))
            try:
                if self.syncing and self.random.random() < 0.5:
                    self.move(self.spool.path / name, name, drop)
                else:
                    self.submit(OUTSIDE / name, name, drop)
            except OSError:
                return  # the power has failed
            time.sleep(self.random.uniform(0, 0.02))

    def submit(self, source, name, drop):
        source.write_bytes(drop.data)
        self.begun[f"null/{name}"] = drop
        said = subprocess.run([CLOISTER, "submit", "--spool", self.spool.root, "--pipeline", "null", "-q",
                               source], stdin=subprocess.DEVNULL, capture_output=True,
                              env=self.environment)
        source.unlink()
        if not said.returncode and not self.over:
            self.submitted[f"null/{name}"] = drop

    def move(self, source, name, drop):
        with source.open("wb") as file:
            file.write(drop.data)
            file.flush()
            os.fsync(file.fileno())
        self.begun[f"null/{name}"] = drop
        source.rename(self.spool.root / "in" / "null" / name)
        folder = os.open(self.spool.root / "in" / "null", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if not self.over:
            self.moved[f"null/{name}"] = drop


class Run:
    """A run that goes on until it is killed; which documents it has reported as done."""

    def __init__(self, spool, environment):
        self.process = subprocess.Popen([CLOISTER, "run", spool.root, "-j", "1"],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, env=environment)
        self.reported, self.lines = set(), []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if match := re.search(r" (?:done|flagged|unpacked|duplicate) document=\"(.*?)\" sha256", line):
                self.reported.add(match.group(1))

    def kill(self):
        self.process.kill()
        self.process.wait()


def names_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def cut(image, spool, random, serials, syncing):
    """Work until the power fails, and come back. Documents that were acknowledged: in the spool, and
    with a result; all that were begun; whether something was acknowledged at all."""
    environment = os.environ if syncing else {**os.environ, "CLOISTER_TEST_FSYNC": "off"}
    arrivals = [Arrivals(spool, random, serials, syncing, environment) for _ in range(2)]
    runs = [Run(spool, environment) for _ in range(2)]
    for thread in arrivals:
        thread.start()
    time.sleep(random.uniform(0.2, 1.5))
    for thread in arrivals:
        thread.over = True
    taken = {}
    for thread in arrivals:
        taken.update(thread.submitted)
        taken.update(thread.moved)
    results = names_below(spool.root / "done") | set().union(*(run.reported for run in runs))
    image.cut()
    for run in runs:
        run.kill()
    for thread in arrivals:
        thread.join()
    image.unmount()
    image.mount()
    begun = {}
    for thread in arrivals:
        begun.update(thread.begun)
    return taken, results, begun


def whole(spool, name):
    """Is there a result of this document, or of this archive?"""
    folder = spool.root / "out" / name
    try:
        if (folder / "archive.json").exists():
            return bool(json.loads((folder / "archive.json").read_text()))
        return not result_problems(Result(folder))
    except (OSError, ValueError, SyntaxError):
        return False


def look(spool, taken, results):
    """What was acknowledged before the cut and is not there after it."""
    lost = [f"{name} had a result" for name in sorted(results) if not whole(spool, name)]
    for name, drop in sorted(taken.items()):
        there = [spool.root / place / name for place in where(spool, name, moving=True)]
        if len(there) != 1 or there[0].read_bytes() != drop.data:
            lost.append(f"{name} was taken, and lies in {[str(path) for path in there]}")
    return lost


def attempt(kind, random, cuts, syncing):
    """One spool and its cuts. (acknowledged, lost, problems, Verdict)"""
    image = images.Image(kind)
    try:
        spool = Spool(where=image.path)
        spool.configure("settle_seconds: 0\nlease_seconds: 3\n")
        spool.null_pipeline("null", more="dpi: 72\n")
        (spool.root / "in" / "null").mkdir()
        made = spool.run("-q")  # the rest of the tree
        if made.returncode:
            raise OSError(f"a run with nothing to do ends with {made.returncode}: {made.err}")
        os.sync()
        serials = iter(range(1, 10**6))
        taken, results, begun, lost = {}, set(), {}, []
        for _ in range(cuts):
            new, done_now, some = cut(image, spool, random, serials, syncing)
            taken.update(new)
            results |= done_now
            begun.update(some)
            lost += look(spool, taken, results)
            if lost:
                break
        acknowledged = len(taken) + len(results)
        if not syncing:
            return acknowledged, lost, [], Verdict()
        # What was on its way when the power failed may have arrived or not.
        drops = {name: drop for name, drop in begun.items() if name in taken or
                 any((spool.root / place / name).exists() for place in ("in", "done", "failed"))}
        problems = interrupted(spool, drops) + recover(spool)
        verdict = settled(spool, drops)
        # A copy that was cut short; a worker that held nothing, of whose death nobody can know yet.
        problems += [p for p in verdict.problems
                     if "/.submit-" not in p and "state/active/" not in p]
        return acknowledged, lost, problems, verdict
    finally:
        image.unmount()
        image.remove()


missing = images.enter_namespace()
if missing:
    skip_all(missing)
kinds, why_not = images.usable(KINDS)
for kind, why in why_not.items():
    print(f"# {kind} is left out: {why}")
if not kinds:
    skip_all("no file system can be mounted and cut off here")

steps, total = Steps(fast=4, full=100), dict.fromkeys(kinds, 0)
acknowledged = cuts = lost = wrong = 0
sum_of = Verdict()
for step in steps:
    kind, n = kinds[step.number % len(kinds)], step.random.randint(2, 3)
    try:
        acks, missed, problems, verdict = attempt(kind, step.random, n, syncing=True)
    except OSError as error:
        acks, missed, problems, verdict = 0, [], [f"{kind}: {error}"], Verdict()
    if missed or problems:
        wrong += 1
        ok(False, f"step {step.number}: {n} cuts on {kind}", *(missed + problems)[:20], step.replay())
    acknowledged, cuts, lost = acknowledged + acks, cuts + n, lost + len(missed)
    total[kind] += n
    sum_of.add(verdict)
ok(cuts and not wrong, f"nothing acknowledged is lost in {cuts} power cuts")
ok(acknowledged > cuts or steps.only is not None, "and there was something to lose", acknowledged)

losing = losses = 0
for step in [] if steps.only is not None else Steps(fast=CONTROLS, full=CONTROLS):
    acks, missed, _, _ = attempt(kinds[step.number % len(kinds)], step.random, 1, syncing=False)
    losing, losses = losing + bool(missed), losses + len(missed)
if steps.only is None:
    ok(losing > CONTROLS / 2, "without syncing the same cuts lose what was acknowledged",
       f"{losing} of {CONTROLS}")
    figure("power cuts", f"{cuts} ({', '.join(f'{n} on {kind}' for kind, n in total.items())}), "
           f"{acknowledged} acknowledgements, {lost} lost; {sum_of}")
    figure("power cuts without syncing (control)", f"{CONTROLS}, {losing} of them lost something, "
           f"{losses} acknowledgements lost")
done()
