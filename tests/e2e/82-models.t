#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Model folders between download and run: what is lacking is named, what is locked stays as it is, and what
is carried arrives whole or not at all."""

import io
import pty
import re
import sys
import tarfile

sys.dont_write_bytecode = True
sys.path[:0] = ["tests/lib", "tests/fixtures"]
from e2e import *
import modelfolder
import pdf

KNOWN = """Nanonets-OCR2-3B Qwen3-4B-Instruct-2507 Qwen3-14B Qwen3-VL-4B-Instruct
    Qwen3-VL-30B-A3B-Instruct-AWQ chandra chandra-ocr-2 Phi-4-mini-instruct
    Phi-4-multimodal-instruct""".split()
KILL_AT = BUILD / "tests" / "tools" / "kill-at"
base = pathlib.Path(tempfile.mkdtemp(prefix="cloister-folders-"))
atexit.register(shutil.rmtree, base, ignore_errors=True)
os.environ["CLOISTER_MODELS"] = str(base / "models")


def models(*arguments, **options):
    return cloister("models", *arguments, **options)


def expect(code, words, *arguments):
    """Exit code, and what is said on either stream."""
    run = models(*arguments)
    said = run.out + run.err
    words = [words] if isinstance(words, str) else words
    name = " ".join(str(a).replace(str(base), "") for a in arguments)
    ok(run.returncode == code and all(word in said for word in words), f"models {name}: {code}, {words}",
       run.returncode, said)
    return run


# plan.
run = models("plan")
problems([name for name in KNOWN if name not in run.out], "plan lists every known model")
for name in KNOWN:
    plan = json.loads(models("plan", "--json", name).out)
    memory = plan["memory"]
    ok(plan["model"].endswith("/" + name) and plan["licence"] and
       any(f["path"].endswith("safetensors") for f in plan["files"]) and
       memory["bytes"] == memory["weights"] + memory["tokens"] * memory["bytes_per_token"] +
       memory["bytes_per_page"], f"plan {name}: files, licence, and memory that adds up", plan)
expect(0, ["model-00004-of-00004.safetensors", "2.7 GB", "size unknown", "OpenRAIL-M", "computed",
           "models--datalab-to--chandra/snapshots/REVISION"], "plan", "datalab-to--chandra")
expect(1, "did you mean Qwen3-14B?", "plan", "Qwen3-14C")

# list: a folder of each kind.
root = base / "models"
root.mkdir()
REVISION = "0123456789abcdef0123456789abcdef01234567"


def folder(name, change=None, parts=0, **options):
    made = modelfolder.make(root / name, locked=False, **options)
    if parts:
        modelfolder.split(made, parts)
    if change:
        change(made)
    return made


def write(name, data):
    def change(made):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(data)
    return change


def edit(**changes):
    def change(made):
        config = json.loads((made / "config.json").read_text())
        (made / "config.json").write_text(json.dumps({**config, **changes}))
    return change


def truncate(made):
    with open(made / "model.safetensors", "r+b") as file:
        file.truncate(os.path.getsize(made / "model.safetensors") - 100)


def pickled(made):
    (made / "model.safetensors").unlink()
    (made / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def link_folder(made):
    (made / "more").symlink_to("/usr")


modelfolder.lock(folder("org--ready", parts=3))
modelfolder.lock(folder("org/plain"))
folder("org--unlocked")
modelfolder.lock(folder("org--code", lambda made: (write("modeling_x.py", b"1")(made),
                                                    write("training_args.bin", b"\x80")(made),
                                                    edit(auto_map={"AutoModel": "modeling_x.X"})(made))))
folder("org--shard", lambda made: (made / "model-00002-of-00003.safetensors").unlink(), parts=3)
folder("org--half", write("model.safetensors.incomplete", b""))
folder("org--local", write(".cache/huggingface/download/model.safetensors.etag.incomplete", b""))
folder("org--tokenizer", lambda made: (made / "tokenizer.json").unlink())
folder("org--config", lambda made: (made / "config.json").unlink())
folder("org--cut", truncate)
folder("org--lfs", write("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"))
folder("org--pickle", pickled)
folder("org--other", edit(architectures=["MambaForCausalLM"]))
folder("org--preprocessor", lambda made: (made / "preprocessor_config.json").unlink())
folder("org--odd", link_folder)
modelfolder.lock(folder("org--changed"))
write("generation_config.json", b'{"eos_token_id": 0}')(root / "org--changed")
modelfolder.lock(folder("org--badlock"))
write("cloister.lock", b'{"cloister_lock":1,"files":[]}')(root / "org--badlock")
(root / "org--nothing").mkdir()
folder("org--hostile", lambda made: (write("model.safetensors.index.json",
                                           b'{"weight_map": {"x": "bad\\u001b[31m.safetensors"}}')(made),
                                     os.rename(made / "generation_config.json", os.fsencode(made) + b"/a\xff\x1b.py"),
                                     edit(architectures=["\x1b[31mFor"])(made)))
snapshot = modelfolder.cache(root / "org--unlocked", root / "hub", "org/cached", REVISION)
other = modelfolder.cache(root / "org--unlocked", root / "hub", "org/torn", REVISION)
(other / "tokenizer.json").resolve().unlink()
write("../../blobs/00ff.incomplete", b"")(other)
modelfolder.adapter(root / "org--adapter", locked=False)
modelfolder.lock(modelfolder.adapter(root / "org--lora"))
write("adapter_config.json", (root / "org--lora/adapter_config.json").read_bytes().replace(
    b'"use_dora": false', b'"use_dora": true'))(modelfolder.adapter(root / "org--dora", locked=False))
modelfolder.adapter(root / "org--halfadapter", locked=False)
(root / "org--halfadapter/adapter_model.safetensors").unlink()
(root / "notes").mkdir()
write("reading/list.txt", b"no model")(root)

spool = Spool()
spool.model_pipeline("reader", "org/ready", "tokens: 30", "adapters: [org/lora]")
WANT = {
    "org/ready": ("ready", None), "org/plain": ("ready", None), "org/unlocked": ("unlocked", "not locked"),
    "org/code": ("ready", None), "org/shard": ("incomplete", "model-00002-of-00003.safetensors is missing"),
    "org/half": ("incomplete", "model.safetensors.incomplete"), "org/local": ("incomplete", "etag.incomplete"),
    "org/tokenizer": ("incomplete", "tokenizer.json is missing"),
    "org/config": ("incomplete", "config.json is missing"), "org/cut": ("incomplete", "model.safetensors"),
    "org/lfs": ("incomplete", "git lfs pull"), "org/pickle": ("refused", "pickle"),
    "org/other": ("unsupported", "MambaForCausalLM"),
    "org/preprocessor": ("unsupported", "preprocessor_config.json"), "org/odd": ("incomplete", "more is not a file"),
    "org/changed": ("differs", "generation_config.json has changed"), "org/badlock": ("differs", "cloister.lock"),
    "org/nothing": ("incomplete", "config.json is missing"), "org/cached": ("unlocked", "not locked"),
    "org/torn": ("incomplete", "tokenizer.json is a link to what is not there"),
    "org/adapter": ("unlocked", "not locked"), "org/lora": ("ready", None),
    "org/dora": ("unsupported", "use_dora"),
    "org/halfadapter": ("incomplete", "adapter_model.safetensors is missing"),
    "org/hostile": ("incomplete", "bad\\x1b[31m.safetensors is missing"),
}
listed = models("list", "--json", "--spool", spool.root)
lines = {line["model"]: line for line in map(json.loads, listed.out.splitlines())}
same(sorted(lines), sorted(WANT), "every folder of a model is listed, and no other")
for name, (state, why) in WANT.items():
    line = lines.get(name, {"problems": []})
    ok(line.get("state") == state and (not why or any(why in p for p in line["problems"])) and
       (why or not line["problems"]), f"list: {name} is {state}: {why}", line)
same(listed.returncode, 1, "exit 1: not all are ready")
same((lines["org/ready"]["pipelines"], lines["org/lora"]["pipelines"]), (["reader"], ["reader"]),
     "the pipeline that uses it is named, also beside an adapter")
same((lines["org/lora"]["family"], lines["org/lora"]["locked"]), ("LoRA", True), "an adapter is locked as a model is")
same((lines["org/hostile"]["family"], lines["org/hostile"]["code"]), ("\\x1b[31m", ["a\\xff\\x1b.py"]),
     "control characters are shown as such")
same(lines["org/torn"]["problems"][-1], "blobs/00ff.incomplete: a download that has not ended", "and half a blob")
same((lines["org/ready"]["family"], lines["org/ready"]["parameters"]), ("Qwen3VL", 1185784),
     "family and parameters, from the headers of three shards")
same(sorted(lines["org/code"]["code"]), ["auto_map in config.json", "modeling_x.py", "training_args.bin"],
     "what carries code is listed")
same(lines["org/pickle"]["code"], ["pytorch_model.bin"], "also of a model that is refused")
text = models("list", root, "--spool", spool.root).out
ok(re.search(r"^ready +org/ready +Qwen3VL +1185784 +2\.\d+ MB +locked +reader *$", text, re.M) and
   len(text.splitlines()) == len(WANT), "the same as text, a line a model", text)
expect(0, "ready", "list", root / "org--ready")
expect(1, "no model in it", "list", root / "notes")
expect(1, "No such file", "list", root / "absent")

# lock.
run = expect(0, f"org/cached: locked: 5 files", "lock", "org/cached")
lock = json.loads((snapshot / "cloister.lock").read_text())
same((lock["revision"], lock["model"]), (REVISION, "org/cached"), "a lock has model and revision")
same([(f["path"], f["size"], f["sha256"]) for f in lock["files"]],
     [(p.name, p.stat().st_size, sha256(p)) for p in sorted(snapshot.iterdir()) if p.name != "cloister.lock"],
     "and the SHA-256 and size of every file")
ok(sha256(snapshot / "cloister.lock") in run.out, "its own hash is printed", run.out)
before = (snapshot / "cloister.lock").read_bytes()
expect(0, "unchanged, keeps its lock", "lock", snapshot)
same((snapshot / "cloister.lock").read_bytes(), before, "locking it again changes nothing")
blob = (snapshot / "tokenizer.json").resolve()
good = blob.read_bytes()
blob.write_bytes(good.replace(b"NFC", b"NFD"))
expect(1, ["tokenizer.json is damaged", blob.name], "lock", snapshot)
same((snapshot / "cloister.lock").read_bytes(), before, "and the lock that was there stays")
blob.write_bytes(good)
write("extra/deep/note.txt", b"x")(root / "org--unlocked")
write(".gitattributes", b"x")(root / "org--unlocked")
expect(0, "locked: 6 files", "lock", "org/unlocked")
ok("extra/deep/note.txt" in (root / "org--unlocked/cloister.lock").read_text() and
   ".gitattributes" not in (root / "org--unlocked/cloister.lock").read_text(),
   "folders are followed, hidden names left out")
# A download to a folder has commit and SHA-256 in .cache; a cache of two revisions has a main one.
noted = folder("org--noted")
NOTES = ".cache/huggingface/download/model.safetensors.metadata"
write(NOTES, f"{REVISION}\n{sha256(noted / 'model.safetensors')}\n1.5\n".encode())(noted)
write(NOTES.replace("model.safetensors", "config.json"), f"{REVISION}\n{'ab' * 20}\n1.5\n".encode())(noted)
expect(0, "locked: 5 files", "lock", noted)
same(json.loads((noted / "cloister.lock").read_text())["revision"], REVISION, "the revision of a download to a folder")
write(NOTES, f"{REVISION}\n{'ab' * 32}\n1.5\n".encode())(noted)
expect(1, "model.safetensors is damaged", "lock", noted)
shutil.rmtree(noted)
for revision in ("f" * 40, "a" * 40, "b" * 40):
    two = modelfolder.cache(root / "org/plain", root / "hub", "org/two", revision)
    write("prompt.txt", revision.encode())(two)
(two / "../../refs/main").write_text("b" * 40)
expect(0, "locked", "lock", two.parent / ("b" * 40))
expect(0, "unchanged", "verify", "org/two")
expect(78, "has 3 revisions: name one of them", "verify", root / "hub/models--org--two")
shutil.rmtree(root / "hub/models--org--two")
for name in ("shard", "pickle", "torn", "cut"):
    run = expect(1, WANT["org/" + name][1], "lock", f"org/{name}")
problems([str(p) for p in root.rglob("*cloister.lock*") if re.search("shard|pickle|torn|cut|nothing", str(p))],
         "what is incomplete gets no lock")
(root / "org--unlocked" / "away.txt").symlink_to("/etc/hostname" if os.path.exists("/etc/hostname") else "/etc/passwd")
expect(1, "away.txt is a link out of the model's folder", "lock", "org/unlocked")
(root / "org--unlocked" / "away.txt").unlink()
expect(78, "neither a folder nor a model", "lock", "org/absent")
expect(2, "needs the folder of a model", "lock")
expect(2, "did you mean unpack?", "unpac")

# A lock that is interrupted at any call is there, and right, or is not there.
target = root / "org--plain"
shutil.copytree(root / "org/plain", target)
torn, kills = [], 0
for k in range(1, 99):
    (target / "cloister.lock").unlink(missing_ok=True)
    run = subprocess.run([KILL_AT, "cloister-models", "write,fsync,renameat,unlinkat,wait4", str(k), CLOISTER, "models", "lock",
                          "-q", target], capture_output=True, text=True)
    if "killed" not in run.stdout:
        break
    kills += 1
    there = (target / "cloister.lock").exists()
    if there and models("verify", target).returncode:
        torn.append(k)
problems(torn, f"a lock killed at any of {kills} calls is not there, or right")
ok(4 < kills < 98, "it came to its end", kills)

# verify and diff.
expect(0, "unchanged", "verify", "org/plain")
weights = target / "model.safetensors"
stamp = weights.stat()
with open(weights, "r+b") as file:
    file.seek(2000000)
    byte = file.read(1)
    file.seek(2000000)
    file.write(bytes([byte[0] ^ 1]))
os.utime(weights, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
expect(1, "in 1 of 5 files", "verify", target)
same(models("diff", target).out, "changed    model.safetensors\n", "a bit that has changed is found, whatever the time says")
write("prompt.txt", b"new")(target)
(target / "tokenizer.json").unlink()
write("config.json", b"{}")(target)
run = models("diff", "--json", target)
same([(d["is"], d["path"]) for d in json.loads(run.out)["differences"]],
     [("changed", "config.json"), ("changed", "model.safetensors"), ("added", "prompt.txt"), ("missing", "tokenizer.json")],
     "diff names what was added, changed and is missing")
same(run.returncode, 1, "and ends with 1")
expect(78, "there is no cloister.lock", "verify", root / "org--half")
expect(78, "cloister.lock: model, date, tool or files is missing", "diff", root / "org--badlock")
shutil.rmtree(target)
master, slave = pty.openpty()
run = subprocess.run([CLOISTER, "models", "verify", root / "org--ready"], stdout=subprocess.DEVNULL, stderr=slave)
os.close(slave)
drawn = os.read(master, 4096).decode()
ok(re.search(r"\rreading: \d+ % of 2\.\d+ MB", drawn) and drawn.endswith("\r\x1b[K"),
   "on a terminal there is a bar, which goes away", drawn)

# Production.
BOOK = pdf.build(pdf.pages([pdf.text(b"A page")]))
ready = root / "org--ready"


def produce(name, *settings, more=""):
    spool = Spool()
    spool.configure("settle_seconds: 0\n" + more)
    spool.model_pipeline("p", name, "tokens: 2500", "retries: 2", *settings)
    spool.drop(BOOK, "p/x.pdf")
    return spool, spool.run(timeout=60)


def refused(words, name):
    spool, run = produce(name)
    text = (spool.why("p/x.pdf") or {}).get("text", "")
    ok(run.returncode == 1 and words in text and words in run.err, f"a run refuses a model: {words}",
       run.returncode, run.err)
    return spool


spool = refused("is not locked: `cloister models lock` it", "org/local")
shutil.rmtree(root / "org--local" / ".cache")
expect(0, "locked", "lock", "org/local")
spool.command("retry", "--all")
run = spool.run(timeout=60)
ok(spool.result("p/x.pdf"), "locked, it reads what had failed", run.returncode, run.err)
refused("generation_config.json is not as it was locked", "org/changed")
write("README.md", b"The engine does not read this.")(ready)
write("prompt.txt", b"Vendor")(ready)
refused("prompt.txt is not in its lock", "org/ready")
(ready / "prompt.txt").unlink()
(ready / "generation_config.json").rename(base / "aside")
refused("generation_config.json is missing", "org/ready")
(base / "aside").rename(ready / "generation_config.json")
spool, run = produce("org/ready")
result = spool.result("p/x.pdf")
same(result and result.document["recogniser"]["model"].get("lock"), sha256(ready / "cloister.lock"),
     "the lock's hash is in the result, and a file that is not read does not matter")
for name in ("org/half", "org/changed"):
    spool, run = produce(name, more="require_lock: false\n")
    result = spool.result("p/x.pdf")
    ok(result and "lock" not in result.document["recogniser"]["model"],
       f"require_lock: false: {name} is read, and the result names no lock", run.returncode, run.err)
run = subprocess.run([BUILD / "cloister-model", "--model", root / "org--changed", "--identify"], capture_output=True,
                     text=True)
ok(run.returncode == 0 and "generation_config.json is not as it was locked" in run.stderr, "and the engine says why",
   run.returncode, run.stderr)

# Files that carry code are not opened, by the engine or by list.
if shutil.which("strace") and not os.environ.get("CLOISTER_SANITIZED"):
    trace = base / "trace"
    for command in ([BUILD / "cloister-model", "--model", root / "org--code", "--identify"],
                    [CLOISTER, "models", "list", root / "org--code"]):
        run = subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat,openat2", "-o", trace, *command],
                             capture_output=True, text=True)
        opened = trace.read_text()
        if os.geteuid() and re.search(r"openat\(\w+, 0x", opened):
            skip(f"{command[0].name}: no file that carries code is opened", "names in a locked process are root's to see")
            continue
        ok(run.returncode == 0 and "config.json" in opened and not re.search(r"\.(py|bin)\"", opened),
           f"{command[0].name}: no file that carries code is opened", run.returncode, run.stderr,
           re.findall(r".*\.(?:py|bin)\".*", opened))
else:
    skip("no file that carries code is opened", "no strace, or a sanitizer that cannot be traced")

# pack and unpack.
(ready / "README.md").unlink()
write("lora/a.json", b"{}")(ready)
modelfolder.lock(ready)
tar = base / "ready.tar"
run = expect(0, "packed into", "pack", "org/ready", "-o", tar)
ok(sha256(ready / "cloister.lock") in run.out, "the lock's hash is printed", run.out)
expect(1, "is there already", "pack", "org/ready", "-o", tar)
members = tarfile.open(tar).getnames()
same(members, ["org--ready/" + name for name in
               ["cloister.lock"] + sorted(str(p.relative_to(ready)) for p in ready.rglob("*")
                                          if p.is_file() and p.name != "cloister.lock")],
     "the archive holds the lock, then the files in its order")
expect(0, "packed", "pack", ready, "-o", base / "again.tar")
same(sha256(base / "again.tar"), sha256(tar), "the same lock makes the same archive")
expect(78, "`cloister models lock` it first", "pack", root / "org--half", "-o", base / "x.tar")
expect(1, "generation_config.json has changed", "pack", root / "org--changed", "-o", base / "x.tar")
shutil.copytree(ready, root / "org--bit")
data = bytearray((root / "org--bit/model-00001-of-00003.safetensors").read_bytes())
data[-1] ^= 1
write("model-00001-of-00003.safetensors", data)(root / "org--bit")
expect(1, "model-00001-of-00003.safetensors is not as it was locked", "pack", root / "org--bit", "-o", base / "x.tar")
refused("model-00001-of-00003.safetensors is not as it was locked", "org/bit")
problems([p.name for p in base.glob("x.tar*")], "no archive is left of what was refused")

expect(0, "packed", "pack", "org/cached", "-o", base / "cached.tar")
ok(all(m.isreg() for m in tarfile.open(base / "cached.tar")), "a snapshot's links are packed as files")

there = base / "there"
there.mkdir()
run = expect(0, "unpacked into", "unpack", tar, "-o", there)
tree = {str(p.relative_to(ready)): p.read_bytes() for p in ready.rglob("*") if p.is_file()}
same({str(p.relative_to(there / "org--ready")): p.read_bytes() for p in (there / "org--ready").rglob("*") if p.is_file()},
     tree, "unpacked, every file is as it was")
ok(sha256(ready / "cloister.lock") in run.out and sorted(os.listdir(there)) == ["org--ready"], "and nothing else is there")
expect(0, "unchanged", "verify", there / "org--ready")
expect(1, "is there already", "unpack", tar, "-o", there)


def archive(change):
    """The archive again, its members changed: [(TarInfo, bytes)]."""
    with tarfile.open(tar) as file:
        entries = [(info, file.extractfile(info).read()) for info in file.getmembers()]
    entries = change(entries) or entries
    path = base / "bad.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as file:
        for info, data in entries:
            info.size = len(data) if info.isreg() else 0
            file.addfile(info, io.BytesIO(data))
    return path


def named(entries, number, name, data=None, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    entries[number] = (info, entries[number][1] if data is None else data)


def relock(entries, change):
    lock = json.loads(entries[0][1])
    change(lock["files"])
    entries[0] = (entries[0][0], json.dumps(lock).encode())


def longer(entries):
    entries[3] = (entries[3][0], entries[3][1] + b"x")


def other_bytes(entries):
    entries[1] = (entries[1][0], entries[1][1].replace(b"{", b"[", 1))


def huge(files):
    files[0]["size"] = 1 << 60


TOP = "org--ready/"
BAD = {
    "a path that leaves the folder": (lambda e: named(e, 2, TOP + "../../evil"), "evil"),
    "an absolute path": (lambda e: named(e, 2, "/evil"), "/evil"),
    "another folder": (lambda e: named(e, 2, "org--other/" + e[2][0].name.split("/", 1)[1]), "org--other"),
    "a link": (lambda e: named(e, 2, e[2][0].name, b"", tarfile.SYMTYPE, "/etc/passwd"), "is not a file"),
    "a hard link": (lambda e: named(e, 2, e[2][0].name, b"", tarfile.LNKTYPE, e[1][0].name), "is not a file"),
    "a device": (lambda e: named(e, 2, e[2][0].name, b"", tarfile.CHRTYPE), "is not a file"),
    "a file more": (lambda e: e + [(tarfile.TarInfo(TOP + "more"), b"more")], "more than its lock says"),
    "a file less": (lambda e: e[:-1], "is missing"),
    "no lock": (lambda e: e[1:], "where cloister.lock belongs"),
    "a file longer than locked": (longer, "not what its lock says"),
    "other bytes": (other_bytes, "config.json has changed"),
    "a lock that leads out": (lambda e: relock(e, lambda f: f[0].update(path="../evil")), "leads out of the folder"),
    "a lock of a hidden file": (lambda e: relock(e, lambda f: f[0].update(path=".evil")), "leads out of the folder"),
    "a lock with more data than there is room": (lambda e: relock(e, huge), "has room for"),
    "a lock whose hashes disagree": (lambda e: relock(e, lambda f: f[0].update(sha256="0" * 64)), "has changed"),
    "a lock that is none": (lambda e: [(e[0][0], b"[]")] + e[1:], "is not a JSON object"),
    "nothing": (lambda e: [(tarfile.TarInfo("x"), b"")], "belongs"),
}
here = base / "here"
here.mkdir()
for name, (change, words) in BAD.items():
    run = models("unpack", archive(change), "-o", here)
    ok(run.returncode == 1 and words in run.err and not os.listdir(here), f"unpack refuses {name}: {words}",
       run.returncode, run.err, os.listdir(here))
for name, data in {"an archive that is cut": tar.read_bytes()[:-300000], "what is no archive": b"x" * 5000,
                   "an empty file": b""}.items():
    (base / "bad.tar").write_bytes(data)
    run = models("unpack", base / "bad.tar", "-o", here)
    ok(run.returncode == 1 and run.err and not os.listdir(here), f"unpack refuses {name}", run.returncode, run.err)
problems([str(p) for p in base.rglob("evil")], "nothing was written elsewhere")

# Whoever reads what others made is locked in: an archive that does not go on, a file that takes a moment.
def confined(*arguments):
    """The states of its child with a filter for system calls, seen while it works."""
    process = start("models", *arguments)
    seen = set()

    def look():
        for pid in children(process.pid, "cloister-models"):
            try:
                seen.update(re.findall(r"^(?:Seccomp|NoNewPrivs):\t[12]", (pathlib.Path("/proc") / str(pid) /
                                                                         "status").read_text(), re.M))
            except OSError:
                pass
        return len(seen) == 2 or process.poll() is not None
    wait_for(look, step=0.002)
    return process, sorted(seen)


if os.environ.get("CLOISTER_SANITIZED"):
    skip("readers are locked in", "no sandbox in such a build")
else:
    os.mkfifo(base / "slow.tar")
    writer = os.open(base / "slow.tar", os.O_RDWR)
    os.write(writer, tar.read_bytes()[:700])
    process, seen = confined("unpack", "-q", base / "slow.tar", "-o", here)
    same(seen, ["NoNewPrivs:\t1", "Seccomp:\t2"], "what parses an archive is locked in")
    os.close(writer)
    same((process.wait(), os.listdir(here)), (1, []), "and when it ends too soon, nothing is left")
    with open(root / "org--bit" / "large", "wb") as file:
        file.truncate(1 << 29)
    process, seen = confined("lock", "-q", root / "org--bit")
    same((seen, process.wait()), (["NoNewPrivs:\t1", "Seccomp:\t2"], 0), "and what reads weights")
    (root / "org--bit" / "large").unlink()

# Killed at any of its calls, an unpacking leaves nothing, or all, under the final name; the next one succeeds.
wrong, kills = [], 0
for k in range(1, 199):
    shutil.rmtree(here / "org--ready", ignore_errors=True)
    run = subprocess.run([KILL_AT, "cloister-models", "mkdirat,fsync,renameat2,fchmod,unlinkat,wait4", str(k), CLOISTER, "models",
                          "unpack", "-q", tar, "-o", here], capture_output=True, text=True)
    if "killed" not in run.stdout:
        break
    kills += 1
    if (here / "org--ready").exists() and {str(p.relative_to(here / "org--ready")): p.read_bytes() for p in
                                           (here / "org--ready").rglob("*") if p.is_file()} != tree:
        wrong.append(k)
    visible = [name for name in os.listdir(here) if not name.startswith(".") and name != "org--ready"]
    wrong += visible
problems(wrong, f"unpack killed at any of {kills} calls leaves nothing half under the final name")
ok(20 < kills < 198, "it came to its end", kills, run.stdout, run.stderr)
same(sorted(os.listdir(here)), ["org--ready"], "and the last one has swept what the others left")
done()
