#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The container image, built from this tree and run as the README says it: without a network, root
read-only, no capabilities, no room to write but the spool.

The commands are those of the README, word for word.  The base image is made by debootstrap, so that
no registry is needed; podman works in folders of this test's own and is gone afterwards.  Needs
root, podman, runc, debootstrap, and a Debian mirror: the one of this machine's own apt sources if
they have Debian 12, else debootstrap's default.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

RELEASE = "bookworm"
HOME = pathlib.Path(tempfile.mkdtemp(prefix="cloister-container-"))
SPOOL = HOME / "spool"
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": str(HOME), "LC_ALL": "C.UTF-8",
               "CONTAINERS_STORAGE_CONF": str(HOME / "storage.conf"),
               "CONTAINERS_CONF": str(HOME / "containers.conf"),
               **{k: v for k, v in os.environ.items() if k.lower().endswith("_proxy")}}
USER = 1000  # of the image


def shell(command, seconds=1200):
    """A command line as a person types it, in the root of the repository."""
    process = subprocess.run(["sh", "-c", command], cwd=ROOT, env=ENVIRONMENT, text=True,
                             errors="replace", capture_output=True, stdin=subprocess.DEVNULL,
                             timeout=seconds)
    process.all = process.stdout + process.stderr
    return process


def works(command, name):
    process = shell(command)
    ok(process.returncode == 0, name, command, process.all[-4000:])
    return process


def clean_up():
    shell("podman kill --all; podman unmount --all; podman rm --all --force; "
          "podman rmi --all --force")
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        if line.split()[1].startswith(f"{HOME}/"):
            subprocess.run(["umount", "-l", line.split()[1]])
    shutil.rmtree(HOME, ignore_errors=True)


def mirror():
    """Of the machine's own sources, if they have the release: debootstrap's argument, or none."""
    targets = subprocess.run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(SUITE)",
                              "Created-By: Packages", "Component: main"], capture_output=True,
                             text=True)
    for line in targets.stdout.splitlines():
        uri, suite = line.split()
        if suite == RELEASE:
            return [uri]
    return []


