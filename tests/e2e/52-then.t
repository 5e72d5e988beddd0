#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`then`: the text of each page is given to the recogniser of another pipeline. What was read is kept, and
runs that were killed end with the same results."""

import os
import re
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import pdf

ODD = BUILD / "tests" / "tools" / "odd-recogniser"
PAGES = 16
THEN = "dpi: 72\nthen: mend\n"


def book(pages=PAGES):
    """Each page has a width of its own, which the null recogniser tells."""
    return pdf.build(pdf.pages([pdf.text(b"Page number %d" % n) for n in range(pages)], widen=1))


def spool_with(*arguments, mend=(), more="prompt: Mend\n", document=None):
    """The null recogniser reads, and another one of it mends."""
    spool = Spool()
    spool.null_pipeline("null", *arguments, more=THEN)
    spool.null_pipeline("mend", *mend, "--window=2", more=more)
    spool.drop(document or book(), "null/book.pdf")
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


# Both texts of every page.
spool = spool_with()
run = spool.run()
same(run.returncode, 0, "a run with a text step ends with 0")
want = spool.result("null/book.pdf")
same(want.states(), ["ok"] * PAGES, "all pages are there")
same([(r["result"]["text"], r["result"]["source_text"]) for r in want.lines()],
     [(f"Mend<page {300 + n}x80>", f"page {300 + n}x80") for n in range(PAGES)],
     "each has its text, and what it was made from")
ok("Mend<page 300x80>" in want.read("text.txt") and "Mend\\<page 300x80\\>" in want.read("text.md") and
   "Mend&lt;page 300x80&gt;" in want.read("document.hocr"), "the text for people is the new one")
problems(result_problems(want, spool.root / "done/null/book.pdf"), "the result holds together")
same([(page["then"]["finish"], "then" in page["seconds"]) for page in want.pages], [("stop", True)] * PAGES,
     "document.json says how the step ended")
same(want.document["recogniser"]["then"]["model"]["sha256"], hashlib.sha256(b"null").hexdigest(),
     "and who mended")
same((want.document["pipeline"]["settings"]["then"], want.document["pipeline"]["then"]["settings"]["prompt"]),
     ("mend", "Mend"), "and by which settings")

# What the text depends on is part of the identity.
def identity(**options):
    spool = spool_with(document=book(1), **options)
    spool.run()
    return spool.result("null/book.pdf").document["identity"]


ours = identity()
ok(ours == identity() != identity(more="prompt: Other\n"), "another prompt of the step makes another identity")
ok(ours == identity(more="prompt: Mend\npriority: 2\n"), "what cannot change the text does not")

# Killed in the middle: the results of an undisturbed run, and no page is worked on twice that was finished.
spool = spool_with("--delay-ms=20", mend=("--delay-ms=80",))
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: finished(spool) >= 5), "a run has finished some pages")
kill(run.pid)
run.wait()
reusable = finished(spool)
ok(5 <= reusable < PAGES, "it was killed in the middle", reusable)
second = spool.run("-j", "1")
same(second.returncode, 0, "the next run ends with 0")
got = spool.result("null/book.pdf")
for file, text in want.stable().items():
    if file == "document.json":  # commands differ by their delays
        same([timeless(page) for page in got.pages], text["pages"], "document.json: its pages are the same")
    else:
        same(got.stable()[file], text, f"{file}: is that of an undisturbed run")
ok(json.loads((spool.root / "state/status.json").read_text())["pages"]["reused"] >= reusable - 1,
   "finished pages are not read again")
same((spool.left(), spool.tokens(), os.listdir(spool.root / "state/tmp")), ([], [], []), "nothing is left over")

# The second recogniser dies in the middle, once: no page shows it.
spool = spool_with("--delay-ms=5", mend=("--delay-ms=80", "--serial"))
run = spool.start("--once", "-j", "1")
wait_for(lambda: finished(spool) >= 4)
second = [pid for pid in children(run.pid, "null-recogniser")
          if b"--window=2" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
ok(second and kill(second[0]), "the second recogniser is killed")
same(run.wait(60), 0, "the run outlives it")
got = spool.result("null/book.pdf")
told = [re.fullmatch(r"Mend<page (\d+)x80>, request \d+ of (\d+)", r["result"]["text"]) for r in got.lines()]
same([int(t[1]) for t in told if t], list(range(300, 300 + PAGES)), "each page has its own text")
same(len({t[2] for t in told if t}), 2, "from two processes, one after the other")

# Often idle, because the first one is slower, it is not stopped to make room and begun again.
spool = spool_with("--delay-ms=30", "--window=1", mend=("--serial",), document=book(6))
spool.run("-j", "1")
same(len({r["result"]["text"].split()[-1] for r in spool.result("null/book.pdf").lines()}), 1,
     "one process mends all pages, also when it has to wait for them")

# Blank pages have nothing to be mended; text from the document itself takes the step, too.
spool = spool_with(document=pdf.build(pdf.pages([pdf.text(b"Something"), b""])))
spool.run()
same([(p["status"], p.get("reason"), "then" in p) for p in spool.result("null/book.pdf").pages],
     [("ok", None, True), ("ok", "blank", False)], "a blank page takes no step")
spool = Spool()
spool.pipeline("letters", "text_layer: prefer\nthen: mend\n")
spool.null_pipeline("mend", more="prompt: Mend\n")
spool.drop(SAMPLES / "letters/harbour-letter.pdf", "letters/letter.pdf")
same(spool.run().returncode, 0, "a letter that has text of its own")
letter = spool.result("letters/letter.pdf")
ok(all(r["source"] == "text-layer" and r["result"]["text"] == f"Mend<{r['result']['source_text']}>"
       for r in letter.lines()), "takes the step with it", letter.lines())

# Words and boxes are those that were read, and so are paragraphs, whatever the answer looks like.
READER = r"""
import json, sys
print(json.dumps(dict(airlock=1, name="lines", window=1)), flush=True)
for line in sys.stdin:
    lines = [dict(words=[dict(text=word, box=[9, y, 90, y + 9])]) for word, y in (("Tide", 9), ("table", 30))]
    print(json.dumps(dict(id=json.loads(line)["id"], status="ok", text="Tide\n\ntable", lines=lines)), flush=True)
