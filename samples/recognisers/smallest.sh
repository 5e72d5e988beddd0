#!/bin/sh
# SPDX-License-Identifier: MIT
#
# The smallest recogniser: a shell, and the command line of Tesseract.
#
#   recogniser: command
#   command: [/opt/recognisers/smallest.sh]
#
# Quotes within a string of JSON have a backslash before them, so "id": and "page": are found where they are keys.
export LC_ALL=C OMP_THREAD_LIMIT=1
tab=$(printf '\t')

read_page() { # FILE: its text
    tesseract "$1" stdout 2>/dev/null
}

quoted() { # standard input, as the inside of a string of JSON
    iconv -c -f UTF-8 -t UTF-8 | tr -d '\000-\010\013-\037\177' |
        sed "s/\\\\/\\\\\\\\/g; s/\"/\\\\\"/g; s/$tab/\\\\t/g" | awk '{ printf "%s\\n", $0 }'
}

whole() { # FILE: is it a page, with all its pixels?
    { read -r magic && read -r width height && read -r depth; } <"$1" || return
    case $magic in P5) channels=1 ;; P6) channels=3 ;; *) return 1 ;; esac
    head="$magic
$width $height
$depth
"
    [ "$(wc -c <"$1")" -eq $((${#head} + width * height * channels)) ]
}

echo '{"airlock":1,"name":"smallest","version":"1","window":1}'
while read -r request; do
    id=${request#*\"id\":}
    id=${id%%[!0-9]*}
    page=${request#*\"page\":\"}
    page=${page%%\"*}
    if whole "$page" 2>/dev/null && text=$(read_page "$page" | quoted); then
        printf '{"id":%s,"status":"ok","text":"%s"}\n' "$id" "$text"
    else
        printf '{"id":%s,"status":"error","error":"%s cannot be read"}\n' "$id" "$page"
    fi
done
