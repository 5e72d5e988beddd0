#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""`then`: a text step that goes wrong costs no page the text that was read, and settings that cannot be are
refused with file, line and key."""

import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import pdf

ODD = BUILD / "tests" / "tools" / "odd-recogniser"
THEN = "dpi: 72\nthen: mend\n"


def book(pages):
    """Each page has a width of its own, which the null recogniser tells."""
    return pdf.build(pdf.pages([pdf.text(b"Page number %d" % n) for n in range(pages)], widen=1))


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
    same((run.returncode, result and [(p["status"], p.get("reason")) for p in result.pages]),
         (1, [("flagged", reason)] * 2), f"{mode}: each page is flagged and says why")
    same([(r["result"]["text"], r["result"].get("source_text"), r["result"]["then"].get("reason"))
          for r in (result.lines() if result else [])],
         [("page 300x80", None, reason), ("page 301x80", None, reason)], f"{mode}: each keeps what was read")
spool, run, result = misbehave("long-line", "{result_kibibytes: 64}", pages=3)
same(sorted(str(p.get("reason")) for p in result.pages), ["None", "None", "then:limit:result-kibibytes"],
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
