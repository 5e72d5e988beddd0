#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The layers are really on, as the kernel tells it; a missing one is fatal; older kernels work."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sandbox_tap import Place, Tap, check_usable, user_name, users  # noqa: E402

DAC_READ = 0x4     # CAP_DAC_READ_SEARCH
DAC = 0x6          # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
# All but those about files, kill, setpcap and lease.
DANGEROUS = 0xffffffffff & ~(0x1f | 1 << 5 | 1 << 8 | 1 << 28)


def status(place, kinds, uid):
    fields = {}
    for file, line in place.run(kinds, ["status"], uid)[0]:
        name, _, value = line.partition(":") if file == "status" else line.partition("  ")
        fields[name.strip()] = value.split()[0]
    return fields


def check_status(tap, place, kind, uid):
    title = "%s as %s: " % (kind, user_name(uid))
    got = status(place, kind, uid)
    tap.ok(got.get("Seccomp") == "2" and got.get("NoNewPrivs") == "1",
           title + "filter and no_new_privs are in force", str(got))
    capabilities = int(got.get("CapEff", "-1"), 16)
    parser = kind in ("decode", "unpack", "tesseract")
    may_keep = 0 if parser or uid else DAC_READ if kind in ("model", "model-cuda") else DAC if kind != "supervisor" else ~DANGEROUS
    tap.ok(capabilities & ~may_keep == 0, title + "no capability that it has no use for", str(got))
    limits = [got.get("Max core file size") == "0"]
    if parser or kind == "model":
        limits += [got.get("Max file size") == "0", got.get("Max open files") == "64"]
    if parser:
        limits += [got.get("Max processes") == "0"]
    tap.ok(all(limits), title + "resource limits", str(got))


def main():
    tap = Tap()
    with Place() as place:
        check_usable(place)
        for uid in users():
            for kind in ("decode", "unpack", "tesseract", "model", "write", "command", "model-cuda", "supervisor"):
                check_status(tap, place, kind, uid)
        lines, error = place.run("decode", ["read_allowed"], CLOISTER_TEST_LANDLOCK_ABI="0")
        tap.ok(lines == [["read_allowed", "setup"]] and "no Landlock" in error,
               "without Landlock a required sandbox is refused, with the reason", error)
        lines, error = place.run("supervisor", ["libc_fork"], CLOISTER_TEST_LANDLOCK_ABI="1")
        tap.ok(lines == [["libc_fork", "setup"]],
               "the supervisor does not take ABI 1, which forbids its renames", error)
        for abi in "12345":
            got = place.outcomes("decode", ["read_allowed", "open_outside"],
                                 CLOISTER_TEST_LANDLOCK_ABI=abi)
            tap.ok(got == {"read_allowed": "ok", "open_outside": "EACCES"},
                   "Landlock ABI %s is used as far as it goes" % abi, str(got))
        got = place.outcomes("threads+decode", ["read_allowed"])
        tap.ok(got == {"read_allowed": "setup"}, "a process with threads is not let in", str(got))
    tap.end()


main()
