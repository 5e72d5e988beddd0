#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Character error rate: edits that turn what was read into what stands there, per character of the
latter. White space runs count as one space, ligatures and typographic quotes as plain ones.

    cer.py EXPECTED ACTUAL     print the rate; files of UTF-8 text

The distance is Levenshtein's by Myers' bit vectors (Hyyro 2003), one integer of len(expected) bits
a column: exact, and 10,000 characters in well under a second without anything but Python.
"""

import sys
import unicodedata

PLAIN = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u201e": '"',
                       "\u2013": "-", "\u2014": "-", "\u00ad": None})


def normal(text):
    return " ".join(unicodedata.normalize("NFKC", text).translate(PLAIN).split())


def distance(a, b):
    if not a:
        return len(b)
    ones, top, score = (1 << len(a)) - 1, 1 << (len(a) - 1), len(a)
    where = {}
    for i, c in enumerate(a):
        where[c] = where.get(c, 0) | 1 << i
    plus, minus = ones, 0
    for c in b:
        match = where.get(c, 0)
        across = match | minus
        match |= ((match & plus) + plus ^ plus) | minus
        up, down = minus | ~(match | plus) & ones, plus & match
        score += bool(up & top) - bool(down & top)
        up, down = (up << 1 | 1) & ones, down << 1 & ones
        plus, minus = down | ~(across | up) & ones, up & across
    return score


def rate(expected, actual):
    expected, actual = normal(expected), normal(actual)
    return distance(expected, actual) / max(len(expected), 1)


if __name__ == "__main__":
    print("%.4f" % rate(*(open(f, encoding="utf-8").read() for f in sys.argv[1:3])))
