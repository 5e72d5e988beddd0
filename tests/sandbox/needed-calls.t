#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The allow-lists are what documents need: nothing dies for a call that is missing, and nothing is
allowed that no document asked for, unless the list says why.

A run is traced over files of every kind, and each program's calls are counted from the moment that its
own filter was loaded. Fast: the made files and a few samples; full: all samples, and the collection of
documents beside the repository where there is one.
"""

import collections
import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
from harness import FULL, figure
import kinds
import modelfolder

LISTED = ("decode", "unpack", "tesseract", "model", "write")
PROGRAMS = {"cloister-decode": "decode", "cloister-tesseract": "tesseract", "cloister-model": "model",
            "cloister-write": "write"}
COLLECTION = ROOT.parent / "shared" / "corpus"
FAST_SAMPLES = ("forms/signal-book.pdf", "photos/receipt.webp", "protected/ledger.pdf",
                "protected/ledger.pdf.cloister.yaml", "scans/catalogue-card.jp2", "scans/turned.pdf")

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("AddressSanitizer and the sandbox exclude each other")
if subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True).returncode:
    skip_all("strace does not work here: install strace, and allow tracing")


def allow_list():
    """{call or "fcntl CMD": (kinds, why a list of calls in use need not show it)} of sandbox_calls.h."""
    text = (ROOT / "runner" / "sandbox_calls.h").read_text()
    names = {"LISTED": set(LISTED), "PARSERS": set(LISTED) - {"model", "write"},
             **{kind.upper(): {kind} for kind in LISTED}}
    found = {}

    def add(call, whose, why):
        kinds_ = set().union(*(names[name.strip()] for name in whose.split("|")))
        before = found.get(call, (set(), ""))
        found[call] = (before[0] | kinds_, before[1] or why or "")
    for call, whose, why in re.findall(
            r"^\t\{SCMP_SYS\((\w+)\), ([A-Z |]+)\},(?:[ \t]*/\*\s*(.*?)\s*\*/)?",
            text[:text.index("rules_by_argument")], re.M | re.S):
        add(call, whose, why)
    for whose, action, call, rest in re.findall(
            r"^\t\{([A-Z |]+), (ALLOW|REFUSE)\b.*?SCMP_SYS\((\w+)\), (.*)", text, re.M):
        if not set(whose.replace("|", " ").split()) <= set(names):
            continue
        command = re.search(r"INT\(1, (\w+)\)", rest)
        add(f"fcntl {command[1]}" if call == "fcntl" and command else call, whose,
            "it is refused" if action == "REFUSE" else "".join(re.findall(r"/\* (.*) \*/", rest)))
    found["tgkill"] = (set(LISTED), "abort(), added by sandbox.c for oneself alone")
    return found


def calls_of(trace):
    """(Counter of (kind, call) behind its own filter, lines of deaths by SIGSYS)."""
    used, deaths = collections.Counter(), []
    kind, locked, begun = {}, set(), {}
    with open(trace, errors="replace") as lines:
        for line in lines:
            pid, _, rest = line.partition(" ")
            rest = rest.strip()
            if rest.endswith("<unfinished ...>"):
                begun[pid] = rest[:-len("<unfinished ...>")]
                continue
            if rest.startswith("<... "):
                rest = begun.pop(pid, "") + rest.partition("resumed>")[2]
            if "SIGSYS" in rest:
                deaths.append(f"{kind.get(pid, '?')}: {rest.strip()}")
            call = re.match(r"(\w+)\((.*)", rest)
            if not call:
                continue
            name, arguments = call.groups()
            if name in ("execve", "execveat") and " = 0" in rest:
                program = re.match(r'"(?:[^"]*/)?([^"/]+)"', arguments)
                kind[pid] = PROGRAMS.get(program[1]) if program else None
                if kind[pid] == "decode" and re.search('"--(unpack|figures|html)"', arguments):
                    kind[pid] = "unpack"
                locked.discard(pid)
            elif pid in locked:
                if name == "fcntl":
                    name += " " + re.match(r"\d+, (\w+)", arguments)[1]
                used[kind[pid], name] += 1
                thread = re.search(r"CLONE_THREAD.* = (\d+)$", rest)
                if thread:
                    kind[thread[1]] = kind[pid]
                    locked.add(thread[1])
            elif kind.get(pid) and re.search(r"SECCOMP_SET_MODE_FILTER, .* = 0$", rest):
                locked.add(pid)
    return used, deaths


spool = Spool()
FIGURE = '<div data-bbox="[0,0,512,512]" data-label="Figure">A <b>boat</b>: $x$</div>'
spool.null_pipeline("null", "--layout", FIGURE, more="dpi: 100\noutputs: [text.md, text.txt, pages.jsonl, "
                    "document.hocr, document.html]\n")
spool.model_pipeline("model", modelfolder.make(spool.path / "random"))
spool.drop(SAMPLES / "scans/telegram.png", "model/telegram.png")
count = 1
for name, data in {**kinds.documents(), **kinds.archives()}.items():
    spool.drop(data, f"null/made/{name}")
    count += 1
samples = [p for p in sorted(SAMPLES.rglob("*")) if p.is_file()] if FULL else \
    [SAMPLES / name for name in FAST_SAMPLES]
for sample in samples:
    spool.drop(sample, f"{'tesseract' if FULL else 'null'}/samples/{sample.relative_to(SAMPLES)}")
    count += 1
if not FULL:
    spool.drop(SAMPLES / "scans/telegram.png", "tesseract/telegram.png")
    spool.drop(SAMPLES / "letters/harbour-letter.pdf", "tesseract/letter.pdf")
    count += 2
if FULL and COLLECTION.is_dir():
    for path in sorted(COLLECTION.rglob("*")):
        if path.is_file():
            spool.drop(path, f"null/collection/{path.relative_to(COLLECTION)}")
            count += 1

trace = spool.path / "trace"
traced = subprocess.run(["strace", "-f", "-qq", "-s", "200", "-o", trace, CLOISTER, "run", spool.root,
                         "--once", "-j", "2"], capture_output=True, text=True,
                        timeout=3000 if FULL else 200)
ok(traced.returncode in (0, 1), "a traced run comes to its end", traced.returncode, traced.stderr[-2000:])
used, deaths = calls_of(trace)
problems(deaths, "no process dies of a call that its list lacks")
reasons = [f"{path}: {why}" for path in (spool.root / "failed").rglob("*.why.json")
           if '"sandbox"' in (why := path.read_text())]
problems(reasons, "no document fails for the sandbox")
read = [name for name, result in spool.results().items() if "ok" in result.states()]
ok(len(read) > 30, "most of them are read", read)
allowed = allow_list()
ok(len(allowed) > 30, "the lists were found", sorted(allowed))
for kind in LISTED:
    mine = {call for whose, call in used if whose == kind}
    ok("read" in mine or "mmap" in mine, f"{kind}: its calls were seen", sorted(mine))
    problems(sorted(mine - {call for call, (whose, _) in allowed.items() if kind in whose}),
             f"{kind}: calls that stand in no list")
    figure(f"system calls {kind} needs", f"{len(mine)} of "
           f"{sum(kind in whose for whose, _ in allowed.values())} that it is let make")
seen = {call for _, call in used}
print("# allowed and not seen: " + ", ".join(
    f"{call} ({why})" for call, (_, why) in sorted(allowed.items()) if call not in seen))
problems([call for call, (_, why) in sorted(allowed.items()) if call not in seen and not why],
         "a call that nothing asked for is in the list for a written reason")
figure("files run through the filters", f"{count}, {len(deaths)} deaths by SIGSYS")
done()
