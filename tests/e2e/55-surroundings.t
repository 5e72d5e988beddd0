#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What is around a foreign recogniser: all that it starts ends with it, it has one folder to write to, reads what
its pipeline names and no more, and has no more memory than that says; without a sandbox, or in a container, only
where the settings allow it."""

import os
import re
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
import pdf

SANDBOX = not os.environ.get("CLOISTER_SANITIZED")
BOOK = pdf.build(pdf.pages([pdf.text(b"Page 1"), pdf.text(b"Page 2")]))

# Says hello, then answers with what EACH makes of `text`.
FRAME = '''#!/usr/bin/python3 -I
import json, os, signal, sys, time
def say(**message):
    sys.stdout.write(json.dumps(message) + "\\n")
    sys.stdout.flush()
def daemon(seconds):
    """A grandchild that has cut itself off."""
    if not os.fork():
        os.setsid()
        if not os.fork():
            for fd in range(3):
                os.close(fd)
            for number in range(1, 32):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except OSError:
                    pass
            time.sleep(seconds)
        os._exit(0)
    os.wait()
def tries(act):
    try:
        act()
        return "yes"
    except OSError as e:
        return e.strerror
BEFORE
say(airlock=1, name="around", version="1")
for line in sys.stdin:
    request = json.loads(line)
    text = "read"
    EACH
    say(id=request["id"], status="ok", text=text)
'''


def new_spool(each="", before="", more="", settings=""):
    spool = Spool()
    os.chmod(spool.path, 0o755)
    program = spool.path / "program" / "around.py"
    program.parent.mkdir()
    program.write_text(FRAME.replace("EACH", each.replace("\n", "\n    ")).replace("BEFORE", before))
    program.chmod(0o755)
    spool.pipeline("around", f"recogniser: command\ncommand: [{program}, {spool.path.name}]\ndpi: 72\n{more}")
    spool.configure(f"settle_seconds: 0\n{settings}")
    return spool


def left(spool):
    """Processes that have the program's argument, whoever their parent is."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if spool.path.name.encode() in words:
            found.append(int(entry.parent.name))
    return found


def text_of(spool, name="around/book.pdf"):
    result = spool.result(name)
    return result and result.text()


def read(**how):
    spool = new_spool(**how)
    spool.drop(BOOK, "around/book.pdf")
    run = spool.run("-j", "1", timeout=60)
    return spool, run


# Everything that it starts ends with it.
spool, run = read(before="daemon(600)", each="daemon(600)")
same((run.returncode, text_of(spool)), (0, "read\nread"), "one that starts daemons reads")
same(left(spool), [], "and when the run is over none is left")
spool, run = read(each="daemon(600); time.sleep(600)", more="limits: {read_seconds: 1}\n")
same([p.get("reason") for p in spool.result("around/book.pdf").pages] if spool.result("around/book.pdf")
     else spool.why("around/book.pdf")["reason"], "limit:read-seconds", "one that takes too long is ended")
same(left(spool), [], "with its daemons")
spool = new_spool(before="daemon(600)", each="daemon(600); time.sleep(600)")
spool.drop(BOOK, "around/book.pdf")
run = spool.start("-j", "1")
ok(wait_for(lambda: len(left(spool)) >= 3), "a recogniser and its daemons are there", left(spool))
kill(run.pid)
run.wait()
ok(wait_for(lambda: not left(spool), 20), "SIGKILL of the run: they are gone", left(spool))
spool = new_spool(before="daemon(600)", each="time.sleep(600)")
spool.drop(BOOK, "around/book.pdf")
run = spool.start("-j", "1")
found = wait_for(lambda: len(left(spool)) >= 2 and left(spool))
keepers = children(run.pid, "cloister-keeper")
same(len(keepers), 1, "a keeper stands between")
program = [pid for pid in children(keepers[0])] if keepers else []
ok(program and kill(program[0]), "SIGKILL of the recogniser alone")
ok(wait_for(lambda: found and not set(found) & set(left(spool)), 20), "its daemons are gone, too", found, left(spool))
kill(run.pid)
run.wait()
wait_for(lambda: not left(spool), 20)

# A folder for temporary files.
TRY = '''
folder = os.environ["TMPDIR"]
open(folder + "/a", "w").write("x" * 5000)
os.mkdir(folder + "/b"); os.rename(folder + "/a", folder + "/b/c")
others = [name for name in ("..", "../../pages", request["page"].split("/")[0]) if
          tries(lambda: open(os.path.join(folder, name, "x"), "w")) == "yes"]
text = "%s %s %s %s" % (os.listdir(folder), os.path.getsize(folder + "/b/c"), others, os.environ["HOME"] == folder)
'''
spool, run = read(each=TRY)
want = "['b'] 5000 [] True"
if SANDBOX:
    same(text_of(spool), f"{want}\n{want}", "it can write to a folder of its own, and nowhere else")
