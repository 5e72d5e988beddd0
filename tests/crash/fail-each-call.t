#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each call fails, once or from then on: a typed error or a retry, never a result that is wrong and
called done; when the fault is gone, one more run completes everything.

A step is a program, one of its calls, and an error (or a read or write that does one byte). The
supervisor's system calls are taken from a trace of an undisturbed run. Its part is strict: nothing it
meets may cost a document. A decoder, a writer or a recogniser that fails for good may cost pages,
which then say so; what such a document has is right all the same, and `retry` reads it when the fault
is gone. The steps without `--step` are spread over all calls; CLOISTER_TEST_FULL=1 does every call of
the supervisor, with all errors in turn.
"""

import concurrent.futures
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import FULL, Steps, figure
import faults
import promises

# What fails before there is a program to speak of, what cannot fail (FIONREAD of a pipe), and what only
# ends it.
LEFT_OUT = re.compile(r"exit|ioctl|prctl|rt_sig|brk$|mmap|mprotect|munmap|arch_|set_|rseq|gete?[ug]id|getpid|"
                      r"clock_|wait4|execve|[^a-z0-9_]")
CHILDREN = ("cloister-decode", "cloister-write", "cloister-tesseract")
EXITS = (0, 1, 70, 75, 78)


def reference():
    """Calls of an undisturbed supervisor: {name: (first K after loading, last K)}; of the seam."""
    spool, seen, first = faults.new_spool(), {}, {}
    run = faults.run(spool, (faults.STRACE, "-o", str(spool.path / "trace")), patience=60)
    same((run.returncode, promises.settled(spool, faults.DROPS).problems), (1, []),
         "an undisturbed run")
    lines = (spool.path / "trace").read_text().splitlines()
    loaded = max(n for n, line in enumerate(lines) if "openat(" in line and ".so" in line)
    for n, line in enumerate(lines):
        name = line.split("(")[0]
        seen[name] = seen.get(name, 0) + 1
        if n > loaded:
            first.setdefault(name, seen[name])
    calls = {name: (first[name], seen[name]) for name in sorted(first) if not LEFT_OUT.search(name)}
    counts = {}
    for program in ("cloister", *CHILDREN):
        spool = new_spool(program)
        counter = faults.Counts(spool.root)
        faults.run(spool, environment=environment(spool, program, counter, ""), patience=60)
        counts[program] = counter.read()
    return calls, counts


def new_spool(program):
    spool = faults.new_spool()
    if program == "cloister-tesseract":
        for name in ("null", "laid"):
            shutil.rmtree(spool.root / "in" / name)
        for name, drop in DROPS_TESSERACT.items():
            spool.drop(drop.data, name)
    return spool


def environment(spool, program, counter, fault):
    if program == "cloister":
        return {**os.environ, **faults.seam(counter, fault)}
    return faults.wrapped(spool.path, program, counter, fault)


DROPS_TESSERACT = {"tesseract/scan.pgm": promises.Drop(b"P5 120 60 255\n" + bytes([255] * 60 + [0] * 60) * 60, 1)}


def choose(random, calls, counts, number):
    """A point: program, call, error, K, whether from then on."""
    plus = random.choice(["", "+"])
    kind = random.choices(["strace", "seam", "child"], [6, 1, 5])[0]
    if kind == "strace":
        call = random.choice(sorted(calls))
        if random.random() < 0.5:  # the many calls of few names
            call = random.choices(sorted(calls), [calls[c][1] for c in sorted(calls)])[0]
        return "cloister", call, random.choice(sorted(faults.ERRORS)), random.randint(*calls[call]), plus
    program = "cloister" if kind == "seam" else random.choice(CHILDREN)
    error = "short" if kind == "seam" else random.choice([*sorted(faults.ERRORS), "short"])
    call = random.choice([c for c in (("read", "write", "pread") if error == "short" else faults.CALLS)
                          if counts[program][c] and c != "malloc"])
    return program, "seam:" + call, error, random.randint(1, counts[program][call]), plus


def typed(spool, drops):
    """What a failing decoder, writer or recogniser may leave: everything right, or with a reason."""
    problems = []
    for name, drop in drops.items():
        expected = {name: drop}
        if drop.members and (spool.root / "out" / name).exists():
            # A member that was passed over is listed, and so is the archive in failed/.
            passed = json.loads((spool.root / "out" / name / "archive.json").read_text())["skipped"]
            if passed and not (spool.why(name) and all(one["reason"] for one in passed)):
                problems.append(f"{name}: members are passed over without a reason")
            over = {member for member in drop.members
                    if any(member.endswith(one["member"].rsplit("/")[-1]) for one in passed)}
            expected = {f"{name}/{member}": drop.members[member] for member in drop.members.keys() - over}
        for path, inner in expected.items():
            result, why = spool.result(path), spool.why(path)
            if not result and not (why and why["reason"] and why["text"]):
                problems.append(f"{path} is neither in out/ nor in failed/ with a reason")
            if result:
                problems += result_problems(result)
                texts = inner.texts or []
                for line in result.lines():
                    text = (line.get("result") or {}).get("text")
                    if line["status"] == "ok" and texts and text != texts[line["page"] - 1]:
                        problems.append(f"{path}: page {line['page']} says {text!r}")
    return problems


def unread(spool, drops):
    """What is not as it has to be, but for originals that could not be read, and say so, and for what
    the next start sweeps."""
    names = [*drops, *(f"{name}/{member}" for name, drop in drops.items() for member in drop.members or ())]
    excused = [name for name in names if (why := spool.why(name)) and
               why["reason"] in ("unreadable", "read-error", "ticket")]
    return [p for p in promises.settled(spool, drops).problems
            if not p.startswith("left over") and not any(p.startswith(name) for name in excused)]


def try_point(point):
    """Problems at this point; whether it struck at all, and stopped the run."""
    program, call, error, k, plus = point
    spool = new_spool(program)
    drops = DROPS_TESSERACT if program == "cloister-tesseract" else faults.DROPS
    when, number = f"{k}{plus}", 0 if error == "short" else faults.ERRORS[error]
    if call.startswith("seam:"):
        counter = faults.Counts(spool.root)
        run = faults.run(spool, environment=environment(spool, program, counter,
                                                        f"{call[5:]} {number} {when}"))
        struck = counter.read()[call[5:]] >= k
    else:
        trace = spool.path / "trace"
        run = faults.run(spool, faults.strace(call, number, when, trace))
        struck = "(INJECTED)" in trace.read_text(errors="replace")
    strict = program == "cloister"
    problems = promises.interrupted(spool, drops) if strict else []
    code = run.returncode
    if run.stuck:
        problems.append("it does not end when it is told to")
    elif code == 127 and "error while loading shared libraries" in run.err:
        pass  # it never began, and the loader says why
    elif code not in EXITS and not (run.told and code == 128 + 15):
        problems.append(f"it ends with {code}")
    elif code not in (0, 1) and not run.told and call != "write" and not re.search(r"(error|warn) cloister", run.err):
        problems.append(f"it ends with {code} without a word")
    elif code in (0, 1):
        problems += [f"called done: {p}" for p in (unread(spool, drops) if strict
                                                   else typed(spool, drops))]
    if struck and call == "fsync" and number != faults.ERRORS["EINTR"] and code != 75:
        problems.append(f"it goes on after a failed fsync, and ends with {code}")
    problems += promises.recover(spool, timeout=60)
    if [why for why in (spool.root / "failed").rglob("*.why.json") if why.name != "bad.pdf.why.json"]:
        spool.command("retry", "--all")
        problems += promises.recover(spool, timeout=60)
    if not strict:
        problems += typed(spool, drops) + promises.left_over(spool)
    else:
        verdict = promises.settled(spool, drops)
        problems += verdict.problems + ["a page is flagged"] * verdict.pages_not_ok
    if problems:
        problems += run.err.splitlines()[-6:]
    shutil.rmtree(spool.path, ignore_errors=True)
    return problems, struck, run.told


if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("the sanitizer stands between the programs and the C library itself")
if not faults.STRACE or subprocess.run([faults.STRACE, "-o", "/dev/null", "true"],
                                       capture_output=True).returncode:
    skip_all("strace is missing or may not trace")
calls, counts = reference()
steps = Steps(fast=24, full=sum(last - first + 1 for first, last in calls.values()) + 2000)
points = []
exhaustive = [("cloister", call, sorted(faults.ERRORS)[k % 7], k, "+" if k // 7 % 2 else "")
              for call, (first, last) in calls.items() for k in range(first, last + 1)]
for step in steps:
    point = (exhaustive[step.number] if FULL and step.number < len(exhaustive) else
             choose(step.random, calls, counts, step.number))
    # Nothing is interrupted for ever.
    points.append((step, point[:4] + ("" if point[2] == "EINTR" else point[4],)))
tried = struck = waited = wrong = 0
programs = {}
with concurrent.futures.ThreadPoolExecutor(3) as pool:
    for (step, point), (problems, hit, told) in zip(points, pool.map(lambda p: try_point(p[1]), points)):
        tried, struck, waited = tried + 1, struck + hit, waited + told
        if hit:
            programs[point[0]] = programs.get(point[0], 0) + 1
        if problems:
            wrong += 1
            ok(False, " ".join(map(str, point)), *problems[:20], step.replay())
ok(struck and not wrong, f"{struck} failing calls")
if steps.only is None:
    figure("failing calls", f"{struck} struck of {tried} tried "
           f"({', '.join(f'{n} in {name}' for name, n in sorted(programs.items()))}), {waited} waited for, "
           f"{wrong} with something lost, wrong or stuck")
done()
