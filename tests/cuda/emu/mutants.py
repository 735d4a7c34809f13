#!/usr/bin/env python3
"""Plants the bugs of mutants.txt in the kernels one at a time and demands that the tests find each of them.

mutants.py SOURCE BUILD COMPILE... : SOURCE is the repository, BUILD the build folder, COMPILE the command of the emulated build
without its files. Each mutant is compiled and linked in place of its original, then cuda_cases and cuda_kernels_test run on it.
Prints what found it. Exit 1 when one survives, or when the original itself is found guilty.
RM_CUDA_MUTANTS: "all" (default: those marked *), or words that names contain.
"""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys

TIMEOUT_S = 120
# Builds have the one type that the unit's cases are run with, for speed; where several meet in a kernel, all of them.
ONE_TYPE = '#define WITH_TYPE(type, T, ...) do {{ using T = {}; __VA_ARGS__; }} while (0)\n'
TYPES = {'loss': (ONE_TYPE.format('float'), 'f32'), 'optim': ('', 'f32'), 'move': ('', 'bf16')}
DEFAULT_TYPES = (ONE_TYPE.format('__nv_bfloat16'), 'bf16')


def parse(path):
    """Mutants as (name, short, file, unit, old lines, new lines)."""
    mutants = []
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip() or line.startswith('#'):
            continue
        if line[0] in '+-' and mutants:
            mutants[-1][4 if line[0] == '-' else 5].append(line[1:].rstrip())
            continue
        name, _, rest = line.partition(':')
        words = rest.split()
        if len(words) != 2:
            sys.exit(f'{path}:{number}: not "name: file unit": {line}')
        mutants.append((name.lstrip('*'), line[0] == '*', words[0], words[1], [], []))
    return mutants


def plant(text, old, new, what):
    """text with the lines of `old` replaced; a single line may be part of one, several are whole lines."""
    for joined in ('\n'.join(old) + '\n', '\n'.join(old)):
        if text.count(joined) == 1:
            end = '\n' if joined.endswith('\n') and new else ''
            return text.replace(joined, '\n'.join(new) + end)
    sys.exit(f'mutants.txt: {what}: stands {text.count(joined)} times in the file, must be once:\n{joined}')


class Workshop:
    def __init__(self, source, build, compile_command):
        self.source, self.build, self.compile = source, build, compile_command
        self.work = build / 'cuda' / 'mutants'
        self.objects = {path.stem: path for path in (build / 'cuda' / 'emulated').glob('*.o') if path.stem != 'seeded'}
        self.units = {path.stem for path in (source / 'kernels' / 'cuda').glob('*.cu')}

    def build_library(self, folder, unit):
        prelude = folder / 'quick.h'
        prelude.write_text(TYPES.get(unit, DEFAULT_TYPES)[0], encoding='utf-8')
        changed = folder / f'{unit}.o'
        # The folder's files come before the repository's.
        command = self.compile[:1] + ['-I', str(folder), '-include', str(prelude)] + self.compile[1:] + ['-g0', '-w']
        subprocess.run(command + ['-c', str(folder / 'kernels/cuda' / f'{unit}.cu'), '-o', str(changed)], check=True, stdin=subprocess.DEVNULL)
        others = [str(self.objects[name]) for name in sorted(self.units - {unit})]
        subprocess.run(command[:1] + ['-shared', '-Wl,--wrap=memcpy,--wrap=memset', '-o', str(folder / 'librm_cuda_emulated.so'), str(changed)]
                       + others + ['-lm'], check=True, stdin=subprocess.DEVNULL)

    def verdict(self, folder, unit):
        """What finds the library in `folder` guilty, and why; ('', '') when nothing does."""
        env = dict(os.environ, LD_LIBRARY_PATH=str(folder))
        programs = self.build / 'tests/cuda/emu'
        runs = [[str(programs / 'cuda_cases'), '--quiet', '--quick', '--first', '--family', unit, '--type', TYPES.get(unit, DEFAULT_TYPES)[1]]]
        if not TYPES.get(unit, DEFAULT_TYPES)[0]:  # the other test needs all types
            runs.append([str(programs / 'cuda_kernels_test')])
        for run in runs:
            try:
                done = subprocess.run(run, env=env, capture_output=True, text=True, errors='replace', timeout=TIMEOUT_S, check=False)
            except subprocess.TimeoutExpired:
                return 'timeout', ''
            if done.returncode == 0:
                continue
            for line in done.stdout.splitlines():
                if line.startswith('FAIL '):
                    who, case, why = line[5:].split(' | ', 2)
                    return who, f'{case}: {why}'
            return ('crash' if done.returncode < 0 else 'cuda.kernels'), ''
        return '', ''

    def try_one(self, mutant):
        name, _, file, unit, old, new = mutant
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.source / 'kernels' / 'cuda', folder / 'kernels' / 'cuda', ignore=shutil.ignore_patterns('*.c'))
        if old:
            path = folder / 'kernels' / 'cuda' / file
            path.write_text(plant(path.read_text(encoding='utf-8'), old, new, name), encoding='utf-8')
        try:
            self.build_library(folder, unit)
            return name, unit, *self.verdict(folder, unit)
        except subprocess.CalledProcessError:
            return name, unit, '', 'does not compile'
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    source, build = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    which = os.environ.get('RM_CUDA_MUTANTS', '')
    mutants = [m for m in parse(pathlib.Path(__file__).with_name('mutants.txt'))
               if which == 'all' or (any(word in m[0] for word in which.split()) if which else m[1])]
    originals = [(f'(none) {unit}', True, f'{unit}.cu', unit, [], []) for unit in sorted({m[3] for m in mutants})]
    shop, bad, found = Workshop(source, build, sys.argv[3:]), [], {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for name, unit, who, why in pool.map(shop.try_one, originals + mutants):
            guilty = name.startswith('(none)')
            if guilty == bool(who) or 'compile' in why:
                bad.append(name)
            elif not guilty:
                found[who] = found.get(who, 0) + 1
            print(f'{name:32s} {unit:10s} {who or ("clean" if guilty else "NOT FOUND"):22s} {why[:120]}', flush=True)
    print(f'{len(mutants)} mutants, {sum(found.values())} found: ' + ', '.join(f'{who} {n}' for who, n in sorted(found.items())))
    if bad:
        print('wrong: ' + ', '.join(bad))
    return 1 if bad or not mutants else 0


sys.exit(main())
