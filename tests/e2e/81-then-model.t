#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The text step with real models, small and random: cloister-model mends what another recogniser read, with
the shipped pipeline qwen3-text. Its text is nonsense, and the same nonsense in every run."""

import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import modelfolder
import pdf

PAGES = 10
BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(PAGES)], widen=1))
models = modelfolder.shelf()
text = modelfolder.make(models / "Qwen--Qwen3-4B-Instruct-2507", "qwen3")
other = modelfolder.make(models / "other", "qwen3-untied")
vision = modelfolder.make(models / "qwen3-vl", "qwen3-vl")
SHIPPED = pathlib.Path("pipelines/qwen3-text.yaml").read_text()


def prepare(*settings):
    """A copy of the shipped pipeline, with a model that often does not come to an end."""
    spool = Spool()
    spool.null_pipeline("letters", more="dpi: 72\nthen: mend\n")
    values = dict(line.split(": ") for line in ("folder: other", "tokens: 500", "temperature: 1.0",
                                                "cache_mebibytes: 64", *settings))
    spool.pipeline("mend", "".join(
        line for line in SHIPPED.splitlines(True) if line.split(":")[0].strip() not in values).replace(
        "model:\n", "model:\n" + "".join(f"  {key}: {value}\n" for key, value in values.items())))
    spool.drop(BOOK, "letters/book.pdf")
    return spool


def pages_of(spool):
    return [spool.result("letters/book.pdf").stable()[file] for file in ("pages.jsonl", "text.md", "document.hocr")]


# What a result says.
one = prepare()
run = one.run(timeout=60)
book = one.result("letters/book.pdf")
ok(run.returncode in (0, 1) and book, "a run with a text step mends a book", run.returncode, run.err)
problems(result_problems(book), "the result is whole")
ended = {}
for n, record in enumerate(book.lines()):
    result, read = record["result"], f"page {300 + n}x80"
    then = result["then"]
    ended.setdefault(then["finish"], []).append(n)
    ok((record["status"], result["text"] != read, result.get("source_text")) == (
        ("ok", True, read) if then["finish"] == "stop" else ("flagged", False, None)) and
       result["format"] == "text" and then["tokens"] > 0 and 0 < then["confidence_worst"] <= then["confidence"] <= 1,
       f"page {n + 1}: {then['finish']} after {then['tokens']} tokens", record)
ok(len(ended["stop"]) > 2 and len(ended) > 1, "some were mended, some ended otherwise", ended)
prompt = SHIPPED.split("prompt: |\n")[1].split("limits:")[0]
prompt = "\n".join(line[2:] for line in prompt.splitlines()) + "\n"
same({page["then"]["prompt_sha256"] for page in book.pages}, {hashlib.sha256(prompt.encode()).hexdigest()},
     "document.json says what was asked")
same(book.document["recogniser"]["then"]["name"], "cloister-model", "and who answered")
same(book.document["recogniser"]["then"]["model"]["name"], "other", "with which model")

# The same again: with other company, and killed on the way.
two = prepare("sequences: 1", "threads: 1", "cache_mebibytes: 16")
two.run(timeout=60)
same(pages_of(two), pages_of(one), "one page at a time, one thread: the same to the last bit")
three = prepare()
three.configure("settle_seconds: 0\nlease_seconds: 3\n")
kills = 0
for pause in (0.1, 0.3):
    process = three.start("--once")
    found = wait_for(lambda: children(process.pid, "cloister-model") or process.poll() is not None)
    time.sleep(pause)
    kills += sum(kill(pid) for pid in children(process.pid, "cloister-model") or found or [])
    time.sleep(pause)
    process.kill()
    process.wait()
last = three.run(timeout=60)
ok(last.returncode in (0, 1) and kills, "the last run comes to its end", kills, last.returncode, last.err)
same(pages_of(three), pages_of(one), "the same after models and their supervisors were killed")

# Other words beside the weights make another text step of it: the same document is not called a duplicate.
(other / "prompt.txt").write_text("Vendor's words.\n")
modelfolder.lock(other)
one.drop(BOOK, "letters/again.pdf")
one.run(timeout=60)
again = one.result("letters/again.pdf")
same({page["then"]["prompt_sha256"] for page in again.pages}, {hashlib.sha256(b"Vendor's words.").hexdigest()},
     "prompt.txt beside the weights is asked, and makes another identity")

# The shipped pipeline after another model: Markdown stays Markdown.
spool = Spool()
spool.model_pipeline("pages", vision, "tokens: 2500", "retries: 0", more="dpi: 72\nthen: qwen3-text\n")
spool.drop(pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(4)], widen=1)), "pages/book.pdf")
spool.run(timeout=60)
result = spool.result("pages/book.pdf")
same(result.document["recogniser"]["then"]["model"]["name"], "Qwen/Qwen3-4B-Instruct-2507",
     "the shipped pipeline finds its model")
mended = [r["result"] for r in result.lines() if "source_text" in r["result"]]
ok(mended and {(r["format"], r["source_format"]) for r in mended} == {("markdown", "markdown")},
   "what is made of Markdown is Markdown", result.lines()[0])
same([r["page"] for r in result.lines() if r["status"] == "failed" and "then" in r["result"]], [],
     "a page that failed takes no step")

# Phi-4-mini, by the shipped pipeline.
phi = modelfolder.make(models / "microsoft--Phi-4-mini-instruct", "phi3-crossing")
phis = []
for settings in ({}, {"sequences": 1, "threads": 1, "cache_mebibytes": 16}):
    spool = Spool()
    spool.null_pipeline("letters", more="dpi: 72\nthen: phi-4\n")
    if settings:
        spool.pipeline("phi-4", pathlib.Path("pipelines/phi-4.yaml").read_text().replace(
            "model:\n", "model:\n" + "".join(f"  {key}: {value}\n" for key, value in settings.items())))
    spool.drop(BOOK, "letters/book.pdf")
    spool.run(timeout=60)
    phis.append(spool)
result = phis[0].result("letters/book.pdf")
same(result.document["recogniser"]["then"]["model"]["name"], "microsoft/Phi-4-mini-instruct",
     "the shipped pipeline phi-4 finds its model")
said = [r["result"]["then"] for r in result.lines()]
ok(all(then["tokens"] > 10 and then["finish"] in ("stop", "length", "repetition") for then in said),
   "it answers to each page", said)
same(pages_of(phis[1]), pages_of(phis[0]), "one page at a time, one thread: the same to the last bit")

# A text model reads no pages; and one that is not there keeps documents from being begun, not from being told.
spool.drop(BOOK, "qwen3-text/book.pdf")
spool.run(timeout=60)
why = spool.why("qwen3-text/book.pdf")
ok(why["reason"] == "pipeline" and "takes text, not pages: name this pipeline with `then: qwen3-text`" in why["text"],
   "documents dropped into in/qwen3-text fail, and say how it is used", why)
text.rename(models / "away")
spool.null_pipeline("letters", more="dpi: 72\nthen: qwen3-text\n")
spool.drop(BOOK, "letters/book.pdf")
run = spool.run(timeout=60)
why = spool.why("letters/book.pdf")
ok(run.returncode != 0 and why and why["reason"] == "recogniser" and "Qwen3-4B-Instruct-2507" in why["text"],
   "a model that is not there is named", run.returncode, why, run.err)
done()
