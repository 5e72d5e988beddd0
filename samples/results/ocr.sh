#!/bin/sh
# Read documents at once: page, state and number of words of each page. Needs jq.   ocr.sh FILE...
cloister ocr --json "$@" |
    jq -r '[.page, .status, (.result.text // "" | [splits("\\s+") | select(. != "")] | length)] | join(" ")'
