#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser for the models of vLLM, by its offline engine: no server, and no port.

    recogniser: command
    wrap: podman
    image: localhost/vllm:1  # with vLLM and this folder in it
    command: [/opt/recognisers/vllm_reader.py, /models/org--name]
    reads: [/models/org--name]
    gpus: all
    temporary_mebibytes: 4096

A batch is as many pages as wait, up to the window, and ends with its longest page. Not tried with vLLM
itself: the tests have a module of that name that plays it.
"""
import argparse
import base64
import io
import os

import airlock

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the engine in this process: it needs no port


def data_url(page):
    png = io.BytesIO()
    page.image().save(png, "PNG")
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("folder")
    args = parser.parse_args()
    airlock.want(os.path.join(args.folder, "config.json"))
    import vllm
    airlock.serve("vllm", vllm.__version__, lambda: load(vllm, args), window=args.window, model=args.folder)


def load(vllm, args):
    engine = vllm.LLM(model=args.folder, trust_remote_code=args.trust_remote_code, max_num_seqs=args.window,
                      limit_mm_per_prompt={"image": 1}, seed=0)
    sampling = vllm.SamplingParams(temperature=0.0, max_tokens=args.tokens)

    def read(pages):
        results, asked, chats = [None] * len(pages), [], []
        for i, page in enumerate(pages):
            try:
                image = {"type": "image_url", "image_url": {"url": data_url(page)}}
            except Exception as why:  # of this page alone
                results[i] = why
                continue
            asked.append(i)
            chats.append([{"role": "user", "content": [image, {"type": "text", "text": page.prompt}]}])
        for i, output in zip(asked, engine.chat(chats, sampling, use_tqdm=False) if chats else ()):
            said = output.outputs[0]
            results[i] = {"text": said.text, "format": "markdown", "tokens": len(said.token_ids),
                          "finish": said.finish_reason or "unknown"}
        return results

    return read


main()
