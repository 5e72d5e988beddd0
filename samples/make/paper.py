# SPDX-License-Identifier: MIT
"""Pages as pictures: setting text on paper, and making it look as if it had been scanned.

Everything random comes from one seeded generator, so that a second run gives the same bytes.
"""

import random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

FONTS = "/usr/share/fonts/truetype/"
SERIF = FONTS + "liberation/LiberationSerif-Regular.ttf"
SERIF_BOLD = FONTS + "liberation/LiberationSerif-Bold.ttf"
SANS = FONTS + "dejavu/DejaVuSans.ttf"
SANS_BOLD = FONTS + "dejavu/DejaVuSans-Bold.ttf"
MONO = FONTS + "dejavu/DejaVuSansMono.ttf"

A5 = (5.83, 8.27)
A6 = (4.13, 5.83)
CARD = (5.0, 3.0)


def points(dpi, size):
    return round(size * dpi / 72)


def wrap(text, font, width):
    lines, line = [], ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    return lines + [line]


def column(draw, paragraphs, x, y, width, dpi, size=11, face=SERIF, bold=SERIF_BOLD, ink=0):
    """Set paragraphs from (x, y) down; returns the y below the last one."""
    for paragraph in paragraphs:
        heading = paragraph.startswith("# ")
        font = ImageFont.truetype(bold if heading else face, points(dpi, size * 1.4 if heading else size))
        leading = round(font.size * 1.35)
        for line in wrap(paragraph.removeprefix("# "), font, width):
            draw.text((x, y), line, fill=ink, font=font)
            y += leading
        y += leading // 2
    return y


def sheet(inches, dpi, paragraphs, margin=0.6, paper=255, **style):
    """A grey page with one column of text."""
    size = (round(inches[0] * dpi), round(inches[1] * dpi))
    page = Image.new("L", size, paper)
    edge = round(margin * dpi)
    column(ImageDraw.Draw(page), paragraphs, edge, edge, size[0] - 2 * edge, dpi, **style)
    return page


def noise(size, seed, strength):
    """Grey noise around 128, +-strength."""
    table = [128 + (v - 128) * strength // 128 for v in range(256)]
    data = random.Random(seed).randbytes(size[0] * size[1])
    return Image.frombytes("L", size, data).point(table)


def scanned(page, seed, skew=0.4, blur=0.7, grain=24, paper=None):
    """The page as a flatbed sees it: a little turned, a little soft, grainy. Grey in, grey out."""
    fill = page.getpixel((0, 0))
    page = page.rotate(skew, Image.BICUBIC, fillcolor=fill)
    page = page.filter(ImageFilter.GaussianBlur(blur))
    page = ImageChops.add(page, noise(page.size, seed, grain), 1, -128)
    if paper is not None:
        page = page.point([v * paper // 255 for v in range(256)])
    return page


def bitonal(page, seed, specks=120):
    """Threshold, and dust of one to three pixels."""
    page = page.point([0 if v < 150 else 255 for v in range(256)])
    draw, dice = ImageDraw.Draw(page), random.Random(seed)
    for _ in range(specks):
        x, y, r = dice.randrange(page.width), dice.randrange(page.height), dice.randrange(1, 3)
        draw.rectangle([x, y, x + r - 1, y + r - 1], fill=0)
    return page.convert("1", dither=Image.NONE)


def lit(page, colour=(244, 232, 206)):
    """Ink on coloured paper under a lamp that leaves one corner darker."""
    shade = Image.radial_gradient("L").resize((page.width * 2, page.height * 2))
    shade = shade.crop((page.width // 2, page.height // 2, page.width * 3 // 2, page.height * 3 // 2))
    shade = shade.point([255 - v * 90 // 255 for v in range(256)])
    paper = Image.merge("RGB", [shade.point([v * c // 255 for v in range(256)]) for c in colour])
    return ImageChops.multiply(paper, Image.merge("RGB", [page] * 3))
