# SPDX-License-Identifier: MIT
"""What the bench reads."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples" / "documents"
TEXTS = ROOT / "samples" / "text"
CORPUS = ROOT.parent / "shared" / "corpus"  # real documents, where there are some

# Documents that Cloister and OCRmyPDF both take; OCRmyPDF wants a resolution in pictures.
FROM_SAMPLES = """letters/harbour-letter.pdf letters/scanned-minutes.pdf scans/turned.pdf
    forms/booking-form.pdf forms/signal-book.pdf booklet/ferry.pdf booklet/courier.png
    booklet/tide-table.png scans/telegram.png scans/field-notebook.tif photos/notice.jpg
    letters/bericht.png""".split()
FROM_CORPUS = """ocrmypdf/linn.pdf ocrmypdf/cardinal.pdf ocrmypdf/ccitt.pdf ocrmypdf/jbig2.pdf
    ocrmypdf/skew.pdf ocrmypdf/c02-22.pdf ocrmypdf/lichtenstein.pdf ocrmypdf/graph.pdf
    ocrmypdf/palette.pdf ocrmypdf/toc.pdf ocrmypdf/link.pdf
    ocrmypdf/tagged.pdf ocrmypdf/epson.pdf ocrmypdf/multipage.pdf
    sample-files/004-pdflatex-4-pages/pdflatex-4-pages.pdf
    sample-files/010-pdflatex-forms/pdflatex-forms.pdf
    sample-files/011-google-doc-document/google-doc-document.pdf
    sample-files/026-latex-multicolumn/multicolumn.pdf""".split()

# Pages with known text: document, its text. German is read as English here.
KNOWN = [(SAMPLES / n, TEXTS / (n + ".txt")) for n in FROM_SAMPLES] + [
    (CORPUS / "ocrmypdf/linn.pdf", CORPUS / "ocrmypdf/linn.txt")]


def mixed():
    """(documents, where they are from): at least 40 pages. Without the corpus, the samples thrice."""
    files = [SAMPLES / n for n in FROM_SAMPLES]
    more = [CORPUS / n for n in FROM_CORPUS if (CORPUS / n).exists()]
    if more:
        return files + more, "samples and corpus"
    return files * 3, "samples, three times"


def known():
    return [(document, text) for document, text in KNOWN if text.exists() and document.exists()]
