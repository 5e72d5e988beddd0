#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser that says who it is before it has loaded: pages are drawn meanwhile, and asked about when it is
ready; when it never is, documents wait for another run."""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

PERL = "/usr/bin/perl"
if not os.access(PERL, os.X_OK):
    skip_all(f"no {PERL}")

# $drawn: how many pages lie there; all are in the working directory, in folders.
PROGRAM = r"""#!/usr/bin/perl
use strict; use warnings; $| = 1;
sub drawn { return scalar grep { -s $_ } glob '*/*.pnm' }
print qq({"airlock":1,"name":"slow","version":"1","window":8,"loading":true}\n);
LOAD
print qq({"ready":true}\n);
while (my $line = <STDIN>) {
    my ($id) = $line =~ /"id":(\d+)/ or die;
    my ($width) = $line =~ /"width":(\d+)/ or die;
    print qq({"id":$id,"status":"ok","format":"text","text":"page $width"}\n);
}
"""


def new_spool(load, documents=1, pages=4):
    spool = Spool()
    os.chmod(spool.path, 0o755)
    program = spool.path / "program" / "recogniser"
    program.parent.mkdir()
    program.write_text(PROGRAM.replace("LOAD", load))
    program.chmod(0o755)
    spool.pipeline("slow", f"recogniser: command\ncommand: [{program}]\ndpi: 72\n")
    book = pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(pages)], widen=1))
    for n in range(documents):
        spool.drop(book + b"%%%d\n" % n, f"slow/{n}.pdf")
    return spool, program


def texts(spool, n):
    result = spool.result(f"slow/{n}.pdf")
    return result and [line["result"]["text"] for line in result.lines()]


READ = [f"page {300 + n}" for n in range(4)]

# It is ready when it sees pages that are drawn: without them it would never be.
spool, _ = new_spool("for (1 .. 200) { last if drawn() >= 4; select undef, undef, undef, 0.1 } "
                     "die 'nothing was drawn' if drawn() < 4;", documents=3)
run = spool.run("-j", "2", timeout=60)
same((run.returncode, [texts(spool, n) for n in range(3)]), (0, [READ] * 3),
     "while it loads, pages are drawn; then they are read")

# It asks for nothing before it is ready: what it was sent would lie in its standard input.
spool, _ = new_spool("for (1 .. 200) { last if drawn() >= 4; select undef, undef, undef, 0.1 } sleep 1; "
                     "my $in = ''; vec($in, 0, 1) = 1; die 'asked' if select $in, undef, undef, 0;")
run = spool.run(timeout=60)
same((run.returncode, texts(spool, 0)), (0, READ), "nothing is asked before it is ready")

# One that ends while it loads, three times: the documents are not to blame, and stay.
spool, program = new_spool("exit 3;", documents=5)
run = spool.run("-j", "2", timeout=60)
same((run.returncode, len(spool.tokens()), list((spool.root / "failed").rglob("*.why.json"))), (75, 5, []),
     "one that dies while it loads: the documents wait")
ok("ended with status 3" in run.err or "exit" in run.err, "and the run says why", run.err)
program.write_text(PROGRAM.replace("LOAD", ""))
run = spool.run(timeout=60)
same((run.returncode, [texts(spool, n) for n in range(5)]), (0, [READ] * 5), "and the next run reads them")

# The same where it says that there is no use in trying, with pages drawn and waiting for it.
spool, _ = new_spool("for (1 .. 200) { last if drawn() >= 2; select undef, undef, undef, 0.1 } exit 78;")
run = spool.run(timeout=60)
same((run.returncode, len(spool.tokens()), list((spool.root / "failed").rglob("*.why.json"))), (75, 1, []),
     "one that gives up while pages wait for it: they wait on")

# Something else than that it is ready.
spool, _ = new_spool(r'print qq({"id":1,"status":"ok","text":""}\n);')
run = spool.run(timeout=60)
same((run.returncode, len(spool.tokens())), (75, 1), "an answer before it is ready is a fault of the protocol")

# Stopped while it loads: nothing is lost, and nobody waits for it.
spool, program = new_spool("sleep 60;")
run = spool.start()
ok(wait_for(lambda: any("active" in str(token) for token in spool.tokens())), "a document is opened while it loads")
run.terminate()
same(run.wait(20), 75, "a run that is stopped then does not wait for it")
same(len(spool.tokens()), 1, "the document stays")
done()
