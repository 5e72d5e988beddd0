#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sample model reads, the whole way from the drop box to text.md: pages that it was not trained on, with
less than one letter in twenty wrong, and no result that is not `ok`."""

import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

MODEL = ROOT / "samples" / "model"
if not (MODEL / "model.safetensors").exists():
    skip_all("the sample model has no weights here")

spool = Spool()
shutil.copy(MODEL / "sample-model.yaml", spool.root / "pipelines")
texts = dict(row.split("\t") for row in (MODEL / "held-back/texts.tsv").read_text("utf-8").splitlines())
for name in texts:
    spool.drop(MODEL / "held-back" / name, f"sample-model/{name}")
run = spool.run(env={**os.environ, "CLOISTER_MODELS": str(ROOT / "samples")})
same(run.returncode, 0, "a run reads them")
results = spool.results()
same(sorted(results), [f"sample-model/{name}" for name in sorted(texts)], "each has a result")
problems([p for result in results.values() for p in result_problems(result)], "which holds together")
wrong = sum(cer.rate(text, results[f"sample-model/{name}"].text()) * len(text) for name, text in texts.items()
            if f"sample-model/{name}" in results)
letters = sum(map(len, texts.values()))
ok(letters > 500 and wrong / letters < 0.05, "less than one letter in twenty is wrong",
   f"{wrong:.0f} of {letters}", {name: r.text() for name, r in results.items()})
figure("sample model, from the drop box", f"{wrong:.0f} of {letters} letters of unseen pages wrong")
page = results.get("sample-model/00.pgm")
ok(page and 0.5 < page.lines()[0]["result"]["confidence"] <= 1, "it is sure of what it reads", page and page.lines())

# What the operator's check says of it: as it was locked, and when one byte is another.
if not os.environ.get("CLOISTER_SANITIZED"):
    folder = spool.path / "models" / "model"
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)

    def line():
        run = spool.command("verify", "--json", env={**os.environ, "CLOISTER_MODELS": str(folder.parent)}, timeout=300)
        found = {c["check"]: c for c in json.loads(run.out)["checks"]}
        return [(found[c]["passed"], found[c]["reason"]) for c in ("model sample-model", "network sample-model")]

    told, network = line()
    ok(network[0] and "asks for a socket, and is killed" in network[1], "cloister verify: the loaded engine has no network", network)
    ok(told and told[0], "cloister verify: the model is as it was locked", told)
    with open(folder / "model.safetensors", "r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    told, network = line()
    ok(not network[0] and "did not come up" in network[1], "cloister verify: it is not loaded then", network)
    ok(told and not told[0] and "differs from its lock" in told[1] and "1 of" in told[1], "cloister verify: one byte of it is another", told)
done()
