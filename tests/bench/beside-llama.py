#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tokens a second of cloister-model on the CPU beside llama.cpp, in one run, on one machine.

    tests/bench/beside-llama.py --llama DIR [--config FILE] [--rounds N] [--threads N]

DIR has llama.cpp's llama-bench and llama-batched-bench; Python needs its gguf package; nothing else of the
project needs either. Both read random weights of the same shape, a Qwen3 text model (by default Qwen3-0.6B),
in bf16 and in 8 bits (int8 here, Q8_0 there): a prompt of 512 tokens, then the output of 1 and of 16 sequences.

Rounds are interleaved, so that a disturbance meets both; figures are medians, ratios are of them. The last lines
have the share of what memory and processor give, measured by cloister-model in the same run.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import gguf
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("CLOISTER_BUILD", ROOT / "build")).resolve()
PROMPT, TOKENS, SEQUENCES = 512, 32, 16
NUMBERS = {"bf16": ("bf16", gguf.GGMLQuantizationType.BF16), "int8": ("Q8_0", gguf.GGMLQuantizationType.Q8_0)}


def lines(*command):
    run = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"{command[0]}: {run.stderr.strip()[-500:]}")
    return run.stdout


def write_model(path, config, kind):
    random = numpy.random.default_rng(1)
    hidden, inner, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    heads, keys = config["num_attention_heads"], config["num_key_value_heads"]
    file = gguf.GGUFWriter(path, "qwen3")

    def matrix(name, *shape):
        values = random.standard_normal(shape, dtype=numpy.float32) * 0.02
        file.add_tensor(name + ".weight", gguf.quantize(values, kind), raw_dtype=kind)

    def norm(name, width):
        file.add_tensor(name + ".weight", numpy.ones(width, numpy.float32))

    file.add_block_count(config["num_hidden_layers"])
    file.add_context_length(config["max_position_embeddings"])
    file.add_embedding_length(hidden)
    file.add_feed_forward_length(inner)
    file.add_head_count(heads)
    file.add_head_count_kv(keys)
    file.add_key_length(size)
    file.add_value_length(size)
    file.add_layer_norm_rms_eps(config["rms_norm_eps"])
    file.add_rope_freq_base(config["rope_theta"])
    file.add_vocab_size(config["vocab_size"])
    file.add_tokenizer_model("none")
    matrix("token_embd", config["vocab_size"], hidden)
    norm("output_norm", hidden)
    if not config.get("tie_word_embeddings"):
        matrix("output", config["vocab_size"], hidden)
    for i in range(config["num_hidden_layers"]):
        block = f"blk.{i}."
        for name, width in (("attn_norm", hidden), ("ffn_norm", hidden), ("attn_q_norm", size), ("attn_k_norm", size)):
            norm(block + name, width)
        matrix(block + "attn_q", heads * size, hidden)
        matrix(block + "attn_k", keys * size, hidden)
        matrix(block + "attn_v", keys * size, hidden)
        matrix(block + "attn_output", hidden, heads * size)
        matrix(block + "ffn_gate", inner, hidden)
        matrix(block + "ffn_up", inner, hidden)
        matrix(block + "ffn_down", hidden, inner)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def llama(folder, model, threads):
    """{what: tokens a second}."""
    found = {}
    for line in json.loads(lines(folder / "llama-bench", "-m", model, "-p", PROMPT, "-n", TOKENS, "-t", threads,
                                 "-r", 1, "-o", "json")):
        found["prompt" if line["n_prompt"] else "output 1"] = line["avg_ts"]
    batched = lines(folder / "llama-batched-bench", "-m", model, "-c", 4096, "-npp", 32, "-ntg", TOKENS, "-npl", SEQUENCES,
                    "-t", threads, "--output-format", "jsonl")
    found[f"output {SEQUENCES}"] = json.loads([line for line in batched.splitlines() if line.startswith("{")][-1])["speed_tg"]
    return found


def cloister(config, number, threads):
    found = {}
    for line in lines(BUILD / "cloister-model", "bench", "--random", "--config", config, "--weights", number, "--prompt",
                      PROMPT, "--tokens", TOKENS, "--batch", f"1,{SEQUENCES}", "--threads", threads, "--rounds", 1).splitlines():
        line = json.loads(line)
        found["prompt" if line["bench"] == "prompt" else f"output {line['batch']}"] = line["tokens_per_s"]
        if line.get("batch") == 1:
            found["read"] = line["weights_gb_per_s"]
        if line["bench"] == "prompt":
            found["computed"] = line["gflops"]
    return found


def ceilings(threads):
    """What all threads read (GB/s) and multiply (GFLOP/s) at best."""
    found = {}
    for line in lines(BUILD / "cloister-model", "bench", "--kernels", "--threads", threads, "--rounds", 3).splitlines():
        line = json.loads(line)
        if line.get("kernel") == "read":
            found["read"] = line["gbytes"]
        if line.get("kernel") == "peak":
            found["computed"] = line["gflops"]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", type=pathlib.Path, required=True)
    parser.add_argument("--config", type=pathlib.Path, default=ROOT / "tests/bench/models/qwen3-0.6b.json")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    taken = {}

    def take(who, figures):
        for what, value in figures.items():
            taken.setdefault((who, what), []).append(value)

    with tempfile.TemporaryDirectory() as folder:
        models = {}
        for number, (name, kind) in NUMBERS.items():
            models[number] = pathlib.Path(folder) / f"{number}.gguf"
            write_model(models[number], json.loads(options.config.read_text()), kind)
        for _ in range(options.rounds):
            take("ceiling", ceilings(options.threads))
            for number in NUMBERS:
                take(("llama.cpp", number), llama(options.llama, models[number], options.threads))
                take(("here", number), cloister(options.config, number, options.threads))
    median = {key: statistics.median(values) for key, values in taken.items()}

    print("| tokens/s | llama.cpp bf16 | llama.cpp Q8_0 | bf16 here | int8 here | bf16 : bf16 | int8 : Q8_0 | bf16 : Q8_0 |")
    print("|---|---|---|---|---|---|---|---|")
    for what in ("prompt", "output 1", f"output {SEQUENCES}"):
        there, there8, here, here8 = (median[(who, number), what] for who in ("llama.cpp", "here") for number in NUMBERS)
        print(f"| {what} | {there:.1f} | {there8:.1f} | {here:.1f} | {here8:.1f} | {here / there:.2f} | {here8 / there8:.2f} "
              f"| {here / there8:.2f} |")
    print()
    for number in NUMBERS:
        print(f"{number}: one sequence reads {median[('here', number), 'read']:.1f} GB/s of weights, "
              f"{median[('here', number), 'read'] / median['ceiling', 'read']:.2f} of what {options.threads} threads read; the prompt "
              f"is computed at {median[('here', number), 'computed']:.0f} GFLOP/s, "
              f"{median[('here', number), 'computed'] / median['ceiling', 'computed']:.2f} of their peak")


main()
