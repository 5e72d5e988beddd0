#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Make samples/documents and samples/text.

Needs Debian's python3-reportlab, python3-pil, img2pdf, qpdf, zstd, fonts-dejavu-core and
fonts-liberation. A second run on the same Debian gives the same bytes.
"""

import gzip
import io
import os
import pathlib
import shutil
import subprocess
import tarfile
import zipfile

import img2pdf
from PIL import Image, ImageDraw, ImageFont, TiffImagePlugin
from reportlab.lib.colors import black, white
from reportlab.lib.pagesizes import A4, A5
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.pdfdoc import PDFString
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph

import paper
import words

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = ROOT / "documents"
TEXT = ROOT / "text"
MOMENT = (1987, 3, 12, 9, 0, 0)


def put(name, data):
    path = DOCUMENTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def put_text(name, pages):
    """One page after the other, a form feed between them."""
    path = TEXT / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "\f\n".join("".join(p.removeprefix("# ") + "\n" for p in page) for page in pages)
    path.write_text(text, encoding="utf-8")


def encode(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


# PDF with real text.

BODY = ParagraphStyle("body", fontName="Serif", fontSize=11, leading=15)
HEAD = ParagraphStyle("head", fontName="SerifBold", fontSize=15, leading=20)


def fonts():
    for name, file in (("Serif", paper.SERIF), ("SerifBold", paper.SERIF_BOLD), ("Sans", paper.SANS)):
        pdfmetrics.registerFont(TTFont(name, file))


def new_pdf(size):
    out = io.BytesIO()
    return out, canvas.Canvas(out, pagesize=size, invariant=1)


def set_page(pdf, size, paragraphs, margin=60):
    y = size[1] - margin
    for text in paragraphs:
        style = HEAD if text.startswith("# ") else BODY
        block = Paragraph(text.removeprefix("# "), style)
        height = block.wrap(size[0] - 2 * margin, y)[1]
        block.drawOn(pdf, margin, y - height)
        y -= height + 9


def born_digital(pages, size=A5, title=""):
    out, pdf = new_pdf(size)
    pdf.setTitle(title)
    for page in pages:
        set_page(pdf, size, page)
        pdf.showPage()
    pdf.save()
    return out.getvalue()


def qpdf(data, *options):
    """stdin would do, but qpdf wants a file it can seek in."""
    source, target = ROOT / "qpdf-in.tmp", ROOT / "qpdf-out.tmp"
    source.write_bytes(data)
    try:
        subprocess.run(["qpdf", "--static-id", *options, source, target], check=True)
        return target.read_bytes()
    finally:
        source.unlink()
        target.unlink(missing_ok=True)


def pictures_pdf(images, dpi):
    """One image a page, as a scanner's software writes it: bitonal ones as CCITT G4."""
    files = [encode(i, "TIFF", compression="group4", dpi=(dpi, dpi)) if i.mode == "1"
             else encode(i, "JPEG", quality=70, dpi=(dpi, dpi)) for i in images]
    return img2pdf.convert(files, nodate=True, engine=img2pdf.Engine.internal)


# The documents.

def letters():
    put("letters/harbour-letter.pdf", born_digital(words.HARBOUR_LETTER, A4, "Harbour letter"))
    put_text("letters/harbour-letter.pdf", words.HARBOUR_LETTER)

    pages = [paper.bitonal(paper.scanned(paper.sheet(paper.A5, 300, text), seed, skew), seed)
             for seed, (text, skew) in enumerate(zip(words.MINUTES, (0.5, -0.3)))]
    put("letters/scanned-minutes.pdf", pictures_pdf(pages, 300))
    put_text("letters/scanned-minutes.pdf", words.MINUTES)

    put("letters/invitation.pdf.gz",
        gzip.compress(born_digital(words.INVITATION, A5, "Invitation"), mtime=0))
    put_text("letters/invitation.pdf.gz/invitation.pdf", words.INVITATION)

    put("letters/bericht.png",
        encode(paper.sheet(paper.A6, 200, words.BERICHT[0], margin=0.4, face=paper.SANS,
                           bold=paper.SANS_BOLD, size=9), "PNG", dpi=(200, 200), optimize=True))
    put_text("letters/bericht.png", words.BERICHT)


def photos():
    page = paper.scanned(paper.sheet(paper.A6, 200, words.NOTICE[0], margin=0.5, size=12), 11, 0.6)
    photo = paper.lit(page).transpose(Image.ROTATE_90)  # turned to the left: 6 turns it back
    exif = Image.Exif()
    exif[0x0112] = 6
    put("photos/notice.jpg", encode(photo, "JPEG", quality=72, exif=exif, dpi=(200, 200)))
    put_text("photos/notice.jpg", words.NOTICE)

    page = paper.scanned(paper.sheet((3.4, 3.6), 200, words.RECEIPT[0], margin=0.3, face=paper.SANS,
                                     bold=paper.SANS_BOLD, size=8), 12, -0.5, grain=16)
    put("photos/receipt.webp", encode(paper.lit(page, (250, 248, 240)), "WEBP", quality=60))
    put_text("photos/receipt.webp", words.RECEIPT)


