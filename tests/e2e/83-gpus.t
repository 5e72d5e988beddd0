#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Models on GPUs: one process each, pages over all of them, and a broken GPU is no matter to the others.

There need be none: a folder of nodes stands in for /dev, and a program that says what it was started with
for cloister-model-cuda.
"""

import json
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import pdf

PAGES = 36
BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(1, PAGES + 1)]))
FAKE = f'''#!{sys.executable} -B
import fcntl, json, os, sys, time
gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
here = os.path.dirname(os.path.abspath(__file__))
def trouble(kind):
    return os.path.exists(os.path.join(here, kind + "-" + gpu))
if trouble("dead"):
    sys.exit(print("GPU", gpu, "has fallen off the bus", file=sys.stderr) or 78)
memory = os.open(os.path.join(here, "memory-" + gpu), os.O_RDONLY) if trouble("memory") else 0
try:
    memory and fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(print("GPU", gpu, "is full", file=sys.stderr) or 78)
print(json.dumps({{"airlock": 1, "name": "cloister-model", "version": "0", "window": 4, "formats": ["text"],
                  "takes": ["page", "text"], "model": {{"name": "fake", "sha256": "0" * 64, "adapters": [
                      {{"name": a[10:], "sha256": "1" * 64}} for a in sys.argv if a.startswith("--adapter=")]}}}}),
      flush=True)
def take(seat, how):
    file = os.open(os.path.join(here, seat), os.O_RDONLY)
    try:
        fcntl.flock(file, how)
        return file
    except OSError:
        os.close(file)
empty = {{name for name in os.listdir(here) if name.startswith("seat-")}}
if "seat-" + gpu in empty:
    own = take("seat-" + gpu, fcntl.LOCK_EX)
for line in sys.stdin:
    while empty:
        for seat in empty - {{"seat-" + gpu}}:
            file = take(seat, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if file:
                os.close(file)
                time.sleep(0.05)
                break
        else:
            empty = None
    time.sleep(0.3 if trouble("slow") else 0.03)
    if trouble("dies"):
        os._exit(9)
    print(json.dumps({{"id": json.loads(line)["id"], "status": "ok", "format": "text", "finish": "stop",
                      "device": "cuda fake " + gpu, "adapters": json.loads(line)["params"].get("adapters"),
                      "text": json.dumps([os.getpid(), gpu, sys.argv[1:]])}}), flush=True)
'''


class Machine(Spool):
    """A spool on a machine with GPUs, the first of them 0."""

    def __init__(self, gpus, program=True):
        super().__init__()
        self.dev, self.libexec = self.path / "dev", self.path / "libexec"
        self.dev.mkdir()
        self.libexec.mkdir()
        if gpus:
            for node in ("nvidiactl", "nvidia-uvm", *(f"nvidia{n}" for n in range(gpus))):
                (self.dev / node).touch()
        for built in BUILD.glob("cloister-*"):
            if built.name != "cloister-model-cuda":
                (self.libexec / built.name).symlink_to(built)
        if program:
            (self.libexec / "cloister-model-cuda").write_text(FAKE)
            (self.libexec / "cloister-model-cuda").chmod(0o755)

    def trouble(self, *names):
        for name in names:
            (self.libexec / name).touch()

    def wait_for(self, *gpus):
        """None answers before those of all these are there: on a busy machine the first may have read all by
        then."""
        self.trouble(*(f"seat-{gpu}" for gpu in gpus))

    def read(self, *settings, visible=None, model="/nonexistent/model"):
        self.model_pipeline("model", model, "device: cuda", *settings)
        self.drop(BOOK, "model/book.pdf")
        environment = {**os.environ, "CLOISTER_TEST_DEV": str(self.dev), "CLOISTER_LIBEXEC": str(self.libexec)}
        environment.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        return self.run("-j", "1", env=environment)

    def readers(self):
        """{GPU: {PID}} of the pages that were read."""
        found = {}
        for line in self.result("model/book.pdf").lines():
            pid, gpu, _ = json.loads(line["result"]["text"])
            found.setdefault(gpu, set()).add(pid)
        return found


# One process for each, and pages for all.
three = Machine(3)
three.wait_for(0, 1, 2)
run = three.read()
book = three.result("model/book.pdf")
same(run.returncode, 0, "a run on a machine with three GPUs")
same(len(book.pages) if book else run.err, PAGES, "reads all pages")
readers = three.readers()
same({gpu: len(pids) for gpu, pids in readers.items()}, {"0": 1, "1": 1, "2": 1},
     "with a process for each, which sees its own GPU alone")
shares = [sum(page["device"] == f"cuda fake {gpu}" for page in book.pages) for gpu in range(3)]
ok(sum(shares) == PAGES and min(shares) > 2, "document.json says for each page which one read it, and none was idle",
   shares)
arguments = json.loads(book.lines()[0]["result"]["text"])[2]
mode = "off" if os.environ.get("CLOISTER_SANITIZED") else "on"
ok(f"--sandbox={mode}" in arguments and "--weights=bf16" in arguments, "the program is started as the CPU's is", arguments)

ok("--any-order" not in arguments, "sums are taken in one order unless the pipeline says otherwise", arguments)
loose = Machine(1)
loose.read("deterministic: false")
arguments = json.loads(loose.result("model/book.pdf").lines()[0]["result"]["text"])[2]
ok("--any-order" in arguments, "deterministic: false reaches the engine", arguments)

# Which ones.
some = Machine(3)
some.wait_for(0, 1)
some.read("gpus: 2", "weights: fp8")
same(sorted(some.readers()), ["0", "1"], "gpus: 2 takes two of them")
book = some.result("model/book.pdf")
ok("--weights=fp8" in json.loads(book.lines()[0]["result"]["text"])[2], "weights: fp8 reaches the program")
named = Machine(3)
named.wait_for("2", "GPU-8932f937")
named.read(visible="2,GPU-8932f937,-1,0")
same(sorted(named.readers()), ["2", "GPU-8932f937"], "CUDA_VISIBLE_DEVICES names those to take, up to one that is none")
auto = Machine(1)
run = auto.read("device: auto")
same(list(auto.readers()) if auto.result("model/book.pdf") else run.err, ["0"], "auto takes a GPU where there is one")

# With adapters as well.
for device in ("device: auto", "device: cuda"):
    adapted = Machine(1)
    run = adapted.read(device, "adapters: [org/lora, org/more]")
    book = adapted.result("model/book.pdf")
    same((list(adapted.readers()), book.pages[0]["device"], book.pages[0].get("adapters")) if book else run.err,
         (["0"], "cuda fake 0", ["org/lora", "org/more"]), f"{device}: pages are read by adapters on a GPU")

# A GPU that is broken is left out.
dead = Machine(3)
dead.trouble("dead-0")
run = dead.read()
same((run.returncode, sorted(dead.readers())), (0, ["1", "2"]), "one whose process does not come up is left out")
ok("CUDA_VISIBLE_DEVICES=0 is not used any more" in run.err and "fallen off the bus" in run.err,
   "and the log says which and why", run.err)
dying = Machine(2)
dying.trouble("dies-1", "slow-0")
run = dying.read()
book = dying.result("model/book.pdf")
same((run.returncode, book and book.states()), (0, ["ok"] * PAGES),
     "one whose process dies over each page costs no page")
ok("CUDA_VISIBLE_DEVICES=1 is not used any more" in run.err, "and is left out in the end", run.err)
all_dead = Machine(2)
all_dead.trouble("dead-0", "dead-1")
run = all_dead.read()
why = all_dead.why("model/book.pdf") or {}
ok(why.get("reason") == "recogniser" and "fallen off the bus" in why.get("text", ""),
   "where all are broken, the document says why it was not read", run.returncode, why, run.err)

# Two models whose caches take all memory that is left have a GPU in turn, also for one document.
turns = Machine(2)
turns.trouble("memory-0", "memory-1")
turns.model_pipeline("other", "/nonexistent/other", "device: cuda", "cache_mebibytes: 0")
turns.model_pipeline("both", "/nonexistent/both", "device: cuda", "cache_mebibytes: 0", more="dpi: 72\nthen: other\n")
turns.drop(BOOK, "other/book.pdf")
turns.drop(BOOK, "both/book.pdf")
run = turns.read("cache_mebibytes: 0")
same((run.returncode, sorted(turns.results()), [r.states() for r in turns.results().values()]),
     (0, ["both/book.pdf", "model/book.pdf", "other/book.pdf"], [["ok"] * PAGES] * 3),
     "models that need all of a GPU's memory have it in turn")
ok("is full" not in run.err and "not used" not in run.err, "none is started beside another", run.err)

# What is asked for and is not there.
for title, machine, settings, options, words in (
        ("no GPU", Machine(0), (), {}, "there is no /dev/nvidia0"),
        ("no program", Machine(1, program=False), (), {}, "cloister-model-cuda: it is built where"),
        ("too few", Machine(2), ("gpus: 3",), {}, "asks for gpus: 3, but there are 2"),
        ("hidden", Machine(2), (), {"visible": ""}, "CUDA_VISIBLE_DEVICES= shows none")):
    run = machine.read(*settings, **options)
    why = machine.why("model/book.pdf") or {}
    ok(run.returncode != 0 and why.get("reason") == "recogniser" and words in why.get("text", "") and
       "model.yaml" in why["text"], f"{title}: device: cuda fails, and says why", run.returncode, why, run.err)
for title, machine, settings, options in (
        ("no GPU", Machine(0), (), {}), ("no program", Machine(1, program=False), (), {}),
        ("hidden", Machine(1), (), {"visible": ""}), ("int8", Machine(1), ("weights: int8",), {})):
    run = machine.read("device: auto", *settings, **options)
    why = machine.why("model/book.pdf") or {}
    ok("/nonexistent/model" in why.get("text", "") and "cloister-model-cuda" not in run.err,
       f"{title}: device: auto reads on the CPU", why, run.err)

# What can be seen in the file alone.
for settings, words in ((("device: gpu",), "'gpu' is not one of cpu, cuda, auto"),
                        (("device: cuda", "weights: int8"), "computes with weights: bf16 or fp8 alone"),
                        (("device: auto", "weights: fp8"), "is fp8, which needs device: cuda"),
                        (("device: cpu", "weights: fp8"), "is fp8, which needs device: cuda"),
                        (("device: cpu", "gpus: 2"), "is used only with a GPU"),
                        (("device: cpu", "kv: fp8"), "is fp8, which needs a GPU"),
                        (("device: cpu", "deterministic: false"), "is false, which is for a GPU"),
                        (("speculate: 9",), "out of range, 0 to 8"),
                        (("gpus: 65",), "out of range, 0 to 64")):
    three.model_pipeline("model", "/models/x", *settings)
    done_ = cloister("check", three.root / "pipelines" / "model.yaml")
    ok(done_.returncode == 78 and words in done_.out, f"{', '.join(settings)}: check says what is wrong", done_.out)
done()
