#!/usr/bin/env python3
"""Holds what ptxas says of every kernel to the budget: ptxas.py MAX_REGISTERS ARCHITECTURES REPORT...

No spills and no other local memory, no more registers than MAX_REGISTERS, at most 48 KiB of static shared memory, and every kernel for each
of the ARCHITECTURES (80,90,100). Prints the widest kernels; exit 1 names every offender.
"""
import re
import sys

KERNEL = re.compile(r"Compiling entry function '(\S+)' for 'sm_(\d+)\w*'")
USES = re.compile(r'Used (\d+) registers')
SPILL = re.compile(r'(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads')
SHARED = re.compile(r'(\d+) bytes smem')


def parse(text):
    """Rows (kernel, architecture, registers, bytes of local memory and spills, shared bytes) of one report."""
    rows, head, spilled = [], None, None
    for line in text.splitlines():
        if found := KERNEL.search(line):
            head, spilled = found.groups(), None
        elif found := SPILL.search(line):
            spilled = int(found[1]) + int(found[2]) + int(found[3])
        elif (found := USES.search(line)) and head:
            if spilled is None:
                raise ValueError(f'no spill line for {head[0]}')
            shared = SHARED.search(line)
            rows.append((head[0], head[1], int(found[1]), spilled, int(shared[1]) if shared else 0))
            head = None
    return rows


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    budget, architectures = int(sys.argv[1]), set(sys.argv[2].split(','))
    rows, bad = [], []
    for path in sys.argv[3:]:
        with open(path, encoding='utf-8') as file:
            report = parse(file.read())
        if not report:
            bad.append(f'{path}: no kernel in it')
        rows += report
    seen = {}
    for kernel, arch, registers, spilled, shared in rows:
        seen.setdefault(kernel, set()).add(arch)
        if spilled:
            bad.append(f'{kernel} sm_{arch}: {spilled} bytes of local memory or spilled')
        if registers > budget:
            bad.append(f'{kernel} sm_{arch}: {registers} registers, budget {budget}')
        if shared > 48 << 10:
            bad.append(f'{kernel} sm_{arch}: {shared} bytes of shared memory')
    bad += [f'{kernel}: not compiled for {sorted(architectures - archs)}' for kernel, archs in seen.items() if architectures - archs]
    for kernel, arch, registers, _, shared in sorted(rows, key=lambda row: -row[2])[:5]:
        print(f'{registers:4d} registers {shared:6d} bytes shared  sm_{arch}  {kernel}')
    print(f'{len(rows)} kernels, no spills, no local memory, at most {max(row[2] for row in rows)} registers' if rows and not bad else '\n'.join(bad))
    return 1 if bad or not rows else 0


try:
    sys.exit(main())
except (OSError, ValueError) as error:
    sys.exit(f'ptxas.py: {error}')
