# SPDX-License-Identifier: MIT
"""The sample model's tokenizer: Qwen's form, byte-level BPE, and as few merges as make sense.

Whatever lies outside ASCII in the alphabet is one token, and so are the words of the prompt; all else is read
letter by letter, because a small model finds letters on a page sooner than syllables.
"""

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

import render

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
           "<|video_pad|>"]
BEFORE = "<|im_start|>user\n<|vision_start|>"
AFTER = "<|vision_end|>Read the text.<|im_end|>\n<|im_start|>assistant\n"


def bytes_to_letters():
    """GPT-2's way to write any byte as a visible letter."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in plain}
    for n, b in enumerate(b for b in range(256) if b not in plain):
        letters[b] = chr(256 + n)
    return letters


def make():
    letters = bytes_to_letters()
    vocab = {letters[b]: n for n, b in enumerate(sorted(letters, key=letters.get))}
    merges = []
    for word in [c for c in render.ALPHABET if ord(c) > 127] + ["user", "assistant", "Read", " the", " text"]:
        parts = [letters[b] for b in word.encode()]
        whole = parts[0]
        for part in parts[1:]:
            if whole + part not in vocab:
                merges.append((whole, part))
                vocab[whole + part] = len(vocab)
            whole += part
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in SPECIAL])
    return tokenizer
