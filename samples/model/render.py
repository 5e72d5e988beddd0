# SPDX-License-Identifier: MIT
"""Pages for the sample model: text from this Debian system's documents and word lists, drawn with its fonts.

A page is drawn as ink (0 paper, 255 ink), turned a little, and given its paper, its ink and its noise only
when it is used (`degrade`), so that one drawing serves many times. Beside each page stands where every
character lies, which the training needs to point at it.

One font and every word whose hash says so are held back: they are drawn for the held-back set alone.
"""

import functools
import gzip
import pathlib
import random
import re
import zlib

import numpy
from PIL import Image, ImageDraw, ImageFilter, ImageFont

ALPHABET = [chr(c) for c in range(32, 127)] + list("äöüÄÖÜßéèàç–—„“”’€§°")
TOKEN = 16  # a page's pixels for one token, each way
SLOTS = 4   # characters that begin in one token

FONTS = """dejavu/DejaVu liberation/Liberation urw-base35/ freefont/Free carlito/ caladea/ crosextra/ lato/Lato-
    open-sans/ linux-libertine/ libertine/ texgyre/ tex-gyre/ ebgaramond/ vollkorn/ junicode/ gentiumplus/ hack/ cantarell/
    comic-neue/ lmodern/ lm/ croscore/ inter/Inter- charis/ noto/NotoSans-Re noto/NotoSerif-Re noto/NotoSansMono-Re
    noto/NotoSans-Bo noto/NotoSerif-Bo noto/NotoSerif-It noto/NotoSans-It roboto/""".split()
NOT_FONTS = """Symbol Dingbats D050000L S050000L Z003 math Math Hairline Thin Initials KeyboardIcons Condensed dunh
    Variable .var ExtraLight lmbxo lmu Black Heavy Outline SC Caps caps chorus Cond quot unsl prop lt10 _DR _K
    demi slant Expanded""".split()
HELD_BACK_FONT = "Carlito"


@functools.cache
def fonts(held_back=False):
    files = sorted(f for kind in ("ttf", "otf", "t1") for f in pathlib.Path("/usr/share").glob(f"fonts/**/*.{kind}"))
    files += sorted(pathlib.Path("/usr/share/texmf").glob("fonts/opentype/public/**/*.otf"))
    if held_back:
        return [f for f in files if HELD_BACK_FONT in f.name]
    kept = {}
    for f in files:
        if any(part in str(f) for part in FONTS) and not any(part in f.name for part in NOT_FONTS) \
                and HELD_BACK_FONT not in f.name:
            kept[f.name] = f
    # No family has more than four faces, the plain ones first: families are to weigh alike.
    families, plain = {}, ["Regular", "regular", "Roman", "Italic", "italic", "Bold", "bold"]
    for f in sorted(kept.values(), key=lambda f: next((n for n, p in enumerate(plain) if f.stem.endswith("-" + p)), 9)):
        families.setdefault(re.split(r"[-_]|\d", f.stem)[0], []).append(f)
    return [f for family in families.values() for f in family[:4]]


@functools.lru_cache(4096)
def font(file, size):
    face = ImageFont.truetype(str(file), size, layout_engine=ImageFont.Layout.BASIC)
    return face, {c: face.getlength(c) for c in ALPHABET}


def is_held_back(word):
    letters = re.sub(r"[^\w]|\d", "", word).lower()
    return len(letters) > 3 and zlib.crc32(letters.encode()) % 20 == 0


def read(path):
    data = gzip.open(path).read() if path.suffix == ".gz" else path.read_bytes()
    return data.decode("utf-8", "ignore")


@functools.cache
def corpus():
    """Two lists of words: in the order of the documents, and from the word lists."""
    doc = pathlib.Path("/usr/share/doc")
    files = sorted(pathlib.Path("/usr/share/common-licenses").glob("*")) + sorted(doc.glob("*/copyright"))[::3]
    files += sorted(doc.glob("*/changelog*.gz"))[::6] + sorted(pathlib.Path("/usr/share/man").glob("man[1-8]/*.gz"))[::6]
    files += sorted(pathlib.Path("/usr/share/man/de").glob("man[1-8]/*.gz"))[::2]
    known = set(ALPHABET)
    words = []
    for f in files:
        if f.is_file():
            text = re.sub(r"\\f[BIRP]|\\&|\\-|\\\(..|\\", lambda m: "-" if m[0] == "\\-" else "", read(f)[:60000])
            words += [w for w in text.split() if len(w) < 24 and set(w) <= known and not is_held_back(w) and w[0] != "."]
    lists = read(pathlib.Path("/usr/share/dict/american-english")) + read(pathlib.Path("/usr/share/dict/ngerman"))
    return words, [w for w in lists.split() if set(w) <= known]


def decorate(word, r):
    x = r.random()
    other = word.upper() if x < .08 else word.capitalize() if x < .2 else word
    word = other if set(other) <= set(ALPHABET) else word
    x = r.random()
    if x < .18:
        return word + r.choice(",.,.,.;:!?)\"")
    if x < .26:
        a, b = r.choice(["()", "„“", "“”", '""', "''", "[]", "<>", "*,", "’,", "–,"])
        return a + word + b
    return word


