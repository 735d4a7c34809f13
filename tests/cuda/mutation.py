#!/usr/bin/env python3
"""How many small changes of the CUDA room do its tests notice? mutation.py [options]; nightly, not in CI.

Takes a sample of the changes that mutators.py knows, balanced over files and operators; puts each into a copy of the tree that has a
build folder of its own, builds what it changes, and runs the tests that can see it, cheapest first, until one fails. Prints
every mutant, a table, and the survivors. A mutant that does not compile, or whose object code is that of the original, is
not counted. Results are kept in WORK/results.json, so that a run that was stopped goes on.

  --count N       mutants that count (default 240)          --seed N        another sample (default 1)
  --list          print the sample, run nothing             --show NAME     its change, as a diff
  --only NAME...  run these again (parts of names)          --again         run the survivors again
  --jobs N        copies of the tree side by side (1)       --files GLOB    only these files
  --work FOLDER   default build-mutation                    --table         print the kept results, run nothing
  --minutes N     stop then

Survivors that somebody has judged stand in mutation.judged, "NAME: reason". Exit 1: under 90 % are killed, or a survivor is not judged.
"""
import argparse
import collections
import difflib
import fcntl
import fnmatch
import hashlib
import json
import os
import pathlib
import queue
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import mutators  # noqa: E402

SOURCE = pathlib.Path(__file__).resolve().parents[2]
SUBJECTS = ('kernels/cuda/*.cu', 'kernels/cuda/*.cuh', 'kernels/cuda/*.c', 'kernels/comm/nccl*.c', 'profiler/cupti*.c')
LEFT_OUT = ('cupti_none.c',)
# Test programs that can see a file, cheapest and likeliest first: (files, program, arguments); {stem} is the file's name without its end.
KILLERS = (
    ('*.cu', 'cuda_cases', '--quiet --quick --first --family {stem}'),
    ('*.cuh', 'cuda_cases', '--quiet --quick --first'),
    ('*.cu *.cuh', 'cuda_kernels_test', ''),
    ('*.cu', 'cuda_cases', '--quiet --first --family {stem}'),
    ('*.cuh', 'cuda_cases', '--quiet --first'),
    ('cupti*', 'test_cupti', ''),
    ('cupti*', 'doubles_cupti', ''),
    ('cupti*', 'doubles_trace', ''),
    ('nccl*', 'doubles_nccl', ''),
    ('nccl*', 'doubles_nccl_use', ''),
    ('cudnn_*', 'test_plan_cache', ''),
    ('device.c plan.c conv.c *.cu', 'doubles_device', ''),
    ('cudnn_graph.c cudnn_plan.c', 'doubles_cudnn', ''),
    ('*.cu plan.c conv.c cudnn_graph.c cudnn_plan.c', 'doubles_step', 'quick_fp32'),
    ('*.cu plan.c conv.c cudnn_graph.c cudnn_plan.c', 'doubles_step', 'quick_bf16'),
    ('plan.c conv.c cudnn_graph.c cudnn_plan.c', 'doubles_step', 'every_op_in_fp16'),
    ('cudnn_*', 'test_plan', ''),
)
# How a failure reads in what a program prints.
FINDING = re.compile(r'doubles: FINDING: (.*)')  # a failure only where the program ends with one: tests of the doubles provoke some
SIGNS = (
    ('checker', re.compile(r'FAIL ((?!value|error|bits|passes)[\w-]+) \|.*')),
    ('test', re.compile(r'FAIL ([\w-]+) \|.*')),
    ('test', re.compile(r'\[  FAILED  \] (\w+)')),
    ('sanitizer', re.compile(r'(?:ERROR: (\w+Sanitizer: [\w-]+)|: runtime error: (.*))')),
)
ROUND = 60  # mutants, after which all files have had their turn
CODE = ('.c', '.h', '.cu', '.cuh', '.inc', '.txt', '.cmake', '.case', '.recipe')
COLUMNS = ('killed', 'survived', 'no build', 'same code')


def say(text):
    print(text, flush=True)


# ---- the sample
def read_subjects(pattern):
    """{path in the tree: text} of the files that are mutated."""
    paths = sorted({p for glob in SUBJECTS for p in SOURCE.glob(glob) if p.name not in LEFT_OUT})
    return {p.relative_to(SOURCE).as_posix(): p.read_text(encoding='utf-8') for p in paths if fnmatch.fnmatch(p.name, pattern)}


