#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Every kind of process is refused what it may not do, and can do what it must.

The control runs each act without a sandbox: an act whose control ends in the same way would prove
nothing, and is counted apart ("the kernel refuses it to this user anyway").  Kinds are also tried
beneath the supervisor's sandbox, as they run in earnest.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from sandbox_tap import Place, Tap, check_usable, user_name, users  # noqa: E402

SOCKETS = """socket_inet socket_inet_dgram socket_inet_raw socket_inet6 socket_netlink socket_packet
    socket_vsock socket_unix_stream socket_unix_dgram socketpair_dgram
    socket_unix_raw socketpair_raw socket_inet_upper_bits
    socket_unix_dgram_upper_bits new_datagram look_up_name"""
READING = """open_outside list_outside open_symlink open_dotdot openat_folder_fd openat2_outside
    open_old_call open_path_reopen proc_self_root proc_parent_fd proc_parent_mem
    proc_parent_environ proc_self_mem read_etc_shadow"""
CHANGING = """open_truncating create_outside tmpfile_outside creat_call truncate_outside
    unlink_outside mkdir_outside rmdir_outside link_outside symlink_outside mkfifo_outside
    rename_outside rename_into_own rename_out_of_own exchange_outside"""
READ_ONLY = "open_to_write open_to_append create_beside_read"
HARMLESS = """read_allowed list_allowed write_pipe allocate map_slot tell_time sort ask_terminal
    create_own rename_own rename_across_own mkdir_own exec_program exec_true execat_true raw_clone
    libc_fork vfork start_thread socketpair_stream socket_unix_seqpacket signal_self limit_self
    read_own_link"""

# kind: (outcome of every act that is not named, {outcome: acts}, acts that are not its concern)
LISTED_REFUSALS = {"ENOTTY": "ioctl_set_owner push_terminal_input", "SIGXFSZ": "write_slot",
                   "SIGABRT": "abort_self free_twice", "ENOMEM": "allocate_too_much"}
PARSER = "SIGSYS", {
    **LISTED_REFUSALS,
    "EACCES": """open_outside list_outside open_symlink open_dotdot openat_folder_fd proc_self_root
        proc_parent_fd proc_parent_mem proc_parent_environ read_etc_shadow read_own_link
        ioctl_device""",
    "EMFILE": "open_many",
    "ok": """read_allowed list_allowed write_pipe allocate map_slot tell_time sort ask_terminal""",
}, ""
# An engine has threads, and its tokenizer asks for memory to run code in, which it goes without.
MODEL = "SIGSYS", {
    **PARSER[1],
    "EACCES": PARSER[1]["EACCES"] + " map_code",
    "ENOSYS": "clone3",
    "ok": PARSER[1]["ok"] + " start_thread",
}, ""
UNPACK = "SIGSYS", {
    **LISTED_REFUSALS,
    "ENOENT": READING.replace("openat2_outside", "").replace("open_old_call", "") + " " +
        READ_ONLY + " ioctl_device open_truncating create_outside tmpfile_outside open_many read_allowed "
        "list_allowed create_own name_thread",
    "EACCES": "read_own_link",
    "ENOMEM": "",
    "ok": "write_pipe allocate map_slot tell_time sort ask_terminal",
}, "allocate_too_much null_device"
WRITE = "SIGSYS", {
    **LISTED_REFUSALS,
    "EACCES": """open_outside list_outside open_symlink open_dotdot openat_folder_fd proc_self_root
        proc_parent_fd proc_parent_mem proc_parent_environ proc_self_mem read_etc_shadow
        read_own_link ioctl_device open_to_write open_to_append create_outside create_beside_read
        read_allowed list_allowed open_many name_thread""",
    "SIGXFSZ": "", "ENOMEM": "",
    "ok": "write_slot write_pipe allocate map_slot tell_time sort ask_terminal create_own",
}, "allocate_too_much null_device"
COMMAND = "EPERM", {
    "EAFNOSUPPORT": SOCKETS,
    "EACCES": READING + " " + CHANGING + " exec_outside bind_open_inet rename_link_own "
        "ioctl_device name_thread " + READ_ONLY,
    "EXDEV": "link_into_own",
    "ENOSYS": "clone3 newer_call no_such_call",
    "SIGSYS": "call_x32 call_int80",
    "SIGABRT": "abort_self free_twice",
    "EMFILE": "open_many",
    "ok": HARMLESS + " kill_child",
}, """listen_open_inet resize_slot allocate_slot write_slot pwrite_slot memfd change_folder
    lock_file set_async set_lease pidfd_of_parent set_name set_dumpable set_ptracer seccomp setuid
    raise_limit
    map_code make_code make_code_pkey shared_memory allocate_too_much null_device"""
