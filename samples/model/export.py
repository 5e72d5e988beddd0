#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From a training run to a model folder as one downloads it.

    export.py RUN FOLDER

The teachers are left behind, weights become bf16, and the first layer gets the channels that a grey page
has thrice and the frames that a page has twice.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

import tokens
import train
from train import T, V, tokenizer


def weights(params):
    tensors = {}
    for name, p in params.items():
        if name.startswith("teacher"):
            continue
        if name == "visual.patch_embed.proj.weight":
            p = (p / 6).view(-1, 1, 1, train.PATCH, train.PATCH).expand(-1, 3, 2, -1, -1)
        tensors["model." + name] = p.bfloat16().contiguous()
    return tensors


def configuration():
    ids = {key: tokenizer.token_to_id(name) for key, name in (
        ("image_token_id", "<|image_pad|>"), ("video_token_id", "<|video_pad|>"),
        ("vision_start_token_id", "<|vision_start|>"), ("vision_end_token_id", "<|vision_end|>"))}
    text = dict(model_type="qwen3_vl_text", hidden_size=T["hidden"], num_hidden_layers=T["layers"],
                num_attention_heads=T["heads"], num_key_value_heads=T["kv"], head_dim=T["dim"], intermediate_size=T["inter"],
                vocab_size=T["vocab"], max_position_embeddings=1024, rms_norm_eps=1e-6, hidden_act="silu",
                attention_bias=False, bos_token_id=None, eos_token_id=train.EOS, tie_word_embeddings=True,
                rope_parameters=dict(rope_type="default", rope_theta=T["theta"], mrope_section=T["sections"],
                                     mrope_interleaved=True))
    vision = dict(model_type="qwen3_vl_vision", depth=V["depth"], hidden_size=V["hidden"], num_heads=V["heads"],
                  intermediate_size=V["inter"], patch_size=train.PATCH, temporal_patch_size=2,
                  spatial_merge_size=train.MERGE, in_channels=3, out_hidden_size=T["hidden"],
                  num_position_embeddings=train.SIDE ** 2, deepstack_visual_indexes=V["deepstack"],
                  hidden_act="gelu_pytorch_tanh")
    return dict(architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl", dtype="bfloat16",
                tie_word_embeddings=True, text_config=text, vision_config=vision, **ids)


def main():
    run, folder = map(pathlib.Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    last = torch.load(run / "last.pt")
    save_file(weights(last["params"]), folder / "model.safetensors", metadata=dict(format="pt"))
    tokenizer.save(str(folder / "tokenizer.json"))
    token = train.render.TOKEN
    files = {
        "config.json": configuration(),
        "generation_config.json": dict(do_sample=False, eos_token_id=[train.EOS], pad_token_id=tokenizer.token_to_id("<|endoftext|>")),
        "preprocessor_config.json": dict(
            image_processor_type="Qwen2VLImageProcessor", size=dict(shortest_edge=token * token * 2, longest_edge=token * token * 256),
            patch_size=train.PATCH, temporal_patch_size=2, merge_size=train.MERGE, resample=3,
            image_mean=[.5] * 3, image_std=[.5] * 3),
        "tokenizer_config.json": dict(
            tokenizer_class="Qwen2Tokenizer", eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None,
            unk_token=None, add_prefix_space=False, add_bos_token=False, clean_up_tokenization_spaces=False,
            model_max_length=1024,
            chat_template="{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['content'] is string %}"
            "{{ m['content'] }}{% else %}{% for c in m['content'] %}{% if c['type'] == 'image' %}"
            "{{ '<|vision_start|><|image_pad|><|vision_end|>' }}{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
            "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"),
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    print(f"step {last['step']}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