else:
    skip("it can write to a folder of its own, and nowhere else", "no sandbox in this build")
same([p.name for p in pathlib.Path("/dev/shm").glob("cloister-pages-*/private-*/b")], [], "which is gone afterwards")
spool, run = read(each="text = str('TMPDIR' in os.environ) + os.environ['HOME']", more="temporary_mebibytes: 0\n")
same(text_of(spool), "False/nonexistent\nFalse/nonexistent", "temporary_mebibytes: 0: it has none")
spool, run = read(each="""
if request["height"] > 0:
    for n in range(6):
        open(os.environ["TMPDIR"] + "/%d" % n, "wb").write(bytes(1 << 20))
    time.sleep(30)""", more="temporary_mebibytes: 4\n")
ok("temporary-mebibytes" in json.dumps(spool.why("around/book.pdf") or spool.result("around/book.pdf").pages),
   "too much in it is a limit", run.err)

# What it may read, memory, GPUs.
spool = new_spool(each='text = " ".join(tries(lambda: open(p).read()) for p in sys.argv[2:])',
                  more="gpus: none\n")
weights = spool.path / "weights"
weights.mkdir()
(weights / "a").write_text("a")
(spool.path / "secret").write_text("s")
pipeline = spool.root / "pipelines" / "around.yaml"
pipeline.write_text(pipeline.read_text().replace(f"{spool.path.name}]", f"{spool.path.name}, {weights}/a, "
                                                 f"{spool.path}/secret]") + f"reads: [{weights}]\n")
spool.drop(BOOK, "around/book.pdf")
run = spool.run("-j", "1")
if SANDBOX:
    same(text_of(spool), "yes Permission denied\nyes Permission denied", "it reads what `reads` names, not what lies beside it")
    pipeline.write_text(pipeline.read_text() + "duplicates: process\n")
    program = spool.path / "program" / "around.py"
    program.write_text(program.read_text().replace("open(p).read()", "open(p, 'a')"))
    spool.drop(BOOK, "around/again.pdf")
    spool.run("-j", "1")
    same(text_of(spool, "around/again.pdf"), "Permission denied Permission denied\nPermission denied Permission denied", "and cannot write to it")
else:
    skip("it reads what `reads` names", "no sandbox in this build")
spool, run = read(each="""
try:
    block = bytearray(300 << 20)
    text = "had it"
except MemoryError:
    text = "no memory" """, more="memory_mebibytes: 200\n")
if SANDBOX:
    same(text_of(spool), "no memory\nno memory", "memory_mebibytes: it has no more")
else:
    skip("memory_mebibytes: it has no more", "no sandbox in this build")
for gpus, want in (("none", "''"), ("all", "None"), ("0,2", "'0,2'")):
    spool, run = read(each="text = repr(os.environ.get('CUDA_VISIBLE_DEVICES'))", more=f'gpus: "{gpus}"\n')
    same(text_of(spool), f"{want}\n{want}", f"gpus: {gpus}")

# Without a sandbox: only where that is allowed.
TRY = 'open(sys.argv[0] + ".wrote", "w"); text = " ".join(sorted(os.listdir("/sys/class/net"))) + ' \
      '" " + " ".join(l.split(":")[0].strip() for l in open("/proc/net/dev").readlines()[2:])'
spool, run = read(each=TRY, more="wrap: none\n")
why = spool.why("around/book.pdf") or {}
ok("allow_unwrapped: true" in why.get("text", ""), "wrap: none is refused, and why says what allows it", why, run.err)
spool, run = read(each=TRY + "; daemon(600)", more="wrap: none\n", settings="allow_unwrapped: true\n")
if "recogniser ended with exit code 78: make an empty network namespace" in run.err:
    ok(not (spool.path / "program" / "around.py.wrote").exists() and run.returncode,
       "where no network namespace can be made it is not started", run.returncode)
    skip("wrap: none where it is allowed", "no network namespace can be made here")
else:
    same((run.returncode, (spool.path / "program" / "around.py.wrote").exists()), (0, True),
         "where it is allowed it writes where it likes")
    ok((text_of(spool) or "").endswith(" lo"), "but has no network", text_of(spool), run.err)
    same(left(spool), [], "and nothing of it is left")
    spool = new_spool(each="daemon(600); time.sleep(600)", more="wrap: none\n", settings="allow_unwrapped: true\n")
    spool.drop(BOOK, "around/book.pdf")
    run = spool.start("-j", "1")
    ok(wait_for(lambda: len(left(spool)) >= 2), "wrap: none, with a daemon")
    kill(run.pid)
    run.wait()
    ok(wait_for(lambda: not left(spool), 20), "SIGKILL of the run: both are gone", left(spool))

