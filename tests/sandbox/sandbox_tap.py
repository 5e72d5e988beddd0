# SPDX-License-Identifier: MIT
"""What the sandbox tests share: TAP, a folder of one's own, and try-forbidden as root or not."""

import os
import shutil
import subprocess
import sys
import tempfile

TOOL = os.path.join(os.environ.get("CLOISTER_BUILD", "build"), "tests/tools/try-forbidden")
NOBODY = 65534


class Tap:
    def __init__(self):
        self.count = self.failed = 0

    def ok(self, passed, name, *why):
        self.count += 1
        self.failed += not passed
        print("%s %d - %s" % ("ok" if passed else "not ok", self.count, name))
        for line in () if passed else why:
            print("# " + line)
        sys.stdout.flush()

    def skip(self, name, why):
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, why))

    def end(self):
        print("1..%d" % self.count)
        sys.exit(1 if self.failed else 0)


def skip_all(why):
    print("1..0 # SKIP " + why)
    sys.exit(0)


def users():
    """The user we are; and somebody without rights, where we can become one."""
    return [None, NOBODY] if os.geteuid() == 0 else [None]


def user_name(uid):
    return "nobody" if uid == NOBODY else "root" if os.geteuid() == 0 else "an ordinary user"


class Place:
    """A temporary folder with a copy of the tool that every user can reach."""

    def __enter__(self):
        self.top = tempfile.mkdtemp(prefix="cloister-sandbox-")
        os.chmod(self.top, 0o755)
        self.tool = os.path.join(self.top, "try-forbidden")
        shutil.copy(TOOL, self.tool)
        self.dev = os.path.join(self.top, "dev")  # of a machine with a GPU
        os.mkdir(self.dev)
        os.symlink("/dev/zero", os.path.join(self.dev, "nvidia0"))
        self.runs = 0
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.top)

    def run(self, kinds, acts, uid=None, **environment):
        """try-forbidden KINDS: (lines of output as [name, outcome], standard error)."""
        self.runs += 1
        folder = os.path.join(self.top, str(self.runs))
        os.mkdir(folder)
        if uid:
            os.chown(folder, uid, uid)
        ids = {"user": uid, "group": uid, "extra_groups": []} if uid else {}
        done = subprocess.run(
            [self.tool, kinds, folder, *acts], stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
            env={**os.environ, **environment}, **ids)
        return [line.split(None, 1) for line in done.stdout.splitlines()], done.stderr

    def outcomes(self, kinds, acts, uid=None, **environment):
        return dict(self.run(kinds, acts, uid, **environment)[0])


def check_usable(place):
    if not os.access(TOOL, os.X_OK):
        skip_all(TOOL + " is not built")
    lines, error = place.run("decode", ["read_allowed"])
    if lines == [["sanitized", "build: no sandbox"]]:
        skip_all("AddressSanitizer and the sandbox exclude each other")
    if "no Landlock" in error:
        skip_all("this kernel has no Landlock")
