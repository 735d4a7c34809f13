#!/usr/bin/env python3
"""How many instructions of the host a step of the cuda device takes: host_cost.py BUILD [--dtype T] [--px N] [--batch N] [--steps N] [--json].

Runs BUILD/tests/cuda/doubles/doubles_host_cost under valgrind's callgrind, op by op and recorded. Counted is what our program executes between a
step's beginning and end, with what it calls of the C library, and apart from it what it has the real cuDNN do. Not counted is what is a double's: the
CUDA runtime, the launch of a kernel, cuDNN's execution of a plan. So the figures are our own part of the host's work, the same on each run; what
the vendors' libraries add to it only a GPU can show. Exit code 77: valgrind or the program is not there."""
import argparse
import collections
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

DOUBLES = re.compile(r'librm_cuda_(doubles|emulated)\.so')
CUDNN = re.compile(r'libcudnn')
EXECUTES = re.compile(r'cudnnBackendExecute')
OURS_TO_COUNT = {'count_work', 'count_call'}  # host_cost.c's, which the doubles call
SKIPPED = 77


def kind_of(path, program):
    name = path.rsplit('/', 1)[-1]
    return 'ours' if name == program else 'doubles' if DOUBLES.match(name) else 'cudnn' if CUDNN.match(name) else 'other'


class Profile:
    """callgrind's file: own cost of each function, and for calls between kinds of objects their number and what they cost with all that they call."""

    def __init__(self, text, program):
        self.own = collections.Counter()                       # (kind, function): instructions
        self.calls = collections.Counter()                     # (kind, kind, caller, callee): number
        self.inclusive = collections.Counter()                 # likewise: instructions
        self.program = program
        self.read(text.splitlines())

    def read(self, lines):
        kind = function = callee_kind = callee = None
        number = None                                          # of calls, where the next line is what they cost
        for line in lines:
            key, equals, value = line.partition('=')
            if number is not None:
                edge = (kind, callee_kind, function, callee)
                if function not in OURS_TO_COUNT:
                    self.calls[edge] += number
                    self.inclusive[edge] += int(line.split()[1])
                number, callee_kind = None, kind               # without cob=, the next callee is in the caller's object
            elif equals and key == 'ob':
                kind = callee_kind = kind_of(value, self.program)
            elif equals and key == 'fn':
                function, callee_kind = value, kind
            elif equals and key == 'cob':
                callee_kind = kind_of(value, self.program)
            elif equals and key == 'cfn':
                callee = value
            elif equals and key == 'calls':
                number = int(value.split()[0])
            elif line[:1].isdigit() and function not in OURS_TO_COUNT:
                self.own[kind, function] += int(line.split()[1])

    def own_of(self, kind):
        return sum(n for (k, _), n in self.own.items() if k == kind)

    def edges(self, counter, caller, callee, unless=None):
        return sum(n for (a, b, _, name), n in counter.items() if a == caller and b == callee and not (unless and unless.search(name)))


def summary(profile, steps):
    """Of one step. cuDNN's calls go through the doubles, which pass them on, but for the execution."""
    ours = profile.own_of('ours') + profile.edges(profile.inclusive, 'ours', 'other')
    cudnn = profile.edges(profile.inclusive, 'ours', 'cudnn') + sum(
        n for (a, b, caller, _), n in profile.inclusive.items() if a == 'doubles' and b == 'cudnn' and 'wrap_cudnn' in caller and not EXECUTES.search(caller))
    calls = collections.Counter()
    for (a, b, _, callee), n in profile.calls.items():
        if a == 'ours' and b in ('doubles', 'cudnn'):
            calls[re.sub(r"^__wrap_|'\d+$", '', callee)] += n
    largest = sorted(((n, name) for (k, name), n in profile.own.items() if k == 'ours'), reverse=True)
    return {'instructions': round(ours / steps), 'c_library': round(profile.edges(profile.inclusive, 'ours', 'other') / steps), 'cudnn_instructions': round(cudnn / steps),
            'library_calls': round(sum(calls.values()) / steps), 'calls': {name: n / steps for name, n in calls.most_common(12)},
            'largest': {name: round(n / steps) for n, name in largest[:12]}}


def without_debug(build, folder):
    """A path on which the emulated kernels come first, without clang's debug information: some versions of valgrind stop at it."""
    name = 'librm_cuda_emulated.so'
    subprocess.run(['objcopy', '--strip-debug', build / 'cuda/emulated' / name, folder / name], check=True)
    return ':'.join([str(folder), *filter(None, [os.environ.get('LD_LIBRARY_PATH')])])


def measure(program, how, o):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / 'callgrind.out'
        environment = {**os.environ, 'RM_DOUBLES_SPACE': '4', 'RM_DOUBLES_GPUS': '1', 'LD_LIBRARY_PATH': without_debug(program.parents[3], pathlib.Path(folder))}
        argv = ['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}', '--dump-line=no', '--compress-strings=no', '--compress-pos=no', '--instr-atstart=no', '--collect-atstart=no',
                '--toggle-collect=measured_step', str(program), how, o.dtype, str(o.px), str(o.batch), str(o.steps)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            sys.exit(f'host_cost.py: {" ".join(argv)}: exit code {done.returncode}: {(done.stderr.strip().splitlines() or ["it said nothing"])[-1]}')
        work = json.loads(done.stdout)
        text = ''.join(p.read_text(encoding='utf-8', errors='replace') for p in sorted(pathlib.Path(folder).glob('callgrind.out*')))
    if work['recorded'] != (how == 'recorded'):
        sys.exit(f'host_cost.py: the step was {"" if work["recorded"] else "not "}recorded, {how} was asked for')
    return {'how': how, 'work': {k: work[k] // o.steps for k in ('kernels', 'copies', 'fills', 'host')}, 'enqueuing_calls': work['calls'] / o.steps, **summary(Profile(text, program.name), o.steps)}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('build', type=pathlib.Path)
    p.add_argument('--dtype', default='bf16')
    p.add_argument('--px', type=int, default=32)
    p.add_argument('--batch', type=int, default=2)
    p.add_argument('--steps', type=int, default=1)
    p.add_argument('--json', action='store_true')
    o = p.parse_args()
    program = o.build / 'tests/cuda/doubles/doubles_host_cost'
    if not shutil.which('valgrind') or not program.exists():
        print(f'skipped: {program if shutil.which("valgrind") else "valgrind"} is not there')
        return SKIPPED
    rows = [measure(program, how, o) for how in ('plain', 'recorded')]
    if o.json:
        print(json.dumps(rows, indent=1))
        return 0
    print(f'a step in {o.dtype} at {o.px} px, batch {o.batch}: instructions of the host, and of cuDNN within calls that are not executions')
    for r in rows:
        print(f'  {r["how"]:<9} {r["instructions"]:>10,} ours ({r["c_library"]:,} of it in the C library), {r["cudnn_instructions"]:,} cuDNN; {r["library_calls"]} calls of libraries and launchers; '
              f'{r["enqueuing_calls"]:.0f} calls of the runtime for {r["work"]["kernels"]} kernels and {r["work"]["copies"]} copies')
        for name, n in r['largest'].items():
            print(f'              {n:>10,} {name}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