def number(r):
    n = str(r.randrange(10 ** r.randint(1, 6)))
    return r.choice([n, n, f"{n}.", f"{n},{r.randrange(100):02}", f"{n}.{r.randrange(1000)}", f"{n}%", f"€{n}", f"${n}", f"§{n}",
                     f"{n}°", f"{r.randrange(1, 29)}.{r.randrange(1, 13)}.{r.randrange(1950, 2030)}", f"+{n}", f"({n})", f"#{n}"])


class Words:
    """An endless stream of words for lines."""

    def __init__(self, seed, held_back=False):
        self.r = random.Random(seed)
        self.documents, lists = corpus()
        self.lists = [w for w in lists if is_held_back(w) == held_back]
        self.held_back = held_back

    def line(self, count):
        r, x = self.r, self.r.random()
        if x < .45 and not self.held_back:
            at = r.randrange(len(self.documents) - count)
            return self.documents[at:at + count]
        if x < .52 and not self.held_back:
            return ["".join(r.choices(ALPHABET[1:], k=r.randint(1, 8))) for _ in range(count)]
        return [number(r) if r.random() < .1 else decorate(r.choice(self.lists), r) for _ in range(count)]


def fit(words, advance, room):
    """As many words as fit, and the x of each character's middle and of the end."""
    xs, x, text = [], 0.0, ""
    for word in words:
        piece = word if not text else " " + word
        steps = [advance[c] for c in piece]
        if x + sum(steps) > room:
            break
        for step in steps:
            xs.append(x + step / 2)
            x += step
        text += piece
    return text, xs, x


def page(words, height, width, lines, held_back=False, size=None, angle=None):
    """Ink, the text of each line, and (x, y) of each of its characters."""
    r = words.r
    files = fonts(held_back)
    while True:
        px = size or r.randint(13, 22 if lines == 1 or height / lines >= 32 else 18)
        face, advance = font(r.choice(files), px)
        turn = angle if angle is not None else max(-2, min(2, r.gauss(0, .6))) if r.random() < .6 else 0
        texts, places = [], []
        ink = Image.new("L", (width, height), 0)
        draw = ImageDraw.Draw(ink)
        pitch = max(px * r.uniform(1.15, 1.5), 16)
        rise = abs(numpy.sin(numpy.radians(turn))) * width / 2
        spare = height - pitch * lines - 2 * rise * .7
        if spare < -3:
            continue
        top = rise * .7 + r.uniform(0, max(spare, 0)) + (pitch - px * 1.2) / 2
        for k in range(lines):
            left = r.uniform(1, 8)
            count = r.randint(1, 3) if r.random() < .15 else 12
            text, xs, _ = fit(words.line(count), advance, width - left - 3)
            if not text:
                break
            real = face.getlength(text)
            xs = [left + x * real / (sum(advance[c] for c in text)) for x in xs]
            y = top + k * pitch + px * .95
            draw.text((left, y), text, 255, font=face, anchor="ls")
            texts.append(text)
            places.append([(x, y - px * .3) for x in xs])
        if len(texts) < lines:
            continue
        if turn:
            ink = ink.rotate(turn, Image.Resampling.BICUBIC)
            c, s = numpy.cos(numpy.radians(turn)), numpy.sin(numpy.radians(turn))
            mx, my = width / 2, height / 2
            places = [[(mx + (x - mx) * c + (y - my) * s, my - (x - mx) * s + (y - my) * c) for x, y in line]
                      for line in places]
        if r.random() < .3:
            ink = ink.filter(ImageFilter.GaussianBlur(r.uniform(.2, .7)))
        return numpy.asarray(ink), texts, places


def targets(texts, places, height, width):
    """For each character, the page's token it lies in; for each token, the characters that lie in it."""
    columns = width // TOKEN
    slots = numpy.zeros((height // TOKEN * columns, SLOTS), numpy.uint8)
    fill = [0] * len(slots)
    tokens = []
    for text, line in zip(texts, places):
        for c, (x, y) in zip(text, line):
            token = min(max(int(y), 0), height - 1) // TOKEN * columns + min(max(int(x), 0), width - 1) // TOKEN
            tokens.append(token)
            if fill[token] < SLOTS:
                slots[token][fill[token]] = 1 + ALPHABET.index(c)
                fill[token] += 1
        tokens.append(tokens[-1])  # the end of the line
    return tokens, slots


def degrade(ink, generator):
    """Paper, ink and noise for pages [n][height][width], 0..255, as float32."""
    n = len(ink)
    paper = 255 - 45 * generator.random((n, 1, 1), numpy.float32) ** 2
    dark = 90 * generator.random((n, 1, 1), numpy.float32) ** 2
    grain = 14 * generator.random((n, 1, 1), numpy.float32) ** 2
    x = paper - ink.astype(numpy.float32) * ((paper - dark) / 255)
    x += grain * generator.standard_normal(ink.shape, numpy.float32)
    return numpy.clip(numpy.rint(x), 0, 255)
