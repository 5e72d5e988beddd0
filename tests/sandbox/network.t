#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An empty network namespace: nothing to reach, no rights gained, files as before."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sandbox_tap import Place, Tap, check_usable, user_name, users  # noqa: E402


def main():
    tap = Tap()
    with Place() as place:
        check_usable(place)
        for uid in users():
            who = " as " + user_name(uid)
            acts = ["new_datagram", "create_own", "rename_own"]
            control = place.outcomes("none", acts, uid)
            tap.ok(set(control.values()) == {"ok"}, "the control reaches the loopback device" + who,
                   str(control))
            lines, error = place.run("no-network", acts, uid)
            got = dict(lines)
            if "setup" in got.values():
                tap.skip("empty network namespace" + who, error.splitlines()[0])
                continue
            tap.ok(got == {"new_datagram": "ENETUNREACH", "create_own": "ok", "rename_own": "ok"},
                   "no network is left, files are" + who, str(got))
            status = [line for _, line in place.run("no-network", ["status"], uid)[0]]
            if os.geteuid() != 0 or uid:
                gained = [line for line in status if line.startswith("CapEff:")]
                tap.ok(gained and int(gained[0].split()[1], 16) == 0,
                       "the user namespace's capabilities are dropped" + who, *status)
            got = place.outcomes("no-network+supervisor+decode",
                                 ["read_allowed", "open_outside", "socket_inet"], uid)
            tap.ok(got == {"read_allowed": "ok", "open_outside": "EACCES", "socket_inet": "SIGSYS"},
                   "the sandboxes stack on top of it" + who, str(got))
            got = place.outcomes("no-network+supervisor",
                                 ["libc_fork", "exec_program", "kill_child", "rename_across_own"],
                                 uid)
            tap.ok(set(got.values()) == {"ok"}, "the supervisor can work in it" + who, str(got))
    tap.end()


main()
