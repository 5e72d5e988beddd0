#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Recognisers with a window of many pages, with long requests, that die of single pages, are slow to
start, or call themselves by long names: nobody else's pages suffer, and nothing turns idly."""

import os
import resource
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PERL = "/usr/bin/perl"
if not os.access(PERL, os.X_OK):
    skip_all(f"no {PERL}")

# Says hello, then answers line by line; $width is that of the page.
FRAME = r'''#!/usr/bin/perl
use strict; use warnings; $| = 1;
my $hash = '0' x 64;
BEFORE
print qq({"airlock":1,"name":"NAME","version":"1","window":WINDOW,"formats":["text"],) .
      qq("model":{"name":"none","sha256":"$hash"}}\n);
while (my $line = <STDIN>) {
    my ($id) = $line =~ /"id":(\d+)/ or die;
    my ($width) = $line =~ /"width":(\d+)/ or die;
    EACH
    print qq({"id":$id,"status":"ok","format":"text","text":"page $width","finish":"stop"}\n);
}
'''


def new_spool(window=1, each="", before="", name="hard", more=""):
    spool = Spool()
    os.chmod(spool.path, 0o755)
    program = spool.path / "program" / "recogniser"
    program.parent.mkdir()
    program.write_text(FRAME.replace("WINDOW", str(window)).replace("EACH", each)
                       .replace("BEFORE", before).replace("NAME", name))
    program.chmod(0o755)
    spool.pipeline("hard", f"recogniser: command\ncommand: [{program}]\ndpi: 72\n{more}")
    return spool


def book(pages, text=b"Page"):
    """Pages of width 300, 301, 302 ..."""
    return pdf.build(pdf.pages([pdf.text(text + b" %d" % n) for n in range(pages)], widen=1))


def states(spool, name):
    result = spool.result(name)
    return result and result.states()


# One page kills the recogniser; those beside it in the window do not fall with it.
spool = new_spool(window=8, each="select undef, undef, undef, 0.1; kill 'SEGV', $$ if $width == 304;")
spool.drop(book(6, b"Poison"), "hard/poison.pdf")
for n in range(6):
    spool.drop(book(4, b"Good %d" % n), f"hard/good{n}.pdf")
spool.run("-j", "4")
same([states(spool, f"hard/good{n}.pdf") for n in range(6)], [["ok"] * 4] * 6,
     "pages beside one that kills their recogniser are read")
same(states(spool, "hard/poison.pdf"), ["ok"] * 4 + ["failed", "ok"], "that one has failed")

# A document with many such pages is not the recogniser's fault.
spool = new_spool(each="kill 'SEGV', $$ if $width > 300;", more="originals: keep\n")
spool.drop(book(16, b"Poison"), "hard/a-poison.pdf")
spool.drop(book(1, b"Good"), "hard/b-good.pdf")
code = spool.run("-j", "1").returncode
same((code, states(spool, "hard/b-good.pdf")), (1, ["ok"]),
     "a document of pages that kill it does not make a recogniser a broken one")
same(states(spool, "hard/a-poison.pdf"), ["ok"] + ["failed"] * 15, "they have failed")

# One that breaks for good leaves the documents where they are.
spool = new_spool(each="kill 'SEGV', $$ if $width == 300;")
for n in range(24):
    spool.drop(book(1, b"Note %d" % n), f"hard/{n}.pdf")
code = spool.run("-j", "1").returncode
ok(code == 75, "a recogniser that dies of every document: work remains", code)
waiting = len(spool.tokens())
ok(waiting and not [p for p in (spool.root / "failed").rglob("*.why.json")
                    if json.loads(p.read_text())["reason"] == "recogniser"],
   "and waits for another run, admitted or not", waiting)

# Long requests, many at a time, to one that reads them late.
spool = new_spool(window=64, before="sleep 1;", each="select undef, undef, undef, 0.01;",
                  more=f"prompt: {'x' * 30000}\n")
for n in range(3):
    spool.drop(book(60, b"Book %d" % n), f"hard/{n}.pdf")
code = spool.run("-j", "2", timeout=60).returncode
same((code, [states(spool, f"hard/{n}.pdf") for n in range(3)]), (0, [["ok"] * 60] * 3),
     "64 requests of 30 KB at a time: all pages are read")

# A name that is cut within a character.
spool = new_spool(name="n" + "\u00e9" * 60)
spool.drop(book(1), "hard/note.pdf")
run = spool.run()
same((run.returncode, states(spool, "hard/note.pdf")), (0, ["ok"]), "a long name that is not ASCII",
     )

# Waiting for a slow one, with a document that was admitted before.
spool = new_spool(each="sleep 60;")
spool.drop(book(1), "hard/note.pdf")
run = spool.start("-j", "1")
ok(wait_for(lambda: any("active" in token for token in spool.tokens())), "a document is taken on")
kill(run.pid)
run.wait()
program = spool.path / "program" / "recogniser"
program.write_text(program.read_text().replace("sleep 60;", "")
                   .replace("my $hash", "select undef, undef, undef, 3; my $hash"))
used = resource.getrusage(resource.RUSAGE_CHILDREN)
same(spool.run("-j", "1").returncode, 0, "the next run waits for its recogniser")
now = resource.getrusage(resource.RUSAGE_CHILDREN)
spent = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
ok(spent < 1.5, "and does not keep a processor busy with that", f"{spent:.1f} s of 3")
done()
