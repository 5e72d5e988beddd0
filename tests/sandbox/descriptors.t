#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""No child of a run holds a descriptor that it was not given: /proc/PID/fd of each, while it works."""

import collections
import os
import pathlib
import re
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import FULL, figure
import modelfolder

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("AddressSanitizer keeps descriptors of its own, and needs no sandbox")
if os.geteuid():
    skip_all("locked processes can be looked into by root alone: run it as root")

# What it is given, and beneath which folders it may open more by itself. A decoder's page slots are as
# many as its recogniser has appetite for.
FONTS = ("/usr/share/", "/usr/local/share/fonts", "/etc/fonts", "/var/cache/fontconfig")
EXPECTED = {
    "decode": (range(4 + 64), FONTS),
    "ticket": (range(4), ()),
    "unpack": (range(4), ()),
    "figures": (range(4), ()),
    "html": (range(3), ()),
    "tesseract": (range(4), ("/dev/shm/cloister-pages-", "/dev/null")),  # its debug file
    "model": (range(4), ("/dev/shm/cloister-pages-", f"{tempfile.gettempdir()}/cloister-test-")),  # the model
    # The driver's own, and /proc/self/task, which its rule for the names of threads is about.
    "model-cuda": (range(4), ("/dev/shm/cloister-pages-", f"{tempfile.gettempdir()}/cloister-test-", "/dev/nvidia",
                              "/proc/", "/memfd:", "anon_inode:", "socket:", "pipe:", "/dev/null")),
    "command": (range(3), ()),
    "write": (range(5), ("state/tmp/",)),
}
KINDS = {"cloister-tesser": "tesseract", "cloister-model": "model", "cloister-model-": "model-cuda",
         "null-recogniser": "command", "cloister-write": "write"}
if not (BUILD / "cloister-model-cuda").exists() or not pathlib.Path("/dev/nvidia0").exists():
    del EXPECTED["model-cuda"]  # without a GPU its program ends at once


def kind_of(pid):
    name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    if name != "cloister-decode":
        return KINDS.get(name)
    arguments = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    modes = [mode for mode in ("unpack", "ticket", "figures", "html") if f"--{mode}".encode() in arguments]
    return (modes or ["decode"])[0]


def filters(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^Seccomp_filters:\s*(\d+)", status, re.M)[1])


def look(pid, own, seen):
    """Count what a locked child holds; before it is locked it is still at its preparations."""
    try:
        kind = kind_of(pid)
        if not kind or filters(pid) <= own:
            return
        before = kind_of(pid)
        given, folders = EXPECTED[kind]
        more = []
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            if int(name) not in given:
                target = target.removeprefix(f"{spool.root}/")
                # A foreign program is locked before it starts: its loader opens libraries.
                if not target.startswith(folders) and not (kind == "command" and ".so" in target):
                    more.append(f"{name} is {target}")
        if before == kind:
            seen[kind][", ".join(sorted(more))] += 1
    except (OSError, TypeError):
        pass  # it has ended


spool = Spool()
FIGURE = '<div data-bbox="[0,0,1024,1024]" data-label="Figure"></div>'
# So much text that what makes HTML of it has work for as long as it takes to look.
spool.null_pipeline("null", "--delay-ms", "20", "--layout", FIGURE + "<p>Lorem ipsum</p>", "--times", "2000",
                    more="outputs: [text.md, document.html]\n")
spool.model_pipeline("model", modelfolder.make(spool.path / "random"), "tokens: 100")
if "model-cuda" in EXPECTED:
    spool.model_pipeline("cuda", spool.path / "random", "device: cuda", "tokens: 100")
run = spool.start("-j", "2")
ok(wait_for(lambda: (spool.root / "state" / "status.json").exists()), "a run has begun")
seen = {kind: collections.Counter() for kind in EXPECTED}
own, number = filters(run.pid), 0
until = time.monotonic() + 120
while time.monotonic() < until and (FULL or any(sum(seen[kind].values()) < 3 for kind in EXPECTED if kind != "ticket")):
    if number < 400 and len(spool.left()) < 6:
        number += 1
        pipeline = {1: "tesseract", 2: "model", 3: "cuda" if "model-cuda" in EXPECTED else "null"}.get(number % 10, "null")
        for name in ("scans/telegram.png", "archives/week-12.tar.zst", "forms/signal-book.pdf",
                     "protected/ledger.pdf.cloister.yaml", "protected/ledger.pdf"):
            spool.drop(SAMPLES / name, f"{pipeline}/{number}/{name}")
    for pid in children(run.pid):
        look(pid, own, seen)
run.kill()
run.wait()
looks = leaked = 0
for kind in EXPECTED:
    ok(seen[kind] or kind == "ticket", f"{kind}: was seen at work", dict(seen[kind]))
    bad = [f"{more}, {times} times" for more, times in seen[kind].items() if more]
    problems(bad, f"{kind}: holds what it was given, and opened nothing elsewhere")
    looks += sum(seen[kind].values())
    leaked += len(bad)
figure("leaked descriptors", f"{looks} looks at children of {len(EXPECTED)} kinds, {leaked} leaked")
done()