"""
spool = Spool()
for name, then in (("plain", ""), ("then", "then: mend\n")):
    spool.pipeline(name, f"recogniser: command\ncommand: [/usr/bin/python3, -c, {json.dumps(READER)}]\ndpi: 72\n{then}")
    spool.drop(book(1), f"{name}/book.pdf")
spool.pipeline("mend", f"recogniser: command\ncommand: [{ODD}, --mode, good]\n")
spool.run()
plain, other = spool.result("plain/book.pdf"), spool.result("then/book.pdf")
same((plain.text(), other.text()), ("Tide\n\ntable", "read well"), "an answer may be quite another text")
ok(plain.read("document.hocr").replace("plain/", "then/") == other.read("document.hocr") and
   plain.read("document.hocr").count('class="ocr_par"') == 2, "hOCR is that of what was read",
   other.read("document.hocr"))

# A text that fills many pipes arrives whole.
READER = r"""
import json, sys
print(json.dumps(dict(airlock=1, name="long", window=1)), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    text = ('x"y' * 1000 + chr(10)) * (130 if request["width"] == 300 else 1000)
    print(json.dumps(dict(id=request["id"], status="ok", text=text)), flush=True)
"""
long = Spool()
long.pipeline("long", f"recogniser: command\ncommand: [/usr/bin/python3, -c, {json.dumps(READER)}]\n{THEN}")
long.null_pipeline("mend", more="prompt: Mend\nlimits: {read_seconds: 20}\n")
long.drop(book(2), "long/book.pdf")
long.run()
first, second = long.result("long/book.pdf").lines()
text = ('x"y' * 1000 + "\n") * 130
ok(first["result"]["text"] == f"Mend<{text}>" and first["result"]["source_text"] == text,
   "a text that is longer than a pipe arrives whole")
same((second["reason"], len(second["result"]["text"])), ("then:limit:request", 3001000),
     "one that no request can hold stays as it was read, and says so")
done()
