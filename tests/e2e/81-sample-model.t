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
done()