def order(subjects, seed):
    """All mutants, as (path, mutant), so that every beginning is balanced: files take turns (large ones up to four times), within a file its operators."""
    rank = lambda m: hashlib.sha256(f'{seed} {m.name}'.encode()).digest()
    turns = []
    for path, text in subjects.items():
        cells = collections.defaultdict(list)
        for m in sorted(mutators.mutants(path.rsplit('/', 1)[1], text), key=rank):
            cells[m.operator].append(m)
        names = sorted(cells, key=lambda n: hashlib.sha256(f'{seed} {path} {n}'.encode()).digest())
        mine = [cells[n][k] for k in range(max(map(len, cells.values()), default=0)) for n in names if k < len(cells[n])]
        share = min(4.0, max(1.0, len(mine) / 100))
        turns += [((k + 1) / share, path, m) for k, m in enumerate(mine)]
    return [(path, m) for _, path, m in sorted(turns, key=lambda t: (t[0], t[1]))]


def mutated(text, m):
    return text[:m.at] + m.new + text[m.at + len(m.old):]


def diff(text, m, path, lines=0):
    parts = difflib.unified_diff(text.splitlines(), mutated(text, m).splitlines(), path, path, n=lines, lineterm='')
    return [line for line in parts if lines or not line.startswith(('---', '+++', '@@'))]


