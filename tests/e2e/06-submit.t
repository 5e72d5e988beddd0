#!/bin/bash
# SPDX-License-Identifier: MIT
#
# What submit, retry and check do in the corners: folders, tickets, names that are taken or strange,
# files that are none; none of it needs a run.
build=${CLOISTER_BUILD:-build}
cloister=$(realpath "$build/cloister")
export CLOISTER_PIPELINES=$(realpath "$build/pipelines")
tmp=$(mktemp -d) || exit
trap 'rm -rf "$tmp"' EXIT
cd "$tmp" || exit
export CLOISTER_SPOOL=$tmp/spool
in=spool/in/tesseract
count=0
failed=0

ok() { # NAME COMMAND...
  local name=$1
  shift
  count=$((count + 1))
  if "$@" >"$tmp/.why" 2>&1; then
    echo "ok $count - $name"
  else
    echo "not ok $count - $name"
    sed 's/^/# /' "$tmp/.why"
    failed=1
  fi
}
same() { # GOT WANTED
  [ "$1" = "$2" ] || { printf 'got:    %s\nwanted: %s\n' "$1" "$2"; return 1; }
}
try() { # COMMAND...: sets out, err, code
  out=$("$cloister" "$@" 2>"$tmp/.err")
  code=$?
  err=$(cat "$tmp/.err")
}
listing() {
  (cd "$1" && find . -mindepth 1 | sort | tr '\n' ' ')
}

try submit x
ok "a spool that is not there: 78" same "$code" 78
mkdir -p spool/in
echo one >a.pdf
try submit a.pdf
ok "a spool begun by hand is completed" same "$code:$out" "0:a.pdf -> in/tesseract/a.pdf"

# Folders keep their shape; what cannot be a document is named, or passed over where it is hidden.
mkdir -p tree/sub/.hidden 'tree/with space'
echo x >tree/x.png
echo y >tree/sub/y.png
echo 'dpi: 200' >tree/sub/y.png.cloister.yaml
echo z >'tree/with space/z.png'
echo h >tree/.h
echo h >tree/sub/.hidden/h.png
ln -s x.png tree/link.png
mkfifo tree/fifo
try submit tree
ok "a folder needs -r" same "$code:$err" \
  "1:cloister submit: tree: is a folder; -r submits what is in it"
try submit -r tree/
ok "a tree with a link and a FIFO: 1" same "$code" 1
ok "both are named" same "$err" "cloister submit: tree/fifo: is not a regular file
cloister submit: tree/link.png: is a symbolic link"
ok "the others go in, with their ticket" same "$(listing $in)" \
  "./a.pdf ./tree ./tree/sub ./tree/sub/y.png ./tree/sub/y.png.cloister.yaml ./tree/with space ./tree/with space/z.png ./tree/x.png "
