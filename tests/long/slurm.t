#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Two nodes of a real Slurm share a spool: samples/slurm/cloister.sbatch reads 200 documents, while one
task is told to stop and one node loses its network in the middle. Slurm starts the task of the lost node
again elsewhere, and the one that it cannot reach goes on all the same: each page is there once.

The nodes are mount, network, process and host name spaces of this machine, joined by one cable; killed
with their first process, nothing of them is left."""

import atexit
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import Steps, figure
from promises import Drop, recover, settled
import pdf

DOCUMENTS, DELAY_MS = 200, 500
NAMES = ("m1", "m2")  # m1 is the controller, too
CONFIGURATION = """
ClusterName=test
SlurmctldHost=m1(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={dir}/local/munge,cred_expire=5
CredType=cred/munge
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/%n
SlurmctldPidFile={dir}/local/slurmctld.pid
SlurmdPidFile={dir}/local/slurmd.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0
MailProg=/bin/true
SlurmdTimeout=5
KillWait=2
NodeName=m1 NodeAddr=10.77.0.1 CPUs=2 RealMemory=500
NodeName=m2 NodeAddr=10.77.0.2 CPUs=2 RealMemory=500
PartitionName=p Nodes=m[1-2] Default=YES MaxTime=INFINITE State=UP
"""
# The sockets of a node are its own, though the folder is everybody's.
BOOT = """
hostname $1 && mount --bind $2/hosts /etc/hosts && mount -t tmpfs none $2/local && : > $2/$1.up &&
exec sleep infinity
"""


class Node:
    def __init__(self, folder, name):
        self.name = name
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc",
             "sh", "-c", BOOT, "sh", name, folder], stdin=subprocess.DEVNULL)
        atexit.register(lambda: (self.process.kill(), self.process.wait()))
        if not wait_for(lambda: (folder / f"{name}.up").exists() or self.process.poll() is not None) \
                or self.process.poll() is not None:
            skip_all("needs root, and name spaces of its own")
        self.init = children(self.process.pid)[0]

    def do(self, *command):
        """Standard output of a command run on this node."""
        run = subprocess.run(["nsenter", "-t", str(self.init), "-m", "-n", "-p", "-u",
                              *map(str, command)],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             env=ENVIRONMENT, timeout=60)
        text = run.stdout.decode(errors="replace").strip()
        if run.returncode:
            raise RuntimeError(f"{self.name}: {command[0]} ends with {run.returncode}: {text}")
        return text


def boot(folder):
    for name in ("local", "state", *NAMES):
        (folder / name).mkdir()
    (folder / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 m1\n10.77.0.2 m2\n")
    (folder / "slurm.conf").write_text(CONFIGURATION.format(dir=folder))
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    nodes = [Node(folder, name) for name in NAMES]
    subprocess.run(["ip", "link", "add", "eth0", "netns", str(nodes[0].init), "type", "veth", "peer",
                    "name", "eth0", "netns", str(nodes[1].init)], check=True)
    for number, node in enumerate(nodes, 1):
        node.do("ip", "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
        node.do("ip", "link", "set", "eth0", "up")
        node.do("ip", "link", "set", "lo", "up")
        local = folder / "local"
        node.do("munged", "--force", f"--key-file={folder}/key", f"--socket={local}/munge",
                f"--pid-file={local}/munge.pid", f"--log-file={local}/munge.log",
                f"--seed-file={local}/munge.seed")
        if number == 1:
            node.do("slurmctld", "-c", "-f", folder / "slurm.conf")
        node.do("slurmd", "-c", "-f", folder / "slurm.conf")
    return nodes


def tasks():
    """State and node of each task that Slurm has not done with."""
    lines = nodes[0].do("squeue", "-h", "-r", "-o", "%K %T %N").splitlines()
    return {fields[0]: fields[1:] for fields in map(str.split, lines)}


def node_of(name):
    return nodes[0].do("sinfo", "-h", "-n", name, "-o", "%T")


def hosts():
    """Hosts of the workers that hold documents."""
    return {token.split("/")[1].split(".")[0] for token in spool.tokens() if "active/" in token}


def done_with():
    return len(spool.results())


for tool, package in (("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("sbatch", "slurm-client"),
                      ("munged", "munge"), ("ip", "iproute2"), ("nsenter", "util-linux")):
    if not shutil.which(tool):
        skip_all(f"{tool} is missing: install Debian's package {package}")
if os.geteuid():
    skip_all("needs root, for name spaces")

for step in Steps(fast=1, full=1):
    spool, drops = Spool(), {}
    spool.configure("settle_seconds: 0\nlease_seconds: 6\nrescan_seconds: 10\njobs: 2\n")
    spool.null_pipeline("null", "--delay-ms", str(DELAY_MS), "--window", "1", more="dpi: 72\n")
    for number in range(DOCUMENTS):
        pages = step.random.randint(1, 3)
        drop = Drop(pdf.build(pdf.pages([pdf.text(b"Note %d" % number)] * pages, widen=1)), pages=pages)
        drops[f"null/{number}.pdf"] = drop
        spool.drop(drop.data, f"null/{number}.pdf")
    folder = spool.path / "slurm"
    folder.mkdir()
    ENVIRONMENT = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "CLOISTER": str(CLOISTER),
                   "CLOISTER_SPOOL": str(spool.root)}
    nodes = boot(folder)
    ok(wait_for(lambda: [node_of(name) for name in NAMES] == ["idle", "idle"], 60, 0.5),
       "two nodes are up", *[node_of(name) for name in NAMES])
    begun = time.monotonic()
    job = nodes[0].do("sbatch", "--parsable", "--exclusive", f"--chdir={folder}",
                      ROOT / "samples" / "slurm" / "cloister.sbatch")
    ok(wait_for(lambda: hosts() == set(NAMES) and done_with() >= 10, 60, 0.5),
       "each has a task, and both read", tasks(), hosts(),
       *[p.read_text()[-500:] for p in folder.glob("cloister-*.log")])
    running = {state[1]: task for task, state in tasks().items() if state[0] == "RUNNING"}

    nodes[0].do("scancel", "--batch", "--signal=TERM", f"{job}_{running['m1']}")
    ok(wait_for(lambda: "m1" not in hosts() and tasks()[running["m1"]][0] != "RUNNING", 60, 0.2),
       "TERM: a task drains and is queued again", tasks(), hosts())
    figure("slurm, results when a task was drained", done_with())
    ok(wait_for(lambda: "m1" in hosts(), 120, 0.5), "and started again", tasks())

    nodes[1].do("ip", "link", "set", "eth0", "down")
    cut = done_with()
    figure("slurm, results when a node was cut off", cut)
    ok(wait_for(lambda: node_of("m2").startswith("down"), 90, 0.5), "a node is cut off", node_of("m2"))
    ok(cut < DOCUMENTS, "in the middle")
    ok(wait_for(lambda: not spool.left() and not spool.tokens(), 300, 0.5),
       "the documents are read all the same", *spool.left()[:5], *spool.tokens()[:5])
    nodes[1].do("ip", "link", "set", "eth0", "up")
    ok(wait_for(lambda: not tasks(), 400, 1), "and every task ends", tasks())
    seconds = time.monotonic() - begun
    problems(recover(spool), "nothing is left to do")
    log = "".join(path.read_text(errors="replace") for path in folder.glob("cloister-*.log"))
    same(log.count("cloister: stopping"), 1, "one task was drained")
    for node in nodes:
        node.process.kill()
        node.process.wait()
    verdict = settled(spool, drops)
    if verdict.problems:
        verdict.problems += [step.replay(), *log.splitlines()[-30:]]
    problems(verdict.problems, "200 results, each page once")
    figure("slurm, two nodes", f"{verdict} in {seconds:.0f} s; 1 task drained, 1 node cut off")
done()