# A container: what its client is asked, with one that only plays it.
FAKE = '''#!/bin/sh
echo "$@" >> LOG
[ "$1" = rm ] && exit 0
for word; do
    case $word in --entrypoint=*) program=${word#--entrypoint=} ;; image:1) shift; break ;; esac
    shift
done
exec "$program" "$@"
'''
for wrap in ("podman", "docker"):
    more = f'wrap: {wrap}\nimage: "image:1"\nmemory_mebibytes: 512\nreads: [/usr/share]\ngpus: "0,1"\n'
    spool, run = read(more=more)
    why = spool.why("around/book.pdf") or {}
    ok("allow_containers: true" in why.get("text", ""), f"wrap: {wrap} is refused where it is not allowed", why)
    spool = new_spool(more=more, settings="allow_containers: true\n")
    log, client = spool.path / "log", spool.path / "clients" / wrap
    client.parent.mkdir()
    client.write_text(FAKE.replace("LOG", str(log)))
    client.chmod(0o755)
    spool.drop(BOOK, "around/book.pdf")
    run = spool.run("-j", "1", env={**os.environ, "PATH": f"{client.parent}:{os.environ['PATH']}"})
    same((run.returncode, text_of(spool)), (0, "read\nread"), f"{wrap}: its program reads")
    lines = log.read_text().splitlines() if log.exists() else [""]
    problems([word for word in ("--network=none", "--read-only", "--cap-drop=all", "--pull=never",
                                "--security-opt=no-new-privileges", "--memory=512m", "--memory-swap=512m",
                                "--volume=/usr/share:/usr/share:ro", "--env=HF_HUB_OFFLINE=1", "--rm",
                                "--tmpfs=/tmp:rw,nosuid,nodev,mode=1777,size=64m", "--pids-limit=1024",
                                "--env=TMPDIR=/tmp",
                                *(["--device nvidia.com/gpu=0", "--device nvidia.com/gpu=1"] if wrap == "podman"
                                  else ['--gpus "device=0,1"'])) if word not in lines[0]],
             f"{wrap}: with every lock")
    ok(re.search(r"--volume=(\S+/pages):\1:ro .*--workdir=\1 ", lines[0]), f"{wrap}: it reads the pages", lines[0])
    name = re.search(r"--name=(\S+)", lines[0])
    ok(name and lines[-1].startswith("rm --force") and lines[-1].endswith(name[1]),
       f"{wrap}: the container is removed by name", *lines)