def make_base():
    """The base image, under the name that the Containerfile asks for."""
    base, log = HOME / "base", HOME / "debootstrap.log"
    # The caller's own mirror; if that fails, the default.
    for arguments in dict.fromkeys((tuple(mirror()), ())):
        with open(log, "w") as out:
            made = subprocess.run(["debootstrap", "--variant=minbase", RELEASE, base, *arguments],
                                  stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if made.returncode == 0:
            break
        shutil.rmtree(base, ignore_errors=True)
    else:
        skip_all("no Debian mirror: " + log.read_text().strip().splitlines()[-1])
    name = re.search(r"^ARG BASE=(\S+)$",
                     (ROOT / "samples/container/Containerfile").read_text(), re.M)[1]
    imported = shell(f"tar -C {base} -c . | podman import - localhost/{name}")
    if imported.returncode:
        skip_all("podman cannot store images here: " + imported.stderr.strip().splitlines()[-1])
    shutil.rmtree(base)


def readme_command(start):
    """The command of the README that starts so, with its continuation lines."""
    found = re.findall(rf"^{re.escape(start)}(?:.*\\\n)*.*$", (ROOT / "README.md").read_text(), re.M)
    if not found:
        raise SystemExit(f"the README has no command {start}")
    return found[0]


def run_command(more="", arguments=None):
    """The README's way to run the image, with other options and arguments."""
    head, tail = RUN.rsplit(" cloister ", 1)
    return f"{head} {more} cloister {tail if arguments is None else arguments}"


def inside(script, more=""):
    """A shell in the container, which is there in this test's base image."""
    return shell(run_command(f"--entrypoint sh {more}", f"-c '{script}'"))


def new_spool():
    shutil.rmtree(SPOOL, ignore_errors=True)
    (SPOOL / "in").mkdir(parents=True)


def give(path):
    """To the image's user, as a person who is that user would have it."""
    subprocess.run(["chown", "-R", f"{USER}:{USER}", path], check=True)


def results():
    return {str(path.parent.relative_to(SPOOL / "out")): Result(path.parent)
            for path in sorted((SPOOL / "out").rglob("document.json"))}


def status_of(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return dict(re.findall(r"^(\w+):\s*(\S+)", text, re.M))


if os.geteuid():
    skip_all("needs root")
for tool in ("podman", "runc", "debootstrap", "tar"):
    if not shutil.which(tool):
        skip_all(f"needs {tool}: apt-get install {tool}")
(HOME / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{HOME}/images"\n'
                                   f'runroot = "{HOME}/run"\n')
# Building needs the machine's network. The limits: podman's own are above what some machines allow.
(HOME / "containers.conf").write_text(
    '[containers]\nnetns = "host"\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
    '[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n')
atexit.register(clean_up)
make_base()
RUN = readme_command("podman run ")

# The image.
begun = time.monotonic()
works(readme_command("podman build "), "the image is built")
figure("container image built", f"{time.monotonic() - begun:.0f} s")
sizes = {name: int(shell(f"podman image inspect -f '{{{{.Size}}}}' {name}").stdout or 0)
         for name in ("cloister", "debian:bookworm-slim")}
figure("container image", f"{sizes['cloister'] >> 20} MiB, "
       f"{sizes['cloister'] - sizes['debian:bookworm-slim'] >> 20} MiB of them above its base")
image = json.loads(shell("podman image inspect cloister").stdout)[0]["Config"]
same((image.get("User"), image.get("Entrypoint")), (f"{USER}:{USER}", ["cloister"]),
     "it runs cloister, and not as root")
new_spool()
give(SPOOL)
found = inside("for tool in cc gcc ld make git curl wget; do command -v $tool; done; "
               "ls /var/lib/apt/lists /var/cache/apt/archives | grep -v -e : -e ^partial -e ^lock; "
               "ls /src; fc-match Helvetica")
same(found.stdout.split()[:1], ["NimbusSans-Regular.otf:"],
     "no compiler, no source and no package lists are in it")
ok("No writable cache" not in found.all, "its cache of fonts is used", found.all)

# The samples.
new_spool()
shutil.copytree(SAMPLES, SPOOL / "in" / "tesseract")
give(SPOOL)
begun = time.monotonic()
run = works(RUN, "the samples are read")
documents = results()
pages = sum(len(result.pages) for result in documents.values())
figure("container, samples read", f"{len(documents)} documents, {pages} pages in "
       f"{time.monotonic() - begun:.0f} s")
originals = [path for path in sorted(SAMPLES.rglob("*"))
             if path.is_file() and not path.name.endswith(".cloister.yaml")]
missing = [path for path in originals if not any(
    (SPOOL / "out" / "tesseract" / path.relative_to(SAMPLES) / name).exists()
    for name in ("document.json", "archive.json"))]
problems(missing, f"each of {len(originals)} samples has its result")
bad, errors = [], []
for name, result in documents.items():
    original = SAMPLES / name.removeprefix("tesseract/")
    bad += [f"{name}: {problem}" for problem in
            result_problems(result, original if original.is_file() else None)]
    bad += [f"{name}: a page is {state}" for state in result.states() if state != "ok"]
    if original.is_file():
        errors.append(cer_of(result, name.removeprefix("tesseract/")))
problems(bad, "the results hold together")
ok(errors and sum(errors) / len(errors) < 0.02,
   f"mean character error rate {sum(errors) / max(1, len(errors)):.4f}")
same([p for p in (SPOOL / "in").rglob("*") if p.is_file()], [], "nothing is left in the drop box")
same({p.stat().st_uid for p in (SPOOL / "out").rglob("*")}, {USER}, "results belong to the user")
ok("no network namespace" not in run.all, "no complaint about the network", run.all)

# From outside, while it works: what the kernel says of its processes.
new_spool()
shutil.copytree(SAMPLES, SPOOL / "in" / "tesseract")
for copy in range(4):
    shutil.copytree(SAMPLES / "scans", SPOOL / "in" / "tesseract" / f"again-{copy}")
(SPOOL / "pipelines").mkdir()
(SPOOL / "pipelines" / "tesseract.yaml").write_text("duplicates: process\n")
give(SPOOL)
running = subprocess.Popen(["sh", "-c", "exec " + run_command("--name under-test", "run")],
                           cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
pid = wait_for(lambda: int(shell("podman inspect -f '{{.State.Pid}}' under-test").stdout or 0), 30,
               step=0.2)
own = wait_for(lambda: (s := status_of(pid)).get("Seccomp_filters", "0") > "1" and s, 20)
kinds = {}
for program in ("cloister-decode", "cloister-tesseract"):
    def locked():
        for child in children(pid, program):
            try:
                status = status_of(child)
            except OSError:
                continue
            if int(status["Seccomp_filters"]) > int(own["Seccomp_filters"]):
                return status
        return None
    kinds[program] = wait_for(locked, 30)
    ok(kinds[program], f"{program}: works behind a filter of its own")
kinds["cloister"] = own
for program, status in kinds.items():
    if status:
        same([status[key] for key in ("Seccomp", "NoNewPrivs", "CapEff", "CapBnd", "Uid")],
             ["2", "1", "0" * 16, "0" * 16, str(USER)],
             f"{program}: filtered, no new privileges, no capability, not root")
interfaces = [line.split(":")[0].strip() for line in
              pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
same(interfaces, ["lo"], "it has no network interface but loopback")
sockets = [line for name in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6", "unix", "packet")
           if (table := pathlib.Path(f"/proc/{pid}/net/{name}")).exists()
           for line in table.read_text().splitlines()[1:]]
same(sockets, [], "there is no socket of any kind in its network namespace")
# Stopped, killed, and started again.
stopped = shell("podman stop -t 60 under-test")
running.wait(60)
same(running.returncode, 75, "podman stop: it finishes the pages in hand and says so")
running = subprocess.Popen(["sh", "-c", "exec " + run_command("--name under-test", "run")],
                           cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
before = len(results())
wait_for(lambda: len(results()) > before, 60)
shell("podman kill under-test")
same(running.wait(60), 137, "podman kill: it is gone at once")
works(RUN, "started again, it ends what was begun")
want = {f"tesseract/{p.relative_to(SAMPLES)}" for p in originals if p.parent.name != "archives"
        and p.suffix != ".gz"}
want |= {f"tesseract/again-{n}/{p.name}" for n in range(4) for p in (SAMPLES / "scans").iterdir()}
got = results()
problems(sorted(want - set(got)) + [name for name in got if "~" in name],
         f"{len(want)} documents, none lost, none twice")
problems([f"{name}: {problem}" for name, result in got.items() for problem in
          result_problems(result)], "their results hold together")

# Writing elsewhere, other networks, other users: refused to a shell in the same place.
for act, script in {"write to /": "touch /x", "write to /tmp": "touch /tmp/x",
                    "write to /run": "touch /run/x", "write to /models": "touch /models/x",
                    "become root": "su -c true", "mount": "mount -t tmpfs x /mnt",
                    "find a name": "getent hosts debian.org",
                    "run a program from the page folder":
                    "cp /bin/true /dev/shm/x && /dev/shm/x"}.items():
    tried = inside(script, f"-v {HOME}:/models:ro")
    ok(tried.returncode, f"a shell in the container cannot {act}", tried.all)

mounts = inside("cut -d\" \" -f5 /proc/self/mountinfo | while read where; do "
                "touch $where/.x && echo $where; done 2>/dev/null")
same(sorted(mounts.stdout.split()), ["/dev/mqueue", "/dev/shm", "/spool"],
     "of all its mounts, files can be made in the spool, /dev/shm and the queues of /dev/mqueue alone")

# What the operator's own check says in there.
new_spool()
give(SPOOL)
verified = shell(run_command(arguments="verify --json"))
same(verified.returncode, 0, "cloister verify: all holds")
checks = json.loads(verified.stdout)["checks"] if verified.returncode == 0 else []
figure("cloister verify in the container", f"{len(checks)} promises tried, "
       f"{sum(check['passed'] for check in checks)} hold")

# Documents that must not be touched: a mount of its own beneath in/, read-only.
new_spool()
(SPOOL / "in" / "archive" / "papers").mkdir(parents=True)
(SPOOL / "pipelines").mkdir()
(SPOOL / "pipelines" / "archive.yaml").write_text("originals: keep\n")
give(SPOOL)
shutil.copytree(SAMPLES / "letters", HOME / "papers")
(HOME / "papers" / "torn.pdf").write_bytes(
    (SAMPLES / "letters" / "harbour-letter.pdf").read_bytes()[:3000])
fixed = shell(run_command(f"-v {HOME}/papers:/spool/in/archive/papers:ro"), 120)
same(fixed.returncode, 1, "read-only documents: one that can be neither read nor moved has failed")
same(len(results()), 4, "and the others are read")
why = json.loads((SPOOL / "failed/archive/papers/torn.pdf.why.json").read_text())
same(why["original"]["in"], "archive/papers/torn.pdf", "its reason tells where it stays")
before = sorted((SPOOL / "failed").rglob("*"))
same((shell(run_command(f"-v {HOME}/papers:/spool/in/archive/papers:ro"), 120).returncode,
      sorted((SPOOL / "failed").rglob("*"))), (0, before), "the next container has nothing to read")

# Models from outside; no others are read then.
system = pathlib.Path("/usr/share/tesseract-ocr/5/tessdata")
if system.is_dir():
    new_spool()
    (SPOOL / "in" / "tesseract").mkdir()
    shutil.copy(SAMPLES / "scans" / "telegram.png", SPOOL / "in" / "tesseract")
    shutil.copytree(system, HOME / "models" / "tessdata")
    give(SPOOL)
    works(run_command(f"-v {HOME}/models:/models:ro -e TESSDATA_PREFIX=/models/tessdata"),
          "models are taken from /models")
    ok("tesseract/telegram.png" in results(), "and read with")
else:
    skip("models are taken from /models", f"{system} is not here")

# Parts of the spool that are mounts of their own cannot be renamed into each other.
new_spool()
for part in ("in", "out", "state"):
    (HOME / part).mkdir()
    give(HOME / part)
give(SPOOL)
apart = shell(run_command(" ".join(f"-v {HOME}/{part}:/spool/{part}"
                                   for part in ("in", "out", "state"))))
same(apart.returncode, 78, "parts of the spool mounted one by one are refused")
ok("must lie on one file system and mount" in apart.all, "and it says why", apart.all)

# The units of samples/systemd under a systemd of their own.
context = HOME / "context"
shutil.copytree(ROOT / "samples" / "systemd", context / "units")
shutil.copytree(SAMPLES, context / "documents")
(context / "Containerfile").write_text("""FROM cloister
USER 0
RUN apt-get update -q && apt-get install -q -y --no-install-recommends systemd systemd-sysv dbus
RUN useradd --system --home-dir /var/lib/cloister cloister
COPY units /etc/systemd/system/
COPY documents /documents
ENTRYPOINT []
CMD ["/lib/systemd/systemd"]
""")
works(f"podman build -t with-systemd {context}", "systemd is added to the image")
started = shell("podman run -d --name booted --privileged --systemd=always --network none "
                "with-systemd")


def booted(script):
    return shell(f"podman exec booted sh -c '{script}'").stdout.strip()


if started.returncode or not wait_for(
        lambda: booted("systemctl is-system-running") in ("running", "degraded"), 30, step=0.5):
    skip("cloister.service under systemd", "systemd does not start in a container here")
    done()
booted("install -d -o cloister -g cloister /var/lib/cloister /var/lib/cloister/in && "
       "cp -r /documents /var/lib/cloister/in/tesseract && "
       "chown -R cloister: /var/lib/cloister/in && systemctl start cloister")
same(booted("systemctl is-active cloister"), "active", "cloister.service: READY, so it has started")
line = wait_for(lambda: (s := booted("systemctl show -P StatusText cloister")) and "pages/s" in s and s,
                20, step=0.5)
ok(line, "cloister.service: tells its status")
wait_for(lambda: booted("systemctl is-active cloister") == "inactive", 240, step=1)
same(booted("systemctl show cloister -P Result -P ExecMainStatus -P NRestarts").split(),
     ["success", "0", "0"], "cloister.service: ends well")
same(booted("find /var/lib/cloister/out -name document.json | wc -l"), str(len(documents)),
     "cloister.service: has read the samples behind all its locks")
figure("samples under systemd, with cloister.service", f"{len(documents)} documents")
done()
