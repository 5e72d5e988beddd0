#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cloister-model bench: whole pages through a model, and the share of what the device can do is what its
own figures give."""

import json
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

PAGES, PROMPT, TOKENS, SIDE = 6, 32, 20, 128


def bench(*arguments):
    return subprocess.run([BUILD / "cloister-model", "bench", *map(str, arguments)], capture_output=True, text=True,
                          timeout=100)


run = bench("--random", "--shape", "tiny", "--pages", PAGES, "--batch", "1,4", "--tokens", TOKENS, "--prompt", PROMPT,
            "--page", SIDE)
same(run.returncode, 0, "pages through a tiny shape")
device, *lines = map(json.loads, run.stdout.splitlines()) if run.returncode == 0 else [{}]
ok(device.get("bench") == "device" and device["copy_gb_per_s"] > 0 and device["product_tflops"] > 0,
   "the device is measured first", run.stdout, run.stderr)
same([(line["bench"], line["batch"], line["pages"]) for line in lines],
     [("pages", 1, PAGES), ("pages", 4, PAGES)], "then each batch size")
shape = json.loads(bench("--shape", "tiny", "--show").stdout)
text, eyes = shape["text_config"], shape["vision_config"]
patches = (SIDE // 16) ** 2
hidden, dim = text["hidden_size"], text["head_dim"]
wide = 4 * eyes["hidden_size"]
# Operations of the tower, and of a page's prompt, as one counts them by hand.
vision = 2 * patches * (
    3 * 2 * 16 * 16 * eyes["hidden_size"] + eyes["depth"] * (4 * eyes["hidden_size"] ** 2 + 2 * eyes["hidden_size"] *
                                                             eyes["intermediate_size"] + 2 * patches * eyes["hidden_size"]) +
    2 * (wide * wide + wide * eyes["out_hidden_size"]) / 4)
body = text["num_hidden_layers"] * hidden * (2 * text["num_attention_heads"] * dim + 2 * text["num_key_value_heads"] * dim +
                                             3 * text["intermediate_size"])
head = hidden * text["vocab_size"]
prompt = patches // 4 + PROMPT + 1
read = 2 * (body * prompt + head) + 2 * text["num_hidden_layers"] * text["num_attention_heads"] * dim * prompt ** 2
# A step of one row reads all matrices, and the keys and values so far: half a block of 32 is not there yet.
step = 2 * (body + head)
for line in lines:
    name = f"batch {line['batch']}: "
    same((line["output_tokens"], line["prompt_tokens"], line["patches"]),
         (PAGES * TOKENS, PAGES * prompt, patches), name + "all is read and written")
    ok(abs(line["pages_per_s"] * line["seconds"] / PAGES - 1) < 0.01 and
       abs(line["tokens_per_s"] / line["pages_per_s"] / TOKENS - 1) < 0.01 and
       line["vision_s"] + line["prefill_s"] + line["decode_s"] <= line["seconds"] * 1.001 and
       0 < line["cache_used"] < 1, name + "times and rates agree", line)
    least = sum(line[part + "_s"] * line[part + "_share"] for part in ("vision", "prefill", "decode"))
    ok(abs(least / line["seconds"] - line["share"]) < 0.02 * line["share"] + 0.002 and
       abs(PAGES / least / line["roofline_pages_per_s"] - 1) < 0.05, name + "and so do the shares", line, least)
one = lines[0]
flop = device["product_tflops"] * 1e12
ok(abs(one["vision_s"] * one["vision_share"] * flop / (PAGES * vision) - 1) < 0.05, "the least time of vision is its work",
   one, vision)
prefill = PAGES * max(read / flop, 2 * (body + head) / device["copy_gb_per_s"] / 1e9)
ok(0.5 < one["prefill_s"] * one["prefill_share"] / prefill < 1.5, "that of prefill", one, prefill)
decode = PAGES * (TOKENS - 1) * step / device["copy_gb_per_s"] / 1e9
ok(1 <= one["decode_s"] * one["decode_share"] / decode < 1.5, "and that of decode: weights, keys and values", one, decode)
same(one["decode_batch"], 1.0, "one at a time is one at a time")
same([line["vision_batch"] for line in lines], [1.0, 1.0], "the CPU looks at one page at a time")
ok(lines[1]["decode_batch"] > 1.5, "several are several", lines[1])

# Random weights go round in circles, which can be guessed.
for guesses in 0, 8:
    run = bench("--random", "--shape", "tiny", "--batch", 1, "--tokens", 200, "--prompt", PROMPT, "--page", SIDE, "--rounds", 1,
                "--speculate", guesses)
    line = json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else {}
    ok(line.get("tokens_per_s", 0) > 0 and (line["drafted"] >= line["accepted"] > 50 if guesses else "drafted" not in line),
       f"--speculate {guesses}: guesses are counted", line, run.stderr)

# Names.
unknown = bench("--random", "--shape", "nope", "--pages", 1)
ok(unknown.returncode == 78 and "nanonets" in unknown.stderr, "an unknown shape is refused with those there are",
   unknown.stderr)
blind = bench("--random", "--config", "tests/golden/models/qwen3/config.json", "--pages", 1)
ok(blind.returncode == 78 and "no eyes" in blind.stderr, "a text model takes no pages", blind.stderr)
order = bench("--random", "--shape", "tiny", "--pages", 1, "--any-order")
ok(order.returncode == 78 and "on a GPU alone" in order.stderr, "a CPU has one order of sums", order.stderr)
for name, parameters in (("nanonets", 2.77e9), ("qwen3-vl-4b", 3.63e9), ("chandra", 6.95e9), ("qwen3-4b", 3.63e9)):
    shape = json.loads(bench("--shape", name, "--show").stdout)
    text = shape.get("text_config", shape)
    dim = text.get("head_dim", text["hidden_size"] // text["num_attention_heads"])
    count = text["num_hidden_layers"] * text["hidden_size"] * (
        2 * text["num_attention_heads"] * dim + 2 * text["num_key_value_heads"] * dim + 3 * text["intermediate_size"])
    ok(abs(count / parameters - 1) < 0.01 and f"  {name} " in bench("--help").stdout, f"{name} has its size", count)
done()