# The real ones, where they work, with an image made of this machine's busybox.
home = pathlib.Path(tempfile.mkdtemp(prefix="cloister-containers-"))
(home / "storage.conf").write_text(f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/images"\nrunroot = "{home}/run"\n')
(home / "containers.conf").write_text(
    '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
    '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n')
# What each of them needs to be there, and to be told.
NEEDS = {"podman": ("podman", "runc"), "docker": ("docker", "dockerd", "runc")}
client_env = {**os.environ, "CONTAINERS_STORAGE_CONF": str(home / "storage.conf"),
              "CONTAINERS_CONF": str(home / "containers.conf"), "DOCKER_HOST": f"unix://{home}/docker.sock"}


def client(wrap, *words, **how):
    return subprocess.run([wrap, *map(str, words)], capture_output=True, text=True, env=client_env,
                          timeout=100, **how)


def clean_up():
    client("podman", "rm", "--all", "--force", "--time", "0") if shutil.which("podman") else None
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{home}/"):
            subprocess.run(["umount", "-l", line.split()[1]])
    shutil.rmtree(home, ignore_errors=True)


def start_docker():
    """A daemon of our own, without any network, which ends with this test."""
    daemon = subprocess.Popen(
        ["dockerd", f"--data-root={home}/docker", f"--exec-root={home}/docker-run", f"--pidfile={home}/docker.pid",
         f"--host=unix://{home}/docker.sock", "--bridge=none", "--iptables=false", "--ip-forward=false",
         "--exec-opt=native.cgroupdriver=cgroupfs"], stdout=subprocess.DEVNULL, stderr=open(home / "docker.log", "w"))

    def stop():
        daemon.terminate()
        daemon.wait(60)
    atexit.register(stop)
    wait_for(lambda: daemon.poll() is not None or not client("docker", "ps").returncode, 30, 0.3)


BUSYBOX = "/bin/busybox"
SIZES = r'''#!/bin/sh
sleep 600 &
echo '{"airlock":1,"name":"boxed","version":"1"}'
while read -r request; do
    id=${request#*\"id\":}; page=${request#*\"page\":\"}
    text=$(head -n 2 "${page%%\"*}" | tail -n 1)
    text="$text, net $(ls /sys/class/net | tr '\n' ' '), root $(touch /x 2>/dev/null && echo rw || echo ro), \
tmp $(touch /tmp/x && echo rw), $HF_HUB_OFFLINE"
    [ "$1" = slow ] && sleep 600
    echo '{"id":'"${id%%[,\}]*}"',"status":"ok","text":"'"$text"'"}'
done
'''
IMAGE = "localhost/sizes:1"


def make_image():
    root = home / "root"
    (root / "bin").mkdir(parents=True)
    for folder in ("proc", "sys", "dev", "tmp", "etc"):
        (root / folder).mkdir()
    shutil.copy(BUSYBOX, root / "bin" / "busybox")
    for tool in ("sh", "head", "tail", "ls", "tr", "touch", "sleep"):
        (root / "bin" / tool).symlink_to("busybox")
    (root / "bin" / "sizes").write_text(SIZES)
    (root / "bin" / "sizes").chmod(0o755)
    subprocess.run(["tar", "-C", root, "-cf", home / "image.tar", "."], check=True)


def why_not(wrap):
    """What is missing to run containers with it; or None."""
    for tool in NEEDS[wrap]:
        if not shutil.which(tool):
            return f"needs {tool}"
    if wrap == "docker":
        start_docker()
    made = client(wrap, "import", home / "image.tar", IMAGE)
    tried = client(wrap, "run", "--rm", "--network=none", IMAGE, "/bin/sh", "-c", "echo works")
    if tried.stdout != "works\n":
        return f"{wrap} does not work here: " + ((made.stderr + tried.stderr).strip().splitlines() or ["no word"])[-1]
    return None


def containers(wrap):
    return client(wrap, "ps", "--all", "--quiet").stdout


def try_containers(wrap):
    yaml = f'recogniser: command\nwrap: {wrap}\nimage: "{IMAGE}"\ncommand: [/bin/sizes%s]\ndpi: 72\n' \
           'memory_mebibytes: 64\n'
    spool = Spool()
    spool.configure("settle_seconds: 0\nallow_containers: true\n")
    spool.pipeline("boxed", yaml % "")
    spool.drop(BOOK, "boxed/book.pdf")
    run = spool.run("-j", "1", env=client_env)
    page = "{} {}, net lo , root ro, tmp rw, 1"
    result = spool.result("boxed/book.pdf")
    want = [page.format(p["width"], p["height"]) for p in result.pages] if result else None
    same((run.returncode, result and [(l.get("result") or {}).get("text") for l in result.lines()]), (0, want),
         f"{wrap}: its program reads, without a network, root read-only, /tmp to write in")
    if not result:
        print("#", run.err, spool.why("boxed/book.pdf"))
    same(containers(wrap), "", f"{wrap}: no container is left")
    spool.pipeline("boxed", yaml % ", slow" + "limits: {read_seconds: 3}\n")
    spool.drop(BOOK, "boxed/slow.pdf")
    run = spool.run("-j", "1", env=client_env)
    why = json.dumps(spool.why("boxed/slow.pdf") or [p.get("reason") for p in spool.result("boxed/slow.pdf").pages])
    ok("read-seconds" in why, f"{wrap}: one that takes too long is ended", why, run.err)
    same(containers(wrap), "", f"{wrap}: and its container removed")
    spool.drop(BOOK, "boxed/killed.pdf")
    spool.pipeline("boxed", yaml % ", slow")
    run = spool.start("-j", "1", env=client_env)
    ok(wait_for(lambda: client(wrap, "ps", "--quiet").stdout, 40, 0.3), f"{wrap}: a container works")
    kill(run.pid)
    run.wait()
    ok(wait_for(lambda: not containers(wrap), 40, 0.5), f"{wrap}: SIGKILL of the run removes it", containers(wrap))
    checked = cloister("check", "--pipeline", spool.root / "pipelines" / "boxed.yaml", "--seconds", "20", "--json",
                       "--recogniser", env=client_env)
    lines = {l["check"]: l for l in json.loads(checked.out)["checks"]} if checked.out.startswith("{") else {}
    ok(lines.get("hello", {}).get("passed") and lines["first request"]["passed"] is False,
       f"{wrap}: check --recogniser looks into the container, too", lines, checked.err)


why = "needs root" if os.geteuid() else None if os.path.exists(BUSYBOX) else "needs busybox-static"
atexit.register(clean_up)
if not why:
    make_image()
for wrap in NEEDS:
    missing = why or why_not(wrap)
    if missing:
        skip(f"a recogniser in a container of {wrap}'s", missing)
    else:
        try_containers(wrap)
done()
