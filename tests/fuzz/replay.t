#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the fuzzers started from, and what they once found, through the same harnesses: nothing
breaks. `make fuzz` looks for more."""

import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
inputs = 0
for source in sorted((ROOT / "tests" / "fuzz").glob("fuzz-*.c")):
    seeds = CORPUS / source.stem.removeprefix("fuzz-")
    run = subprocess.run([BUILD / "tests" / "fuzz" / source.stem, seeds], capture_output=True,
                         text=True, errors="replace")
    here = len(list(seeds.iterdir())) if seeds.exists() else 0
    inputs += here
    ok(here and run.returncode == 0, f"{source.stem}: {here} inputs", run.returncode,
       *run.stderr.splitlines()[-20:])
same(sorted(p.name for p in CORPUS.iterdir() if not (ROOT / "tests" / "fuzz" / f"fuzz-{p.name}.c").exists()),
     [], "no inputs without a harness")
figure("fuzz inputs replayed", inputs)
done()
