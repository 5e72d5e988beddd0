#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pages a second of cloister-model beside the reference implementation, in one run, on one machine.

    tests/bench/beside-transformers.py [--shape NAME] [--device cpu|cuda] [--pages N] [--batch N] [--page SIDE]
                                       [--prompt N] [--tokens N] [--rounds N] [--threads N]

Needs torch, transformers and safetensors; nothing else of the project does. Both read the same model: random
weights of a shape that cloister-model knows, made once by transformers and saved as a folder. Both get the same
pages: random pixels in the same patches, the same number of prompt tokens, and exactly so many tokens to write, no
early end. The reference's batch is a static one, as generate() has it for models with pictures; where transformers
has continuous batching for the model (text alone, --shape qwen3-4b), that is measured.

Rounds are interleaved, so that a disturbance meets both; the ratio is of the medians.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CLOISTER_BUILD", ROOT / "build")).resolve()


def program(device):
    return BUILD / ("cloister-model-cuda" if device == "cuda" else "cloister-model")


def config_of(shape, device):
    run = subprocess.run([program(device), "bench", "--shape", shape, "--show"], capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    return json.loads(run.stdout)


def nested(raw):
    """As transformers 5 wants it: the language model's fields in text_config."""
    if "vision_config" not in raw or "text_config" in raw:
        return raw
    top = ("architectures", "image_token_id", "vision_start_token_id", "vision_end_token_id", "tie_word_embeddings",
           "vision_config")
    return {**{key: raw[key] for key in top if key in raw},
            "text_config": {key: value for key, value in raw.items() if key not in top}}


def make_model(raw, device, folder, page):
    """Random weights, in memory for the reference and in a folder for Cloister."""
    name = raw["architectures"][0]
    kind = getattr(transformers, name)
    config = kind.config_class(**nested(raw))
    torch.manual_seed(1)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = kind(config).eval()
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.normal_(0, 0.02)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(raw))
    if "vision_config" in raw:
        eyes = raw["vision_config"]
        (folder / "preprocessor_config.json").write_text(json.dumps({
            "patch_size": eyes["patch_size"], "temporal_patch_size": eyes["temporal_patch_size"],
            "merge_size": eyes["spatial_merge_size"], "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            "size": {"shortest_edge": 1024, "longest_edge": page * page}}))  # what a GPU makes room for
    return model


class Reference:
    """generate() over pages in batches of a fixed size."""

    def __init__(self, model, raw, options):
        self.model, self.raw, self.o = model, raw, options
        eyes = raw["vision_config"]
        merge, patch = eyes["spatial_merge_size"], eyes["patch_size"]
        side = max(options.page // patch // merge, 1) * merge
        tokens = (side // merge) ** 2
        self.grid = torch.tensor([[1, side, side]])
        width = 3 * eyes["temporal_patch_size"] * patch * patch
        self.pixels = torch.rand(side * side, width) * 2 - 1
        vocab = raw.get("text_config", raw)["vocab_size"] // 2
        before = options.prompt // 2
        words = torch.randint(0, vocab, (options.pages, options.prompt))
        picture = torch.full((options.pages, tokens), raw["image_token_id"])
        start = torch.full((options.pages, 1), raw["vision_start_token_id"])
        self.prompts = torch.cat([words[:, :before], start, picture, words[:, before:]], 1)

    def read(self):
        """Seconds for all pages."""
        device, o = self.model.device, self.o
        if o.device == "cuda":
            torch.cuda.synchronize()
        start = time.monotonic()
        for first in range(0, o.pages, o.batch):
            ids = self.prompts[first:first + o.batch].to(device)
            n = len(ids)
            more = {}
            if "mm_token_type_ids" in self.model.forward.__code__.co_varnames:
                more["mm_token_type_ids"] = (ids == self.raw["image_token_id"]).int()
            with torch.inference_mode():
                out = self.model.generate(
                    input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, min_new_tokens=o.tokens,
                    max_new_tokens=o.tokens, pad_token_id=0, image_grid_thw=self.grid.repeat(n, 1).to(device),
                    pixel_values=self.pixels.repeat(n, 1).to(device, torch.bfloat16), **more)
            assert out.shape[1] == ids.shape[1] + o.tokens, "the reference wrote another number of tokens"
        if o.device == "cuda":
            torch.cuda.synchronize()
        return time.monotonic() - start


def continuous(model, raw, o):
    """Tokens a second of generate_batch(), for a text model."""
    vocab = raw["vocab_size"] // 2
    prompts = torch.randint(0, vocab, (o.pages, o.prompt)).tolist()
    config = transformers.GenerationConfig(max_new_tokens=o.tokens, min_new_tokens=o.tokens, do_sample=False,
                                           eos_token_id=-1, pad_token_id=0)
    start = time.monotonic()
    answers = model.generate_batch(inputs=prompts, generation_config=config, persistent_manager=True)
    seconds = time.monotonic() - start
    return sum(len(answer.generated_tokens) for answer in answers.values()) / seconds


def text_rate(lines, o):
    """Tokens written a second, the time of reading the prompts included, as continuous() counts them."""
    rate = {line["bench"]: line["tokens_per_s"] for line in lines}
    return o.tokens / (o.prompt / rate["prompt"] + o.tokens / rate["output"])


def cloister(folder, o, *more):
    command = [program(o.device), "bench", "--model", folder, "--batch", o.batch, "--prompt", o.prompt, "--tokens",
               o.tokens, "--rounds", 1, *more, *(["--threads", o.threads] if o.threads else [])]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{command[0]} bench ended with {run.returncode}: {run.stderr}")
    return [json.loads(line) for line in run.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="tiny")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    for name, value in (("pages", 8), ("batch", 4), ("page", 448), ("prompt", 64), ("tokens", 64), ("rounds", 3),
                        ("threads", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    o = parser.parse_args()
    if o.threads:
        torch.set_num_threads(o.threads)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cloister-beside-"))
    try:
        raw = config_of(o.shape, o.device)
        model = make_model(raw, o.device, folder, o.page)
        print(f"{o.shape}, {o.pages} pages, batch {o.batch}, {o.tokens} tokens each; torch {torch.__version__}, "
              f"transformers {transformers.__version__}, {o.device}, load {os.getloadavg()[0]:.1f}", flush=True)
        if "vision_config" in raw:
            reference, unit = Reference(model, raw, o), "pages/s"
            ours = lambda: cloister(folder, o, "--pages", o.pages, "--page", o.page)[-1]["pages_per_s"]
            theirs = lambda: o.pages / reference.read()
        elif hasattr(model, "generate_batch"):
            unit = "tokens/s"
            ours = lambda: text_rate(cloister(folder, o), o)
            theirs = lambda: continuous(model, raw, o)
        else:
            sys.exit("this transformers has no continuous batching for text models")
        theirs()  # warm
        figures = {"cloister": [], "transformers": []}
        for number in range(o.rounds):
            figures["cloister"].append(ours())
            figures["transformers"].append(theirs())
            print(json.dumps({"round": number + 1, "unit": unit, **{name: round(values[-1], 4)
                                                                    for name, values in figures.items()}}), flush=True)
        middle = {name: statistics.median(values) for name, values in figures.items()}
        print(json.dumps({"shape": o.shape, "device": o.device, "unit": unit, **{name: round(value, 4)
                          for name, value in middle.items()}, "ratio": round(middle["cloister"] / middle["transformers"], 3)}))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


main()