SUPERVISOR = "EPERM", {
    **COMMAND[1],
    "EACCES": READING + " " + CHANGING + " exec_outside bind_open_inet ioctl_device name_thread",
    "ok": HARMLESS + " kill_child limit_child chmod_own null_device lock_file rename_link_own " +
        READ_ONLY,
}, COMMAND[2] + """ chmod_outside chmod_read chown_read utimens_read setxattr_read renice_parent
    schedule_parent pin_parent limit_parent"""
# A kernel with Landlock ABI 2, such as Debian 12's: what Landlock leaves open the filter closes.
COMMAND_OLD = "EPERM", {
    **COMMAND[1],
    "EACCES": COMMAND[1]["EACCES"].replace("bind_open_inet", "").replace("open_truncating", "")
        .replace("truncate_outside", "").replace("openat2_outside", ""),
    "ENOSYS": COMMAND[1]["ENOSYS"] + " openat2_outside",
    "ok": HARMLESS,
}, COMMAND[2] + " bind_open_inet ioctl_device"

# NVIDIA's driver is in the process: threads, code made at run time, its device nodes, and names for its
# threads; no processes, and no folder of its own.
MODEL_CUDA = "EPERM", {
    **COMMAND[1],
    "EPERM": "exec_true exec_program exec_outside execat_true libc_fork vfork raw_clone kill_child limit_child",
    "EACCES": READING.replace("proc_self_mem", "") + " " + CHANGING + " bind_open_inet rename_link_own create_own "
        "rename_own rename_across_own mkdir_own proc_self_mem link_into_own " + READ_ONLY,
    "EXDEV": "",
    "ENOTTY": "ioctl_device",  # the device's own answer
    "EMFILE": "",
    "ok": "read_allowed list_allowed write_pipe allocate map_slot tell_time sort ask_terminal start_thread "
        "socketpair_stream socket_unix_seqpacket signal_self limit_self name_thread read_own_link",
}, COMMAND[2] + " open_many pin_parent"
MODEL_CUDA_OLD = "EPERM", {
    **MODEL_CUDA[1],
    "EACCES": MODEL_CUDA[1]["EACCES"].replace("bind_open_inet", "").replace("open_truncating", "")
        .replace("truncate_outside", "").replace("openat2_outside", ""),
    "ENOSYS": COMMAND[1]["ENOSYS"] + " openat2_outside",
}, MODEL_CUDA[2] + " bind_open_inet"
OLD = {"CLOISTER_TEST_LANDLOCK_ABI": "2"}

KINDS = {"decode": PARSER, "tesseract": PARSER, "model": MODEL, "unpack": UNPACK, "write": WRITE,
         "command": COMMAND, "model-cuda": MODEL_CUDA, "supervisor": SUPERVISOR}
PERMITTED = {"ok", "SIGABRT"}


def compare(tap, title, control, found, table):
    default, outcomes, unjudged = table
    expected = {act: outcome for outcome, acts in outcomes.items() for act in acts.split()}
    bad, refused, toothless = [], 0, []
    for act in sorted(set(expected) - set(control)):
        bad.append("%s: no such act" % act)
    for act, without in control.items():
        if act in unjudged.split():
            continue
        want, got = expected.get(act, default), found.get(act, "nothing")
        if without == "setup" or got != want:
            bad.append("%s: %s, expected %s; %s without a sandbox" % (act, got, want, without))
        elif want not in PERMITTED:
            refused += 1
            if without == want:
                toothless.append(act)
    tap.ok(not bad, "%s: %d acts refused, %d allowed, as they should be"
           % (title, refused, len(outcomes["ok"].split())), *bad)
    if toothless:
        print("#   refused by the kernel in the same way without a sandbox: " + " ".join(toothless))
    return refused, len(toothless)


def main():
    tap, refused, toothless = Tap(), 0, 0
    with Place() as place:
        check_usable(place)
        for uid in users():
            control = place.outcomes("none", ["all"], uid)
            missing = [act for act in HARMLESS.split() if control.get(act) != "ok"]
            tap.ok(not missing, "without a sandbox, as %s, what a program needs works"
                   % user_name(uid), *missing)
            runs = [(kind, table, {}) for kind, table in KINDS.items()]
            runs += [(("supervisor-cuda+" if kind == "model-cuda" else "supervisor+") + kind, table, {})
                     for kind, table in KINDS.items() if kind != "supervisor"]
            runs += [("command", COMMAND_OLD, OLD), ("model-cuda", MODEL_CUDA_OLD, OLD)]
            for kinds, table, environment in runs:
                title = "%s as %s" % (kinds, user_name(uid)) + ", Landlock ABI 2" * len(environment)
                found = place.outcomes(kinds, ["all"], uid, CLOISTER_TEST_DEV=place.dev, **environment)
                counts = compare(tap, title, control, found, table)
                refused += counts[0]
                toothless += counts[1]
    print("# figure: sandbox table: %d acts tried x %d kinds, alone and behind the supervisor, %d users: "
          "%d refused, %d of them by the sandbox alone"
          % (len(control), len(KINDS), len(users()), refused, refused - toothless))
    tap.end()


main()
