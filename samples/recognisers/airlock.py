# SPDX-License-Identifier: MIT
"""The airlock protocol (man cloister-airlock) for recognisers in Python: what the others here share.

serve(name, version, load) says hello, loads, and answers requests for ever. load() returns a function, which
is given a list of at most `window` pages and returns a list as long: for each a dictionary with what the
result says besides its id, or an exception.
"""
import hashlib
import json
import os
import select
import sys


class Page:
    """A page as it was asked about: width, height, dpi, prompt, params; pixels when they are wanted."""

    def __init__(self, request):
        self.__dict__.update(request)
        self.prompt = request.get("prompt", "Write down all text of this page.")

    def pixels(self):
        """("L" or "RGB", bytes) of the file, which has to be what the request says."""
        with open(self.page, "rb") as file:
            magic, size, depth = (file.readline(64).rstrip(b"\n") for _ in range(3))
            mode = {b"P5": "L", b"P6": "RGB"}.get(magic)
            want = self.width * self.height * len(mode or "")
            data = file.read(want + 1)
        if not mode or depth != b"255" or size != b"%d %d" % (self.width, self.height):
            raise ValueError("the page's file is no PNM of that size")
        if len(data) != want:
            raise ValueError(f"the page's file has {len(data)} bytes of pixels, not {want}")
        return mode, data

    def image(self):
        """For Pillow."""
        from PIL import Image
        mode, data = self.pixels()
        return Image.frombytes(mode, (self.width, self.height), data).convert("RGB")


def want(path):
    """Ends, for good, where a file cannot be read."""
    try:
        open(path, "rb").close()
    except OSError as why:
        print(f"{why}: is it there, and named by the pipeline's `reads`?", file=sys.stderr)
        sys.exit(78)


def sha256_of(folder):
    """Of all files of a model: what its results depend on."""
    def cannot(why):
        raise why
    total = hashlib.sha256()
    for path in sorted(os.path.join(top, name) for top, _, names in os.walk(folder, onerror=cannot) for name in names):
        with open(path, "rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def lines(window):
    """Lists of the lines that wait, at least one and at most `window`, until standard input ends."""
    data = b""
    while True:
        *whole, data = data.split(b"\n")
        while whole:
            yield whole[:window]
            whole = whole[window:]
        chunk = os.read(0, 1 << 20)
        if not chunk:
            return
        data += chunk
        while b"\n" in data and data.count(b"\n") < window and select.select([0], [], [], 0.01)[0]:
            chunk = os.read(0, 1 << 20)
            if not chunk:
                break
            data += chunk


def serve(name, version, load, window=1, model=None, formats=("markdown",)):
    # What a library prints is no message: it goes to standard error.
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    hello = {"airlock": 1, "name": name, "version": version, "window": window, "formats": list(formats),
             "loading": True}
    if model:
        hello["model"] = {"name": os.path.basename(model.rstrip("/")), "sha256": sha256_of(model)}
    print(json.dumps(hello), file=out, flush=True)
    read = load()
    print(json.dumps({"ready": True}), file=out, flush=True)
    for some in lines(window):
        pages = [Page(json.loads(line)) for line in some]
        try:
            results = read(pages)
        except Exception as why:  # of all of them
            results = [why] * len(pages)
        for page, result in zip(pages, results):
            if isinstance(result, Exception):
                why = " ".join(f"{type(result).__name__}: {result}".split())[:500]
                result = {"status": "error", "error": why}
            text = json.dumps({"id": page.id, "status": "ok", **result}).replace("\\u0000", "")
            print(text, file=out, flush=True)