ok "the ticket is copied" cmp tree/sub/y.png.cloister.yaml $in/tree/sub/y.png.cloister.yaml
rm -rf tree $in/*
mkdir d
echo 1 >d/1.png
try submit -q -r .
ok "a spool is not submitted to itself" same "$code:$(listing $in)" "0:./a.pdf ./d ./d/1.png "

# Names that are taken; a ticket that waits for somebody else is not taken over.
rm -rf ${in:?}/*
try submit a.pdf a.pdf
try submit a.pdf
ok "a name that is taken gets a number before its ending" same "$(listing $in)" \
  "./a.pdf ./a~2.pdf ./a~3.pdf "
rm -rf ${in:?}/*
echo 'dpi: 72' >$in/a.pdf.cloister.yaml
try submit a.pdf
ok "a ticket is not taken over" same "$out" "a.pdf -> in/tesseract/a~2.pdf"
try submit --priority 3 a.pdf
ok "--priority makes a ticket" same "$(cat $in/a~3.pdf.cloister.yaml)" "priority: 3"
echo 'dpi: 72' >a.pdf.cloister.yaml
try submit --priority 3 a.pdf
ok "--priority and a ticket beside the file exclude each other" same "$code" 1
ok "and nothing is left of it" same "$(find spool/in -name '.*')" ""
rm a.pdf.cloister.yaml

# Strange names, on their way to the terminal and to JSON.
strange=$(printf 'new\nline\033[2J\377.pdf')
echo strange >"$strange"
try submit "$strange"
ok "a strange name keeps its bytes" cmp "$strange" "$in/$strange"
ok "and is shown escaped" same "$out" \
  'new\x0aline\x1b[2J\xff.pdf -> in/tesseract/new\x0aline\x1b[2J\xff.pdf'
try ls --json
ok "ls --json of it is JSON" python3 -c 'import json, sys
for line in sys.stdin: json.loads(line)' <<<"$out"
try show 'new\x0aline\x1b[2J\xff.pdf'
ok "it can be named as it is shown" same "$code" 0
for name in .hidden x.part x~ x.tmp a.pdf.cloister.yaml; do
  echo x >"$name"
  try submit "$name"
  ok "$name would never be admitted: refused" same "$code" 1
done
chmod 0 d/1.png
if [ "$(id -u)" -ne 0 ]; then
  try submit d/1.png a.pdf
  ok "an unreadable file is named, the others go in" same "$code:$err" \
    "1:cloister submit: d/1.png: cannot be opened: Permission denied"
else
  echo "ok $((count += 1)) - an unreadable file # SKIP root reads all"
fi
ok "nothing half-copied is left" same "$(find spool/in -name '*.part')" ""

# retry never replaces.
mkdir -p spool/failed/tesseract/sub
echo failed >spool/failed/tesseract/sub/f.pdf
echo 'dpi: 72' >spool/failed/tesseract/sub/f.pdf.cloister.yaml
echo '{"reason":"damaged","text":"it is damaged"}' >spool/failed/tesseract/sub/f.pdf.why.json
mkdir -p $in/sub
echo new >$in/sub/f.pdf
try retry f.pdf
ok "retry does not replace what was dropped since" same "$code:$(cat $in/sub/f.pdf)" "1:new"
ok "and leaves everything in failed/" same "$(listing spool/failed/tesseract/sub)" \
  "./f.pdf ./f.pdf.cloister.yaml ./f.pdf.why.json "
rm $in/sub/f.pdf
try retry f.pdf
ok "retry takes document and ticket, and drops the reason" same \
  "$code:$(listing $in/sub):$(listing spool/failed/tesseract/sub)" \
  "0:./f.pdf ./f.pdf.cloister.yaml :"
echo '{"reason":"not-a-regular-file","text":"a link"}' >spool/failed/tesseract/gone.pdf.why.json
try retry --all
ok "a reason without a document cannot be tried again" same "$code" 1
try retry
ok "retry of nothing: 2" same "$code" 2
try ls --state failed
ok "ls shows what is left of it" same "$out" "failed    tesseract           -  tesseract/gone.pdf"

# An original that was read and kept is not waiting; dropped anew, it is.
echo kept >$in/kept.pdf
sleep 1
mkdir -p spool/out/tesseract/kept.pdf
echo '{"counts":{"pages":3,"failed":1}}' >spool/out/tesseract/kept.pdf/document.json
try ls --json
ok "an original that was kept is not waiting" same "$(grep kept.pdf <<<"$out")" \
  '{"finished":0,"pages":3,"path":"tesseract/kept.pdf","pipeline":"tesseract","state":"flagged"}'
sleep 1.1
mv $in/kept.pdf $in/.moved && mv $in/.moved $in/kept.pdf
try ls
ok "one that is dropped again is" same "$(grep -c kept.pdf <<<"$out")" 2

# hold of what is not admitted says so.
try hold a~2.pdf
ok "hold of a waiting document: 1, and why" same "$code:$err" \
  "1:cloister hold: a~2.pdf: not admitted yet, so it cannot be held; a run admits it"

# check tells pipelines, tickets and settings apart.
mkdir files
echo 'dpi: 200' >files/good.yaml
echo 'dpi: 200' >files/report.pdf.cloister.yaml
echo 'jobs: 2' >files/cloister.yaml
try check files/*
ok "check: all is well" same "$code:$out" "0:files/cloister.yaml: ok
files/good.yaml: ok
files/report.pdf.cloister.yaml: ok"
echo 'job: 2' >files/cloister.yaml
echo 'dpi: 20000' >files/good.yaml
echo 'recogniser: tesseract' >files/report.pdf.cloister.yaml
try check files/*
ok "check: what is wrong is 78" same "$code" 78
ok "each with file and line" same "$(grep -c '^files/[a-z.]*yaml:1: ' <<<"$out")" 3
try check --json files/good.yaml
ok "check --json" python3 -c 'import json, sys
result = json.load(sys.stdin)
assert result["ok"] is False and "dpi" in result["text"], result' <<<"$out"
try check "$CLOISTER_PIPELINES"/*.yaml
ok "the shipped pipelines are right" same "$code" 0

echo "1..$count"
exit $failed
