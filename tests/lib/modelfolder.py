# SPDX-License-Identifier: MIT
"""A folder with everything that cloister-model needs: the weights and configuration of one of the small
random models of tests/golden, and a tokenizer of single bytes for it."""

import atexit
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLOISTER = pathlib.Path(os.environ.get("CLOISTER_BUILD", ROOT / "build")).resolve() / "cloister"
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def alphabet():
    """The character that byte-level BPE writes for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(b if b in kept else next(others)) for b in range(256)]


def tokenizer(vocab, special):
    """tokenizer.json: bytes, ordinary pairs of letters up to the special tokens, which come last."""
    characters = alphabet()
    words = {c: i for i, c in enumerate(characters)}
    merges = []
    letters = "etaoinshr"
    for pair in (a + b for a in letters for b in letters):
        if len(words) == vocab - len(special):
            break
        words[pair] = len(words)
        merges.append([pair[0], pair[1]])
    added = [{"id": len(words) + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": True} for i, text in enumerate(special)]
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}]},
            "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                        "use_regex": False},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "ignore_merges": False, "vocab": words, "merges": merges}}


def shelf():
    """A folder for models, where pipelines find them by name; gone when the test ends."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cloister-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["CLOISTER_MODELS"] = str(folder)
    return folder


def lock(folder):
    """As production wants it; again, when something in it has been changed on purpose."""
    subprocess.run([CLOISTER, "models", "lock", "-q", folder], check=True, capture_output=True)
    return folder


def split(folder, parts):
    """model.safetensors into shards with an index, as large models come; the names of the shards."""
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    size = struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:8 + size]), whole[8 + size:]
    tensors = sorted(name for name in header if name != "__metadata__")
    places, names = {}, [f"model-{i + 1:05}-of-{parts:05}.safetensors" for i in range(parts)]
    for i, name in enumerate(names):
        table, body = {}, b""
        for tensor in tensors[i::parts]:
            entry = header[tensor]
            begin, end = entry["data_offsets"]
            table[tensor] = {**entry, "data_offsets": [len(body), len(body) + end - begin]}
            body += data[begin:end]
            places[tensor] = name
        text = json.dumps(table).encode()
        (folder / name).write_bytes(struct.pack("<Q", len(text)) + text + body)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    return names


def cache(source, root, name, revision):
    """The folder as a Hugging Face cache has it: a snapshot of links to blobs. The snapshot."""
    place = root / ("models--" + name.replace("/", "--"))
    snapshot = place / "snapshots" / revision
    for part in (place / "blobs", place / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        if path.name != "cloister.lock":
            blob = hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copyfile(path, place / "blobs" / blob)
            (snapshot / path.name).symlink_to(f"../../blobs/{blob}")
    (place / "refs" / "main").write_text(revision)
    return snapshot


def make(folder, golden="qwen3-vl", locked=True):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for path in (ROOT / "tests" / "golden" / "models" / golden).iterdir():
        if path.is_file() and path.name != "expected.safetensors":
            shutil.copyfile(path, folder / path.name)
    config = json.loads((folder / "config.json").read_text())
    vocab = config.get("text_config", config)["vocab_size"]
    special = ["<|im_start|>", "<|im_end|>"]
    if config["architectures"] == ["Phi3ForCausalLM"]:
        special = ["<|system|>", "<|user|>", "<|end|>", "<|assistant|>"]
    if "image_token_id" in config:
        special += ["<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(vocab, special)))
    return lock(folder) if locked else folder


def adapter(folder, golden="qwen3/adapter-all", locked=True):
    """A LoRA adapter of one of the models."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(ROOT / "tests" / "golden" / "models" / golden / name, folder / name)
    return lock(folder) if locked else folder
