# SPDX-License-Identifier: MIT
"""File systems of the test's own, in files: mounted where nobody else sees them, cut off and mounted
again. They are gone with the process, however it ends."""

import atexit
import ctypes
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import time

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN, XFS_IOC_GOINGDOWN
CLONE = 0x40049409     # FICLONE
NO_LOG_FLUSH = 2       # what is not in the log is lost, as in a power cut
LEAST = {"ext4": 64, "xfs": 300, "btrfs": 128}  # MiB


def call(*command):
    return subprocess.run(command, capture_output=True, text=True)


def enter_namespace():
    """Mounts of this process and its children are theirs alone from now on: the kernel takes them away
    with the last of them. "" or what is missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid():
        return "needs root, to mount file systems"
    if libc.unshare(0x20000):  # CLONE_NEWNS
        return f"mount namespace: {os.strerror(ctypes.get_errno())}"
    made = call("mount", "--make-rprivate", "/")
    return made.stderr.strip() if made.returncode else ""


class Image:
    """A file system in a file. self.path is where it is mounted."""

    def __init__(self, kind, mebibytes=0):
        where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.kind, self.under = kind, None
        if kind == "btrfs":  # it cannot be shut down: its file is cloned, in a file system that can do that
            self.under = Image("xfs", 600)
            where = self.under.path
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="cloister-test-image-", dir=where))
        atexit.register(self.remove)
        self.file, self.path = self.folder / "image", self.folder / "mounted"
        self.path.mkdir()
        with self.file.open("wb") as file:
            file.truncate((mebibytes or LEAST[kind]) << 20)
        made = call(f"mkfs.{kind}", "-q", str(self.file))
        if made.returncode:
            raise OSError(f"mkfs.{kind}: {made.stderr.strip()}")
        self.mount()

    def mount(self):
        mounted = call("mount", "-t", self.kind, "-o", "loop", str(self.file), str(self.path))
        if mounted.returncode:
            raise OSError(f"mount {self.kind}: {mounted.stderr.strip()}")

    def cut(self):
        """The power fails: nothing that is not in the log yet will ever be written."""
        if self.under:
            with self.file.open("rb") as now, (self.folder / "cut").open("wb") as kept:
                fcntl.ioctl(kept.fileno(), CLONE, now.fileno())
            return
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def unmount(self):
        for _ in range(200):
            gone = call("umount", str(self.path))
            if not gone.returncode:
                if (self.folder / "cut").exists():
                    (self.folder / "cut").rename(self.file)
                return
            time.sleep(0.02)  # a process that was killed is still going
        raise OSError(f"umount: {gone.stderr.strip()}")

    def remove(self):
        call("umount", "--lazy", str(self.path))
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.under:
            self.under.remove()


def usable(kinds):
    """Those that this machine can make, mount and cut; why not, by kind, for the others."""
    good, why = [], {}
    for kind in kinds:
        if not shutil.which(f"mkfs.{kind}"):
            why[kind] = f"install mkfs.{kind}"
            continue
        image = None
        try:
            image = Image(kind)
            image.cut()
            image.unmount()
            good.append(kind)
        except OSError as error:
            why[kind] = str(error)
        if image:
            image.remove()
    return good, why
