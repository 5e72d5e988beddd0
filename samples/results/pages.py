#!/usr/bin/env python3
# From results: page, state and number of words of each page.   pages.py SPOOL/out/PIPELINE/NAME/pages.jsonl
import json
import sys

with open(sys.argv[1], encoding="utf-8") as pages:
    for page in map(json.loads, pages):
        text = (page.get("result") or {}).get("text") or ""
        print(page["page"], page["status"], len(text.split()))
