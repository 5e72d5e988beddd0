#!/usr/bin/env python3
# Read documents at once: page, state and number of words of each page.   ocr.py FILE...
import json
import subprocess
import sys

read = subprocess.run(["cloister", "ocr", "--json", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)
for line in read.stdout.splitlines():
    page = json.loads(line)
    text = (page.get("result") or {}).get("text") or ""
    print(page["page"], page["status"], len(text.split()))
sys.exit(read.returncode)
