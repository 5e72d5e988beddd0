#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What the command line says of itself: help, the manual page, completion; and that what cannot be
# printed is not passed over.
build=${CLOISTER_BUILD:-build}
cloister=$build/cloister
tmp=$(mktemp -d) || exit
trap 'rm -rf "$tmp"' EXIT
unset CLOISTER_SPOOL
count=0
failed=0

ok() { # NAME COMMAND...
  local name=$1
  shift
  count=$((count + 1))
  if "$@" >"$tmp/why" 2>&1; then
    echo "ok $count - $name"
  else
    echo "not ok $count - $name"
    sed 's/^/# /' "$tmp/why"
    failed=1
  fi
}
exits() { # CODE COMMAND...
  local want=$1 got
  shift
  "$@"
  got=$?
  [ "$got" -eq "$want" ] || { echo "exit code $got, not $want"; return 1; }
}
same() { # GOT WANTED
  [ "$1" = "$2" ] || { echo "got:    $1"; echo "wanted: $2"; return 1; }
}

# Help: on standard output, at most 80 columns, with every option documented.
commands=$("$cloister" --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' | tr '\n' ' ')
ok "the commands" same "$commands" \
  "run submit ocr status ls show hold release retry verify models check help completion "
for command in $commands; do
  "$cloister" "$command" --help >"$tmp/help" 2>"$tmp/err"
  ok "$command --help: exit code 0, nothing on standard error" same "$?:$(cat "$tmp/err")" "0:"
  ok "$command --help is what help $command says" \
    diff "$tmp/help" <("$cloister" help "$command")
  ok "$command --help fits 80 columns" same "$(grep -cE '^.{81}' "$tmp/help")" 0
done
ok "no command: usage on standard error" same "$("$cloister" 2>/dev/null)" ""
ok "no command: exit code 2" exits 2 "$cloister"
ok "help of what there is not" exits 2 "$cloister" help sumbit
ok "version" grep -qx 'cloister [0-9]*\.[0-9]*\.[0-9]*' <("$cloister" --version)
ok "a full disk is noticed" exits 1 sh -c '"$0" --help >/dev/full' "$cloister"

# A name with control characters reaches the terminal escaped.
"$cloister" $'sub\e[2Jmit' 2>"$tmp/err"
ok "control characters are escaped" same "$(grep -c $'\e' "$tmp/err")" 0

# The manual page.
"$cloister" help --man >"$tmp/cloister.1"
if command -v mandoc >/dev/null; then
  ok "the manual page passes mandoc -Tlint" \
    same "$(mandoc -Tlint -W warning "$tmp/cloister.1" 2>&1)" ""
  mandoc -Tascii "$tmp/cloister.1" | sed 's/.\x08//g' >"$tmp/page"
  for command in $commands; do
    ok "the manual page shows $command" grep -q "^     cloister $command" "$tmp/page"
  done
  ok "the manual page shows options" grep -q -- '--until HH:MM' "$tmp/page"
  ok "that of the protocol passes mandoc -Tlint" \
    same "$(mandoc -Tlint -W warning pipelines/cloister-airlock.7 2>&1)" ""
else
  echo "ok $((count += 1)) - the manual page # SKIP no mandoc"
fi

# Completion, as the shell calls it.
completes() { # WORDS WANTED: completes the last of WORDS
  local got
  got=$(
    cd "$tmp/there" || exit
    # shellcheck source=/dev/null
    . "$tmp/completion"
    IFS=' ' read -ra COMP_WORDS <<<"$1"
    [ "${1% }" = "$1" ] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=()
    _cloister
    echo "${COMPREPLY[*]}"
  )
  same "$got" "$2"
}
mkdir -p "$tmp/there/spool"
touch "$tmp/there/scan.pdf"
"$cloister" completion bash >"$tmp/completion"
ok "the completion script is right" bash -n "$tmp/completion"
ok "completes commands" completes "cloister re" "release retry"
ok "completes options without a command" completes "cloister --v" "--version"
ok "completes options" completes "cloister run --" \
  "--once --jobs --until --verbose --quiet --help --version"
ok "knows which options a command has" completes "cloister ls --s" "--state --spool"
ok "completes states" completes "cloister ls --state d" "deferred done"
ok "completes states after the letter" completes "cloister ls -s fa" "failed"
ok "completes folders" completes "cloister run s" "spool"
ok "completes folders as values" completes "cloister status --spool s" "spool"
ok "completes files" completes "cloister submit sc" "scan.pdf"
ok "completes nothing where it cannot" completes "cloister run -j " ""
ok "completes commands after help" completes "cloister help com" "completion"
ok "completion of another shell" exits 2 "$cloister" completion fish

echo "1..$count"
exit $failed
