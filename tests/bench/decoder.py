# SPDX-License-Identifier: MIT
"""The rasters that cloister-decode makes, for programs that are measured against it: a minimal
partner for the pull protocol of pipelines/airlock.h."""

import json
import os
import subprocess

SETTINGS = {"name": "bench"}


def rasters(program, document, folder, settings=SETTINGS):
    """Write each page of `document` that is to be read into `folder` as a PNM file. Returns
    [(page, path)]; blank pages and pages with errors have none."""
    source = os.open(document, os.O_RDONLY)
    slot = os.memfd_create("slot")

    def descriptors():
        # Numbers 3 and 4 may be taken by each other: park both high first.
        high = [os.dup2(fd, 20 + n) for n, fd in enumerate((source, slot))]
        for n, fd in enumerate(high):
            os.dup2(fd, 3 + n)

    decoder = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, pass_fds=(3, 4), preexec_fn=descriptors)

    def ask(request):
        decoder.stdin.write(json.dumps(request).encode() + b"\n")
        decoder.stdin.flush()
        line = decoder.stdout.readline()
        return json.loads(line) if line else {"error": {"reason": "decoder ended"}}

    pages = []
    opened = ask({"open": {"name": os.path.basename(document), "pipeline": settings}})
    for page in range(1, opened.get("opened", {}).get("pages", 0) + 1):
        answer = ask({"page": page, "slot": 0})
        if "need" in answer:
            os.ftruncate(slot, answer["need"])
            os.posix_fallocate(slot, 0, answer["need"])
            answer = ask({"go": page})
        done = answer.get("done")
        if done and done["blank"] == "no" and "result" not in done:
            path = os.path.join(folder, f"{os.path.basename(document)}-{page}.pnm")
            with open(path, "wb") as out:
                head = b"P%d\n%d %d\n255\n" % (5 if done["channels"] == 1 else 6, done["width"],
                                               done["height"])
                os.lseek(slot, 0, os.SEEK_SET)
                size = len(head) + done["width"] * done["height"] * done["channels"]
                while size:
                    part = os.read(slot, min(size, 1 << 24))
                    out.write(part)
                    size -= len(part)
            pages.append((page, path))
    decoder.stdin.close()
    decoder.wait()
    os.close(source)
    os.close(slot)
    return pages
