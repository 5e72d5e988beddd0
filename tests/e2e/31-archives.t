#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Archives: every member is a document of its own."""

import bz2
import io
import lzma
import subprocess
import sys
import tarfile
import zipfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

MEMBERS = ["b/two.pdf", "a/one.pdf", "caf\u00e9.pdf", "three.pdf"]


def book(n):
    return pdf.build(pdf.pages([pdf.text(b"Member %d page %d" % (n, p)) for p in range(2)]))


def tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for n, name in enumerate(MEMBERS):
            info = tarfile.TarInfo(name)
            info.size = len(book(n))
            archive.addfile(info, io.BytesIO(book(n)))
    return out.getvalue()


def zipped(members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return out.getvalue()


spool = Spool()
spool.null_pipeline("null", more="dpi: 72\nduplicates: process\n")
spool.null_pipeline("flat", more="dpi: 72\nlimits: {archive_depth: 1}\n")
archives = {
    "all.zip": zipped((name, book(n)) for n, name in enumerate(MEMBERS)),
    "all.cbz": zipped((name, book(n)) for n, name in enumerate(MEMBERS)),
    "all.tar": tar(),
    "all.tar.bz2": bz2.compress(tar()),
    "all.tar.xz": lzma.compress(tar()),
    "all.tar.zst": subprocess.run(["zstd", "-qc"], input=tar(), capture_output=True, check=True).stdout,
    "named-wrongly.pdf": zipped((name, book(n)) for n, name in enumerate(MEMBERS)),
}
for name, data in archives.items():
    spool.drop(data, f"null/{name}")
spool.drop(zipped([("inner.zip", zipped([("deep.pdf", book(1))])), ("good.pdf", book(2))]),
           "null/nested.zip")
spool.drop(zipped([("inner.zip", zipped([("deep.pdf", book(1))])), ("good.pdf", book(2))]),
           "flat/nested.zip")
spool.drop(zipped([("good.pdf", book(1)), ("bad.pdf", b"no document")]), "null/half-bad.zip")
spool.drop(zipped([]), "null/nothing.zip")
run = spool.run("-j", "2")
same(run.returncode, 1, "some members fail")

for name in archives:
    folder = spool.root / "out" / "null" / name
    if not ok((folder / "archive.json").exists(), f"{name}: has an archive.json"):
        continue
    index = json.loads((folder / "archive.json").read_text("utf-8"))
    same([m["member"] for _, m in sorted(index["files"].items())], MEMBERS,
         f"{name}: which lists the members in order")
    names = [f"null/{name}/{n:04}-{m.rsplit('/')[-1]}" for n, m in enumerate(MEMBERS, 1)]
    results = [spool.result(n) for n in names]
    if ok(all(results), f"{name}: each has a result", names):
        same([len(r.pages) for r in results], [2] * 4, f"{name}: with all its pages")
        same([r.document["input"]["archive"]["member"] for r in results], MEMBERS,
             f"{name}: which names the path inside the archive")
        same({r.document["input"]["archive"]["sha256"] for r in results}, {sha256(
            spool.root / "done" / "null" / name)}, f"{name}: and the archive's hash")

ok(spool.result("null/nested.zip/0001-inner.zip/0001-deep.pdf"), "an archive in an archive is opened")
ok(spool.result("flat/nested.zip/0002-good.pdf"), "at the depth allowed")
deep = spool.why("flat/nested.zip/0001-inner.zip") or {}
same(deep.get("reason"), "limit:archive-depth", "and not beyond")
ok(spool.result("null/half-bad.zip/0001-good.pdf"), "a bad member leaves the others alone")
same((spool.why("null/half-bad.zip/0002-bad.pdf") or {}).get("reason"), "unknown-type",
     "and fails by itself")
ok(spool.why("null/nothing.zip"), "an archive without members fails")
same(spool.tokens(), [], "no token is left")
same(list((spool.root / "state" / "members").rglob("*.*")), [], "no member is left")
done()