# ---- a copy of the tree and its build folder
class Shop:
    def __init__(self, folder):
        self.tree, self.build, self.log = folder, folder / 'build', folder / 'build.log'
        self.changed = None  # (path, original text) of the file that is a mutant now
        self.objects, self.limits = {}, {}

    def copy(self):
        """Brings the copy up to date; what did not change keeps its time, so that little is built again."""
        listed = subprocess.run(['git', 'ls-files', '-co', '--exclude-standard'], cwd=SOURCE, check=True, capture_output=True, text=True).stdout.split('\n')
        stamp = hashlib.sha256()
        for name in listed:
            source, target = SOURCE / name, self.tree / name
            if not name or not source.is_file():
                continue
            content = source.read_bytes()
            if name.endswith(CODE):
                stamp.update(name.encode() + b'\0' + content)
            if name.endswith(('CMakeLists.txt', '.cmake')):
                content = content.replace(b'CONFIGURE_DEPENDS ', b'')  # no files come or go: ninja need not look
            if target.is_file() and target.read_bytes() == content:
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            target.chmod(source.stat().st_mode)
        self.stamp = stamp.hexdigest()
        deps = self.tree / '.deps'
        if (SOURCE / '.deps').exists() and not deps.is_symlink():
            deps.symlink_to(SOURCE / '.deps')

    def run(self, command, **more):
        with self.log.open('w') as log:
            process = subprocess.Popen(command, cwd=self.tree, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **more)
            try:
                return process.wait() == 0
            except KeyboardInterrupt:
                process.send_signal(signal.SIGINT)  # ninja ends what it started
                process.wait()
                raise

    def configure(self):
        launcher = ['-D', 'CMAKE_C_COMPILER_LAUNCHER=ccache'] if shutil.which('ccache') else []
        # A value in place of a pointer is no small change; gcc only warns.
        flags = '-w -Werror=incompatible-pointer-types -Werror=int-conversion'
        command = ['cmake', '-S', '.', '-B', str(self.build), '-G', 'Ninja', '-D', 'RM_WERROR=OFF', '-D', f'CMAKE_C_FLAGS={flags}', '-D', 'CMAKE_C_FLAGS_RELWITHDEBINFO=-O2',
                   '-D', 'CMAKE_EXE_LINKER_FLAGS=-fsanitize=leak',  # what is not given back is a failure
                   '-D', 'RM_CUDA=ON', '-D', 'RM_CUDA_EMULATE_FLAGS=-w', '-D', 'RM_CUDA_ARCHITECTURES=90', *launcher]
        if not self.run(command):
            sys.exit(self.log.read_text())
        self.targets = {line.split(':')[0] for line in subprocess.run(['ninja', '-C', str(self.build), '-t', 'targets', 'all'], check=True, capture_output=True, text=True).stdout.split('\n')}

    def ninja(self, targets):
        env = dict(os.environ, CCACHE_BASEDIR=str(self.tree))
        return self.run(['ninja', '-C', str(self.build), *targets], env=env)

    def killers(self, path):
        """(program, arguments) of the tests that can see a file and are in this build."""
        name, stem = path.rsplit('/', 1)[1], path.rsplit('/', 1)[1].split('.')[0]
        return [(program, arguments.format(stem=stem)) for globs, program, arguments in KILLERS
                if any(fnmatch.fnmatch(name, g) for g in globs.split()) and program in self.targets]

    def objects_of(self, path):
        """The objects that a file is compiled into for its tests: a header's are all of its room."""
        name = path.rsplit('/', 1)[1]
        if name.endswith('.cuh'):
            wanted = re.compile(r'cuda/emulated/(?!seeded)\w+\.o$')
        elif name.endswith('.cu'):
            wanted = re.compile(rf'cuda/emulated/{name[:-3]}\.o$')
        else:
            wanted = re.compile(rf'(^|/)CMakeFiles/rm_\w+\.dir/{re.escape(path)}\.o$')
        return sorted(t for t in self.targets if wanted.search(t))

    def digest(self, objects):
        return [hashlib.sha256((self.build / name).read_bytes()).hexdigest() for name in objects]

    def prepare(self, paths):
        """Builds and runs the originals: every test must pass; says how long each may take."""
        paths = [path for path in paths if path not in self.objects]
        wanted = sorted({k for path in paths for k in self.killers(path)} - set(self.limits))
        if not paths:
            return
        self.restore()
        if not self.ninja(sorted({program for program, _ in wanted})):
            sys.exit('the originals do not build:\n' + self.log.read_text()[-4000:])
        for path in paths:
            self.objects[path] = self.digest(self.objects_of(path))
        kept = self.tree / 'build' / 'limits.json'  # the same tree need not be tried twice
        known = json.loads(kept.read_text()) if kept.exists() else {}
        known = known if known.get('stamp') == self.stamp else {'stamp': self.stamp}
        for program, arguments in wanted:
            if f'{program} {arguments}' in known:
                self.limits[program, arguments] = known[f'{program} {arguments}']
                continue
            begin = time.monotonic()
            how, what = self.test(program, arguments, 600)
            if how:
                sys.exit(f'the original fails: {program} {arguments}: {how} {what}')
            known[f'{program} {arguments}'] = self.limits[program, arguments] = 20 + 8 * (time.monotonic() - begin)
            kept.write_text(json.dumps(known), encoding='utf-8')

    def put(self, path, text):
        (self.tree / path).write_text(text, encoding='utf-8')

    def restore(self):
        if self.changed:
            self.put(*self.changed)
        self.changed = None

    def try_one(self, path, original, m):
        """(verdict, by, why)"""
        if self.changed and self.changed[0] != path:
            self.restore()
        self.changed = path, original
        objects, killers = self.objects_of(path), self.killers(path)
        if not killers:
            return 'no test', '', ''
        self.put(path, mutated(original, m))
        if not self.ninja(objects):
            return 'no build', '', ''
        if self.digest(objects) == self.objects[path]:
            return 'same code', '', ''
        for program, arguments in killers:
            # Programs load the emulated kernels as a shared library; they need not be linked again.
            if not self.ninja(['rm_cuda_emulated' if path.endswith(('.cu', '.cuh')) else program]):
                return 'no build', '', ''
            how, what = self.test(program, arguments, self.limits[program, arguments])
            if how:
                return 'killed', how, f'{program}: {what}'
        return 'survived', '', ''

    def test(self, program, arguments, limit):
        """How the program failed and what it said; ('', '') when it passed."""
        paths = [t for t in (f'tests/{program}', f'tests/cuda/emu/{program}', f'tests/cuda/doubles/{program}') if (self.build / t).is_file()]
        with tempfile.TemporaryDirectory(prefix='mutant') as home:
            # Open MPI unloads its plugins, so that what they leak has no name to go by.
            leaks = f'suppressions={SOURCE / "scripts" / "lsan.supp"}:print_suppressions=0:detect_leaks={int(program != "doubles_nccl")}'
            env = dict(os.environ, HOME=home, XDG_CACHE_HOME=home, TMPDIR=home, OMP_NUM_THREADS='1', LSAN_OPTIONS=leaks)
            return watched([str(self.build / paths[0]), *arguments.split()], env, home, limit)


