#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a drop box meets on a bad day: each file ends as tests/fixtures/hostile.py says, and the
documents beside it are unharmed."""

import os
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

spool = Spool()
hostile = [sys.executable, "-B", FIXTURES / "hostile.py"]
spool.pipeline("bad", subprocess.run([*hostile, "--pipeline"], check=True, capture_output=True,
                                     text=True).stdout)
table = json.loads(subprocess.run([*hostile, spool.root / "in" / "bad"], check=True,
                                  capture_output=True).stdout)
secret = spool.drop(SAMPLES / "scans" / "index-card.pgm", "bad/good.pgm")
before = sha256(secret)

run = spool.run("-j", "2", timeout=200)
same(run.returncode, 1, "a run with failed documents ends with 1")


def find(top, name):
    """The entry for in/bad/NAME beneath a folder of the spool, or None."""
    path = os.path.join(os.fsencode(spool.root / top / "bad"), os.fsencode(name))
    return path if os.path.lexists(path) else None


for entry in table:
    name, shown = entry["name"], ascii(entry["name"])
    places = []
    if find("in", name):
        places.append("in")
    if (folder := find("out", name)):
        places.append("out")
    if (why := find("failed", name + ".why.json")):
        places.append("failed")
    if not ok(len(places) == 1 and places[0] in entry["place"],
              f"{shown}: ends in {' or '.join(entry['place'])}", f"is in {places}"):
        continue
    reasons, states = [], []
    if places == ["failed"]:
        why = json.loads(open(why, encoding="utf-8").read())
        reasons = [why["reason"]]
        ok(why["text"] and "\n" not in why["text"], f"{shown}: why.json says why", why)
        ok(find("failed", name), f"{shown}: the original lies beside it")
    elif places == ["out"] and os.path.exists(os.path.join(folder, b"document.json")):
        result = Result(os.fsdecode(folder))
        problems(result_problems(result), f"{shown}: its result holds together")
        reasons = [p.get("reason") for p in result.pages if p["status"] != "ok"]
        states = result.states()
        if "pages" in entry:
            ok(len(states) == len(entry["pages"])
               and all(got in want for got, want in zip(states, entry["pages"])),
               f"{shown}: its pages end as expected", f"got {states}", f"want {entry['pages']}")
    if entry["reason"] and (places == ["failed"] or any(s != "ok" for s in states)):
        ok(set(reasons) & set(entry["reason"]), f"{shown}: for the reason given",
           f"got {reasons}", f"want one of {entry['reason']}")
    if places == ["failed"]:
        ok(any(reasons[0] in line for line in run.err.splitlines()), f"{shown}: is in the log")

good = spool.result("bad/good.pgm")
ok(good and good.states() == ["ok"] and cer_of(good, "scans/index-card.pgm") < 0.02,
   "a good document among them is read")
same(good and good.document["input"]["sha256"], before, "unharmed")
large = spool.result("bad/large-page.pdf")
ok(large and large.pages[0]["dpi"] < 200 and large.pages[0]["width"] * large.pages[0]["height"]
   <= 4e6, "the dpi of a large page is lowered, and recorded", large and large.pages)
strays = [str(p) for p in spool.path.rglob("*evil*") if "/out/" not in str(p)]
same((strays, os.path.exists("/tmp/evil-absolute.pgm")), ([], False),
     "no archive wrote outside its folder")
same([str(p) for p in (spool.root / "out").rglob("*") if p.is_symlink()], [],
     "no result is a symbolic link")
ok("\x1b" not in run.err and "\x1b" not in run.out, "names cannot steer a terminal")
same(spool.tokens(), [], "no token is left")

listed = json.loads((spool.root / "out/bad/long-names.tar.gz/archive.json").read_text("utf-8"))
same(([m["reason"] for m in listed["skipped"]], [m["archive"]["member"] for m in listed["files"].values()]),
     (["name-too-long"] * 2, ["good.pgm"]), "members with names that are too long are passed over")

depths = [why["reason"] for why in (json.loads(p.read_text()) for p in
          (spool.root / "failed" / "bad").rglob("*.why.json")) if "depth" in why["reason"]]
same(depths, ["limit:archive-depth"], "archives in archives end at the depth allowed")
again = spool.run()
ok("random.bin" not in again.err, "what failed is not tried again by itself", again.err)
done()
