#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The disk is full, for spool, results and state together: the run pauses, goes on when there is room,
and nothing is lost or torn.

Small file systems are filled to within a random distance of the brim, while a run (`--once`, or one
that stays) works on documents that lie there already. Then the ballast is taken away.
"""

import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
sys.path.insert(0, "tests/fixtures")
from e2e import *
from harness import Steps, figure
import faults
import images
import promises


class Tmpfs:
    """A memory file system of so many KiB."""

    def __init__(self, kibibytes):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="cloister-test-full-"))
        atexit.register(self.remove)
        made = images.call("mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(self.path))
        if made.returncode:
            raise OSError(made.stderr)

    def remove(self):
        images.call("umount", "--lazy", str(self.path))
        self.path.exists() and self.path.rmdir()


def small(random):
    """A file system of 768 KiB to 8 MiB; and its name."""
    if random.random() < 0.5:
        size = random.choice([768, 1024, 2048, 4096])
        return Tmpfs(size), f"tmpfs of {size} KiB"
    size = random.choice([2, 4, 8])
    return images.Image("ext4", size), f"ext4 of {size} MiB"


def fill(folder, leave):
    """A ballast that leaves so many bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        for block in (65536, 4096):
            try:
                while free - file.tell() - block >= leave and file.write(bytes(block)) == block:
                    pass
            except OSError:
                pass
    return ballast


def attempt(random):
    """Problems; did it pause?"""
    place, name = small(random)
    try:
        spool = faults.new_spool("free_mebibytes: 1\n", where=place.path)
        leave = random.choice([0, 0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]) * 4096
        once = random.random() < 0.5
        ballast = fill(place.path, leave)
        # The page files lie elsewhere: it is the spool that is full.
        run = subprocess.Popen([CLOISTER, "run", spool.root, "-q", "-j", "2", *(["--once"] if once else [])],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True)
        time.sleep(random.uniform(0.3, 2))
        ballast.unlink()
        if once:
            try:
                _, err = run.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                run.kill()
                return [f"{name}, {leave} bytes left: it does not go on"], True, name
        else:
            # A run that could not even begin is started again, as a service manager would.
            wait_for(lambda: run.poll() is not None or (not spool.left() and not spool.tokens()), 60)
            run.terminate()
            _, err = run.communicate(timeout=60)
        problems = []
        if run.returncode not in ((0, 1, 75, 78) if once else (0, 75, 78, 128 + 15)):
            problems.append(f"it ends with {run.returncode}")
        if run.returncode == 78 and "No space left" not in err:
            problems.append("it refuses to start, and not for lack of room")
        if run.returncode in (75, 78) and not re.search(r"error|warn", err):
            problems.append(f"it ends with {run.returncode} without a word")
        if run.returncode != 78 and not once and spool.left():
            problems.append("it did not go on when there was room")
        problems += promises.interrupted(spool, faults.DROPS) + promises.recover(spool)
        problems += promises.settled(spool, faults.DROPS).problems
        if problems:
            problems = [f"{name}, {leave} bytes left, {'once' if once else 'resident'}", *problems,
                        *err.splitlines()[-8:]]
        return problems, "paused" in err or run.returncode == 78, name
    finally:
        images.call("umount", "--lazy", str(place.path))
        place.remove()


missing = images.enter_namespace()
if missing:
    skip_all(missing)
try:
    Tmpfs(64).remove()
except OSError as error:
    skip_all(f"tmpfs cannot be mounted: {error}")
tried = paused = wrong = 0
kinds = {}
for step in Steps(fast=5, full=300):
    try:
        problems, waited, name = attempt(step.random)
    except OSError as error:
        problems, waited, name = [f"no file system: {error}"], False, "none"
    tried, paused, wrong = tried + 1, paused + waited, wrong + bool(problems)
    kinds[name] = kinds.get(name, 0) + 1
    if problems:
        ok(False, f"step {step.number}", *problems[:20], step.replay())
ok(tried and not wrong, f"full disks: {tried}")
figure("full disks", f"{tried}, {paused} paused or refused to start, {wrong} with something lost or torn; "
       f"{', '.join(f'{n} {name}' for name, n in sorted(kinds.items()))}")
done()
