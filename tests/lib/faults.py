# SPDX-License-Identifier: MIT
"""A spool with a document of each kind, for the harnesses that let calls fail in the programs that
work on it; and ways to let them fail: strace for the supervisor, whose system calls it can see one by
one, and a preloaded library (tests/tools/preload/failing-calls.c) for the sandboxed programs, for
malloc, and for reads and writes that do half of what was asked."""

import errno
import io
import mmap
import os
import shutil
import signal
import struct
import subprocess
import zipfile

import e2e
import pdf
import promises

STRACE = shutil.which("strace")
SEAM = e2e.BUILD / "tests" / "tools" / "failing-calls.so"
CALLS = ("read", "write", "pread", "openat", "open", "close", "fstat", "fsync", "lseek", "mmap", "malloc")
PATIENCE = 4   # seconds after which a run that pauses is told to stop
ERRORS = {name: getattr(errno, name) for name in
          ("ENOSPC", "EIO", "EMFILE", "ENOMEM", "EINTR", "EDQUOT", "ESTALE")}


def book(pages, text):
    return pdf.build(pdf.pages([pdf.text(text + b" %d" % n) for n in range(pages)], widen=1))


def archive(members):
    store = io.BytesIO()
    with zipfile.ZipFile(store, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return store.getvalue()


MEMBERS = {"a/note.pdf": book(1, b"Member"),
           "b/scan.pgm": b"P5 400 200 255\n" + bytes(range(250)) * 320}  # more than a pipe holds
FIGURE = '<div data-bbox="[0,0,1024,1024]" data-label="Figure"></div><p>Below it</p>'

DROPS = {
    "null/sub/book.pdf": promises.Drop(book(2, b"Book"), 2, ["page 300x80", "page 301x80"]),
    "null/scan.pgm": promises.Drop(b"P5 50 40 255\n" + bytes(range(200)) * 10, 1, ["page 50x40"]),
    "null/store.zip": promises.Drop(archive(MEMBERS), members={
        "0001-note.pdf": promises.Drop(MEMBERS["a/note.pdf"], 1, ["page 300x80"]),
        "0002-scan.pgm": promises.Drop(MEMBERS["b/scan.pgm"], 1, ["page 400x200"])}),
    "null/bad.pdf": promises.Drop(b"%PDF-1.4 nonsense", 0),
    "laid/plate.pgm": promises.Drop(b"P5 60 40 255\n" + bytes(range(240)) * 10, 1),
}


def new_spool(more="", where=None):
    spool = e2e.Spool(where=where)
    scratch = e2e.Spool().path if where else spool.path / "scratch"
    scratch.mkdir(exist_ok=True)
    spool.configure("settle_seconds: 0\nlease_seconds: 3\n"
                    f"scratch: {scratch}\nscratch_mebibytes: 64\n" + more)
    # The shipped pipeline of this name has other settings: taking it instead would be told by results.
    spool.null_pipeline("null", more="dpi: 72\n")
    spool.null_pipeline("laid", "--layout", FIGURE, more="dpi: 72\noutputs: [pages.jsonl, document.html]\n")
    for name, drop in DROPS.items():
        spool.drop(drop.data, name)
    (spool.root / "in" / "null" / "scan.pgm.cloister.yaml").write_text("priority: 7\n")
    return spool


def run(spool, before=(), environment=None, patience=PATIENCE):
    """Run until all is done. One that waits for the fault to pass is told to stop, as an operator
    would tell it. The process, with .err, .stuck and .told."""
    process = subprocess.Popen([*before, e2e.CLOISTER, "run", spool.root, "--once", "-q", "-j", "2"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, env=environment, text=True, errors="replace",
                               start_new_session=True)
    process.stuck = process.told = False
    try:
        process.err = process.communicate(timeout=patience)[1]
        return process
    except subprocess.TimeoutExpired:
        process.told = True
    # strace keeps what is not meant for itself: the run below it is told.
    for pid in (e2e.children(process.pid, "cloister") if before else [process.pid])[:1]:
        e2e.kill(pid, signal.SIGTERM)
    try:
        process.err = process.communicate(timeout=30)[1]
    except subprocess.TimeoutExpired:
        process.stuck = True
        os.killpg(process.pid, signal.SIGKILL)
        process.err = process.communicate()[1]
    return process


class Counts:
    """Calls by kind, of all processes that count into this file."""

    def __init__(self, folder):
        self.file = folder / "counts"
        self.file.write_bytes(bytes(8 * len(CALLS)))

    def read(self):
        return dict(zip(CALLS, struct.unpack(f"{len(CALLS)}Q", self.file.read_bytes())))


def seam(counts, fault):
    """The environment that lets it fail: fault is "" or "write 28 3"."""
    return {"LD_PRELOAD": str(SEAM), "CLOISTER_TEST_FAULT": fault,
            "CLOISTER_TEST_FAULT_COUNTS": str(counts.file)}


def wrapped(folder, program, counts, fault):
    """A folder of programs for CLOISTER_LIBEXEC, in which `program` is started with the seam."""
    libexec = folder / "libexec"
    shutil.rmtree(libexec, ignore_errors=True)
    libexec.mkdir()
    for name in ("cloister-decode", "cloister-write", "cloister-tesseract"):
        if name != program:
            (libexec / name).symlink_to(e2e.BUILD / name)
    settings = " ".join(f"{key}='{value}'" for key, value in seam(counts, fault).items())
    (libexec / program).write_text(f"#!/bin/sh\n{settings} exec {e2e.BUILD / program} \"$@\"\n")
    (libexec / program).chmod(0o755)
    return {**os.environ, "CLOISTER_LIBEXEC": str(libexec)}


def strace(call, number, when, trace="/dev/null"):
    return (STRACE, "-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:error={number}:when={when}")
