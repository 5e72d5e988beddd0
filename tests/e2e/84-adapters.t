#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""LoRA adapters from pipelines to results, with small random models: pipelines that differ in their adapters
alone share one model in memory, each gets what it would have had alone, and a bad adapter is told by file and
field and harms nobody else."""

import os
import shutil
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import modelfolder
import pdf

PAGES = 4
BOOK = pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(PAGES)], widen=1))
models = modelfolder.shelf()
base = modelfolder.make(models / "org--base", "qwen3")
every = modelfolder.adapter(models / "org--all", "qwen3/adapter-all")
some = modelfolder.adapter(models / "some", "qwen3/adapter-some")
WAYS = {"all": "[org/all]", "some": f"[{some}]", "both": f"[org/all, {some}]"}


def prepare(ways, *settings):
    """For each way letters-WAY, which is read and then mended by mend-WAY."""
    spool = Spool()
    for way, adapters in ways.items():
        spool.null_pipeline(f"letters-{way}", more=f"dpi: 72\nthen: mend-{way}\n")
        spool.model_pipeline(f"mend-{way}", "org/base", "tokens: 60", "temperature: 1.0", "reply: same",
                             *([f"adapters: {adapters}"] if adapters else []), *settings)
        spool.drop(BOOK, f"letters-{way}/book.pdf")
    return spool


def said(spool, way):
    result = spool.result(f"letters-{way}/book.pdf")
    return [(r["status"], r["result"]["text"], r["result"]["then"].get("tokens")) for r in result.lines()] if result else None


ways = {"plain": None, **WAYS}
together = prepare(ways)
run = together.run("-v", timeout=90)
ok(run.returncode in (0, 1), "a run with four sets of adapters", run.returncode, run.err)
same(run.err.count('ready, model "org/base"'), 1, "one model in memory for all")
texts = {way: said(together, way) for way in ways}
ok(all(texts.values()) and len({repr(t) for t in texts.values()}) == 4, "each has its own answers", texts)
for way in ways:
    alone = prepare({way: ways[way]}, "sequences: 1", "threads: 1")
    alone.run(timeout=90)
    same(said(alone, way), texts[way], f"{way}: alone and one page at a time the same to the last bit")

# What a result says of them.
document = together.result("letters-both/book.pdf").document
model = document["recogniser"]["then"]["model"]
same([(a["name"], a["lock"]) for a in model["adapters"]],
     [("org/all", sha256(every / "cloister.lock")), (str(some), sha256(some / "cloister.lock"))],
     "document.json says which adapters, in their order, and by which locks")
ok(all(len(a["sha256"]) == 64 for a in model["adapters"]), "and their hashes", model)
same({repr(page["then"].get("adapters")) for page in document["pages"]}, {repr(["org/all", str(some)])},
     "and of each page, by which it was read")
plain = together.result("letters-plain/book.pdf").document
same((plain["recogniser"]["then"]["model"].get("adapters"), plain["pages"][0]["then"].get("adapters")), (None, None),
     "nothing of the kind where there is none")
identities = {together.result(f"letters-{way}/book.pdf").document["identity"] for way in ways}
same(len(identities), 4, "they are part of the identity")

# Pages, read by a vision-language model whose recognisers die on the way.
modelfolder.make(models / "org--eyes", "qwen3-vl")
modelfolder.adapter(models / "org--look", "qwen3-vl/adapter-language")


def scans(*kinds):
    spool = Spool()
    for kind in kinds:
        spool.model_pipeline(kind, "org/eyes", "tokens: 2500", "retries: 2",
                             *(["adapters: [org/look]"] if kind == "adapted" else []))
        spool.drop(pdf.build(pdf.pages([pdf.text(b"Page %d of a book" % n) for n in range(6)])), f"{kind}/book.pdf")
    return spool


def read(spool, kind):
    result = spool.result(f"{kind}/book.pdf")
    return [(r["status"], r["result"]["text"], r["result"].get("adapters")) for r in result.lines()] if result else None


both, killed = scans("bare", "adapted"), scans("bare", "adapted")
both.run(timeout=90)
seen = {kind: read(both, kind) for kind in ("bare", "adapted")}
ok(all(seen.values()) and [p[1] for p in seen["bare"]] != [p[1] for p in seen["adapted"]], "pages are read by adapters", seen)
document = both.result("adapted/book.pdf").document
same([a["name"] for a in document["recogniser"]["model"]["adapters"]] + document["pages"][0]["adapters"],
     ["org/look", "org/look"], "as document.json says")
killed.configure("settle_seconds: 0\nlease_seconds: 3\n")
kills = 0
for _ in range(2):
    process = killed.start("--once")
    if wait_for(lambda: children(process.pid, "cloister-model") or process.poll() is not None):
        time.sleep(0.3)
        kills += sum(kill(pid) for pid in children(process.pid, "cloister-model"))
        time.sleep(0.05)
    process.kill()
    process.wait()
killed.run(timeout=90)
same({kind: read(killed, kind) for kind in seen}, seen, f"the same after {kills} recognisers and their supervisors were killed")

# Another adapter under the same name is another identity: the document is read again.
shutil.rmtree(every)
modelfolder.adapter(every, "qwen3/adapter-some")
together.drop(BOOK, "letters-all/again.pdf")
together.run(timeout=90)
again = together.result("letters-all/again.pdf")
ok(again and again.document["identity"] not in identities, "an adapter that was exchanged is not taken for the old one",
   again and again.document)

# One that is bad breaks its own pipelines, and says what is wrong with which file.
broken = modelfolder.adapter(models / "org--dora", locked=False)
config = json.loads((broken / "adapter_config.json").read_text())
(broken / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
modelfolder.lock(broken)
unlocked = modelfolder.adapter(models / "org--open", locked=False)
spool = prepare({"plain": None, "some": f"[{some}]", "dora": "[org/dora]", "open": "[org/open]", "none": "[org/absent]"})
run = spool.run(timeout=90)
same([bool(said(spool, way)) for way in ("plain", "some")], [True, True], "pipelines beside a bad adapter are read")
for way, words in (("dora", (str(broken), "adapter_config.json", "use_dora")),
                   ("open", (str(unlocked), "not locked")), ("none", ("org/absent", "No such file"))):
    why = spool.why(f"letters-{way}/book.pdf")
    ok(why and why["reason"] == "recogniser" and all(word in why["text"] for word in words),
       f"its own fail: {words[-1]}", why, run.err)
spool.configure("settle_seconds: 0\nrequire_lock: false\n")
spool.drop(BOOK, "letters-open/more.pdf")
spool.run(timeout=90)
ok(spool.result("letters-open/more.pdf"), "without require_lock it is read", spool.why("letters-open/more.pdf"))
spool = prepare({"twice": "[org/all, org/all]"})
run = spool.run(timeout=60)
why = spool.why("letters-twice/book.pdf")
ok(why and "adapters" in why["text"] and "twice" in why["text"], "one that is named twice is a mistake", why)

# A request names what is there.
asked = {"prompt": "Mend this.", "text": "Teh tide", "params": {"tokens": 20, "reply": "text"}}


def ask(*requests, adapters=(every, some)):
    lines = "".join(json.dumps({**asked, **r, "params": {**asked["params"], **r["params"]}}) + "\n" for r in requests)
    done = subprocess.run([BUILD / "cloister-model", "--model", base, "--pages", models, "--cache=32M", "--sandbox=try",
                           *(f"--adapter={a}" for a in adapters)],
                          input=lines, capture_output=True, text=True, timeout=60)
    hello, *answers = map(json.loads, done.stdout.splitlines())
    return hello, {answer["id"]: answer for answer in answers}


hello, answers = ask({"id": 1, "params": {"adapters": [str(every)]}}, {"id": 2, "params": {}},
                     {"id": 3, "params": {"adapters": ["org/other"]}}, {"id": 4, "params": {"adapters": "x"}},
                     {"id": 5, "params": {"adapters": [str(some), str(some)]}})
same([a["name"] for a in hello["model"]["adapters"]], [str(every), str(some)], "hello says which there are")
same({i: a["status"] for i, a in answers.items()}, {1: "ok", 2: "ok", 3: "error", 4: "error", 5: "error"},
     "a request that names another, or one twice, fails alone")
ok("org/other" in answers[3]["error"] and answers[1]["adapters"] == [str(every)] and "adapters" not in answers[2],
   "and says which", answers)


# Bad folders: file and field are named.
def tensors(change):
    """The file with another table of tensors; their data stays, as far as it is named."""
    def do(folder):
        path = folder / "adapter_model.safetensors"
        whole = path.read_bytes()
        size = struct.unpack("<Q", whole[:8])[0]
        table, data = json.loads(whole[8:8 + size]), whole[8 + size:]
        table.pop("__metadata__", None)
        made, body = {}, b""
        for name, entry in change(dict(table)).items():
            begin, end = entry["data_offsets"]
            made[name] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
        text = json.dumps(made).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return do


def settings(**changes):
    def do(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return do


def rename(old, new):
    return tensors(lambda table: {name.replace(old, new): entry for name, entry in table.items()})


CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
Q0 = "base_model.model.model.layers.0.self_attn.q_proj"
BAD = [
    (settings(peft_type="IA3"), CONFIG, "peft_type"), (settings(use_dora=True), CONFIG, "use_dora"),
    (settings(fan_in_fan_out=True), CONFIG, "fan_in_fan_out"), (settings(bias="all"), CONFIG, "bias"),
    (settings(bias="lora_only"), CONFIG, "bias"), (settings(lora_bias=True), CONFIG, "lora_bias"),
    (settings(modules_to_save=["lm_head"]), CONFIG, "modules_to_save"),
    (settings(rank_pattern={"q_proj": 8}), CONFIG, "rank_pattern"),
    (settings(alpha_pattern={"q_proj": 8}), CONFIG, "alpha_pattern"),
    (settings(exclude_modules=["q_proj"]), CONFIG, "exclude_modules"),
    (settings(target_parameters=["experts"]), CONFIG, "target_parameters"),
    (settings(trainable_token_indices=[1]), CONFIG, "trainable_token_indices"),
    (settings(layer_replication=[[0, 2]]), CONFIG, "layer_replication"),
    (settings(use_qalora=True), CONFIG, "use_qalora"), (settings(of_tomorrow={"x": 1}), CONFIG, "of_tomorrow"),
    (settings(init_lora_weights="pissa"), CONFIG, "init_lora_weights"), (settings(r=0), CONFIG, "r"),
    (settings(r=1 << 40), CONFIG, "r"), (settings(r=5), FILE, "r says"), (settings(lora_alpha="8"), CONFIG, "lora_alpha"),
    (settings(lora_alpha=-1), CONFIG, "lora_alpha"), (settings(use_rslora=1), CONFIG, "use_rslora"),
    (settings(target_modules=None), CONFIG, "target_modules"), (settings(target_modules=[]), CONFIG, "target_modules"),
    (settings(target_modules=[1]), CONFIG, "target_modules"),
    (settings(target_modules="(unclosed"), CONFIG, "target_modules"),
    (settings(target_modules="(.*)*.*(.*)*x"), FILE, "do not name it"),
    (settings(target_modules="((a|.)+)+!"), CONFIG, "target_modules"),
    (settings(target_modules=r"\C*"), CONFIG, "target_modules"),
    (settings(target_modules=["q_proj"]), FILE, "do not name it"),
    (settings(layers_to_transform=[0]), FILE, "do not name it"),
    (settings(layers_to_transform="x"), CONFIG, "layers_to_transform"),
    (settings(layers_pattern="blocks", layers_to_transform=[0]), CONFIG, "layers_pattern"),
    (settings(target_modules=".*", layers_to_transform=[0]), CONFIG, "layers_to_transform"),
    (lambda folder: (folder / CONFIG).write_text("{"), CONFIG, ""), (lambda folder: (folder / CONFIG).unlink(), CONFIG, ""),
    (lambda folder: (folder / FILE).unlink(), FILE, ""), (lambda folder: (folder / FILE).write_bytes(b"\xff" * 64), FILE, ""),
    (lambda folder: os.truncate(folder / FILE, 1000), FILE, ""),
    (tensors(lambda table: {}), FILE, ""),
    (tensors(lambda table: {n: e for n, e in table.items() if n != Q0 + ".lora_B.weight"}), FILE, "has no lora_B"),
    (tensors(lambda table: {n: e for n, e in table.items() if n != Q0 + ".lora_A.weight"}), FILE, "has no lora_A"),
    (tensors(lambda table: {n: e for n, e in table.items() if not n.startswith(Q0)}), FILE, "layers.0.self_attn.q_proj is not there"),
    (tensors(lambda table: {n: {**e, "shape": e["shape"][::-1]} for n, e in table.items()}), FILE, "r says"),
    (tensors(lambda table: {n: {**e, "dtype": "I16"} for n, e in table.items()}), FILE, "lora_"),
    (rename("layers.2", "layers.7"), FILE, "layers.2"), (rename("base_model.model.", ""), FILE, "base_model"),
    (rename("model.layers.1.mlp.down_proj", "model.visual.blocks.1.mlp.down_proj"), FILE, "vision tower"),
    (rename("model.layers.1.mlp.down_proj", "lm_head"), FILE, "lm_head"),
    (rename("lora_A", "lora_embedding_A"), FILE, "lora_embedding_A"),
    (rename("q_proj.lora_B.weight", "q_proj.lora_magnitude_vector"), FILE, "lora_magnitude_vector"),
    (rename("mlp.up_proj", "mlp.q_proj"), FILE, "mlp"),
    (rename("layers.1.", "layers.99999999999999999999."), FILE, "layers.9999"),
]
folders = []
for i, (change, file, word) in enumerate(BAD):
    folder = modelfolder.adapter(models / f"bad-{i}", locked=False)
    change(folder)
    folders.append(folder)
found = []
for first in range(0, len(folders), 50):
    hello, _ = ask(adapters=folders[first:first + 50])
    found += hello["model"]["adapters"]
for (change, file, word), folder, adapter in zip(BAD, folders, found):
    error = adapter.get("error", "loaded")
    ok(file in error and word in error and str(folder) in error, f"refused: {file} {word}: {error[error.find(': ') + 2:][:90]}",
       error)
fits, = ask(adapters=[modelfolder.adapter(models / "foreign", "qwen3-untied/adapter-expression", locked=False)])[0]["model"]["adapters"]
ok("adapter_model.safetensors" in fits.get("error", ""), "an adapter of another model is refused", fits)
done()
