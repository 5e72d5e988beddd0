#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""As an ordinary user, with a spool of one's own: it works, and the sandbox is on. And a clone under
umask 002, whose files are open to the group: the built ones are safe."""

import os
import pathlib
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

NOBODY = 65534
CARD = SAMPLES / "scans" / "index-card.pgm"
# What an outer make tells its children is not for a make of our own.
PLAIN = {k: v for k, v in os.environ.items()
         if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "BUILD", "CLOISTER_PIPELINES")}


def install(folder):
    """The programs, where everybody can read them: a clone may lie in a closed home."""
    (folder / "pipelines").mkdir(parents=True)
    for program in BUILD.glob("cloister*"):
        if program.is_file() and os.access(program, os.X_OK):
            shutil.copy(program, folder)
    shutil.copy(NULL_RECOGNISER, folder)


def as_user(command, **options):
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command]
    return command, dict(options, stdin=subprocess.DEVNULL, cwd="/",
                         env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})


def status_of(pid):
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return {}
    return dict(re.findall(r"^(\w+):\s*(\S+)", text, re.M))


spool = Spool()
programs = spool.path / "programs"
install(programs)
subprocess.run(["make", "-s", f"BUILD={programs}", f"{programs}/pipelines/tesseract.yaml"], check=True,
               cwd=ROOT, env=PLAIN)
spool.pipeline("null", f"recogniser: command\ncommand: [{programs}/null-recogniser, --delay-ms, '50']\n"
                       "dpi: 72\n")
spool.drop(pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(30)])), "null/book.pdf")
spool.drop(CARD, "tesseract/card.pgm")
spool.drop(b"never a document", "null/bad.bin")
if os.geteuid() == 0:
    os.chmod(spool.path, 0o755)
    for path in [spool.root, *spool.root.rglob("*")]:
        os.chown(path, NOBODY, NOBODY)
command, options = as_user([programs / "cloister", "run", spool.root, "--once", "-j", "1"])
run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
atexit.register(lambda process=run: process.poll() is None and process.kill())


def filtered():
    """A recogniser of the run that has added a filter to that of the supervisor."""
    own = int(status_of(run.pid).get("Seccomp_filters", 0))
    for pid in children(run.pid, "null-recogniser"):
        found = status_of(pid)
        if own and int(found.get("Seccomp_filters", 0)) > own:
            return found
    return None


if os.environ.get("CLOISTER_SANITIZED"):
    skip("the sandbox is on", "there is none in a build with sanitizers")
else:
    found = wait_for(filtered, 20)
    ok(found, "the recogniser works behind a filter of its own")
    same(found and (found["NoNewPrivs"], int(found["CapEff"], 16)), ("1", 0),
         "and has no capability and no way to gain one")
    same(found and int(found["Uid"]), os.geteuid() or NOBODY, "as the user who runs it")
out, err = run.communicate(timeout=60)
same(run.returncode, 1, "the run ends with 1, because of the one that is no document")
ok("sandbox" not in err.lower(), "and does not complain of a missing sandbox", err)
for name, original in (("null/book.pdf", None), ("tesseract/card.pgm", CARD)):
    result = spool.result(name)
    problems(result_problems(result, original) if result else ["no result", err], f"{name} is read")
same((spool.why("null/bad.bin") or {}).get("reason"), "unknown-type", "the other one fails")
same((spool.left(), spool.tokens()), ([], []), "nothing is left")

# Under umask 002 a clone is writable by its group. A pipeline file in it is refused as it lies there;
# make installs it so that it is safe.
clone = spool.path / "clone"
(clone / "pipelines").mkdir(parents=True)
for name in ("Makefile", *(f"pipelines/{p.name}" for p in (ROOT / "pipelines").glob("*.yaml"))):
    shutil.copy(ROOT / name, clone / name)
    os.chmod(clone / name, 0o664)
    made = clone / "build" / name
    if name != "Makefile":
        make = subprocess.run(["make", "-s", made.relative_to(clone)], cwd=clone, env=PLAIN, umask=0o002)
        same(make.returncode, 0, f"umask 002: make installs {name}")
        same(made.exists() and oct(made.stat().st_mode & 0o777), "0o644", "closed to the group")
        same(cloister("check", made).returncode, 0, "and it is accepted")
        same(cloister("check", clone / name).returncode, 78, "the open one beside its source is not")
install_into = clone / "build"
for program in programs.iterdir():
    if program.is_file():
        shutil.copy(program, install_into)
spool = Spool()
spool.drop(CARD, "tesseract/card.pgm")
run = subprocess.run([install_into / "cloister", "run", spool.root, "--once"], capture_output=True,
                     text=True, env=PLAIN, umask=0o002, timeout=60)
same(run.returncode, 0, "umask 002: a run with the shipped pipelines ends with 0")
ok(spool.result("tesseract/card.pgm"), "umask 002: and reads its document", run.stderr)
open_to_all = [str(p.relative_to(spool.root)) for part in ("out", "done", "state", "failed")
               for p in [spool.root / part, *(spool.root / part).rglob("*")] if p.stat().st_mode & 0o002]
same(open_to_all, [], "umask 002: nothing of the spool is open to everybody")
done()
