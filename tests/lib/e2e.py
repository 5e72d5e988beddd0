# SPDX-License-Identifier: MIT
"""What the end-to-end tests share: TAP on standard output, a spool that is gone afterwards, results
as they lie in it, and the checks that every result must pass.

A test is run from the root of the repository; $CLOISTER_BUILD is the build folder.
"""

import atexit
import fnmatch
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

import cer

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CLOISTER_BUILD", ROOT / "build")).resolve()
CLOISTER = BUILD / "cloister"
NULL_RECOGNISER = BUILD / "tests" / "tools" / "null-recogniser"
SAMPLES = ROOT / "samples" / "documents"
TEXTS = ROOT / "samples" / "text"
FIXTURES = ROOT / "tests" / "fixtures"
STATUSES = ("ok", "flagged", "failed")

count, bad = 0, 0


# TAP.

def ok(condition, name, *why):
    """One assertion. `why` is shown when it does not hold."""
    global count, bad
    count += 1
    print("ok" if condition else "not ok", count, "-", name.replace("#", "").replace("\n", " "))
    if not condition:
        bad += 1
        for item in why:
            for line in str(item).splitlines():
                print("#   ", line.encode("ascii", "backslashreplace").decode())
    sys.stdout.flush()
    return bool(condition)


def same(got, want, name):
    return ok(got == want, name, f"got:  {got!r}", f"want: {want!r}")


def problems(found, name):
    """No problems found is a pass."""
    return ok(not found, name, *found)


def skip(name, why):
    global count
    count += 1
    print(f"ok {count} - {name} # SKIP {why}")


def done():
    print(f"1..{count}")
    sys.exit(1 if bad else 0)


def skip_all(why):
    print(f"1..0 # SKIP {why}")
    sys.exit(0)


# Programs.

