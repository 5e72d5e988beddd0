#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Pictures that a recogniser finds are cut out of the page, stored, listed and linked; what it says
about them is not believed; and each is there once, whatever was killed."""

import html.parser
import json
import random
import struct
import sys
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

WIDTH, HEIGHT = 120, 90


def pixel(x, y):
    return bytes(((2 * x) % 256, (2 * y) % 256, (x * y) % 256))


def page(shift=0):
    """A PNM of which every pixel tells where it is; not blank."""
    rows = b"".join(pixel(x + shift, y) for y in range(HEIGHT) for x in range(WIDTH))
    return b"P6\n%d %d\n255\n" % (WIDTH, HEIGHT) + rows


def unpng(data):
    """Width, height and RGB bytes of an 8-bit PNG that is not interlaced."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, head = 8, b"", None
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + size]
        assert zlib.crc32(kind + body) == struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0]
        head = struct.unpack(">IIBBBBB", body) if kind == b"IHDR" else head
        packed += body if kind == b"IDAT" else b""
        at += 12 + size
    width, height, depth, colour = head[:4]
    assert (depth, colour, head[6]) == (8, 2, 0)
    raw, out, above = zlib.decompress(packed), bytearray(), bytearray(3 * width)
    for y in range(height):
        kind, line = raw[y * (3 * width + 1)], bytearray(raw[y * (3 * width + 1) + 1:][:3 * width])
        for i in range(3 * width):
            left, up, corner = (line[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
            near = min((left, up, corner), key=lambda v, p=left + up - corner: abs(p - v))
            line[i] = (line[i] + (0, left, up, (left + up) // 2, near)[kind]) % 256
        out += line
        above = line
    return width, height, bytes(out)


def cut(box, rotation=0):
    """What a box of the page looks like, turned clockwise."""
    x0, y0, x1, y1 = box
    rows = [[pixel(x, y) for x in range(x0, x1)] for y in range(y0, y1)]
    for _ in range(rotation // 90):
        rows = [list(row) for row in zip(*rows[::-1])]
    return len(rows[0]), len(rows), b"".join(b"".join(row) for row in rows)


def block(box, label="Figure", **more):
    return {"label": label, "box": box, "figure": True, **more}


def result_of(blocks, text="", **more):
    return json.dumps({"format": "markdown", "text": text, "blocks": blocks, **more})


OUTPUTS = "outputs: [text.md, text.txt, pages.jsonl, document.hocr, document.html]\n"


def read(blocks, text="", more="", documents=("page.ppm",), **result):
    spool = Spool()
    spool.null_pipeline("null", "--result", result_of(blocks, text, **result), more=OUTPUTS + more)
    for n, name in enumerate(documents):
        spool.drop(page(n), f"null/{name}")
    return spool, spool.run()


# Cut, stored, listed, linked.
boxes = [[10, 20, 70, 60], [0, 0, WIDTH, HEIGHT], [119, 89, 120, 90]]
text = "# Tides\n\n![A boat](#block-1) and ![](#block-2)\n\n![none](#block-0) ![far](#block-99) #block-1\n"
spool, run = read([{"label": "Text", "box": [0, 0, 9, 9], "html": "Tides"}, block(boxes[0]),
                   block(boxes[1], "Image"), block(boxes[2])], text)
result = spool.result("null/page.ppm")
same((run.returncode, result and result.states()), (0, ["ok"]), "a page with figures is read")
problems(result_problems(result), "its files are there and are what it says")
figures = result.pages[0]["figures"]
same([(f["file"], f["label"], f["box"], f["block"]) for f in figures],
     [("figures/0001-1.png", "Figure", boxes[0], 1), ("figures/0001-2.png", "Image", boxes[1], 2),
      ("figures/0001-3.png", "Figure", boxes[2], 3)], "document.json lists them with label and box")
same(result.lines()[0]["figures"], figures, "so does pages.jsonl")
for figure, box in zip(figures, boxes):
    same(unpng((result.folder / figure["file"]).read_bytes()), cut(box), f"{box} is cut out as it is")
want = text.replace("#block-1)", "figures/0001-1.png)", 1).replace("#block-2", "figures/0001-2.png")
want = want.replace("(#block-0)", "()").replace("(#block-99)", "()")
same(result.lines()[0]["result"]["text"], want, "links to blocks become links to files, or none")
for name in ("text.md", "text.txt"):
    ok(want in result.read(name), f"in {name}", result.read(name))


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.seen, self.words = [], ""

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.words += data


def tags_of(result):
    tags = Tags()
    tags.feed(result.read("document.html"))
    return tags


tags = tags_of(result)
same([a for tag, a in tags.seen if tag == "img"],
     [{"src": "figures/0001-1.png", "alt": "A boat"}, {"src": "figures/0001-2.png", "alt": ""},
      {"src": "figures/0001-3.png", "alt": ""}], "document.html shows them, also the one without a link")
ok("none" in tags.words and "far" in tags.words, "and says what is not shown")

# A model's layout, all the way: boxes on a scale of 1024, heads in the blocks alone or in the text too.
LAYOUT = """<div data-bbox="[0,0,1024,100]" data-label="Page-Header">The Daily Tide</div>
<div data-bbox="[512, 256, 1024, 512]" data-label="Figure"><img alt="A boat" src="http://example.org/"></div>
<div data-bbox="[0,512,512,1024]" data-label="Image"></div>
<div data-bbox="[0,100,1024,200]" data-label="Table"><table onclick="x()"><tr><td>1<script>x</script></td></tr></table></div>
<div data-bbox="[0,200,1024,256]" data-label="Text"><p>E is <math>mc^2</math></p></div>
<div data-bbox="[0,900,1024,1024]" data-label="Page-Footer">7</div>"""
for heads in (False, True):
    spool = Spool()
    spool.null_pipeline("null", "--layout", LAYOUT, *["--heads"] * heads, more=OUTPUTS)
    spool.drop(page(), "null/page.ppm")
    run = spool.run()
    result = spool.result("null/page.ppm")
    problems(result_problems(result), "a layout: all is there")
    same([(f["label"], f["box"]) for f in result.pages[0]["figures"]],
         [("Figure", [60, 22, 120, 45]), ("Image", [0, 45, 60, 90])], "a layout: its figures are cut out")
    body = ("![A boat](figures/0001-1.png)\n\n![](figures/0001-2.png)\n\n"
            "<table><tbody><tr><td>1</td></tr></tbody></table>\n\nE is $mc^2$\n")
    if heads:
        body = "The Daily Tide\n\n" + body + "\n7\n"
    same(result.read("text.md"), "<!-- page 1 -->\n\n" + body, "a layout: its Markdown")
    web = result.read("document.html")
    ok("<img src=\"figures/0001-1.png\" alt=\"A boat\">" in web and "<td>1</td>" in web
       and "<span class=\"math\">$mc^2$</span>" in web, "a layout: its HTML", web)
    same(("The Daily Tide" in web, "onclick" in web or "<script" in web or "example.org" in web), (heads, False),
         "a layout: with heads where they are wanted, without what is not a document's")

def stable(spool):
    found = {name: result.stable() for name, result in spool.results().items()}
    for files in found.values():
        for line in (*files["document.json"]["pages"], *files["pages.jsonl"]):
            line.pop("tries", None)
    return found


# A page whose text then goes through another model: figures are those of the page, links lead to them from both
# texts, and killing the run between the two steps changes nothing.
def with_text_step():
    spool = Spool()
    spool.null_pipeline("null", "--result", result_of([block(boxes[0])], "![A boat](#block-0) sails"),
                        more=OUTPUTS + "then: mend\n")
    spool.null_pipeline("mend", "--delay-ms", "500", more="prompt: Mend\n")
    spool.drop(page(), "null/page.ppm")
    return spool


spool = with_text_step()
run = spool.run()
result = spool.result("null/page.ppm")
same((run.returncode, result and result.states()), (0, ["ok"]), "a page with a figure and a text step")
problems(result_problems(result), "then: all is there")
read_text = "![A boat](figures/0001-1.png) sails"
same([result.lines()[0]["result"][key] for key in ("text", "source_text")], [f"Mend<{read_text}>", read_text],
     "then: both texts link to the picture")
same(unpng((result.folder / "figures/0001-1.png").read_bytes()), cut(boxes[0]), "then: which is the page's")
ok(f"Mend<{read_text}>" in result.read("text.md"), "then: so does text.md", result.read("text.md"))
same([a.get("src") for tag, a in tags_of(result).seen if tag == "img"], ["figures/0001-1.png"],
     "then: document.html shows it once")
want = stable(spool)["null/page.ppm"]
spool = with_text_step()
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: len(children(run.pid, "null-recogniser")) == 2), "then: the second recogniser is at work")
time.sleep(0.3)
kill(run.pid)
run.wait()
same((spool.run().returncode, stable(spool)["null/page.ppm"]), (0, want),
     "then: killed in between, the same result")

# Boxes are not believed.
odd = [[-50, -50, 30, 40], [100, 80, 9999, 9999], [50, 50, 50, 60], [60, 60, 40, 40], [500, 500, 600, 600],
       [1e300, 0, 5, 5], "box", [1, 2, 3], [10.7, 20.2, 30.1, 40.9], None]
spool, run = read([block(box) for box in odd] + [{"figure": True}, {"figure": "yes", "box": [1, 1, 5, 5]}])
result = spool.result("null/page.ppm")
same((run.returncode, [f["box"] for f in result.pages[0]["figures"]]),
     (0, [[0, 0, 30, 40], [100, 80, 120, 90], [10, 20, 31, 41]]),
     "boxes are cut to the page; empty and broken ones are left out")
problems(result_problems(result), "of what is left all is there")

# Turned as the page had to be turned.
for rotation in (90, 180, 270):
    spool, run = read([block(boxes[0])], rotation=rotation)
    data = (spool.result("null/page.ppm").folder / "figures/0001-1.png").read_bytes()
    same(unpng(data), cut(boxes[0], rotation), f"a page that was turned by {rotation}: upright")

# Limits, and none.
spool, run = read([block(boxes[0])] * 5, more="limits: {page_figures: 3}\n")
result = spool.result("null/page.ppm")
same((run.returncode, result.pages[0]["status"], result.pages[0]["reason"], len(result.pages[0]["figures"])),
     (1, "flagged", "limit:page-figures", 3), "more than page_figures: those are cut, and the page is flagged")
problems(result_problems(result), "nothing else lies there")
spool, run = read([block(boxes[0])], "![a](#block-0)", "figures: none\n")
result = spool.result("null/page.ppm")
same((run.returncode, result.states(), result.pages[0].get("figures"), (result.folder / "figures").exists(),
      result.lines()[0]["result"]["text"]), (0, ["ok"], None, False, "![a]()"), "figures: none cuts nothing")
spool.pipeline("wrong", "figures: all\n")
run = cloister("check", spool.root / "pipelines" / "wrong.yaml")
ok(run.returncode and "'all' is not one of cut, none" in run.out + run.err, "what it may be is said",
   run.out, run.err)

# Killed between pages and while cutting: the same result, each picture once.
def killed_spool(documents):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", "40", "--result",
                        result_of([block([10, 20, 600, 500]), block([0, 0, 1e6, 1e6])], text),
                        more=OUTPUTS)
    for n in range(documents):
        pixels = random.Random(n).randbytes(3 * 700 * 700)
        spool.drop(b"P6\n700 700\n255\n" + pixels, f"null/{n}.ppm")
    return spool


def asides(run, mode):
    def arguments(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return b""
    return [pid for pid in children(run.pid, "cloister-decode") if mode in arguments(pid)]


whole = killed_spool(3)
whole.run()
want = stable(whole)
same(len(want), 3, "documents with large pictures are read")
for what in ("supervisor", "cutter", "renderer", "writer"):
    spool, hits = killed_spool(3), 0
    for attempt in range(3):
        run = spool.start("--once", "-j", "1")
        if what == "writer":
            hit = wait_for(lambda: children(run.pid, "cloister-write") or run.poll() is not None, 20, 0.002)
        else:
            mode = b"--html" if what == "renderer" else b"--figures"
            hit = wait_for(lambda: asides(run, mode) or run.poll() is not None, 20, 0.002)
        if isinstance(hit, list):
            hits += kill(run.pid if what == "supervisor" else hit[0])
        run.wait()
    run = spool.run()
    got = stable(spool)
    ok(hits, f"{what}: was hit {hits} times")
    same((run.returncode, sorted(got), [name for name in want if got.get(name) != want[name]]),
         (0, sorted(want), []), f"{what}: the results are the same")
    same(spool.tokens(), [], f"{what}: nothing is left to do")

# A picture that cannot be cut is missed, its text is not.
spool = killed_spool(1)
run = spool.start("--once", "-j", "1")
hits = 0
while run.poll() is None:
    hits += sum(kill(pid) for pid in asides(run, b"--figures"))
    time.sleep(0.002)
page = spool.result("null/0.ppm").pages[0]
same((page["status"], page["reason"], page.get("figures")), ("flagged", "figures", None),
     "cut out in vain: the page is flagged")
ok("signal 9" in page["detail"] and page["warnings"] == [page["detail"]], "and says why", page)
done()