def end(process):
    """Ends the program and what it started."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sig)
        except ProcessLookupError:
            pass
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue


def watched(command, env, folder, limit):
    """Runs a test until it ends, prints a failure or takes too long."""
    stop, tail, finding = time.monotonic() + limit, b'', ''
    process = subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        while True:
            left = stop - time.monotonic()
            if left <= 0:
                return 'time-out', f'longer than {limit:.0f} s'
            if not select.select([process.stdout], [], [], left)[0]:
                continue
            some = os.read(process.stdout.fileno(), 65536)
            tail += some
            text = tail.decode(errors='replace')
            finding = finding or (m.group(1) if (m := FINDING.search(text)) else '')
            for how, sign in SIGNS:
                m = sign.search(text)
                if m and '\n' in text[m.end():] + ('' if some else '\n'):
                    return ('finding', finding[:120]) if finding else (how, next(g for g in m.groups() if g)[:120])
            tail = tail[-4096:]
            if not some:
                break
        code = process.wait(timeout=max(1, stop - time.monotonic()))
        return ('', '') if code == 0 else ('finding', finding[:120]) if finding else ('crash', f'signal {-code}') if code < 0 else ('test', f'exit code {code}')
    except subprocess.TimeoutExpired:
        return 'time-out', f'longer than {limit:.0f} s'
    finally:
        end(process)
        process.stdout.close()


# ---- results
class Results:
    """{name: {...}}, written after every mutant; those of a file that has changed since are forgotten."""

    def __init__(self, path, subjects):
        self.path, self.lock = path, threading.Lock()
        digest = {p: hashlib.sha256(t.encode()).hexdigest()[:16] for p, t in subjects.items()}
        self.digest = digest
        known = json.loads(path.read_text()) if path.exists() else {}
        self.all = {n: r for n, r in known.items() if digest.get(r['file'], r['digest']) == r['digest']}

    def add(self, path, m, verdict, by, why, seconds, lines):
        with self.lock:
            self.all[m.name] = {'file': path, 'digest': self.digest[path], 'operator': m.operator, 'line': m.line, 'verdict': verdict, 'by': by, 'why': why,
                                'seconds': round(seconds, 1), 'diff': lines}
            self.path.with_suffix('.new').write_text(json.dumps(self.all, indent=1, sort_keys=True), encoding='utf-8')
            self.path.with_suffix('.new').replace(self.path)

    def counted(self, names):
        return sum(1 for n in names if self.all.get(n, {}).get('verdict') in ('killed', 'survived'))


def read_judged():
    path = pathlib.Path(__file__).with_name('mutation.judged')
    lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
    return dict(line.split(': ', 1) for line in lines if line.strip() and not line.startswith('#'))


def table(results, names, key):
    count = collections.defaultdict(collections.Counter)
    for n in names:
        if n in results.all:
            count[results.all[n][key]][results.all[n]['verdict']] += 1
            count['all'][results.all[n]['verdict']] += 1
    say(f'\n| {key} | ' + ' | '.join(COLUMNS) + ' | kill rate |\n|---|' + '---|' * (len(COLUMNS) + 1))
    for row in sorted(count, key=lambda r: (r == 'all', r)):
        c, n = count[row], count[row]['killed'] + count[row]['survived']
        say(f'| {row} | ' + ' | '.join(str(c[k]) for k in COLUMNS) + f' | {100 * c["killed"] / n:.0f} % |' if n else f'| {row} | ' + ' | '.join(str(c[k]) for k in COLUMNS) + ' | |')
    return count['all']


def report(results, names):
    """Tables and survivors; whether that is good."""
    judged = read_judged()
    table(results, names, 'file')
    total = table(results, names, 'operator')
    how = collections.Counter(results.all[n]['by'] for n in names if results.all.get(n, {}).get('verdict') == 'killed')
    say('\nkilled by: ' + ', '.join(f'{k} {v}' for k, v in how.most_common()))
    survivors = [n for n in names if results.all.get(n, {}).get('verdict') == 'survived']
    for n in survivors:
        r = results.all[n]
        say(f'\n{n} {r["file"]}:{r["line"]} {r["operator"]}: {judged.get(n, "NOT JUDGED")}')
        say('\n'.join(r['diff']))
    counted = total['killed'] + total['survived']
    rate = total['killed'] / counted if counted else 0
    say(f'\n{counted} mutants, {total["killed"]} killed: {100 * rate:.1f} %; {len(survivors)} survivors, {sum(n not in judged for n in survivors)} not judged')
    return rate >= 0.9 and all(n in judged for n in survivors)


# ---- the run
def work(shop, todo, subjects, results, stop, enough):
    while not stop.is_set():
        try:
            path, ms = todo.get_nowait()
        except queue.Empty:
            return
        for m in ms:
            if stop.is_set() or enough():
                return
            begin = time.monotonic()
            verdict, by, why = shop.try_one(path, subjects[path], m)
            seconds = time.monotonic() - begin
            results.add(path, m, verdict, by, why, seconds, diff(subjects[path], m, path))
            say(f'{m.name:28s} {m.line:4d} {m.operator:18s} {verdict:9s} {by:9s} {seconds:5.1f} s  {why[:100]}')


def run(shops, chosen, subjects, results, stop, enough):
    """A file at a time for each copy, for going from file to file builds the one before again."""
    by_file = collections.defaultdict(list)
    for path, m in chosen:
        by_file[path].append(m)
    todo = queue.Queue()
    for item in by_file.items():
        todo.put(item)
    for shop in shops:
        shop.prepare(sorted(by_file))
    threads = [threading.Thread(target=work, args=(shop, todo, subjects, results, stop, enough), daemon=True) for shop in shops]
    for t in threads:
        t.start()
    try:
        while any(t.is_alive() for t in threads):
            time.sleep(0.2)
    except KeyboardInterrupt:
        stop.set()
        say('stopped; what is done is kept')
        for t in threads:
            t.join()


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (('count', 240), ('seed', 1), ('jobs', 1), ('minutes', 0)):
        p.add_argument(f'--{name}', type=int, default=default)
    p.add_argument('--files', default='*')
    p.add_argument('--work', type=pathlib.Path, default=SOURCE / 'build-mutation')
    p.add_argument('--only', nargs='+', default=[])
    p.add_argument('--show')
    for name in ('list', 'again', 'table'):
        p.add_argument(f'--{name}', action='store_true')
    return p.parse_args()


def main():
    o = parse()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    subjects = read_subjects(o.files)
    sequence = order(subjects, o.seed)
    if o.show:
        found = [(path, m) for path, m in sequence if o.show in m.name]
        say('\n'.join(line for path, m in found for line in diff(subjects[path], m, path, 3)) or f'no mutant {o.show}')
        return 0 if found else 1
    o.work.mkdir(parents=True, exist_ok=True)
    lock = (o.work / 'lock').open('w')
    try:
        if not (o.list or o.table):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f'another run uses {o.work}; --work FOLDER names another')
    results = Results(o.work / 'results.json', subjects)
    if o.list:
        for path, m in sequence[:o.count]:
            say(f'{m.name:28s} {m.line:4d} {m.operator:18s} {" ".join(m.old.split())[:60]} -> {" ".join(m.new.split())[:60]}')
        return 0
    if not o.table:
        shops = [Shop(o.work / f'tree{k}') for k in range(o.jobs)]
        for shop in shops:
            shop.tree.mkdir(exist_ok=True)
            shop.copy()
            shop.configure()
        stop, until = threading.Event(), time.monotonic() + 60 * o.minutes
        late = lambda: bool(o.minutes) and time.monotonic() > until
        sequence = [(path, m) for path, m in sequence if shops[0].killers(path)]
        if o.only or o.again:
            chosen = [(path, m) for path, m in sequence if any(n in m.name for n in o.only) or (o.again and results.all.get(m.name, {}).get('verdict') == 'survived')]
            run(shops, chosen, subjects, results, stop, late)
        while not (o.only or o.again or stop.is_set() or late()):
            # As many more as are missing; those that do not count are found on the way.
            done = [m.name for _, m in sequence if m.name in results.all]
            missing = o.count - results.counted(done)
            chosen = [(path, m) for path, m in sequence if m.name not in results.all][:min(max(missing, 0), ROUND)]
            if not chosen:
                break
            run(shops, chosen, subjects, results, stop, late)
    return 0 if report(results, [m.name for _, m in sequence if m.name in results.all]) else 1


sys.exit(main())
