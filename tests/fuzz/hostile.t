#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hostile documents among healthy ones, through `cloister run`.

Step 0 has a bomb for every limit of a pipeline and, in the long set, all of tests/fixtures/hostile.py
(tests/e2e/20-bad-input.t has them in the short one); each other step has a batch of samples that
mutate.py has damaged. Each document ends as ok, flagged or failed,
with a reason that is known, within its time; no process outlives its document; and the healthy
ones give what they give alone, to the bit. A document that did not is kept, and its path printed.
"""

import collections
import re
import shutil
import sys
import threading

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures", "tests/fuzz"]
from e2e import *
from harness import FULL, Steps, figure
import hostile
import mutate

BATCH = 50
SECONDS = {"open_seconds": 10, "page_seconds": 10, "page_cpu_seconds": 5, "read_seconds": 10}
SLACK = 10  # seconds: this machine has other things to do
PIPELINE = "dpi: 72\nlimits:\n" + "".join(f"  {k}: {v}\n" for k, v in SECONDS.items()) + """\
  image_megapixels: 50
  page_megapixels: 20
  document_pages: 50
  archive_mebibytes: 100
  archive_members: 50
"""
REASONS = re.compile(r"limit:[a-z-]+|damaged|unsupported|encrypted|unknown-type|empty|no-pages|"
                     r"not-a-regular-file|blank|suspect-blank|page-file")
SANITIZED = bool(os.environ.get("CLOISTER_SANITIZED"))
KEPT = BUILD / "tests" / "fuzz" / "kept"
SHARED = ROOT.parent / "shared" / "corpus"
HEALTHY = ("booklet/ferry.pdf", "scans/field-notebook.tif", "scans/telegram.png",
           "photos/notice.jpg", "archives/parish-papers.zip", "letters/scanned-minutes.pdf")
ODD = BUILD / "tests" / "tools" / "odd-recogniser"

counts = collections.Counter()


def originals():
    """Documents to damage, by name."""
    found = [p for p in sorted(SAMPLES.rglob("*")) if p.is_file() and p.suffix != ".yaml"]
    if SHARED.exists():
        found += [p for p in sorted(SHARED.rglob("*")) if p.is_file() and p.suffix != ".md"
                  and 16 < p.stat().st_size < 300000]
    return {p.name: p.read_bytes() for p in found}


class Watch(threading.Thread):
    """Looks at the processes of a run now and then. A decoder or writer that is still there a while
    after its document went to done/ or failed/ has outlived it."""

    def __init__(self, run):
        super().__init__(daemon=True)
        self.run_, self.seen, self.late, self.outlived = run, set(), {}, set()
        self.start()

    def run(self):
        while self.run_.poll() is None:
            for pid in children(self.run_.pid):
                self.look(pid)
            time.sleep(0.2)

    def look(self, pid):
        try:
            start = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
            self.seen.add((pid, start))
            document = os.readlink(f"/proc/{pid}/fd/3")
        except (OSError, IndexError):
            return
        if "/done/" in document or "/failed/" in document:
            first = self.late.setdefault((pid, start), time.monotonic())
            if time.monotonic() - first > SLACK:
                self.outlived.add(f"{pid} {document}")

    def left(self):
        """Processes of the run that are still there after it."""
        found = []
        for pid, start in self.seen:
            try:
                stat = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if stat[19] == start and stat[0] not in "ZX":
                found.append(pid)
        return found


def read(spool, timeout):
    """Run to the end; the exit code, the log, and what was seen of its processes."""
    process = subprocess.Popen([CLOISTER, "run", spool.root, "--once", "-v", "-j", "2"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE)
    watch = Watch(process)
    try:
        log = process.communicate(timeout=timeout)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        log = process.communicate()[1]
    watch.join()
    time.sleep(0.3 if watch.left() else 0)
    return process.returncode, log.decode("utf-8", "replace"), watch


def new_spool():
    spool = Spool()
    spool.null_pipeline("bad", "--hash", more=PIPELINE)
    spool.null_pipeline("good", "--hash", more="dpi: 100\n")
    for name in HEALTHY:
        spool.drop(SAMPLES / name, f"good/{name}")
    return spool


def healthy(spool):
    return {name: result.stable() for name, result in spool.results().items()
            if name.startswith("good/")}


def outcomes(spool, name):
    """(outcome, reason, seconds) of a document, its pages and its members; [] when it is nowhere."""
    found = []
    for why in [spool.root / "failed" / (name + ".why.json"),
                *(spool.root / "failed" / name).rglob("*.why.json")]:
        if why.exists():
            found.append(("failed", json.loads(why.read_text("utf-8"))["reason"], 0))
    for path in sorted((spool.root / "out" / name).rglob("*.json")):
        if path.name == "archive.json":
            found.append(("unpacked", "", 0))
        elif path.name == "document.json":
            for page in Result(path.parent).pages:
                found.append((page["status"], page.get("reason") or "",
                              (page.get("seconds") or {}).get("decode", 0)))
    return found


def keep(spool, name, step):
    """The document, from wherever it lies now."""
    KEPT.mkdir(parents=True, exist_ok=True)
    to = KEPT / f"{step.seed}-{step.number}-{name.replace('/', '-')}"
    for top in ("failed", "done", "in"):
        if (spool.root / top / name).is_file():
            shutil.copy(spool.root / top / name, to)
    return to


def judge(spool, names, step, run):
    """What is wrong with the documents of a batch."""
    code, log, watch = run
    found = [] if code in (0, 1) else [f"the run ended with {code}"]
    for name in names:
        ends = outcomes(spool, name)
        bad = [] if ends else ["it is nowhere"]
        for outcome, reason, seconds in ends:
            counts[reason if outcome == "failed" else outcome] += 1
            counts["sandbox"] += reason == "sandbox"
            if outcome == "failed" and not REASONS.fullmatch(reason):
                bad.append(f"{outcome}: {reason}")
            if seconds > SECONDS["page_seconds"] + SLACK:
                bad.append(f"a page took {seconds} s")
        if bad:
            found.append(f"{name}: {', '.join(sorted(set(bad)))}; kept: {keep(spool, name, step)}")
    found += [f"it outlived its document: {who}" for who in watch.outlived]
    found += [f"it outlived the run: {pid}" for pid in watch.left()]
    found += [line[:300] for line in log.splitlines()
              if re.search(r"Sanitizer|runtime error:|forbidden system call", line)]
    found += [f"not taken on: {name}" for name in spool.left()]
    found += [f"a token is left: {token}" for token in spool.tokens()]
    if found:
        found.append(f"again: {step.replay()}")
    return found


def limits():
    return re.findall(r"^\tLIMIT\((\w+),", (ROOT / "pipelines" / "pipeline_settings.c").read_text(), re.M)


def drop_bombs(spool):
    """Each in a pipeline of its own, in which nothing but its limit is low."""
    for limit, (name, settings, maker) in hostile.BOMBS.items():
        target = spool.drop(b"", f"bomb-{limit}/{name}")
        data = maker(os.fsencode(target))
        if data is not None:
            target.write_bytes(data)
        if limit in ("read_seconds", "result_kibibytes"):
            mode = "hang" if limit == "read_seconds" else "long-line"
            spool.pipeline(f"bomb-{limit}", f"recogniser: command\ncommand: [{ODD}, --mode, {mode}]\n"
                                            f"{settings}")
        elif "figures" in limit:
            block = {"box": [0, 0, 700, 700], "figure": True}
            spool.null_pipeline(f"bomb-{limit}", "--result", json.dumps({"blocks": [block, block]}), more=settings)
        else:
            spool.null_pipeline(f"bomb-{limit}", more=settings)


def check_bombs(spool):
    same(sorted(set(hostile.BOMBS) - set(limits())), [], "each bomb is for a limit that there is")
    for limit in limits():
        if not ok(limit in hostile.BOMBS, f"{limit}: there is a bomb"):
            continue
        if SANITIZED and limit == "memory_mebibytes":
            continue  # there is no limit of memory in such a build
        name = f"bomb-{limit}/{hostile.BOMBS[limit][0]}"
        ends = outcomes(spool, name)
        if limit == "page_megapixels":
            pages = spool.result(name).pages
            ok([p["status"] for p in pages] == ["ok"]
               and all(p["width"] * p["height"] <= 1e6 for p in pages),
               f"{limit}: the resolution is lowered to keep it", ends)
            continue
        counts["bombs"] += 1
        status = "flagged" if "figures" in limit else "failed"  # the text is there
        ok((status, "limit:" + limit.replace("_", "-")) in [end[:2] for end in ends],
           f"{limit}: its bomb is {status} by this limit", ends)


def drop_fixtures(spool):
    table = subprocess.run([sys.executable, "-B", FIXTURES / "hostile.py", spool.root / "in" / "bad"],
                           check=True, capture_output=True).stdout
    return [f"bad/{entry['name']}" for entry in json.loads(table)]


def drop_damaged(spool, step, files):
    names, everything = [], list(files.values())
    for n in range(BATCH):
        base = step.random.choice(list(files))
        what, data = mutate.mutate(step.random, files[base], everything)
        names.append(f"bad/{n:02}-{what}-{base}")
        spool.drop(data, names[-1])
    return names


alone = new_spool()
same(read(alone, 100)[0], 0, "healthy documents are read")
expected = healthy(alone)
same(len(expected), 7, "all of them")
files = originals()

for step in Steps(fast=4, full=46):
    spool = new_spool()
    if step.number == 0:
        drop_bombs(spool)
        names = drop_fixtures(spool) if FULL else []
    else:
        names = drop_damaged(spool, step, files)
    counts["files"] += len(names)
    run = read(spool, 200)
    problems(judge(spool, names, step, run), f"step {step.number}: each ends as it should")
    same(healthy(spool) == expected, True, f"step {step.number}: the healthy ones are as they were")
    if step.number == 0:
        check_bombs(spool)
    shutil.rmtree(spool.path)

figure("hostile documents", f"{counts.pop('files', 0)} damaged files of {len(files)} originals, "
       f"{counts.pop('bombs', 0)} bombs, {counts.pop('sandbox', 0)} forbidden system calls")
figure("hostile documents ended as", ", ".join(f"{what} {n}" for what, n in counts.most_common()))
done()
