#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser for any image-text model that transformers can load, code of its own included.

    recogniser: command
    command: [/opt/venv/bin/python, /opt/recognisers/transformers_reader.py, --trust-remote-code, /models/org--name]
    reads: [/opt/venv, /opt/recognisers, /models/org--name] # and where /opt/venv has its Python from
    temporary_mebibytes: 256
    memory_mebibytes: 0

What Cloister does for its own models it cannot do here: nothing compares the weights with a lock (their hash
is in document.json), and the model's code runs, behind the sandbox. One page at a time, always the
likeliest token.
"""
import argparse
import os

import airlock

# The sandbox lets nobody set modes and times of files; copies of a model's code do not need them.
os.chmod = os.utime = lambda *args, **more: None

import torch
import transformers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("folder")
    args = parser.parse_args()
    airlock.want(os.path.join(args.folder, "config.json"))
    airlock.serve("transformers", transformers.__version__, lambda: load(args), model=args.folder)


def load(args):
    local = {"local_files_only": True, "trust_remote_code": args.trust_remote_code}
    processor = transformers.AutoProcessor.from_pretrained(args.folder, **local)
    model = transformers.AutoModelForImageTextToText.from_pretrained(args.folder, dtype=args.dtype, **local)
    most = getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 30)
    template = processor.chat_template or processor.tokenizer.chat_template
    model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def read_one(page):
        content = [{"type": "image"}, {"type": "text", "text": page.prompt}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], chat_template=template,
                                             add_generation_prompt=True)
        inputs = processor(text=[text], images=[page.image()], return_tensors="pt").to(model.device)
        asked = inputs["input_ids"].shape[1]
        if asked >= most:
            raise ValueError(f"page and prompt take {asked} tokens, and the model has {most} positions")
        with torch.inference_mode():
            tokens = model.generate(**inputs, max_new_tokens=min(args.tokens, most - asked), do_sample=False)[0, asked:]
        said = processor.batch_decode([tokens], skip_special_tokens=True)[0]
        return {"text": said, "format": "markdown", "tokens": len(tokens),
                "finish": "length" if len(tokens) >= min(args.tokens, most - asked) else "stop"}

    return lambda pages: [read_one(pages[0])]


main()
