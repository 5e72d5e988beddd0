#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The recognisers in samples/recognisers keep to the protocol and read: the one in shell with Tesseract's command, the
one for transformers with the sample model, its code coming from the model's folder; those for vLLM and llama.cpp
with stand-ins for these two. And the examples that read Cloister's results print what is in them.

Set CLOISTER_TEST_PYTHON to a Python that has torch and transformers; without one that part is skipped."""

import json
import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

FOLDER = ROOT / "samples" / "recognisers"
MODEL = ROOT / "samples" / "model"
if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("these are not ours to sanitize")

work = Spool()
os.chmod(work.path, 0o755)
copies = work.path / "recognisers"
shutil.copytree(FOLDER, copies)


def check(name, *arguments, yaml="", **how):
    """The recogniser passes; the text of its first answer."""
    (work.root / "pipelines" / f"{name}.yaml").write_text(
        "recogniser: command\ncommand: [" + ", ".join(json.dumps(str(a)) for a in arguments) + f"]\n{yaml}")
    done = cloister("check", "--json", "-P", work.root / "pipelines" / f"{name}.yaml", "--seconds", "90",
                    "--recogniser", timeout=500, **how)
    try:
        lines = {line["check"]: line for line in json.loads(done.out)["checks"]}
    except ValueError:
        lines = {"none": {"passed": False, "reason": done.out + done.err}}
    problems([f"{k}: {line['reason']}" for k, line in lines.items() if line["passed"] is False],
             f"{name}: keeps to the protocol")
    return lines.get("first request", {}).get("reason", "")


# The shell's.
if shutil.which("tesseract"):
    ok("TWELVE MEN WAIT" in check("smallest", copies / "smallest.sh"), "smallest.sh: it reads")
    work.drop(SAMPLES / "scans" / "telegram.png", "smallest/telegram.png")
    work.run("-j", "1")
    result = work.result("smallest/telegram.png")
    ok(result and cer_of(result, "scans/telegram.png") < 0.1, "smallest.sh: in a spool, too", result and result.text())
else:
    skip("smallest.sh: it reads", "needs Tesseract's command: install tesseract-ocr")

# llama.cpp's.
(work.path / "llama").mkdir()
fake = work.path / "llama" / "llama-mtmd-cli"
fake.write_text('''#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in
    --image) image=$2 ;; -m | --mmproj) cat "$2" >/dev/null || exit 3 ;; -p) prompt=$2 ;;
    --temp) [ "$2" = 0 ] || exit 4 ;; -n | -c | --seed) ;; *) echo "unknown option $1" >&2; exit 5 ;;
    esac
    shift 2
done
echo "loading the model" >&2
[ -n "$prompt" ] && [ -r "$image" ] && echo "picture $(wc -c <"$image")"
''')
fake.chmod(0o755)
weights = work.path / "weights"
weights.mkdir()
for name in ("model.gguf", "mmproj.gguf"):
    (weights / name).write_text(name)
reads = f"reads: [{work.path / 'llama'}, {weights}]\n"
# The stand-in lies in no folder from which programs may be run in the sandbox.
shutil.copy(fake, copies / "llama-mtmd-cli")
same(check("mtmd", copies / "mtmd_reader.py", copies / "llama-mtmd-cli", weights / "model.gguf",
           weights / "mmproj.gguf", yaml=reads), 'answered "picture 234015"', "mtmd_reader.py: the picture goes to the command")
done_ = cloister("check", "--seconds", "20", "--recogniser", copies / "mtmd_reader.py", copies / "llama-mtmd-cli",
                 weights / "model.gguf", weights / "mmproj.gguf")
ok("named by the pipeline's `reads`?" in done_.out, "mtmd_reader.py: says what it cannot read",
   done_.out)

# vLLM's.
(copies / "vllm.py").write_text('''
"""Plays vLLM: an answer says how many pixels there are, and is long where the prompt is."""
import base64, io
from PIL import Image
__version__ = "0"
class Said:
    def __init__(self, **what): self.__dict__.update(what)
def SamplingParams(temperature, max_tokens): return (temperature, max_tokens)
class LLM:
    def __init__(self, model, trust_remote_code, max_num_seqs, limit_mm_per_prompt, seed):
        print("a library that talks")
        assert limit_mm_per_prompt == {"image": 1}
    def chat(self, chats, sampling, use_tqdm):
        assert sampling[0] == 0.0 and not use_tqdm
        for chat in chats:
            picture, text = chat[0]["content"]
            assert chat[0]["role"] == "user" and text["type"] == "text"
            data = picture["image_url"]["url"].removeprefix("data:image/png;base64,")
            image = Image.open(io.BytesIO(base64.b64decode(data)))
            dark = sum(image.convert("L").histogram()[:128]) if image.width < 5000 else 0
            yield Said(outputs=[Said(text=f"{image.size} {dark}", token_ids=[1, 2], finish_reason="stop")])
''')
(weights / "config.json").write_text("{}")
PYTHON = os.environ.get("CLOISTER_TEST_PYTHON", sys.executable)
where = subprocess.run([PYTHON, "-c", "import PIL, sys; print(sys.prefix, sys.base_prefix, sep=', ')"],
                       capture_output=True, text=True)
if where.returncode:
    skip("vllm_reader.py: pages go to the engine", "needs Pillow: install python3-pil")
else:
    said = check("vllm", PYTHON, copies / "vllm_reader.py", "--window", "8", weights,
                 yaml=f"reads: [{where.stdout.strip()}, {copies}, {weights}]\n")
    ok("(900, 260) " in said, "vllm_reader.py: pages go to the engine", said)

# transformers'.
tried = subprocess.run([PYTHON, "-c", "import torch, torchvision, transformers, PIL"], capture_output=True)
if tried.returncode or not (MODEL / "model.safetensors").exists():
    skip("transformers_reader.py: it reads", "needs torch, torchvision and transformers (CLOISTER_TEST_PYTHON)")
else:
    # A model whose architecture transformers does not know: the code for it lies in its folder.
    own = work.path / "own--model"
    own.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "generation_config.json"):
        shutil.copy(MODEL / name, own)
    config = json.loads((MODEL / "config.json").read_text())
    config.update(model_type="own_reader", architectures=["OwnReader"],
                  auto_map={"AutoConfig": "own.OwnConfig", "AutoModelForImageTextToText": "own.OwnReader"})
    (own / "config.json").write_text(json.dumps(config))
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        values = json.loads((MODEL / name).read_text())
        (own / name).write_text(json.dumps({**values, "processor_class": "Qwen3VLProcessor"}))
    (own / "own.py").write_text('''
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration
class OwnConfig(Qwen3VLConfig):
    model_type = "own_reader"
class OwnReader(Qwen3VLForConditionalGeneration):
    config_class = OwnConfig
''')
    program = pathlib.Path(PYTHON)
    yaml = (f"reads: [{where.stdout.strip()}, {copies}, {own}]\ndpi: 72\nprompt: Read the text.\n"
            "temporary_mebibytes: 16\nlimits: {read_seconds: 200}\n")
    check("own", program, copies / "transformers_reader.py", "--trust-remote-code", "--tokens", "128", own, yaml=yaml)
    texts = dict(row.split("\t") for row in (MODEL / "held-back/texts.tsv").read_text("utf-8").splitlines())
    for name in texts:
        work.drop(MODEL / "held-back" / name, f"own/{name}")
    run = work.run("-j", "1", timeout=300)
    same(run.returncode, 0, "transformers_reader.py: a spool is read")
    results = {name: work.result(f"own/{name}") for name in texts}
    letters = sum(map(len, texts.values()))
    wrong = sum(cer.rate(text, results[name].text() if results[name] else "") * len(text)
                for name, text in texts.items())
    ok(wrong / letters < 0.05, "transformers_reader.py: less than one letter in twenty is wrong",
       f"{wrong:.0f} of {letters}", run.err)
    first = results["00.pgm"]
    ok(first and len(first.document["recogniser"]["model"]["sha256"]) == 64, "and says which model it was")

# The examples of what to do with results.
document = SAMPLES / "letters" / "harbour-letter.pdf"
read = cloister("ocr", "--json", document)
lines = [json.loads(line) for line in read.out.splitlines()]
want = [f"{line['page']} {line['status']} {len(((line.get('result') or {}).get('text') or '').split())}" for line in lines]
env = {**os.environ, "PATH": f"{BUILD}:{os.environ['PATH']}"}
shells = [".sh"] if shutil.which("jq") else []
if not shells:
    skip("ocr.sh, pages.sh", "needs jq")
for name in ("ocr" + end for end in [*shells, ".py"]):
    done_ = subprocess.run([ROOT / "samples" / "results" / name, document], capture_output=True, text=True, env=env)
    same((done_.returncode, done_.stdout.splitlines()), (0, want), f"{name}: page, status and words of cloister ocr --json")
folder = work.path / "folder"
cloister("ocr", "-o", folder, document)
pages = folder / document.name / "pages.jsonl"
for name in ("pages" + end for end in [*shells, ".py"]):
    done_ = subprocess.run([ROOT / "samples" / "results" / name, pages], capture_output=True, text=True, env=env)
    same((done_.returncode, done_.stdout.splitlines()), (0, want), f"{name}: the same of pages.jsonl")
    code = [l for l in (ROOT / "samples" / "results" / name).read_text().splitlines() if l and l[0] != "#"]
    ok(len(code) <= 10, f"{name}: in ten lines", code)
done()
