#!/bin/sh
# From results: page, state and number of words of each page. Needs jq.   pages.sh SPOOL/out/PIPELINE/NAME/pages.jsonl
jq -r '[.page, .status, (.result.text // "" | [splits("\\s+") | select(. != "")] | length)] | join(" ")' "$1"
