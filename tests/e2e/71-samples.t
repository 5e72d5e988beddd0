#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The sample units and container files: they parse, and carry every lock."""

import configparser
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *
from harness import figure

import yaml

SYSTEMD = ROOT / "samples" / "systemd"
CONTAINER = ROOT / "samples" / "container"
WORST = 1.0  # exposure, of 10


def unit(path):
    """Sections of a unit file; the values of a key that stands several times, in turn."""
    class Many(dict):
        def __setitem__(self, key, value):
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)
    parser = configparser.RawConfigParser(strict=False, dict_type=Many, delimiters="=",
                                          comment_prefixes="#")
    parser.optionxform = str
    parser.read(path)
    return {name: {key: value.split("\n") for key, value in parser.items(name)}
            for name in parser.sections()}


def exposure(path):
    out = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", path],
                         capture_output=True, text=True, env={**os.environ, "LC_ALL": "C.UTF-8"})
    found = re.search(r"exposure level for \S+: ([0-9.]+)", out.stdout)
    return float(found[1]) if found else None, out.stdout + out.stderr


# systemd.
service = unit(SYSTEMD / "cloister.service")["Service"]
same([service.get(key) for key in ("Type", "KillMode", "RestartPreventExitStatus", "PrivateNetwork",
                                   "CapabilityBoundingSet", "ProtectSystem", "RestrictNamespaces")],
     [["notify"], ["mixed"], ["2 78"], ["yes"], [""], ["strict"], ["yes"]],
     "cloister.service: its locks and exit statuses")
if shutil.which("systemd-analyze"):
    score, text = exposure(SYSTEMD / "cloister.service")
    if score is None:
        skip("cloister.service: exposure", "this systemd-analyze judges no unit files")
    else:
        ok(score <= WORST, f"cloister.service: exposure at most {WORST}", text)
        figure("systemd-analyze security, cloister.service", f"{score} of 10")
    # As installed: the program must exist, and the units know each other.
    with tempfile.TemporaryDirectory() as folder:
        units = []
        for path in sorted(SYSTEMD.glob("cloister.*")):
            text = path.read_text().replace("/usr/local/bin/cloister", str(CLOISTER))
            units.append(pathlib.Path(folder) / path.name)
            units[-1].write_text(text)
        verified = subprocess.run(["systemd-analyze", "verify", "--man=no", *units],
                                  capture_output=True, text=True)
        same((verified.returncode, verified.stderr), (0, ""), "the units are verified by systemd")
else:
    skip("cloister.service: exposure", "needs systemd-analyze: install systemd")

# Compose.
compose = yaml.safe_load((CONTAINER / "compose.yaml").read_text())["services"]["cloister"]
for key, value in {"network_mode": "none", "read_only": True, "cap_drop": ["ALL"],
                   "security_opt": ["no-new-privileges:true"], "user": "1000:1000"}.items():
    same(compose.get(key), value, f"compose.yaml: {key}")
problems([key for key in ("mem_limit", "pids_limit", "shm_size") if not compose.get(key)] +
         [key for key in ("privileged", "ports", "networks", "devices", "pid", "ipc", "cap_add")
          if key in compose], "compose.yaml: limits, and nothing opened")
same(compose["volumes"], ["./spool:/spool", "./models:/models:ro"],
     "compose.yaml: spool and models, nothing else")
same((CONTAINER / compose["build"]["context"]).resolve(), ROOT, "compose.yaml: built from this tree")
ok((ROOT / compose["build"]["dockerfile"]).is_file(), "compose.yaml: the Containerfile is there")

# Quadlet.
quadlet = unit(CONTAINER / "cloister.container")
same([quadlet["Container"].get(key) for key in
      ("Network", "ReadOnly", "DropCapability", "NoNewPrivileges", "Notify")],
     [["none"], ["true"], ["all"], ["true"], ["true"]], "cloister.container: its locks")
problems([word for word in ("--read-only-tmpfs=false", "--memory ", "--pids-limit ", "--shm-size ")
          if word not in quadlet["Container"]["PodmanArgs"][0]], "cloister.container: its limits")
same(sorted(re.findall(r"^Volume=(\S+)", (CONTAINER / "cloister.container").read_text(), re.M)),
     ["%h/models:/models:ro", "%h/spool:/spool"],
     "cloister.container: spool and models, nothing else")
same([quadlet["Service"].get(key) for key in ("RestartPreventExitStatus", "SuccessExitStatus")],
     [service[key] for key in ("RestartPreventExitStatus", "SuccessExitStatus")],
     "cloister.container: exit statuses as in cloister.service")

# Kubernetes.
policy, job = yaml.safe_load_all((CONTAINER / "job.yaml").read_text())
pod = job["spec"]["template"]["spec"]
container = pod["containers"][0]
same((policy["kind"], sorted(policy["spec"]["policyTypes"]), policy["spec"].get("egress"),
      policy["spec"].get("ingress")), ("NetworkPolicy", ["Egress", "Ingress"], None, None),
     "job.yaml: nothing in, nothing out")
same(policy["spec"]["podSelector"]["matchLabels"], job["spec"]["template"]["metadata"]["labels"],
     "job.yaml: of this pod")
same(container["securityContext"], {"readOnlyRootFilesystem": True,
                                    "allowPrivilegeEscalation": False,
                                    "capabilities": {"drop": ["ALL"]}},
     "job.yaml: root read-only, no privileges, no capabilities")
context = pod["securityContext"]
same((context["runAsNonRoot"], context["seccompProfile"]["type"], pod["restartPolicy"],
      pod["automountServiceAccountToken"]), (True, "RuntimeDefault", "Never", False),
     "job.yaml: not root, the runtime's filter, no token")
problems([key for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)] +
         [key for key in ("cpu", "memory") if key not in container["resources"]["limits"]],
         "job.yaml: nothing of the host's, and limits")
same({m["mountPath"]: m.get("readOnly", False) for m in container["volumeMounts"]},
     {"/spool": False, "/models": True, "/dev/shm": False}, "job.yaml: its mounts")
same({volume["name"] for volume in pod["volumes"]},
     {mount["name"] for mount in container["volumeMounts"]}, "job.yaml: each has its volume")
actions = {status: rule["action"] for rule in job["spec"]["podFailurePolicy"]["rules"]
           for status in rule.get("onExitCodes", {}).get("values", [])}
same(actions, {75: "Ignore", 1: "FailJob", 2: "FailJob", 70: "FailJob", 78: "FailJob"},
     "job.yaml: what each exit status means")
done()
