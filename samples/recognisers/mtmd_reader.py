#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A recogniser for GGUF models, by the command line of llama.cpp that sees pictures.

    recogniser: command
    command: [/opt/recognisers/mtmd_reader.py, /opt/llama/llama-mtmd-cli, /models/a/model.gguf, /models/a/mmproj.gguf]
    reads: [/models/a]
    memory_mebibytes: 0

The command is started for each page, and loads the model each time. It does not say whether a text was cut
at --tokens: make that large. Not tried with llama.cpp itself: the tests have a program that plays it.
"""
import argparse
import os
import subprocess

import airlock

WORDS_MAX = 100000  # bytes of one argument, which the system bounds


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("projector")
    args = parser.parse_args()
    for path in (args.program, args.model, args.projector):
        airlock.want(path)

    def read(pages):
        page = pages[0]
        page.pixels()  # the file is what it should be: the command would say it less well
        if len(page.prompt.encode()) > WORDS_MAX:
            raise ValueError("the prompt is too long for a command line")
        done = subprocess.run(
            [args.program, "-m", args.model, "--mmproj", args.projector, "--image", page.page, "-p", page.prompt,
             "-n", str(args.tokens), "-c", str(args.context), "--temp", "0", "--seed", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
            raise RuntimeError(f"llama-mtmd-cli ended with {done.returncode}: {last[0]}")
        return [{"text": done.stdout.decode(errors="replace").strip(), "format": "markdown"}]

    airlock.serve("llama-mtmd", "1", lambda: read, model=os.path.dirname(args.model))


main()
