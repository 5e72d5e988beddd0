#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""ls and show know archives: what became of each member, what was passed over, and where a member
came from."""

import io
import subprocess
import sys
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf


def book(n):
    return pdf.build(pdf.pages([pdf.text(b"Member %d" % n)]))


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


spool = Spool()
spool.null_pipeline("null", more="dpi: 72\n")
archive = spool.drop(zipped([("letters/one.pdf", book(1)), ("__MACOSX/._one.pdf", b"litter"),
                             ("bad\n.pdf", b"nothing"), ("inner.zip", zipped([("two.pdf", book(2))]))]),
                     "null/papers.zip")
hashed = sha256(archive)
same(spool.run("-j", "2").returncode, 1, "a member fails")


def listing(*arguments):
    return {row["path"]: row for row in
            map(json.loads, spool.command("ls", "--json", *arguments).out.splitlines())}


def show(name):
    return json.loads(spool.command("show", "--json", name).out)


rows = listing()
same({path: row["state"] for path, row in rows.items()}, {
    "null/papers.zip": "unpacked", "null/papers.zip/0001-one.pdf": "done",
    "null/papers.zip/0003-bad_.pdf": "failed", "null/papers.zip/0004-inner.zip": "unpacked",
    "null/papers.zip/0004-inner.zip/0001-two.pdf": "done"}, "ls: archives are listed, once, and so are their members")
same([rows[n].get("members") for n in ("null/papers.zip", "null/papers.zip/0001-one.pdf")], [3, None],
     "ls: an archive has its number of members, a document none")
same(sorted(listing("--state", "unpacked")),
     ["null/papers.zip", "null/papers.zip/0004-inner.zip"], "ls --state unpacked")
line = [line.split() for line in spool.command("ls").out.splitlines() if line.endswith("papers.zip")]
same(line, [["unpacked", "null", "3", "null/papers.zip"]], "ls: the same for people")

shown = show("papers.zip")
same((shown["state"], shown["result"]["sha256"]), ("unpacked", hashed), "show: the archive")
same([(m["ordinal"], m["member"], m["state"], m["path"], m.get("reason")) for m in shown["members"]],
     [(1, "letters/one.pdf", "done", "null/papers.zip/0001-one.pdf", None),
      (3, "bad\\x0a.pdf", "failed", "null/papers.zip/0003-bad_.pdf", "unknown-type"),
      (4, "inner.zip", "unpacked", "null/papers.zip/0004-inner.zip", None)],
     "show: its members and what became of each")
same([(s["path"], s["reason"]) for s in shown["result"]["skipped"]],
     [("__MACOSX/._one.pdf", "ignored-name")], "show: what was passed over, and why")
text = spool.command("show", "papers.zip").out
for line in ("member 0001  done  letters/one.pdf -> null/papers.zip/0001-one.pdf",
             "member 0003  failed unknown-type  bad\\x0a.pdf -> null/papers.zip/0003-bad_.pdf",
             "member 0004  unpacked  inner.zip -> null/papers.zip/0004-inner.zip",
             "member 0002  skipped ignored-name  __MACOSX/._one.pdf"):
    ok(line in text, f"show: {line}", text)
for name, member in (("0001-one.pdf", "letters/one.pdf"), ("0003-bad_.pdf", "bad\\x0a.pdf")):
    lines = [line.split(None, 1) for line in spool.command("show", name).out.splitlines()]
    ok(["archive", "null/papers.zip"] in lines and ["member", member] in lines,
       f"show {name}: which archive it came from, and its name in there", lines)

# Another archive of the same name: its members are told apart from those of the first.
spool.drop(zipped([("letters/one.pdf", b"no document either")]), "null/papers.zip")
spool.run()
same([m["state"] for m in show("null/papers.zip")["members"]], ["done", "failed", "unpacked"],
     "show: the first archive has kept its members")
same([(m["state"], m["path"]) for m in show("null/papers.zip~2")["members"]],
     [("failed", "null/papers.zip/0001-one.pdf")], "show: the second has its own")
shutil.rmtree(spool.root / "out" / "null" / "papers.zip" / "0001-one.pdf")
same([m["state"] for m in show("null/papers.zip")["members"]], ["gone", "failed", "unpacked"],
     "show: a result that somebody took away is gone")

# An archive that is kept in in/ is unpacked once, and listed once.
spool = Spool()
spool.null_pipeline("keep", more="dpi: 72\noriginals: keep\n")
spool.drop(zipped([("three.pdf", book(3))]), "keep/kept.zip")
try:
    spool.run(timeout=15)
except subprocess.TimeoutExpired:
    pass
same(sorted((row["path"], row["state"]) for row in listing().values()),
     [("keep/kept.zip", "unpacked"), ("keep/kept.zip/0001-three.pdf", "done")],
     "originals: keep: ls has the archive once, and its member")
done()