def cloister(*arguments, timeout=100, **options):
    """Run it to its end; text of standard output and error as str."""
    process = subprocess.run([CLOISTER, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                             timeout=timeout, **options)
    process.out = process.stdout.decode("utf-8", "surrogateescape")
    process.err = process.stderr.decode("utf-8", "surrogateescape")
    return process


def start(*arguments, **options):
    """Start it; killed at the end of the test whatever happens."""
    process = subprocess.Popen([CLOISTER, *arguments], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    atexit.register(lambda: process.poll() is None and process.kill())
    return process


def wait_for(condition, seconds=30, step=0.02):
    """Poll until condition() is true; its value, or a false one when time is up."""
    until = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < until:
        time.sleep(step)
    return value


def children(pid, name=None):
    """Processes begun by pid and theirs; those whose program is `name`. Dead ones are left out."""
    found = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found  # it has just ended
    for thread in threads:
        try:
            kids = pathlib.Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except OSError:
            continue
        for kid in map(int, kids):
            # /proc/PID/exe of a locked process is closed to all but root; comm holds 15 bytes.
            try:
                program = pathlib.Path(f"/proc/{kid}/comm").read_text().strip()
            except OSError:
                continue
            if name is None or name[:15] == program:
                found.append(kid)
            found += children(kid, name)
    return found


def kill(pid, number=signal.SIGKILL):
    try:
        os.kill(pid, number)
        return True
    except ProcessLookupError:
        return False


# Results.

def sha256(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


class Result:
    """A folder in out/."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.document = json.loads((self.folder / "document.json").read_text("utf-8"))
        self.pages = self.document["pages"]

    def read(self, name):
        return (self.folder / name).read_text("utf-8")

    def lines(self):
        """The records of pages.jsonl."""
        return [json.loads(line) for line in self.read("pages.jsonl").splitlines()]

    def states(self):
        """ok, flagged or failed, for each page."""
        return [page["status"] for page in self.pages]

    def text(self):
        return "\n".join((page.get("result") or {}).get("text") or "" for page in self.lines())

    def stable(self):
        """All files, without what may differ from run to run: times, and who did the work."""
        files = {}
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            if path.suffix == ".png":
                files[str(path.relative_to(self.folder))] = path.read_bytes()
                continue
            data = path.read_text("utf-8")
            if path.suffix == ".json":
                data = timeless(json.loads(data))
            elif path.suffix == ".jsonl":
                data = [timeless(json.loads(line)) for line in data.splitlines()]
            files[path.name] = data
        return files


TIMES = ("seconds", "ms", "started", "finished", "written", "time", "admitted", "key", "attempt",
         "attempts", "worker", "mtime")


def timeless(value):
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES
                and not (k == "path" and "archive" in value)}  # a member's path holds its key
    if isinstance(value, list):
        return [timeless(v) for v in value]
    return value


def hocr_problems(result):
    """hOCR parses, has a page for each page, and boxes inside boxes inside the page."""
    tree = xml.etree.ElementTree.parse(result.folder / "document.hocr").getroot()
    found, pages = [], []

    def box(element):
        for part in (element.get("title") or "").split(";"):
            words = part.split()
            if words[:1] == ["bbox"]:
                return [int(w) for w in words[1:5]]
        return None

    def walk(element, outer):
        kind, own = element.get("class") or "", outer
        if kind.startswith("ocr"):
            own = box(element)
            if kind == "ocr_page":
                pages.append(element)
            if own is None and (kind == "ocr_page" or any("ocrx_word" == e.get("class")
                                                          for e in element.iter())):
                found.append(f"{kind} without bbox")
            elif own is None:
                pass  # a reader that knows no boxes
            elif own[0] > own[2] or own[1] > own[3]:
                found.append(f"{kind} with an empty box {own}")
            elif outer and (own[0] < outer[0] or own[1] < outer[1] or own[2] > outer[2]
                            or own[3] > outer[3]):
                found.append(f"{kind} {own} leaves {outer}")
        for child in element:
            walk(child, own or outer)

    walk(tree, None)
    if len(pages) != len(result.pages):
        found.append(f"{len(pages)} ocr_page for {len(result.pages)} pages")
    return found


def result_problems(result, original=None):
    """What must hold of every published result."""
    found, document = [], result.document
    numbers = [page["page"] for page in result.pages]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"pages are {numbers}")
    for page in result.pages:
        if page["status"] not in STATUSES:
            found.append(f"page {page['page']} is {page['status']!r}")
        if page["status"] != "ok" and not page.get("reason"):
            found.append(f"page {page['page']} is {page['status']} without a reason")
    if original is not None and document["input"]["sha256"] != sha256(original):
        found.append("sha256 is not the original's")
    if original is not None and document["input"]["bytes"] != os.path.getsize(original):
        found.append("size is not the original's")
    if (result.folder / "pages.jsonl").exists():
        lines = [line["page"] for line in result.lines()]
        if lines != numbers:
            found.append(f"pages.jsonl has pages {lines}, document.json {numbers}")
        for line in result.lines():
            found += word_problems(line)
    if (result.folder / "document.hocr").exists():
        found += hocr_problems(result)
    return found + figure_problems(result)


def figure_problems(result):
    """Each picture that a page lists lies there, whole, and no other."""
    listed = [figure for page in result.pages for figure in page.get("figures") or []]
    there = {str(p.relative_to(result.folder)) for p in result.folder.glob("figures/*")}
    found = [f"{figure['file']} is not what the page says" for figure in listed
             if figure["file"] not in there or sha256(result.folder / figure["file"]) != figure["sha256"]]
    names = [figure["file"] for figure in listed]
    if sorted(names) != sorted(there):
        found.append(f"pictures {sorted(there)}, listed {sorted(names)}")
    return found


def word_problems(page):
    found = []
    for line in (page.get("result") or {}).get("lines") or []:
        for word in line["words"]:
            x0, y0, x1, y1 = word["box"]
            if not (0 <= x0 < x1 <= page["width"] and 0 <= y0 < y1 <= page["height"]):
                found.append(f"page {page['page']}: word {word['text']!r} outside: {word['box']}")
            if not 0 <= word.get("confidence", 1) <= 1:
                found.append(f"page {page['page']}: confidence {word['confidence']}")
    return found


def cer_of(result, name):
    return cer.rate((TEXTS / (name + ".txt")).read_text("utf-8"), result.text())


# Spools.

class Spool:
    """A spool in a folder of its own. Files may be dropped in at once: nothing has to settle."""

    def __init__(self, settle=0, where=None):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="cloister-test-", dir=where))
        atexit.register(shutil.rmtree, self.path, ignore_errors=True)
        self.root = self.path / "spool"
        for folder in ("in", "pipelines"):
            (self.root / folder).mkdir(parents=True)
        self.configure(f"settle_seconds: {settle}\n")

    def configure(self, text):
        (self.root / "cloister.yaml").write_text(text)

    def pipeline(self, name, text):
        (self.root / "pipelines" / f"{name}.yaml").write_text(text)

    def null_pipeline(self, name, *arguments, more=""):
        """A pipeline read by the null recogniser."""
        command = ", ".join(json.dumps(str(a)) for a in (NULL_RECOGNISER, *arguments))
        self.pipeline(name, f"recogniser: command\ncommand: [{command}]\n{more}")

    def model_pipeline(self, name, folder, *settings, more="dpi: 72\n"):
        """A pipeline read by a model folder."""
        values = dict(line.split(": ") for line in ("device: cpu", "cache_mebibytes: 64", "sequences: 4", *settings))
        group = "".join(f"  {key}: {value}\n" for key, value in values.items())
        self.pipeline(name, f"recogniser: model\nprompt: Read this page.\nmodel:\n  folder: {folder}\n"
                            f"{group}{more}")

    def drop(self, source, name):
        """Copy a file (or write bytes) to in/NAME, as one that has been lying there."""
        target = self.root / "in" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, bytes):
            target.write_bytes(source)
        else:
            shutil.copy(source, target)
        old = time.time() - 60
        os.utime(target, (old, old))
        return target

    def run(self, *arguments, **options):
        return cloister("run", self.root, "--once", *arguments, **options)

    def start(self, *arguments, **options):
        return start("run", self.root, *arguments, **options)

    def command(self, command, *arguments, **options):
        return cloister(command, "--spool", self.root, *arguments, **options)

    def result(self, name):
        """Of in/NAME; None when there is none."""
        folder = self.root / "out" / name
        return Result(folder) if (folder / "document.json").exists() else None

    def results(self):
        """Every result there is, by its path beneath out/."""
        found = {}
        for name in self.files("out"):  # while folders come and go
            if name.endswith("/document.json"):
                found[os.path.dirname(name)] = Result(self.root / "out" / os.path.dirname(name))
        return found

    def why(self, name):
        """why.json of a failed document, or None."""
        path = self.root / "failed" / (name + ".why.json")
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def files(self, part):
        """Paths of what is no folder beneath PART of the spool, while it comes and goes."""
        paths = [os.path.join(folder, name) for folder, folders, names in os.walk(self.root / part)
                 for name in folders + names]
        return sorted(os.path.relpath(path, self.root / part) for path in paths
                      if os.path.islink(path) or not os.path.isdir(path))

    def left(self):
        """What waits in in/ besides folders."""
        return self.files("in")

    def tokens(self):
        """Names of the tokens in state/; not of those that were never finished, .KEY.aN.part."""
        return [path for path in self.files("state")
                if fnmatch.fnmatch(os.path.basename(path), "[!.]*.a[0-9]*")]
