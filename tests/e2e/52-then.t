#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`then`: the text of each page is given to the recogniser of another pipeline. What was read is kept, a
text step that goes wrong costs no page its text, and runs that were killed end with the same results."""

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
spool = spool_with("--delay-ms=20", mend=("--delay-ms=40",))
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
spool = spool_with("--delay-ms=5", mend=("--delay-ms=40", "--serial"))
run = spool.start("--once", "-j", "1")
wait_for(lambda: finished(spool) >= 4)
both = children(run.pid, "null-recogniser")
same(len(both), 2, "two recognisers are at work")
ok(kill(both[-1]), "the second one is killed")
same(run.wait(60), 0, "the run outlives it")
got = spool.result("null/book.pdf")
told = [re.fullmatch(r"Mend<page (\d+)x80>, request \d+ of (\d+)", r["result"]["text"]) for r in got.lines()]
same([int(t[1]) for t in told if t], list(range(300, 300 + PAGES)), "each page has its own text")
same(len({t[2] for t in told if t}), 2, "from two processes, one after the other")


# One that does nothing but misbehave: the pages keep what was read, and are flagged.
def misbehave(mode, limits, pages=2):
    spool = Spool()
    spool.null_pipeline("null", more=THEN)
    spool.null_pipeline("other", more="dpi: 72\n")
    spool.pipeline("mend", f"recogniser: command\ncommand: [{ODD}, --mode, {mode}]\nlimits: {limits}\n")
    spool.drop(book(pages), "null/book.pdf")
    spool.drop(book(1), "other/book.pdf")
    run = spool.run("-j", "2", timeout=60)
    beside = spool.result("other/book.pdf")
    ok(beside and beside.states() == ["ok"], f"{mode}: the document beside it is read")
    return spool, run, spool.result("null/book.pdf")


for mode, limits, reason in (("crash", "{}", "then:recogniser-crash"), ("error", "{}", "then:recogniser-error"),
                             ("hang", "{read_seconds: 1}", "then:limit:read-seconds"),
                             ("garbage", "{}", "then:protocol"), ("length", "{}", "then:finish:length"),
                             ("repetition", "{}", "then:finish"), ("empty", "{}", "then:empty")):
    spool, run, result = misbehave(mode, limits)
    same((run.returncode, result and [(p["status"], p["reason"]) for p in result.pages]),
         (1, [("flagged", reason)] * 2), f"{mode}: each page is flagged and says why")
    same([(r["result"]["text"], r["result"].get("source_text"), r["result"]["then"]["reason"])
          for r in (result.lines() if result else [])],
         [("page 300x80", None, reason), ("page 301x80", None, reason)], f"{mode}: each keeps what was read")
spool, run, result = misbehave("long-line", "{result_kibibytes: 64}", pages=3)
same([p.get("reason") for p in result.pages], [None, "then:limit:result-kibibytes", None],
     "too long an answer costs its page the step, and no other")

# One that gives up for good in the middle: the document waits, and no page of it is called failed.
spool = Spool()
spool.null_pipeline("null", more=THEN)
spool.pipeline("mend", """recogniser: command
command: [/bin/sh, -c, 'echo "{\\"airlock\\":1,\\"name\\":\\"mend\\",\\"takes\\":[\\"text\\"]}"; read x; exit 78']
""")
spool.drop(book(2), "null/book.pdf")
run = spool.run(timeout=30)
same((run.returncode, spool.results(), len(spool.tokens())), (75, {}, 1), "a step that gives up leaves work for later")
spool.null_pipeline("mend", more="prompt: Mend\n")
same((spool.run().returncode, [r["result"]["text"] for r in spool.result("null/book.pdf").lines()]),
     (0, ["Mend<page 300x80>", "Mend<page 301x80>"]), "once it is put right, the document is read")

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
ok("ocrx_word" in letter.read("document.hocr") and letter.read("document.hocr").count("ocr_par") > 2,
   "words, boxes and paragraphs are those that were read")

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
long.null_pipeline("mend", more="prompt: Mend\n")
long.drop(book(2), "long/book.pdf")
long.run()
first, second = long.result("long/book.pdf").lines()
text = ('x"y' * 1000 + "\n") * 130
ok(first["result"]["text"] == f"Mend<{text}>" and first["result"]["source_text"] == text,
   "a text that is longer than a pipe arrives whole")
same((second["reason"], len(second["result"]["text"])), ("then:limit:request", 3001000),
     "one that no request can hold stays as it was read, and says so")

# Settings that cannot be.
spool = Spool()
WRONG = {
    "unknown": ("dpi: 72\nthen: mned\n", "2: then: no pipeline is called 'mned'"),
    "itself": ("dpi: 72\n\nthen: wrong\n", "3: then: 'wrong' is this pipeline itself"),
    "Tesseract": ("then: tesseract\n", "1: then: 'tesseract' reads pages with Tesseract"),
    "a then of a then": ("then: null\n", "1: then: 'null' has a then of its own"),
    "a circle": ("then: back\n", "1: then: 'back' has a then of its own"),
    "wrong itself": ("then: odd\n", f"1: then: {spool.root}/pipelines/odd.yaml:4: model.think: 'perhaps' is not"),
    "no name": ("then: ../mend\n", "1: then: no pipeline is called '../mend'"),
    "a list": ("then: [mend]\n", "1: "),
}
spool.null_pipeline("null", more=THEN)
spool.null_pipeline("mend")
spool.pipeline("back", "then: wrong\n")
spool.pipeline("odd", "recogniser: model\nmodel:\n  folder: x\n  think: perhaps\n")
for name, (text, complaint) in WRONG.items():
    spool.pipeline("wrong", text)
    run = cloister("check", spool.root / "pipelines/wrong.yaml")
    ok(run.returncode == 78 and f"wrong.yaml:{complaint}" in run.out, f"{name}: file, line, key and reason", run.out)
spool.drop(book(1), "wrong/book.pdf")
spool.pipeline("wrong", WRONG["unknown"][0])
ok(spool.run().returncode == 1 and "wrong.yaml:2: then: " in spool.why("wrong/book.pdf")["text"],
   "its documents fail, and say the same")

# From the command line, with a file of one's own and the other one beside it.
spool.null_pipeline("null", more=THEN)
spool.null_pipeline("mend", more="prompt: Mend\n")
page = spool.path / "page.pdf"
page.write_bytes(book(1))
run = cloister("ocr", "--pipeline", spool.root / "pipelines/null.yaml", page)
ok(run.returncode == 0 and "Mend<page 300x80>" in run.out, "ocr takes both files", run.out, run.err)

# Recognisers that take pages alone, or texts alone, by their own word.
WORDS = "/usr/bin/python3, -c, 'import sys; print(sys.argv[1], flush=True); sys.stdin.read()'"
for takes, first, second, complaint in (
        ("", "null", "words", "null.yaml:5: then: recogniser words () of 'words' takes no text"),
        (', "takes": ["text"]', "words", "mend", "words.yaml: recogniser words () takes text, not pages: name "
         "this pipeline with `then: words` in one that reads pages")):
    spool = Spool()
    hello = '{"airlock": 1, "name": "words"%s}' % takes
    spool.pipeline("words", f"recogniser: command\ncommand: [{WORDS}, '{hello}']\n")
    spool.null_pipeline("mend")
    spool.null_pipeline("null", more="dpi: 72\n\nthen: words\n")
    spool.drop(book(1), f"{first}/book.pdf")
    run = spool.run(timeout=30)
    why = spool.why(f"{first}/book.pdf")
    ok(run.returncode == 1 and why and why["reason"] == "pipeline" and complaint in why["text"],
       f"{first}: its document fails and says what is wrong with whom", run.err, why)
done()
