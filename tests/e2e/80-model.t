#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pages read by cloister-model, with small random models: their text is nonsense, but it is the same
nonsense in every run, whatever runs beside it and however often it was killed."""

import hashlib
import json
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import modelfolder
import pdf

BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(1, 7)]))
SETTINGS = ("tokens: 2500", "retries: 2")


def prepare(model, *settings):
    spool = Spool()
    spool.model_pipeline("model", model, *settings)
    spool.drop(BOOK, "model/book.pdf")
    spool.drop(SAMPLES / "scans/telegram.png", "model/telegram.png")
    return spool


def pages_of(spool):
    """All that was read; the settings in document.json may differ."""
    return {name: [result.stable()[file] for file in ("pages.jsonl", "text.md", "document.hocr")]
            for name, result in spool.results().items()}


models = modelfolder.shelf()
folders = {name: modelfolder.make(models / name, name) for name in ("qwen3-vl", "qwen2.5-vl")}

# What a result says.
one = prepare(folders["qwen3-vl"], *SETTINGS)
run = one.run()
book = one.result("model/book.pdf")
ok(run.returncode in (0, 1) and book, "a run reads a book", run.returncode, run.err)
same(len(book.pages), 6, "all its pages are there")
problems(result_problems(book), "the result is whole")
records = book.lines()
prompt = hashlib.sha256(b"Read this page.").hexdigest()
for record in records:
    result = record["result"]
    ok(record["status"] == {"stop": "ok", "length": "failed"}.get(result["finish"], "flagged") and
       result["prompt_sha256"] == prompt and result["tokens"] > 0 and
       0 < result["confidence_worst"] <= result["confidence"] <= 1 and 1 <= result["readings"] <= 3 and
       result["format"] == "markdown", f"page {record['page']}: {result['finish']} after {result['readings']} "
       f"readings, {result['tokens']} tokens", record)
ok(any(r["result"]["readings"] > 1 for r in records), "a page that went round in circles was read again")
same({page["prompt_sha256"] for page in book.pages}, {prompt}, "document.json says what was asked")
same(book.document["recogniser"]["name"], "cloister-model", "and who read it")
ok({page["device"].split()[0] for page in book.pages} == {"cpu"}, "and on which device", book.pages[0])
same(len(book.document["recogniser"]["model"]["sha256"]), 64, "and with which model")

# The same again: alone, with others beside it, killed on the way.
two = prepare(folders["qwen3-vl"], *SETTINGS, "sequences: 1", "threads: 1", "cache_mebibytes: 32")
two.run()
same(pages_of(two), pages_of(one), "one page at a time, one thread, half the cache: the same to the last bit")
three = prepare(folders["qwen3-vl"], *SETTINGS)
three.configure("settle_seconds: 0\nlease_seconds: 3\n")
kills = 0
for _ in range(3):
    process = three.start("--once")
    if wait_for(lambda: children(process.pid, "cloister-model") or process.poll() is not None):
        time.sleep(0.3 + 0.3 * kills)
        for pid in children(process.pid, "cloister-model"):
            kills += kill(pid)
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
last = three.run(timeout=60)
ok(last.returncode in (0, 1), "the last run comes to its end", last.returncode, last.err)
same(pages_of(three), pages_of(one), f"the same after {kills} recognisers and their supervisors were killed")

# deterministic: false allows what a CPU has no use for.
loose = prepare(folders["qwen3-vl"], *SETTINGS, "device: auto", "deterministic: false")
loose.run(env={**os.environ, "CLOISTER_TEST_DEV": "/nonexistent"})
same(pages_of(loose), pages_of(one), "deterministic: false, device: auto and no GPU: the same to the last bit")
direct = subprocess.run([BUILD / "cloister-model", "--model", folders["qwen3-vl"], "--any-order", "--identify"],
                        capture_output=True, text=True)
ok(direct.returncode == 78 and "on a GPU alone" in direct.stderr, "--any-order is for a GPU", direct.stderr)

# The vendor's words beside the weights win, and make another model of it.
(folders["qwen2.5-vl"] / "prompt.txt").write_text("Vendor's words.\n")
modelfolder.lock(folders["qwen2.5-vl"])
other = prepare(folders["qwen2.5-vl"], "tokens: 400")
other.run()
result = other.result("model/book.pdf")
words = hashlib.sha256(b"Vendor's words.").hexdigest()
same({page.get("prompt_sha256") for page in result.pages} if result else other.why("model/book.pdf"), {words},
     "prompt.txt beside the weights is what is asked")

# A limit that cuts the text is a failure, also of the whole document.
short = prepare(folders["qwen3-vl"], "tokens: 5")
short.run()
same((short.why("model/telegram.png") or {}).get("reason"), "finish:length", "a text that is cut is a failure")

# What is guessed ahead shows nowhere in what comes out.
guessing = prepare(folders["qwen3-vl"], *SETTINGS, "speculate: 8")
guessing.run()
same(pages_of(guessing), pages_of(one), "speculate: 8 gives the same to the last bit")
wrong = subprocess.run([BUILD / "cloister-model", "--model", folders["qwen3-vl"], "--speculate=9", "--identify"],
                       capture_output=True, text=True)
ok(wrong.returncode == 2 and "up to 8" in wrong.stderr, "--speculate 9 is refused", wrong.stderr)

# Keys and values in fp8 are for a GPU: the pipeline's wish reaches the engine, which says so.
fp8 = prepare(folders["qwen3-vl"], "device: auto", "kv: fp8")
fp8.run(env={**os.environ, "CLOISTER_TEST_DEV": "/nonexistent"})
why = fp8.why("model/telegram.png") or {}
ok(why.get("reason") == "recogniser" and "fp8 on a GPU" in why.get("text", ""), "kv: fp8 needs a GPU", why)
wrong = subprocess.run([BUILD / "cloister-model", "--model", folders["qwen3-vl"], "--kv=e5m2", "--identify"],
                       capture_output=True, text=True)
ok(wrong.returncode == 2 and "bf16 or fp8" in wrong.stderr, "--kv of another kind is refused", wrong.stderr)
wrong = subprocess.run([BUILD / "cloister-model", "--model", folders["qwen3-vl"], "--weights=fp8", "--identify"],
                       capture_output=True, text=True)
ok(wrong.returncode == 78 and "weights are fp8 on a GPU alone" in wrong.stderr, "--weights=fp8 needs a GPU", wrong.stderr)

# Straight on the protocol: a text model is asked about a text, what is wrong with a request fails it alone,
# and answers bear the id of their request in whatever order they come.
def ask(model, *requests, eyes=0):
    lines = "".join((json.dumps(r) if isinstance(r, dict) else r) + "\n" for r in requests)
    done = subprocess.run([BUILD / "cloister-model", "--model", model, "--pages", models, "--cache=32M",
                           "--sandbox=try", f"--eyes={eyes}"],
                          input=lines, capture_output=True, text=True, timeout=60)
    hello, ready, *answers = map(json.loads, done.stdout.splitlines())
    same((hello["loading"], ready), (True, {"ready": True}), f"{model.name}: hello comes first, then it loads")
    same((done.returncode, hello["airlock"], hello["window"]), (0, 1, 8 + 2 * eyes), f"{model.name}: hello, and a clean end")
    return {answer["id"]: answer for answer in answers}


text = modelfolder.make(models / "qwen3", "qwen3")
question = {"prompt": "Mend this.", "params": {"tokens": 40, "reply": "text"}}
answers = ask(text, {**question, "id": 1, "text": "Teh tide"}, {"id": 2, **question}, {"id": 3, "text": "x"},
              {**question, "id": 4, "page": "7.pnm", "width": 5, "height": 5}, "{not JSON",
              {**question, "id": 5, "text": "Teh tide"}, {**question, "id": 6, "text": "Teh tide "},
              {"id": 7, "text": "x", "prompt": "y", "params": {"temperature": -1}},
              {"id": 8, "text": "y" * 5000, "prompt": "z"})
same({i: a["status"] for i, a in answers.items()},
     {1: "ok", 2: "error", 3: "error", 4: "error", None: "error", 5: "ok", 6: "ok", 7: "error", 8: "error"},
     "each request is answered, and what is wrong fails it alone")
same([answers[1][key] for key in ("text", "tokens", "confidence")],
     [answers[5][key] for key in ("text", "tokens", "confidence")], "the same question has the same answer")
ok("text alone" in answers[4]["error"] and "prompt" in answers[3]["error"] and "positions" in answers[8]["error"],
   "and says what is wrong", answers)
for size, answer in ((101, "seen"), (100, "a page file with another header is refused")):
    (models / "page.pnm").write_bytes(b"P6\n%d 80\n255\n" % size + bytes(range(256)) * 120)
    got = ask(folders["qwen3-vl"], {"id": "p", "page": "page.pnm", "width": 101, "height": 80, "prompt": "Read.",
                                    "params": {"tokens": 30}})["p"]
    ok((got["status"] == "ok") == (size == 101), answer, got)

# Threads that take pages in ahead change nothing but the order, whatever is wrong with some.
requests = [{"id": i, "page": f"eye-{i}.pnm", "width": 40 + 9 * i, "height": 80, "prompt": f"Read {i % 3}.",
             "params": {"tokens": 20 + i, "retries": 0, **({"temperature": -1} if i == 5 else {})}}
            for i in range(24)]
for request in requests[1:]:
    width = request["width"]
    (models / request["page"]).write_bytes(b"P5\n%d 80\n255\n" % width + bytes(i * width % 251 for i in range(80 * width)))
read = [{i: (a["status"], a.get("text"), a.get("error"), a.get("confidence"))
         for i, a in ask(folders["qwen3-vl"], *requests, "{", eyes=eyes).items()} for eyes in (0, 1, 3)]
same(read[1], read[0], "a thread that takes pages in ahead: the same answers")
same(read[2], read[0], "three of them: the same answers")
same(sorted(str(i) for i, a in read[0].items() if a[0] == "error"), ["0", "5", "None"], "and the same errors")

# What is done to a page before the model's own grid: images alone are enlarged, and only where they are small.
(models / "page.pnm").write_bytes(b"P6\n101 80\n255\n" + bytes(range(256)) * 94 + bytes(176))
page = {"page": "page.pnm", "width": 101, "height": 80, "prompt": "Read.", "native": True}
ways = {"once": {"resize": "once", "enlarge": 200}, "small": {"resize": "lanczos", "enlarge": 80},
        "enlarged": {"resize": "lanczos", "enlarge": 200}, "rendered": {"resize": "lanczos", "enlarge": 200},
        "shrunk": {"resize": "lanczos", "page_pixels": 4200}, "absurd": {"resize": "lanczos", "enlarge": 1 << 20}}
got = ask(folders["qwen3-vl"], *({**page, "id": way, "native": way != "rendered",
                                  "params": {"tokens": 30, "retries": 0, "temperature": 0.0, **params}}
                                 for way, params in ways.items()))
said = {way: got[way].get("text", "error") for way in ways}
same([way for way in ways if said[way] == said["once"]], ["once", "small", "rendered"],
     "lanczos: an image is enlarged or shrunk where it has to be, and a rendered page not enlarged")
ok(said["absurd"] == "error" and "error" not in (said["enlarged"], said["shrunk"]), "within limits", got)

# Bad folders: the run ends with 78 and says what is wrong with which file.
def broken(title, file, change, *words, golden="qwen3-vl"):
    folder = models / title.replace(" ", "-")
    modelfolder.make(folder, golden)
    path = folder / file
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    done = subprocess.run([BUILD / "cloister-model", "--model", folder, "--pages", models, "--sandbox=try"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    ok(done.returncode == 78 and all(word in done.stderr for word in (str(folder), *words)),
       f"{title}: exit 78, which file and what", done.returncode, done.stderr)
    return folder


def config(**changes):
    def change(data):
        value = json.loads(data)
        value["text_config"].update(changes)
        return json.dumps(value).encode()
    return change


broken("truncated shard", "model.safetensors", lambda data: data[:-1000], "model.safetensors")
broken("lying header", "model.safetensors", lambda data: b"\xff\xff\xff\x7f\0\0\0\0" + data[8:], "model.safetensors")
broken("no configuration", "config.json", None, "config.json")
broken("no tokenizer", "tokenizer.json", None, "tokenizer.json")
broken("absurd size", "config.json", config(hidden_size=1 << 40), "config.json", "hidden_size")
broken("another shape", "config.json", config(intermediate_size=112), "mlp")
broken("small vocabulary", "config.json", config(vocab_size=200), "config.json", "199")
broken("broken merges", "tokenizer.json", lambda data: data.replace(b'["e", "t"]', b'["e", "zz"]'),
       "tokenizer.json", "merges")
def rope(**changes):
    def change(data):
        value = json.loads(data)
        value["rope_parameters"].update(changes)
        return json.dumps(value).encode()
    return change


def top(**changes):
    return lambda data: json.dumps({**json.loads(data), **changes}).encode()


for title, change, word in (("a short window", top(sliding_window=200), "sliding_window"),
                            ("factors for other heads", rope(long_factor=[1.0] * 9), "long_factor"),
                            ("a factor of nothing", rope(short_factor=[0.0] * 8), "short_factor"),
                            ("another rope", rope(rope_type="yarn"), "yarn"),
                            ("an odd part", rope(partial_rotary_factor=0.2), "partial_rotary_factor"),
                            ("scales of its own", rope(long_mscale=1.2), "long_mscale"),
                            ("a bias", top(mlp_bias=True), "mlp_bias")):
    broken(title, "config.json", change, "config.json", word, golden="phi3-long")
broken("words of another", "tokenizer.json", lambda data: data.replace(b"<|assistant|>", b"<|answer|>"),
       "tokenizer.json", "<|assistant|>", golden="phi3-long")
folder = broken("unknown architecture", "config.json",
                lambda data: data.replace(b"Qwen3VLForConditionalGeneration", b"SomethingElse"), "SomethingElse")
bad = prepare(modelfolder.lock(folder))
run = bad.run(timeout=60)
ok(run.returncode != 0 and "SomethingElse" in run.err, "the run says it, too", run.returncode, run.err)
done()
