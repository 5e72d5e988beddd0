# SPDX-License-Identifier: MIT
"""Damage to files, as transport, disks and malice do it; each from a random.Random alone."""

import re
import struct

LIES = (0, 1, 2, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff)
NUMBERS = re.compile(rb"(?:/(?:Length|Width|Height|Count|Size|Prev|First|N|W|Index|BitsPerComponent|"
                     rb"Columns|Rows|Predictor)|startxref)[\s\[]+(\d+)")


def flip(random, data, others):
    """A few bits or bytes, half of the time in the head of the file."""
    for _ in range(random.choice((1, 1, 2, 8, 64))):
        at = random.randrange(min(len(data), random.choice((256, len(data)))))
        data[at] = random.choice((data[at] ^ 1 << random.randrange(8), random.randrange(256), 0, 255))


def truncate(random, data, others):
    del data[random.randrange(len(data)):]


def splice(random, data, others):
    """The beginning of one file and the end of another, or a piece of one within the other."""
    other, at = random.choice(others), random.randrange(len(data))
    start = random.randrange(len(other))
    if random.random() < 0.5:
        data[at:] = other[start:]
    else:
        data[at:at] = other[start:start + random.randrange(1, 5000)]


def lie(random, data, others):
    """Another number where a length, a size or an offset stands: in words, or in binary."""
    for _ in range(random.choice((1, 1, 3))):
        words = [m for m in NUMBERS.finditer(data)]
        if words and random.random() < 0.7:
            m = random.choice(words)
            value = random.choice(LIES + (int(m[1]) + 1, int(m[1]) * 2, len(data)))
            data[m.start(1):m.end(1)] = b"%d" % value
            continue
        width = random.choice("HIIIQ")
        at = random.randrange(min(len(data), random.choice((64, 512, len(data)))))
        value = random.choice(LIES + (len(data), len(data) - 1)) & (1 << 8 * struct.calcsize(width)) - 1
        packed = struct.pack(random.choice("<>") + width, value)
        data[at:at + len(packed)] = packed


def header(random, data, others):
    """The head of a file of another kind."""
    n = random.choice((4, 8, 16, 64))
    data[:n] = random.choice(others)[:n]


def hole(random, data, others):
    """Blocks that were never written, as a disk that lost power leaves them, or written twice."""
    at = random.randrange(len(data)) & ~511
    if random.random() < 0.5:
        data[at:at + 512 * random.randrange(1, 9)] = bytes(512)
    else:
        data[at:at] = data[at:at + 4096]


def shuffle(random, data, others):
    """Two pieces change places."""
    a, b = sorted(random.randrange(len(data)) for _ in range(2))
    n = min(b - a, len(data) - b, random.choice((4, 64, 4096)))
    data[a:a + n], data[b:b + n] = data[b:b + n], data[a:a + n]


DAMAGE = (flip, flip, truncate, splice, lie, lie, header, hole, shuffle)


def mutate(random, original, others):
    """(what was done, the damaged file)"""
    data, done = bytearray(original), []
    for _ in range(random.choice((1, 1, 2, 3))):
        damage = random.choice(DAMAGE)
        if len(data) > 16:
            damage(random, data, others)
            done.append(damage.__name__)
    return "-".join(done), bytes(data)
