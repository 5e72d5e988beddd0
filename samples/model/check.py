#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Let transformers read the held-back pages with a model folder, in fp32.

    check.py FOLDER [HELD-BACK]

The reference's processor, network and greedy search; prints what it read and the character error rate.
"""

import pathlib
import sys

import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

import tokens
from train import distance


@torch.no_grad()
def main():
    folder = pathlib.Path(sys.argv[1])
    pages = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else folder / "held-back")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    processor = Qwen2VLImageProcessorPil.from_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    wrong = letters = 0
    for row in (pages / "texts.tsv").read_text().splitlines():
        name, text = row.split("\t")
        text = text.replace("\\n", "\n")
        made = processor(Image.open(pages / name).convert("RGB"), return_tensors="pt")
        count = int(made["image_grid_thw"][0].prod()) // processor.merge_size ** 2
        ids = tokenizer.encode(tokens.BEFORE + "<|image_pad|>" * count + tokens.AFTER).ids
        ids = torch.tensor([ids])
        types = (ids == tokenizer.token_to_id("<|image_pad|>")).int()
        out = model.generate(input_ids=ids, mm_token_type_ids=types, attention_mask=torch.ones_like(ids),
                             pixel_values=made["pixel_values"], image_grid_thw=made["image_grid_thw"],
                             do_sample=False, max_new_tokens=128)
        got = tokenizer.decode(out[0, ids.shape[1]:].tolist())
        print(f'{name}: "{text}" read as "{got}"')
        wrong += distance(text, got)
        letters += len(text)
    print(f"{wrong} of {letters} letters wrong, error rate {wrong / letters:.4f}")


if __name__ == "__main__":
    main()