def scans():
    sheets = [paper.scanned(paper.sheet(paper.A6, 200, text, margin=0.5), 20 + n, 0.3)
              for n, text in enumerate(words.SURVEY)]
    sheets[0] = paper.bitonal(sheets[0], 20)
    sheets[1] = sheets[1].point([v // 32 * 36 for v in range(256)])  # few greys: LZW can bite
    put("scans/field-notebook.tif", tiff(sheets, ("group4", "tiff_lzw", "jpeg"), 200))
    put_text("scans/field-notebook.tif", words.SURVEY)

    page = paper.scanned(paper.sheet(paper.CARD, 200, words.CATALOGUE_CARD[0], margin=0.4), 30, 0.2)
    put("scans/catalogue-card.jp2",
        encode(page, "JPEG2000", quality_mode="rates", quality_layers=[24], irreversible=True))
    put_text("scans/catalogue-card.jp2", words.CATALOGUE_CARD)

    page = paper.scanned(paper.sheet((4, 2), 150, words.INDEX_CARD[0], margin=0.3, face=paper.SANS,
                                     bold=paper.SANS_BOLD, size=11), 31, -0.2, grain=12)
    put("scans/index-card.pgm", encode(page, "PPM"))
    put_text("scans/index-card.pgm", words.INDEX_CARD)

    page = paper.scanned(paper.sheet((6, 3.2), 200, words.TELEGRAM[0], margin=0.4, face=paper.MONO,
                                     bold=paper.MONO, size=11), 32, 0.3, grain=8)
    put("scans/telegram.png", encode(page.point([v // 16 * 17 for v in range(256)]), "PNG",
                                     dpi=(200, 200), optimize=True))
    put_text("scans/telegram.png", words.TELEGRAM)

    pages = []
    for n, text in enumerate(words.TURNED):
        page = paper.bitonal(paper.scanned(paper.sheet(paper.A5, 200, text), 40 + n, 0.2), 40 + n, 40)
        pages.append(page.rotate(90 * (n + 1), expand=True))
    put("scans/turned.pdf", pictures_pdf(pages, 200))
    put_text("scans/turned.pdf", words.TURNED)


def tiff(images, compressions, dpi):
    """Pages with a compression each. PIL writes one for all, so the directories are joined here."""
    TiffImagePlugin.STRIP_SIZE = 1 << 30  # one strip a page
    whole, chain = bytearray(b"II*\0\0\0\0\0"), 4
    for image, compression in zip(images, compressions):
        options = {"quality": 60} if compression == "jpeg" else {}
        one = encode(image, "TIFF", compression=compression, dpi=(dpi, dpi),
                     **options)
        if one[:4] != b"II*\0":
            raise ValueError("expected a little-endian TIFF")
        base = len(whole) + len(whole) % 2
        whole += bytes(base - len(whole)) + one
        directory = base + int.from_bytes(one[4:8], "little")
        whole[chain:chain + 4] = directory.to_bytes(4, "little")
        count = int.from_bytes(whole[directory:directory + 2], "little")
        for entry in range(directory + 2, directory + 2 + 12 * count, 12):
            tag, kind, number = (int.from_bytes(whole[a:b], "little") for a, b in
                                 ((entry, entry + 2), (entry + 2, entry + 4), (entry + 4, entry + 8)))
            size = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 12: 8}[kind] * number
            if size > 4 or tag == 273:  # points elsewhere in the file: StripOffsets, long values
                value = int.from_bytes(whole[entry + 8:entry + 12], "little") + base
                whole[entry + 8:entry + 12] = value.to_bytes(4, "little")
            if size > 4 and tag == 273:
                raise ValueError("expected one strip a page")
        chain = directory + 2 + 12 * count
        if whole[chain:chain + 4] != b"\0\0\0\0":
            raise ValueError("expected one page a file")
    return bytes(whole)


def forms():
    out, pdf = new_pdf(A5)
    pdf.setFont("SerifBold", 15)
    pdf.drawString(50, 530, words.FORM_TITLE)
    y = 480
    for label, value in words.FORM_FIELDS:
        pdf.setFont("Serif", 12)
        pdf.drawString(50, y, label + ":")
        x = 54 + pdf.stringWidth(label + ":")
        pdf.acroForm.textfield(name=label, value=value, x=x, y=y - 6, width=200, height=22,
                               fontName="Helvetica", fontSize=12, borderWidth=0, fillColor=white,
                               borderColor=white, textColor=black, forceBorder=False)
        y -= 45
    pdf.setFont("Serif", 12)
    pdf.drawString(50, y, "Heating wanted:")
    pdf.acroForm.checkbox(name="Heating", checked=True, x=160, y=y - 4, size=16, buttonStyle="cross")
    pdf.freeTextAnnotation(words.FORM_NOTE, DA=PDFString("/Helv 14 Tf 0 0 0.6 rg"), Rect=[50, 180, 300, 205])
    pdf.showPage()
    pdf.save()
    put("forms/booking-form.pdf", out.getvalue())
    page = ["# " + words.FORM_TITLE] + [f"{label}: {value}" for label, value in words.FORM_FIELDS]
    put_text("forms/booking-form.pdf", [page + ["Heating wanted:", words.FORM_NOTE]])

    # Lies on its side in the file, /Rotate puts it up; the crop box hides one line.
    out, pdf = new_pdf((595, 420))
    pdf.setPageRotation(90)
    pdf.setCropBox((40, 40, 555, 380))
    pdf.translate(595, 0)
    pdf.rotate(90)
    set_page(pdf, (420, 595), words.CROPPED[0], margin=80)
    pdf.setFont("Serif", 11)
    pdf.drawString(60, 18, words.CROPPED_AWAY)
    pdf.showPage()
    pdf.save()
    put("forms/signal-book.pdf", out.getvalue())
    put_text("forms/signal-book.pdf", words.CROPPED)


def protected():
    data = born_digital(words.LEDGER, A5, "Private ledger")
    put("protected/ledger.pdf", qpdf(data, "--static-aes-iv", "--encrypt", "heron", "owner-heron",
                                     "128", "--use-aes=y", "--"))
    put("protected/ledger.pdf.cloister.yaml",
        b"# Options for ledger.pdf alone; the word that opens it is one of them.\npassword: heron\n")
    put_text("protected/ledger.pdf", words.LEDGER)


def booklet():
    put("booklet/ferry.pdf", born_digital(words.BLANK_BETWEEN, A5, "Ferry"))
    put_text("booklet/ferry.pdf", words.BLANK_BETWEEN)

    size = (1100, 900)
    page = Image.new("L", size, 255)
    draw = ImageDraw.Draw(page)
    title = ImageFont.truetype(paper.SERIF_BOLD, 60)
    draw.text(((size[0] - title.getlength(words.NEWSPAPER_TITLE)) / 2, 40), words.NEWSPAPER_TITLE,
              fill=0, font=title)
    draw.line([60, 130, size[0] - 60, 130], fill=0, width=3)
    for x, column in zip((60, 580), words.NEWSPAPER_COLUMNS):
        paper.column(draw, column, x, 165, 460, 200, size=9)
    put("booklet/courier.png", encode(page, "PNG", dpi=(200, 200), optimize=True))
    put_text("booklet/courier.png", [[words.NEWSPAPER_TITLE] + sum(words.NEWSPAPER_COLUMNS, [])])

    size = (1100, 620)
    page = Image.new("L", size, 255)
    draw = ImageDraw.Draw(page)
    draw.text((60, 30), words.TIDE_TABLE_TITLE, fill=0,
              font=ImageFont.truetype(paper.SERIF_BOLD, 40))
    font = ImageFont.truetype(paper.SERIF, 30)
    for row, cells in enumerate(words.TIDE_TABLE):
        for x, cell in zip((70, 300, 490, 690, 880), cells):
            draw.text((x, 110 + 60 * row), cell, fill=0, font=font)
    for line in range(len(words.TIDE_TABLE) + 1):
        draw.line([50, 98 + 60 * line, size[0] - 50, 98 + 60 * line], fill=0, width=2)
    put("booklet/tide-table.png", encode(page, "PNG", dpi=(200, 200), optimize=True))
    put_text("booklet/tide-table.png",
             [[words.TIDE_TABLE_TITLE] + [" ".join(row) for row in words.TIDE_TABLE]])


def archives():
    bill = encode(paper.sheet((5, 2.6), 200, words.PARISH_BILL[0], margin=0.4), "PNG", optimize=True)
    members = {"parish/bells/register.pdf": born_digital(words.PARISH_REGISTER, A5, "Bells"),
               "parish/bills/clock.png": bill}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for folder in ("parish/", "parish/bells/", "parish/bills/"):
            archive.writestr(zipfile.ZipInfo(folder, MOMENT), b"")
        for name, data in members.items():
            info = zipfile.ZipInfo(name, MOMENT)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    put("archives/parish-papers.zip", out.getvalue())
    put_text("archives/parish-papers.zip/parish/bells/register.pdf", words.PARISH_REGISTER)
    put_text("archives/parish-papers.zip/parish/bills/clock.png", words.PARISH_BILL)

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, text in (("week-12/monday.png", words.WEEK_MONDAY),
                           ("week-12/tuesday.png", words.WEEK_TUESDAY)):
            data = encode(paper.sheet((5, 2), 200, text[0], margin=0.3), "PNG", optimize=True)
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(data), 542538000, 0o644
            archive.addfile(info, io.BytesIO(data))
            put_text(f"archives/week-12.tar.zst/{name}", text)
    put("archives/week-12.tar.zst",
        subprocess.run(["zstd", "-q", "-19"], input=out.getvalue(), check=True,
                       capture_output=True).stdout)


def main():
    os.umask(0o022)
    for folder in (DOCUMENTS, TEXT):
        shutil.rmtree(folder, ignore_errors=True)
    fonts()
    for part in (letters, photos, scans, forms, protected, booklet, archives):
        part()


if __name__ == "__main__":
    main()
