# SPDX-License-Identifier: MIT
"""What the long harnesses share: how much to do, how to do one step again, and figures.

Without arguments a harness does its fast set, which is part of `make check`; with
CLOISTER_TEST_FULL=1 (`make check-crash`, `make soak`, ...) the long one. Each step of a harness
follows from a seed and a number, both printed when it fails:

    tests/crash/kill-random.t --seed 7 --step 12

does that one step again and no other. Where the steps have names, --step takes a name.
"""

import argparse
import os
import random
import sys

import e2e

FULL = bool(os.environ.get("CLOISTER_TEST_FULL"))


class Steps:
    """The steps of a harness: `for step in Steps(fast=40, full=1000): step.random, step.number`.
    Instead of how many there are, a list of names can be given."""

    def __init__(self, fast, full):
        parser = argparse.ArgumentParser()
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--step", type=lambda text: int(text) if text.isdigit() else text)
        options = parser.parse_args()
        self.seed, self.only = options.seed, options.step
        steps = full if FULL else fast
        self.numbers = range(steps) if isinstance(steps, int) else steps
        self.count = len(self.numbers)

    def __iter__(self):
        numbers = self.numbers if self.only is None else [self.only]
        return (Step(self.seed, number) for number in numbers)


class Step:
    def __init__(self, seed, number):
        self.seed, self.number = seed, number
        self.random = random.Random(f"{seed}:{number}")

    def replay(self):
        """The command that does this step again."""
        full = "CLOISTER_TEST_FULL=1 " if FULL else ""
        return f"{full}{os.path.relpath(sys.argv[0], e2e.ROOT)} --seed {self.seed} --step {self.number}"


def figure(name, value):
    """A measured figure, e.g. figure("kills at a system call", "1203, 0 lost, 0 doubled"). The test
    runner collects them and prints them before its closing line."""
    print(f"# figure: {name}: {value}", flush=True)
