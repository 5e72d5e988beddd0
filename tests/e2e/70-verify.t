#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cloister verify passes where isolation holds, and each of its lines fails where it does not.

The good surroundings are made here: namespaces for mounts, network and processes, with everything but
the spool mounted read-only. Each break is made in such surroundings of its own.
"""

import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

if os.environ.get("CLOISTER_SANITIZED"):
    skip_all("AddressSanitizer and the sandbox exclude each other")

NAMESPACES = ["unshare", "-m", "-n", "-p", "-f", "--mount-proc"]
# In a user namespace of its own, root is root of that alone, and can be forbidden to make more.
CONFINED = [*NAMESPACES, "-U", "-r"]
AS_ROOT = os.geteuid() == 0
KINDS = ["supervisor", "decode", "unpack", "tesseract", "model",
         *["model-cuda"] * (BUILD / "cloister-model-cuda").exists(), "write", "command"]
READ_ONLY = """
mount --make-rprivate /
for kept in {spool} /dev/shm /tmp; do mount --bind $kept $kept; done
for place in {build} /; do mount --bind $place $place; mount -o remount,bind,ro $place; done
"""
# A device with an address, a server that answers, and no leave to make another namespace.
NETWORK = """
import fcntl, socket, struct, subprocess, sys
control = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def ask(request, name, value):
    fcntl.ioctl(control, request, struct.pack("16s16s8x", name, value))
fcntl.ioctl(control, 0x89a0, b"br0".ljust(24, b"\\0"))                      # a bridge
for name, address in ((b"lo", "127.0.0.1"), (b"br0", "192.0.2.7")):
    ask(0x8916, name, struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(address)))
    ask(0x8914, name, struct.pack("H", 0x41))                              # up, running
control.close()
for limit in ("net", "user"):
    open("/proc/sys/user/max_%s_namespaces" % limit, "w").write("0")
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
sys.exit(subprocess.run(sys.argv[1:]).returncode)
"""
# A process of the family, by its name, that listens on a path.
LISTENER = """
import ctypes, os, signal, socket, subprocess, sys
child = os.fork()
if not child:
    ctypes.CDLL(None).prctl(15, b"cloister-model")
    server = socket.socket(socket.AF_UNIX)
    server.bind("\\0cloister-verify-test")
    server.listen()
    while True:
        signal.pause()
