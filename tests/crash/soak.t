#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A resident run takes in documents all the time, for 20 minutes and 20,000 of them: nothing grows,
nothing is left over, every document has its result.

Memory: the Rss of every process that lives through the measured time is sampled once a second, and the
Theil-Sen slope (the median of the slopes between all pairs of samples: a few odd ones do not move it)
has to stay below 1 MiB an hour. The supervisor's index of results grows by design; its size, which
follows from the number of its lines, is taken off first. The first quarter of the time is warm-up. A
short run cannot tell such a slope from noise: there no process may grow by more than GROWTH. Of
programs that live for one document, the greatest Rss in the first and in the last half are compared.

Descriptors: an idle run has as many at the end as it had after the first document of each kind."""

import ctypes
import io
import os
import random
import statistics
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Step, Steps, figure
from promises import Drop, settled
import pdf

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the sanitizer keeps what is freed for a while: memory grows")

DOCUMENTS, SECONDS = (20000, 1150) if FULL else (300, 12)
BACKLOG = 500          # arrival waits when so many lie in in/: memory is to follow from time alone
GROWTH = 256 << 10     # bytes; what a short run may grow by
SLOPE = 1 << 20        # bytes an hour
INDEX_ENTRY, INDEX_LEAST = 16, 1024  # struct index_entry, and the least table of them (index.c)
PR_SET_CHILD_SUBREAPER = 36


# Documents. Number n is always the same one; a few of a hundred are odd.

def image(source):
    return b"P5 40 30 255\n" + source.randbytes(1200)


def document(step):
    """Name below in/, and what is dropped there."""
    name, kind = f"null/{step.number // 250}/{step.number}", step.number % 100
    if kind == 97:
        inner, store = [Drop(image(step.random), pages=1) for _ in range(2)], io.BytesIO()
        with zipfile.ZipFile(store, "w") as z:
            for n, drop in enumerate(inner):
                z.writestr(f"{n}.pnm", drop.data)
        return name + ".zip", Drop(store.getvalue(), members={
            f"{n + 1:04}-{n}.pnm": drop for n, drop in enumerate(inner)})
    if kind == 98:
        return name + ".pdf", Drop(b"%%PDF-1.4 %d" % step.number, pages=0)
    if kind == 99:  # the result of every one but the first says that it is a duplicate
        return name + ".pnm", Drop(image(random.Random("again")))
    if kind % 4 == 0:
        pages = [pdf.text(b"Note %d, page %d" % (step.number, n)) for n in range(1 + kind % 3)]
        return name + ".pdf", Drop(pdf.build(pdf.pages(pages)), pages=len(pages))
    return name + ".pnm", Drop(image(step.random), pages=1)


def arrive(step):
    """Every other one is renamed in, the rest are written where they are to lie."""
    name, drop = document(step)
    target = spool.root / "in" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part") if step.number % 2 else target
    part.write_bytes(drop.data)
    part.rename(target)
    drops[name] = drop


# Samples.

def rss(pid):
    """Exact where we may read it; resident pages as counted for ps(1) elsewhere."""
    try:
        for line in open(f"/proc/{pid}/smaps_rollup"):
            if line.startswith("Rss:"):
                return int(line.split()[1]) << 10
    except PermissionError:
        pass
    return int(open(f"/proc/{pid}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")


def index_bytes(spool):
    """The table is doubled when it is half full."""
    lines = (spool.root / "state" / "index").read_bytes().count(b"\n")
    size = INDEX_LEAST
    while 2 * lines > size:
        size *= 2
    return size * INDEX_ENTRY


class Family:
    """Every process of a run, from sample to sample."""

    def __init__(self, spool, pid):
        self.spool, self.pid = spool, pid
        self.samples = {}  # (pid, program) -> [(time, bytes, descriptors)]
        self.dead = {}     # (pid, program) -> since when it has been dead
        self.zombies = set()

    def sample(self):
        now, dead = time.monotonic(), {}
        for pid in [self.pid, *children(self.pid)]:
            try:
                name, rest = open(f"/proc/{pid}/stat").read().split("(", 1)[1].rsplit(")", 1)
                if rest.split()[0] == "Z":
                    dead[pid] = name
                    continue
                memory = rss(pid)
                files = len(os.listdir(f"/proc/{pid}/fd"))
            except (OSError, ProcessLookupError, IndexError):
                continue  # it ended meanwhile
            if pid == self.pid:
                memory -= index_bytes(self.spool)
            self.samples.setdefault((pid, name), []).append((now, memory, files))
        # On a busy machine a run may be some seconds late in burying its dead.
        self.dead = {who: self.dead.get(who, now) for who in dead.items()}
        self.zombies |= {f"{name} {pid}" for (pid, name), since in self.dead.items() if now - since > 10}

    def residents(self, since, until):
        """Those that lived from one moment to the other, with their samples between."""
        for (pid, name), samples in self.samples.items():
            if samples[0][0] <= since + 2 and samples[-1][0] >= until - 2:
                yield name, pid, [s for s in samples if since <= s[0] <= until]

    def greatest(self, since, until):
        """Of each program, the greatest Rss of any of its processes."""
        found = {}
        for (pid, name), samples in self.samples.items():
            for when, memory, files in samples:
                if since <= when <= until and pid != self.pid:
                    found[name] = max(found.get(name, 0), memory)
        return found


def theil_sen(points):
    slopes = [(y1 - y0) / (x1 - x0) for i, (x0, y0) in enumerate(points)
              for x1, y1 in points[i + 1:] if x1 > x0]
    return statistics.median(slopes) if slopes else 0


def descriptors():
    """Of the run and its recognisers: what they have open, counted."""
    found = {}
    for pid in [run.pid, *children(run.pid)]:
        kinds = found.setdefault(pathlib.Path(f"/proc/{pid}/comm").read_text().strip(), {})
        for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
            kind = os.readlink(fd)
            kind = kind.split(":")[0] if kind.startswith(("pipe:", "socket:")) else kind
            kinds[kind] = kinds.get(kind, 0) + 1
    return found


def idle():
    """Everything that arrived has left."""
    return not spool.left() and not spool.tokens() and not os.listdir(spool.root / "state" / "tmp")


def kib(size):
    return round(size / 1024)


ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a run leaves behind becomes ours
spool, drops = Spool(settle=1), {}
spool.null_pipeline("null", more="dpi: 72\n")
run = spool.start("-q", "-j", "2")
family = Family(spool, run.pid)
steps = list(Steps(fast=DOCUMENTS, full=DOCUMENTS))
first = [step for step in steps if step.number in (0, 1, 2, 97, 98, 99)]
rest = [step for step in steps if step not in first]
for step in first:
    arrive(step)
ok(wait_for(idle, 60), "a document of each kind is read", *spool.tokens(), *spool.left())
time.sleep(3)
before = descriptors()
scratch = [path for path in before["cloister"] if "/cloister-pages-" in path]

begun, arrived, waiting, next_sample = time.monotonic(), 0, 0, 0
while arrived < len(rest) or not idle():
    now = time.monotonic() - begun
    if run.poll() is not None or now > 4 * SECONDS + 60:
        break
    if now >= next_sample:
        next_sample = now + (1 if FULL else 0.25)
        family.sample()
        waiting = len(spool.left())
    while arrived < min(len(rest), len(rest) * now / SECONDS) and waiting < BACKLOG:
        arrive(rest[arrived])
        arrived, waiting = arrived + 1, waiting + 1
    time.sleep(0.02)
ended = time.monotonic()
ok(arrived == len(rest) and idle(), f"{len(steps)} documents were read as they arrived",
   f"{arrived} arrived", run.poll(), *spool.tokens()[:9], *spool.left()[:9])
time.sleep(3)
after = descriptors()

since, middle = begun + (ended - begun) / 4, begun + (ended - begun) / 2
allowed = SLOPE * (ended - since) / 3600 if FULL else GROWTH
residents = sorted(family.residents(since, ended))
ok({name for name, _, _ in residents} == {"cloister", "cloister-keeper", "null-recogniser"[:15]},
   "the run and its recognisers live all the time", *residents)
for name, pid, samples in residents:
    slope = theil_sen([(when, memory) for when, memory, _ in samples])
    files = [count for _, _, count in samples]
    rate = (f"{slope * 3600 / 1024:+.1f} KiB an hour over" if FULL
            else f"{slope * (ended - since) / 1024:+.1f} KiB in") + f" {ended - since:.0f} s"
    ok(slope * (ended - since) <= allowed, f"{name} does not grow", rate)
    figure(f"soak, {name}", f"{kib(statistics.median(m for _, m, _ in samples))} KiB, "
           f"{rate}, "
           f"{min(files)} to {max(files)} descriptors")
for name, size in sorted(family.greatest(middle, ended).items()):
    earlier = family.greatest(begun, middle).get(name, 0)
    figure(f"soak, {name}, greatest of all", f"{kib(earlier)} KiB, then {kib(size)} KiB")
more = [f"{program}: {after[program].get(kind, 0)} of {kind}, not {before[program].get(kind, 0)}"
        for program in before for kind in before[program].keys() | after[program].keys()
        if before[program].get(kind) != after[program].get(kind)]
problems(more[:10], "idle again: the same descriptors as after the first documents")
family.sample()
same(sorted(family.zombies) + sorted(family.dead), [], "no child stays dead")
figure("soak, descriptors of the idle run", sum(after["cloister"].values()))

run.terminate()
same(run.wait(30), 143, "the run ends when it is told to")
same(children(os.getpid()), [], "and leaves no process behind")
same([path for path in scratch if os.path.exists(path)], [], "nor its page files")
ok(scratch, "which it had")
verdict = settled(spool, drops)
problems(verdict.problems[:20], "every document has its one result, nothing is left over")
figure("soak", f"{verdict} in {ended - begun:.0f} s")
done()
