#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tokenizer beside the reference implementation (the `tokenizers` package of PyPI).

    tokenizer-reference.py compare FOLDER...   ids and decoded text over 20,000 strings and more
    tokenizer-reference.py sweep FOLDER...     every code point of Unicode
    tokenizer-reference.py time FOLDER...      load, encode, decode, both in one run
    tokenizer-reference.py fixtures DIR [FOLDER...]   small vocabularies, and golden ids of all

--seed N, --count N. Not part of `make check`: the golden files that `fixtures` writes are.
"""

import argparse
import json
import os
import random
import struct
import subprocess
import sys
import time

import tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TOOL = os.path.join(ROOT, os.environ.get("CLOISTER_BUILD", "build"), "tests/models/test-tokenizer")

QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN35 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
          r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

WORDS = {
    "latin": "the of and harbour Straße naïve café señor Łódź İstanbul crème brûlée Ærø don't WE'LL "
             "I'M they've O'Reilly HelloWorld camelCase XMLHttpRequest iPhone McDonald ǅungla ﬁne ſaid'ſ",
    "combining": "cafe\u0301 a\u0323\u0302 e\u0302\u0323 o\u0308 u\u0308\u0304 n\u0303 q\u0323\u0307 "
                 "\u0041\u030a \u212b \u1e9b\u0323 \u0301x i\u0307\u0323 d\u0327\u0323",
    "vietnamese": "Tiếng Việt được những người trường Ti\u0065\u0302\u0301ng Vi\u0065\u0323\u0302t",
    "greek": "ἐν ἀρχῇ ἦν ὁ λόγος Ὀδυσσεύς α\u0313\u0301 \u1fbe \u0345α Ω Ω",
    "cyrillic": "Съешь ещё этих мягких французских булок и\u0306 Ё е\u0308 Ѐ",
    "arabic": "مرحبا بالعالم السَّلامُ عَلَيْكُم ١٢٣ ا\u0653 ي\u0654 \u0651\u064b",
    "hebrew": "שָׁלוֹם עוֹלָם ש\u05c1 ש\u05bc\u05c1 \ufb2a \ufb49",
    "devanagari": "नमस्ते दुनिया क\u093c ड\u093c \u0958 हिन्दी ज़ ०१२",
    "indic": "বাংলা ক\u09c7\u09be தமிழ் க\u0bc6\u0bbe ಕನ್ನಡ ಕ\u0cc6\u0cd5 മലയാളം ക\u0d46\u0d3e සිංහල \u0dd9\u0dcf",
    "thai": "สวัสดีชาวโลก ภาษาไทย กำ น้ำ ເປັນ ລາວ ကမ္ဘာ ភាសាខ្មែរ བོད་སྐད་",
    "chinese": "你好世界 汉字 漢字 中华人民共和国 㐀 𠀀 𰀀 \uf900 \U0002f800 》「」。，",
    "japanese": "こんにちは カタカナ か\u3099 ハ\u309a ｶﾞ 日本語 々 ー",
    "korean": "안녕하세요 \u1112\u1161\u11ab\u1100\u1173\u11af \uac00\u11a8 한국어 \u1100\u1161",
    "emoji": "😀 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 1️⃣ ❤️ ☺ ⚠️ 🫨",
    "math": "∑ ∫ √2 ≠ x²+y² ½ Ⅻ ① 𝔸𝕓 𝟘𝟙 →⇒ \\frac{a}{b} $E=mc^2$ ₤ № ㎏",
    "code": "int main(void) { return 0; } for(i=0;i<n;i++) a[i]+=b; if (x) { y(); } # def f(self): "
            "lambda x:x**2 std::vector<int> &&mut <div class=\"a\"> </div> /* // */ ~/bin ../a //",
    "table": "| a | b |--- |:---: | 1 | 2.5 | 1,234.56 12.345,67 € 50% -- --- ___ *** ### +-+ \t|",
    "digits": "0 1 12 123 1234 12345678901234567890 3.14 1e-9 0x1F 2024-01-31 12:30:45 +49-30-1234",
    "space": "\u00a0 \u2003 \u3000 \u200b \u180e \u0085 \u2028 \u2029 \ufeff \u1680 \x0b \x0c",
    "control": "\x00 \x01 \x07 \x08 \x1b[0m \x7f \x80 \x9f \ufffe \uffff \ufffd \U0010ffff \ue000",
    "special": "<|im_start|> <|im_end|> <|endoftext|> <|im_start| |im_end|> <think> </think> <tool_call> "
               "<|endofprompt|> <|image_pad|><|image_pad|> <|vision_start|>x<|vision_end|> <||> <|",
}
WORDS = {name: text.split(" ") for name, text in WORDS.items()}
GAPS = [" "] * 12 + ["", "", "  ", "   ", "\n", "\n\n", "\r\n", " \n", "\n ", "\t", " \t ", "\r", "      ",
                     "\n\n\n  ", " \r\n\r\n ", "'", ".", ", ", "-", "/", "/\n"]


def one_string(r, newest):
    """bytes; invalid UTF-8 now and then"""
    kind = r.random()
    if kind < 0.08:  # any code points
        text = "".join(chr(random_point(r, newest)) for _ in range(r.randrange(1, 40)))
    elif kind < 0.12:  # a mark soup
        marks = "\u0300\u0301\u0323\u0327\u0345\u05b0\u064b\u0eb8\u302a\u3099\u1ac1\u0334\u093c\u09be"
        text = "".join(r.choice("aeioußсاक가") + "".join(r.choices(marks, k=r.randrange(0, 7)))
                       for _ in range(r.randrange(1, 12)))
    elif kind < 0.16:  # letters and spaces, dense
        text = "".join(r.choices("aAbB1 \n\r\t'sSdDvVeElL/ .,!éÉǅʰªӀ中\u0301\u00a0\u017f", k=r.randrange(1, 60)))
    elif kind < 0.18:  # long words
        piece = r.choice([one_word(r), r.choice("ax1 \n=-中")])
        text = (piece * 3000)[: r.choice([50, 100, 200, 1000, 3000])]
    else:
        scripts = r.choices(list(WORDS), k=r.randrange(1, 4))
        text = ""
        for _ in range(r.randrange(1, 30)):
            text += r.choice(WORDS[r.choice(scripts)]) + r.choice(GAPS)
    data = text.encode()
    if r.random() < 0.12:
        data = bytearray(data)
        for _ in range(r.randrange(1, 5)):
            at = r.randrange(len(data) + 1)
            if r.random() < 0.5 and at < len(data):
                data[at] = r.randrange(256)
            else:
                data[at:at] = r.choice([b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff",
                                        b"\xf4\x90\x80\x80", b"\x80", b"\xe0\x80\x80", b"\xf0\x8f\xbf\xbf"])
        if r.random() < 0.3:
            data = data[: r.randrange(len(data) + 1)]
    return bytes(data)


def one_word(r):
    return r.choice(WORDS[r.choice(list(WORDS))])


def random_point(r, newest):
    while True:
        top = r.choice([0x80, 0x300, 0x3000, 0x10000, 0x20000, 0x32400, 0x110000])
        c = r.randrange(top)
        if not 0xD800 <= c < 0xE000 and c < newest:
            return c


def make_strings(seed, count, newest=0x110000):
    r = random.Random(seed)
    strings = [b"", b" ", b"a", "\u0301".encode(), b"\xff", b"\r\n", b"'s"]
    strings += [one_string(r, newest) for _ in range(count - len(strings))]
    return strings


def documents(seed, bytes_wanted):
    """Long texts as documents have them, for timing."""
    r = random.Random(seed)
    out, size = [], 0
    while size < bytes_wanted:
        script = r.choice(["latin", "latin", "latin", "cyrillic", "chinese", "code", "table", "korean", "arabic"])
        text = ""
        while len(text) < 4000:
            text += "".join(r.choice(WORDS[script]) + " " for _ in range(12)).strip() + r.choice([".\n", ", ", ". "])
        out.append(text.encode())
        size += len(out[-1])
    return out


def pack(strings):
    return b"".join(struct.pack("<I", len(s)) + s for s in strings)


def run_tool(folder, mode, strings):
    out = subprocess.run([TOOL, folder, mode], input=pack(strings), stdout=subprocess.PIPE, check=True).stdout
    at, results = 0, []
    for _ in strings:
        (n,) = struct.unpack_from("<I", out, at)
        ids = list(struct.unpack_from(f"<{n}I", out, at + 4))
        at += 4 + 4 * n
        (n,) = struct.unpack_from("<I", out, at)
        results.append((ids, out[at + 4 : at + 4 + n].decode()))
        at += 4 + n
    return results


def load(folder, plain):
    """With `plain` the reference knows no added token: that is what text alone means."""
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        text = f.read()
    whole = Tokenizer.from_str(text)
    if not plain:
        return whole, whole
    data = json.loads(text)
    data["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(data)), whole


def compare_folder(folder, strings, mode):
    reference, whole = load(folder, mode == "plain")
    equal = shown = 0
    for s, (ids, text) in zip(strings, run_tool(folder, mode, strings)):
        want = reference.encode(s.decode(errors="replace"), add_special_tokens=mode == "template").ids
        want_text = whole.decode(want, skip_special_tokens=False)
        if ids == want and text == want_text:
            equal += 1
        else:
            shown += 1
            if shown < 10:
                print("  differs:", repr(s[:200]), ids[:40], want[:40], ascii(text[:80]), ascii(want_text[:80]))
    print(f"{folder}: {mode}: {len(strings)} strings, {equal} equal", flush=True)
    return equal == len(strings)


def every_code_point():
    """Each among letters, a mark and a digit, 64 of them in a string: classes and normalisation."""
    points = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    return ["".join(f"a{c}\u0334 B{c}1" for c in points[i : i + 64]).encode() for i in range(0, len(points), 64)]


def compare(options):
    if options.what == "sweep":
        strings = every_code_point()
        return 0 if all([compare_folder(folder, strings, "plain") for folder in options.folder]) else 1
    strings = make_strings(options.seed, options.count)
    ok = True
    for folder in options.folder:
        for mode in ("ids", "plain", "template"):
            ok &= compare_folder(folder, strings, mode)
    return 0 if ok else 1


def best_of(function, rounds=3):
    best = 1e9
    for _ in range(rounds):
        start = time.process_time()
        function()
        best = min(best, time.process_time() - start)
    return best


def measure(options):
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    strings = documents(options.seed, 2_000_000)
    size = sum(map(len, strings))
    texts = [s.decode() for s in strings]
    for folder in options.folder:
        line = subprocess.run([TOOL, folder, "time"], input=pack(strings), stdout=subprocess.PIPE, check=True).stdout
        ours = list(map(float, line.split()))
        path = os.path.join(folder, "tokenizer.json")
        reference = Tokenizer.from_file(path)
        plain, _ = load(folder, True)
        ids = [plain.encode(t).ids for t in texts]
        theirs = [best_of(lambda: Tokenizer.from_file(path)),
                  best_of(lambda: plain.encode_batch_fast(texts)),
                  best_of(lambda: [reference.decode(i, skip_special_tokens=False) for i in ids])]
        print(f"{folder}: {size / 1e6:.1f} MB of text, {sum(map(len, ids))} ids")
        for what, a, b in zip(("load", "encode", "decode"), ours, theirs):
            rate = "" if what == "load" else f" ({size / a / 1e6:.0f} against {size / b / 1e6:.1f} MB/s)"
            print(f"  {what}: {a:.3f} s, reference {b:.3f} s: {b / a:.1f} times as fast{rate}")
    return 0


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert=invert)


def added(content, **flags):
    return tokenizers.AddedToken(content, **{"normalized": False, **flags})


MARKED = [
    added("<|endoftext|>", special=True), added("<|im_start|>", special=True), added("<|im_end|>", special=True),
    added("<|im_start|>x", special=True), added("<think>"), added("</think>"), added("<mask>", lstrip=True),
    added("<tool_call>", rstrip=True), added("<||>", lstrip=True, rstrip=True), added("the", single_word=True),
    added("мягких", single_word=True, lstrip=True), added("\u00e9", normalized=True),
    added("e\u0323\u0302", normalized=True), added("你好"), added("caf\u0065", normalized=True, single_word=True),
]


def small_tokenizers():
    """name: (tokenizer, merges as strings)"""
    bytes_only = dict(add_prefix_space=False, use_regex=False)
    byte_level = pre_tokenizers.ByteLevel(**bytes_only)
    made = {}
    for name, size, normalizer, pre, tokens, ignore, strings in [
        ("qwen2", 900, normalizers.NFC(), [split(QWEN2), byte_level], MARKED, False, False),
        ("qwen35", 500, normalizers.Sequence([normalizers.NFC()]), [split(QWEN35), byte_level], MARKED[:5], False, True),
        ("o200k", 900, None, [split(O200K, "removed", True), byte_level], MARKED[:1], False, True),
        ("llama3", 500, None, [split(LLAMA3), byte_level], MARKED[:3], True, False),
        ("gpt2", 400, None, None, MARKED[:1], False, True),
        # Through PCRE2: a literal, gaps, and a space before each word.
        ("odd", 400, normalizers.NFC(),
         [pre_tokenizers.Split("-", "removed"), split(r"\s*[^\s\p{L}]|\d{2}(?!\d)|(?i:o)x?"),
          split(r"\n+", "removed"), pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True)],
         MARKED[:10], False, False),
    ]:
        t = Tokenizer(models.BPE(ignore_merges=ignore))
        if normalizer:
            t.normalizer = normalizer
        t.pre_tokenizer = pre_tokenizers.Sequence(pre) if pre else pre_tokenizers.ByteLevel(add_prefix_space=True)
        t.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                      show_progress=False, special_tokens=[])
        t.train_from_iterator([d.decode() for d in documents(7, 200_000)], trainer)
        t.add_tokens(tokens)
        t.add_special_tokens([token for token in tokens if token.special])
        if name == "llama3":
            t.post_processor = tokenizers.processors.Sequence([
                tokenizers.processors.ByteLevel(trim_offsets=False),
                tokenizers.processors.TemplateProcessing(
                    single="<|endoftext|> $A <|im_end|>", pair=None,
                    special_tokens=[(c, t.token_to_id(c)) for c in ("<|endoftext|>", "<|im_end|>")])])
        made[name] = (t, strings)
    return made


def write_small(folder, t, merges_as_strings):
    data = json.loads(t.to_str())
    if merges_as_strings:
        data["model"]["merges"] = [" ".join(m) for m in data["model"]["merges"]]
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(data, f, ensure_ascii=False, separators=(",", ":"))


def fnv(data):
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 & 0xFFFFFFFF
    return h


def write_hashes(path, folder, strings):
    """For each string: the hash of ids and decoded text, of added tokens, plain, and in its template."""
    with open(path, "wb") as f:
        for mode in ("ids", "plain", "template"):
            reference, whole = load(folder, mode == "plain")
            for s in strings:
                ids = reference.encode(s.decode(errors="replace"), add_special_tokens=mode == "template").ids
                text = whole.decode(ids, skip_special_tokens=False).encode()
                f.write(struct.pack("<I", fnv(struct.pack(f"<{len(ids)}I", *ids) + text)))


def fixtures(options):
    """DIR/strings and, for each vocabulary, DIR/NAME/tokenizer.json and DIR/NAME.golden; for each
    further folder, of a real vocabulary, DIR/real-NAME.golden."""
    out, *real = options.folder
    os.makedirs(out, exist_ok=True)
    strings = [s for s in make_strings(options.seed, options.count) if len(s) < 400]
    with open(os.path.join(out, "strings"), "wb") as f:
        f.write(pack(strings))
    for name, (t, merges_as_strings) in small_tokenizers().items():
        folder = os.path.join(out, name)
        write_small(folder, t, merges_as_strings)
        write_hashes(folder + ".golden", folder, strings)
    for folder in real:
        write_hashes(os.path.join(out, f"real-{os.path.basename(folder)}.golden"), folder, strings)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["compare", "sweep", "time", "fixtures"])
    parser.add_argument("folder", nargs="*")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int)
    options = parser.parse_intermixed_args()
    options.count = options.count or (1000 if options.what == "fixtures" else 20000)
    sys.exit({"compare": compare, "sweep": compare, "time": measure, "fixtures": fixtures}[options.what](options))
