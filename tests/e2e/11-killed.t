#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""SIGKILL of any process in the middle of a run: the next run ends with the results of an undisturbed
one, and pages that were finished are not read again."""

import io
import os
import re
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PAGES = 24


def document():
    """Each page has a width of its own, which the null recogniser tells."""
    return pdf.build(pdf.pages([pdf.text(b"Page number %d" % n) for n in range(1, PAGES + 1)],
                               widen=1))


def spool_with(delay):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", str(delay), more="dpi: 72\n")
    spool.drop(document(), "null/book.pdf")
    return spool


def finished(spool):
    """Pages in the journals of attempts."""
    best = 0
    for path in (spool.root / "state" / "tmp").glob("*/pages"):
        try:
            best = max(best, path.read_bytes().count(b'"page":'))
        except OSError:
            pass
    return best


undisturbed = spool_with(60)
same(undisturbed.run().returncode, 0, "an undisturbed run ends with 0")
want = undisturbed.result("null/book.pdf")
same(want.states(), ["ok"] * PAGES, "and reads all pages")
same([page["result"]["text"] for page in want.lines()], [f"page {300 + n}x80" for n in range(PAGES)],
     "each as what it is")

# The supervisor, in the middle.
spool = spool_with(60)
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: finished(spool) >= 8), "a run has finished some pages")
kids = children(run.pid)
kill(run.pid)
run.wait()
ok(wait_for(lambda: not any(os.path.exists(f"/proc/{kid}") for kid in kids), 10),
   "children end when the supervisor is killed")
reusable = finished(spool)
ok(8 <= reusable < PAGES, "it was killed in the middle", f"{reusable} pages were finished")
same(spool.results(), {}, "nothing was published by halves")
second = spool.run("-j", "1")
same(second.returncode, 0, "the next run ends with 0")
got = spool.result("null/book.pdf")
got_files, want_files = got.stable() if got else {}, want.stable()
for file in want_files:
    same(got_files.get(file), want_files[file], f"{file}: is that of an undisturbed run")
status = json.loads((spool.root / "state" / "status.json").read_text())
ok(status["pages"]["reused"] >= reusable - 1, "finished pages are not read again",
   f"{reusable} finished, {status['pages']}")
same(spool.tokens(), [], "no token is left")
same(os.listdir(spool.root / "state" / "tmp"), [], "no attempt is left")

# Each kind of child, in the middle: the document is finished by this very run.
for program, name in (("cloister-decode", "the decoder"), ("null-recogniser", "the recogniser")):
    spool = spool_with(60)
    run = spool.start("--once", "-j", "1")
    ok(wait_for(lambda: finished(spool) >= 4), f"a run has finished some pages before {name} dies")
    victims = children(run.pid, program)
    ok(victims and all([kill(pid) for pid in victims]), f"{name} is killed", victims)
    code = run.wait(60)
    got = spool.result("null/book.pdf")
    ok(code in (0, 1) and got, f"the run outlives {name}", f"exit code {code}")
    if got:
        problems(result_problems(got), "its result holds together")
        lost = sum(state != "ok" for state in got.states())
        ok(lost <= 1, f"{name}'s death costs one page at most", got.states())

# What was asked of recognisers, by what they say themselves: every page of the result is from a
# request of its own, the second run asked for the pages that the first had not finished, and for no
# others.
spool = spool_with(60)
spool.null_pipeline("null", "--delay-ms", "60", "--serial", more="dpi: 72\n")
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: finished(spool) >= 8), "a run has finished some pages, counting requests")
kill(run.pid)
run.wait()
reusable = finished(spool)
same(spool.run("-j", "1").returncode, 0, "the next run ends with 0")
got = spool.result("null/book.pdf")
asked = {}
for number, page in enumerate(got.lines() if got else []):
    told = re.fullmatch(r"page (\d+)x80, request (\d+) of (\d+)", page["result"]["text"])
    if told and int(told[1]) == 300 + number:
        asked.setdefault(int(told[3]), []).append(int(told[2]))
same(sum(map(len, asked.values())), PAGES, "every page is told from its own request")
same(len(asked), 2, "by the recogniser of the first run and that of the second")
if len(asked) == 2:
    first, second = asked.values()  # in the order of pages
    ok(reusable <= len(first), "what was finished was taken over", reusable, first)
    same(sorted(second), list(range(1, PAGES - len(first) + 1)),
         "pages read by the second run and pages taken over are all the pages")


def caught(run, program, seconds=20):
    """A process of the run that is this program, stopped before it ended; None if there was none."""
    def stopped():
        for pid in children(run.pid, program):
            if kill(pid, signal.SIGSTOP) and pid in children(run.pid, program):
                return pid
        return None
    return wait_for(stopped, seconds, step=0)


def differences(got, want):
    return [f"{name} is missing" for name in sorted(want.keys() - got.keys())] + [
        f"{name} is another" for name in got if got[name].stable() != want.get(name)]


# The writer, in the middle of its work.
notes = {f"null/{n}.pdf": pdf.build(pdf.pages([pdf.text(b"Note %d" % n)] * 2)) for n in range(20)}


def read_notes(disturb=lambda run: None):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", "5", more="dpi: 72\n")
    for name, data in notes.items():
        spool.drop(data, name)
    run = spool.start("--once", "-j", "1")
    disturb(run)
    return spool, run.wait(60)


def kill_writer(run):
    pid = caught(run, "cloister-write")
    ok(pid and kill(pid), "the writer is killed")


spool, code = read_notes()
want = {name: result.stable() for name, result in spool.results().items()}
spool, code = read_notes(kill_writer)
same(code, 0, "the run outlives the writer")
got = spool.results()
problems(differences(got, want), "and gives the results of an undisturbed run")
same(sorted(result.document["attempt"] for result in got.values()), [1] * (len(notes) - 1) + [2],
     "one document took a second attempt")
same((spool.left(), spool.tokens(), os.listdir(spool.root / "state" / "tmp")), ([], [], []),
     "nothing is left over")

# The unpacker, in the middle of an archive. It cannot run ahead: a pipe holds a member or two.
packed = io.BytesIO()
with zipfile.ZipFile(packed, "w") as archive:
    for n in range(40):
        archive.writestr(f"{n}.pdf", pdf.build(pdf.pages([pdf.text(b"Member %d" % n)])) + b"%"
                         + b"-" * 50000)


def unpack(disturb=lambda spool, run: None):
    spool = Spool()
    spool.null_pipeline("null", more="dpi: 72\n")
    spool.drop(packed.getvalue(), "null/notes.zip")
    run = spool.start("--once", "-j", "2")
    disturb(spool, run)
    return spool, run.wait(60)


def kill_unpacker(spool, run):
    unpacked = lambda: len(list((spool.root / "state" / "tmp").glob("*/members/*")))
    wait_for(lambda: unpacked() >= 3, step=0)
    pid = caught(run, "cloister-decode")
    same(bool(pid and not (spool.root / "out" / "null").exists() and kill(pid)), True,
         "the unpacker is killed before the archive's end")


spool, code = unpack()
want = {name: result.stable() for name, result in spool.results().items()}
same((code, len(want)), (0, 40), "an archive is read undisturbed")
spool, code = unpack(kill_unpacker)
same(code, 0, "the run outlives the unpacker")
problems(differences(spool.results(), want), "and gives the results of an undisturbed run")
same((spool.left(), spool.tokens(), os.listdir(spool.root / "state" / "tmp"),
      os.listdir(spool.root / "state" / "members")), ([], [], [], []), "nothing is left over")

# The supervisor, at many moments around publication.
for moment in range(6):
    spool = Spool()
    spool.null_pipeline("null", more="dpi: 72\n")
    for n in range(6):
        spool.drop(pdf.build(pdf.pages([pdf.text(b"Note %d" % n)])), f"null/{n}.pdf")
    run = spool.start("--once", "-j", "2")
    wait_for(lambda: len(list((spool.root / "out").glob("null/*/document.json"))) >= moment, 10,
             step=0.001)
    kill(run.pid)
    run.wait()
    for result in spool.results().values():
        problems(result_problems(result), f"kill {moment}: what is published is whole")
    spool.run()
    same(sorted(spool.results()), [f"null/{n}.pdf" for n in range(6)],
         f"kill {moment}: each document has one result")
    same((spool.left(), spool.tokens()), ([], []), f"kill {moment}: nothing is left over")
done()
