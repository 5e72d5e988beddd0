#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a service manager is told (sd_notify): by a run in its sandbox, to a socket of the test's."""

import os
import socket
import sys
import threading

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *


def environment(pid):
    """Only root can see that of a keeper, or of a child that is still to become a program: they are locked
    as the supervisor is."""
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        if os.geteuid() == 0:
            raise
        return b""

import pdf


class Manager:
    """Gathers what is sent to it."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.lines = []
        threading.Thread(target=self.gather, daemon=True).start()

    def gather(self):
        while data := self.socket.recv(4096):
            self.lines += data.decode().splitlines()

    def has(self, start):
        return any(line.startswith(start) for line in self.lines)


for kind in ("path", "abstract"):
    spool = Spool()
    spool.null_pipeline("null", "--delay-ms", "60", more="dpi: 72\n")
    spool.drop(pdf.build(pdf.pages([pdf.text(b"Page %d" % n) for n in range(40)])), "null/book.pdf")
    path = str(spool.path / "notify") if kind == "path" else f"@{spool.path}"
    manager = Manager(path.replace("@", "\0", 1))
    run = spool.start("-j", "1", env={**os.environ, "NOTIFY_SOCKET": path,
                                      "WATCHDOG_USEC": "1000000"})
    ok(wait_for(lambda: manager.has("READY=1"), 30), f"{kind}: READY")
    ok(wait_for(lambda: any(" page" in line and "done" in line for line in manager.lines
                            if line.startswith("STATUS=")), 30), f"{kind}: STATUS tells of pages",
       *manager.lines)
    begun, before = time.monotonic(), manager.lines.count("WATCHDOG=1")
    ok(wait_for(lambda: manager.lines.count("WATCHDOG=1") >= before + 3, 10),
       f"{kind}: signs of life")
    ok(time.monotonic() - begun < 5, f"{kind}: as often as was asked for")
    told = [pid for pid in children(run.pid) if b"NOTIFY" in environment(pid)]
    same(told, [], f"{kind}: no child knows of it")
    ok(not manager.has("STOPPING=1"), f"{kind}: not stopping while it works")
    run.terminate()
    run.wait(30)
    ok(wait_for(lambda: manager.has("STOPPING=1"), 5), f"{kind}: STOPPING at the end")

spool = Spool()
missing = spool.run(env={**os.environ, "NOTIFY_SOCKET": str(spool.path / "nobody")})
same(missing.returncode, 0, "a manager that is not there is no reason to stop")
ok("NOTIFY_SOCKET" in missing.err, "but is said", missing.err)
done()