code = subprocess.run(sys.argv[1:]).returncode
os.kill(child, 9)
sys.exit(code)
"""

if subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
    NAMESPACES[1:] = CONFINED[1:]
if not AS_ROOT or subprocess.run([*NAMESPACES, "true"], capture_output=True).returncode:
    # Somebody without rights needs no mounts: what is root's cannot be written anyway.
    skip_all("no namespaces can be made here: verify is tried as root")
spool = Spool()
same(spool.run().returncode, 0, "there is a spool")


def verify(*arguments, before="", within=(), namespaces=NAMESPACES, **environment):
    """(exit code, {check: line}) of verify --json; `before` is done in a shell, `within` wraps it."""
    command = [*map(str, within), str(CLOISTER), "verify", "--spool", str(spool.root), "--json",
               *arguments]
    script = f"set -e\n{before}\nexec " + " ".join(map(shlex.quote, command))
    done = subprocess.run([*namespaces, "sh", "-c", script], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=100,
                          env={**os.environ, **environment})
    try:
        report = json.loads(done.stdout)
    except ValueError:
        return done.returncode, {"none": {"passed": False, "reason": done.stdout + done.stderr}}
    return done.returncode, {line["check"]: line for line in report["checks"]}


def failures(lines):
    return {check: line["reason"] for check, line in lines.items() if not line["passed"]}


def breaks(what, checks, words, **how):
    """What is broken fails these checks, of no other kind, and says so in these words."""
    code, lines = verify(**{"before": prepare, **how})
    found = failures(lines)
    ok(code == 1 and set(found) == set(checks), f"{what}: {', '.join(checks)} fail, and 1 is returned",
       f"code {code}", found)
    for check in checks:
        ok(words in found.get(check, ""), f"{what}: {check} says why", found.get(check))


prepare = READ_ONLY.format(spool=spool.root, build=BUILD)

# It holds.
code, lines = verify(before=prepare)
same(failures(lines), {}, "in good surroundings every check passes")
same(code, 0, "and the exit code is 0")
wanted = (["read-only", "spool", "own listeners", "interfaces", "connect", "DNS", "listeners"] +
          ["sandbox " + kind for kind in KINDS] + ["offline", "page born-digital", "page tesseract"])
same(list(lines), wanted, "these are the checks")
for kind in KINDS:
    acts, shown = [int(word) for word in lines["sandbox " + kind]["reason"].split()
                   if word.isdigit()][:2]
    ok(acts >= 29 and shown >= 25, f"{kind}: many acts are tried, and most would work without a "
       "sandbox", lines["sandbox " + kind]["reason"])
figure("verify", f"{len(lines)} checks pass")
script = f"{prepare}\n{shlex.quote(str(CLOISTER))} verify --spool {spool.root}"
done_ = subprocess.run([*NAMESPACES, "sh", "-c", script], capture_output=True, text=True, timeout=100)
ok(done_.stdout.startswith("CHECK") and done_.stdout.endswith("pass: all of it holds\n") and
   len(done_.stdout.splitlines()) == len(wanted) + 2, "the table has a line for each",
   done_.stdout, done_.stderr)

# Each check fails where what it tries is broken.
breaks("a system that can be written", ["read-only"], "can write to /",
       before="mount --make-rprivate /")
breaks("a program folder that can be written", ["read-only"], f"can write to {BUILD}",
       before=prepare + f"mount -o remount,bind,rw {BUILD}\n")
breaks("results on another file system", ["spool"], "they must lie on one file system",
       before=prepare + f"mount -t tmpfs none {spool.root}/out\n")
listener = spool.path / "listener.py"
listener.write_text(LISTENER)
breaks("a process of the family that listens", ["own listeners"], "cloister-model",
       within=[sys.executable, listener])

if subprocess.run([*CONFINED, "true"], capture_output=True).returncode:
    skip("a network", "no user namespaces can be made here")
else:
    network, resolv = spool.path / "network.py", spool.path / "resolv.conf"
    network.write_text(NETWORK)
    resolv.write_text("nameserver 127.0.0.1\n")
    code, lines = verify(before=f"mount --bind {resolv} /etc/resolv.conf",
                         within=[sys.executable, network], namespaces=CONFINED)
    if "BlockingIOError" in str(lines) or "br0" not in str(lines):
        skip("a network", "no network device can be made here: " +
             str(failures(lines)).splitlines()[-1][-200:])
    else:
        found = failures(lines)
        same(code, 1, "a network: the exit code is 1")
        found.pop("read-only", None)  # nothing was mounted so
        same(set(found), {"interfaces", "connect", "DNS", "listeners"}, "a network: these fail")
        ok("br0: make an empty network namespace" in found.get("interfaces", ""),
           "interfaces names the device and why it cannot be left", found)
        ok("192.0.2.1: a connection could be begun" in found.get("connect", ""),
           "connect says what was reached", found)
        ok("a question could be sent" in found.get("DNS", ""), "DNS says who was asked", found)
        ok("(udp)" in found.get("listeners", ""), "listeners says where somebody waits", found)

sandboxes = ["sandbox " + kind for kind in KINDS]
pages = ["page born-digital", "page tesseract"]
code, lines = verify(before=prepare, CLOISTER_TEST_LANDLOCK_ABI="0")
same(set(failures(lines)), {*sandboxes, "offline", *pages},
     "without Landlock no sandbox stands, and nothing runs")
ok(all("Landlock" in lines[check]["reason"] for check in sandboxes), "and each says why", lines)
spool.configure("settle_seconds: 0\nrequire_sandbox: false\n")
# The unpacker opens nothing at all: the filter alone holds it.
breaks("without Landlock, which the settings allow",
       [check for check in sandboxes if check != "sandbox unpack"], "not refused: ",
       CLOISTER_TEST_LANDLOCK_ABI="0")
spool.configure("settle_seconds: 0\n")
breaks("programs that are not there", ["sandbox decode", "sandbox unpack", "sandbox tesseract", "sandbox model",
                                       "sandbox write", *pages], "",
       CLOISTER_LIBEXEC="/nonexistent/programs")
spool.null_pipeline("wrong")
spool.pipeline("none", "recogniser: command\ncommand: [/nonexistent/reader]\n")
code, lines = verify(before=prepare)
same(set(failures(lines)), {"page none", "page wrong"}, "recognisers that do not read right fail")
ok("reads \"page 900x260\", but it says" in lines["page wrong"]["reason"], "one is quoted", lines)
ok("not read: " in lines["page none"]["reason"], "one did not come up", lines)
spool.null_pipeline("mend", more="prompt: Mend\n")
spool.pipeline("then", "then: mend\n")
spool.pipeline("wrong", "then: none\n")
spool.pipeline("words", '''recogniser: command
command: [/bin/sh, -c, 'echo "{\\"airlock\\":1,\\"name\\":\\"words\\",\\"takes\\":[\\"text\\"]}"; read asked;
  echo "{\\"id\\":1,\\"status\\":\\"ok\\",\\"text\\":\\"Twelve\\"}"']
''')
code, lines = verify(before=prepare)
same(set(failures(lines)), {"page none", "page wrong", "page mend"}, "a text step that does not come up fails")
ok(lines["page then"]["reason"].endswith("as it says; mend answers"), "one that does answers", lines)
ok(lines["page words"]["reason"].endswith('answers to "TWELVE MEN WAIT IN THE WHITE MILL": "Twelve"'),
   "one that takes text alone is asked about text", lines)

same(cloister("verify").returncode, 2, "no spool is a usage error")
done()
