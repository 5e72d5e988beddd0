#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What models wrote becomes HTML in a process of its own. Where that crashes, hangs, floods or lies, and where
a page is too much for it, the page is flagged with the reason and stands in document.html as text; nothing else
is lost. The program that writes results parses none of it."""

import json
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import pdf

PAGE = b"P6\n60 40\n255\n" + bytes(range(240)) * 30
OUTPUTS = "outputs: [text.md, pages.jsonl, document.hocr, document.html]\n"
TEXT = "# Tides\n\n*high* and <b>low</b>"
PLAIN = "<div class=\"plain\"># Tides\n\n*high* and &lt;b&gt;low&lt;/b&gt;</div>"


def spool_of(text=TEXT, more="", times=1, **result):
    """Of one document that is read as `text`, so many times over, and one as plain text, which needs no renderer."""
    spool = Spool()
    spool.null_pipeline("null", "--result", json.dumps({"format": "markdown", "text": text, **result}), "--times",
                        times, more=OUTPUTS + more)
    spool.null_pipeline("text", more=OUTPUTS)
    spool.drop(PAGE, "null/page.ppm")
    spool.drop(PAGE, "text/page.ppm")
    return spool


def programs(spool, renderer):
    """The environment in which these lines of shell stand in for the renderer."""
    folder = spool.path / "libexec"
    folder.mkdir()
    for name in ("cloister-tesseract", "cloister-write"):
        (folder / name).symlink_to(BUILD / name)
    (folder / "cloister-decode").write_text(
        f"#!/bin/sh\ncase \"$*\" in *--html*) {renderer} ;; esac\nexec {BUILD}/cloister-decode \"$@\"\n")
    (folder / "cloister-decode").chmod(0o755)
    return {**os.environ, "CLOISTER_LIBEXEC": str(folder)}


def judge(name, spool, run, reason, words, text=TEXT, plain=PLAIN):
    """The page is flagged, and says why; all of its text is there; the other document is as ever."""
    result = spool.result("null/page.ppm")
    if not ok(result, f"{name}: the document is published", run.err):
        return
    page = result.pages[0]
    same((run.returncode, page["status"], page["reason"]), (1, "flagged", reason), f"{name}: flagged, {reason}")
    ok(words in page["detail"] and page["warnings"] == [page["detail"]], f"{name}: says why", page)
    web = result.read("document.html")
    ok(plain in web and reason in web, f"{name}: document.html has the text as it is, and the reason", web[-2000:])
    ok(text in result.read("text.md") and result.lines()[0]["result"]["text"] == text
       and "html" not in result.lines()[0], f"{name}: the other files have all of it")
    problems(result_problems(result), f"{name}: they hold together")
    same(spool.result("text/page.ppm").states(), ["ok"], f"{name}: the other document is fine")
    same(spool.tokens(), [], f"{name}: nothing is left to do")


# As it should be.
spool = spool_of()
run = spool.run()
whole = spool.result("null/page.ppm")
same((run.returncode, whole.states()), (0, ["ok"]), "a page of Markdown")
ok("<h1>Tides</h1>\n<p><em>high</em> and <b>low</b></p>" in whole.read("document.html"), "is rendered")
ok("html" not in whole.lines()[0], "and its HTML is in document.html alone")
spool = spool_of("<p>one<p>two<script>three</script>", format="html")
spool.run()
ok("<p>one</p><p>two</p>" in spool.result("null/page.ppm").read("document.html"), "HTML is written anew")
needed = subprocess.run(["readelf", "-d", BUILD / "cloister-write"], capture_output=True, text=True).stdout
ok("libjansson" in needed and not re.search("gumbo|md4c", needed), "who writes results has no reader of either",
   needed)

# What stands in for the renderer goes wrong in every way.
FLOOD = "x=%s; while :; do printf %%s \"$x\"; done" % ("a" * 65536)
SECONDS = "limits: {page_seconds: 1, page_cpu_seconds: 1, result_kibibytes: 256}\n"
for name, renderer, reason, words in (
        ("crash", "kill -SEGV $$", "html", "signal 11"),
        ("exit", "exit 3", "html", "exit code 3"),
        ("silence", "exit 0", "html", "turning its text into HTML failed"),
        ("hang", "kill -STOP $$", "limit:page-seconds", "more than 1 seconds"),
        ("hang while it talks", "while :; do echo words >&2; done", "limit:page-", "turning its text into HTML took"),
        ("endless line", FLOOD, "html", "broke the protocol"),
        ("half a line", "printf '{\"html\":\"<p>'; exit 0", "html", "turning its text into HTML"),
        ("a lie", "echo '{\"html\":7}'; exit 0", "html", "broke the protocol"),
        ("not UTF-8", "printf '{\"html\":\"\\377\"}\\n'; exit 0", "html", "broke the protocol"),
        ("an error", "echo '{\"error\":{\"reason\":\"odd\",\"text\":\"no mood\"}}'; exit 0", "odd", "no mood")):
    spool = spool_of(more=SECONDS)
    run = spool.run(env=programs(spool, renderer))
    if reason.endswith("-"):  # whichever is passed first
        reason = spool.result("null/page.ppm").pages[0]["reason"]
        ok(reason in ("limit:page-seconds", "limit:page-cpu-seconds"), f"{name}: by a limit", reason)
    judge(name, spool, run, reason, words)

# A page that is too much for the renderer itself.
for name, text, times, more, reason, words in (
        ("too many tags", "<i>", 20001, "", "html", "too many tags"),
        ("too long", "words ", 800000, "", "html", "too long"),
        ("too much HTML", '"', 12000, "limits: {result_kibibytes: 40}\n", "limit:result-kibibytes", "than 40 KiB")):
    spool = spool_of(text, more, times)
    run = spool.run()
    text = text * times
    judge(name, spool, run, reason, words, text, text.replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;"))
spool = spool_of("<div><b>", times=9999)
same((spool.run().returncode, spool.result("null/page.ppm").states()), (0, ["ok"]), "as many as it takes are no harm")

# Killed while a page waits for its HTML: the page is made again, and all is as if undisturbed.
def renderers(run):
    def is_one(pid):
        try:
            return b"--html" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    return [pid for pid in children(run.pid) if is_one(pid)]


def stable(result):
    files = result.stable()
    for line in (*files["document.json"]["pages"], *files["pages.jsonl"]):
        line.pop("tries", None)
    return files


spool = spool_of()
run = spool.start("--once", env=programs(spool, "kill -STOP $$"))
pids = wait_for(lambda: renderers(run))
ok(pids, "a page waits for its HTML")
run.kill()
run.wait()
ok(wait_for(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in pids)), "its renderer dies with the run")
run = spool.run()
same((run.returncode, stable(spool.result("null/page.ppm"))), (0, stable(whole)), "the next run ends as an undisturbed one")

# Once a renderer has died the page gets another.
spool = spool_of()
once = spool.root / "state" / "once"
run = spool.run(env=programs(spool, f"[ -e {once} ] || {{ : > {once}; kill -KILL $$; }}"))
ok(once.exists(), "a renderer is killed once")
once.unlink(missing_ok=True)
same((run.returncode, stable(spool.result("null/page.ppm"))), (0, stable(whole)), "the page is rendered all the same")


# A page that was read while nobody asked for HTML is read again when somebody does.
def begun(spool):
    return any(b'"page":1' in path.read_bytes() for path in (spool.root / "state" / "tmp").glob("*/pages"))


def asked_for(outputs):
    spool.null_pipeline("null", "--delay-ms", "500", "--result", json.dumps({"format": "markdown", "text": TEXT}),
                        more=f"dpi: 72\noutputs: {outputs}\n")


spool = Spool()
asked_for("[text.md]")
spool.drop(pdf.build(pdf.pages([pdf.text(b"One"), pdf.text(b"Two")])), "null/two.pdf")
run = spool.start("--once", "-j", "1")
ok(wait_for(lambda: begun(spool), step=0.005), "a run that makes no HTML has read one page of two")
run.kill()
run.wait()
asked_for("[text.md, document.html]")
run = spool.run()
same((run.returncode, spool.result("null/two.pdf").states(),
      spool.result("null/two.pdf").read("document.html").count("<em>high</em>")), (0, ["ok", "ok"], 2),
     "the next run, which makes some, has it of both")
done()
