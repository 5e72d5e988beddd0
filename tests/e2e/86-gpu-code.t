#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cloister-model-cuda holds machine code for every GPU that its compiler knows of those it is meant for, for each of
its kernels, and PTX for those to come and those between.

cuobjdump tells, where the toolkit has it; and our own reading of the program, which the two have to agree on.
"""

import collections
import re
import struct
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, "tests/lib")
from e2e import *

PROGRAM = BUILD / "cloister-model-cuda"
WANTED = {"80", "90a", "100", "120"}  # CUDA_ARCHS of the Makefile
ELF, PTX = 2, 1  # kinds of entries


def tool(name):
    return shutil.which(name) or next((str(p) for p in [pathlib.Path("/usr/local/cuda/bin") / name] if p.exists()), None)


def section(data, name):
    """Bytes of a section of an ELF file of 64 bits."""
    table, size, count, names = struct.unpack_from("<Q10xHHH", data, 40)
    headers = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    start = headers[names][4]
    for header in headers:
        at = start + header[0]
        if data[at:data.index(b"\0", at)] == name:
            return data[header[4]:header[4] + header[5]]
    return b""


def entries(data):
    """(container, kind, architecture) of all that lies in a .nv_fatbin section: containers of entries, each with a
    header that says its kind, its size and the number of its architecture. Suffixes as the `a` of 90a are not told
    there but in the flags of the code itself."""
    at, number = 0, 0
    while (at := data.find(b"\x50\xed\x55\xba", at)) >= 0:  # the magic number of a container
        _, _, header, size = struct.unpack_from("<IHHQ", data, at)
        entry, end = at + header, at + header + size
        while entry < end:
            kind, _, length, payload = struct.unpack_from("<HHIQ", data, entry)
            if not length:
                break
            yield number, kind, str(struct.unpack_from("<I", data, entry + 28)[0])
            entry += length + payload
        at, number = end, number + 1


if not PROGRAM.exists():
    skip_all("cloister-model-cuda was not built: there is no CUDA toolkit")
nvcc = tool("nvcc")
known = set(re.findall(r"sm_(\d+)", subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True).stdout)) \
    if nvcc else set()
wanted = {arch for arch in WANTED if arch.rstrip("a") in known}
ok("80" in wanted and "90a" in wanted, "the compiler knows Ampere and Hopper", known)
found = collections.defaultdict(lambda: collections.defaultdict(set))
for container, kind, arch in entries(section(PROGRAM.read_bytes(), b".nv_fatbin")):
    found[container][kind].add(arch)
sources = len(list((ROOT / "models" / "cuda").glob("*.cu")))
ours = [kinds for kinds in found.values() if kinds[ELF]]
ok(len(ours) >= sources, "each source of kernels has machine code", len(ours), sources)
numbers = {arch.rstrip("a") for arch in wanted}
problems([f"{sorted(kinds[ELF])}, not {sorted(numbers)}" for kinds in ours if kinds[ELF] != numbers],
         f"for each of {', '.join('sm_' + arch for arch in sorted(wanted, key=lambda a: int(a.rstrip('a'))))}")
ends = {min(numbers, key=int), max(numbers, key=int)}
problems([f"{sorted(kinds[PTX])}" for kinds in ours if kinds[PTX] != ends],
         "and PTX of the first and the last, for those between and to come")
dump = tool("cuobjdump")
if dump:
    listed = subprocess.run([dump, "--list-elf", PROGRAM], capture_output=True, text=True).stdout
    same(set(re.findall(r"\.sm_(\d+a?)\.cubin", listed)), wanted, "cuobjdump finds the same")
else:
    skip("cuobjdump finds the same", "this toolkit comes without it")
done()
