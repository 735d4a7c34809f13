"""Steps that show whether the GPU computes the right thing."""
import json
import re
import shutil
import time

from . import processes, reading
from .runner import Failed, Skip


def facts(c):
    program = c.program('tests/cuda/gpu_facts-doubles' if c.setup.dry_run else 'tests/cuda/gpu_facts')
    gpus = json.loads(c.run([program]).out)['gpus']
    files = {p.name: reading.described_file(p.read_text(encoding='utf-8')) for p in sorted((c.setup.source / 'tests/cuda/devices').glob('*.json'))}
    for gpu in gpus:
        gpu['compared'] = reading.compare_description(gpu['description'], files)
        if gpu['compared']['differences']:
            c.note(f'GPU {gpu["gpu"]} ({gpu["name"]}) is not as {gpu["compared"]["file"]} says: {", ".join(gpu["compared"]["differences"])}')
        if not gpu['compared']['file']:
            c.note(f'GPU {gpu["gpu"]} ({gpu["name"]}): {gpu["compared"]["file_reason"]}; its description belongs into tests/cuda/devices')
    info = c.bench('info', '--device', 'cuda', '--peaks')
    c.check('a GPU is there', gpus)
    c.say(f'{len(gpus)} x {gpus[0]["name"]}' if gpus else 'no GPU')
    return {'gpus': gpus, 'info': info.rows[0], 'nvidia_smi': nvidia_smi(c)}


def nvidia_smi(c):
    tool = shutil.which('nvidia-smi')
    if not tool or c.setup.dry_run:
        return None
    return {'q': reading.public_lines(c.run([tool, '-q'], expect=None, limit_s=60).out),
            'topology': reading.public_lines(c.run([tool, 'topo', '-m'], expect=None, limit_s=60).out)}


# ---- single operations and the training step
def kernels(c):
    found, wrong = {}, 0
    for case, dtypes in c.size.cases.items():
        for dtype in dtypes:
            words = ['--dtype', dtype] if dtype else []
            command = c.bench('kernels', '--check', '--device', 'cuda', '--case', case, *words, expect=(0, 2))
            if not command.rows:
                raise Failed(f'{case} {dtype}: {command.last_word()}')
            r = found[f'{case} {dtype or "as given"}'] = reading.kernels(command.rows)
            wrong += r['wrong']
            c.check(f'{case} {dtype or "as given"}', command.code == 0, f'{r["wrong"]} wrong, first {r["wrong_ops"][0]["op"]}' if r['wrong'] else command.last_word() if command.code else '')
    total = sum(r['ok'] for r in found.values())
    c.check('some op was checked', total)
    c.say(f'{total} ops right, {wrong} wrong, {sum(r["unsupported"] for r in found.values())} unsupported')
    return found


def test_program(c, program, test_filter=None):
    """A program of cmocka's tests; its data are where this checkout is now, not where it was built."""
    command = c.run([program, *([test_filter] if test_filter else [])], expect=None, RM_SOURCE_DIR=c.setup.source)
    found = reading.cmocka(command.out + command.err)
    if command.code == 77:
        raise Skip(command.out.strip().splitlines()[-1] if command.out.strip() else 'the program says that it cannot run here')
    c.check('tests ran', found['tests'], '' if found['tests'] else command.last_word())
    for name, status in found['tests'].items():
        c.check(name, status == 'ok', '' if status == 'ok' else status)
    c.check('exit code', command.code == 0, '' if command.code == 0 else f'{command.code}: {command.last_word()}')
    c.say(f'{sum(s == "ok" for s in found["tests"].values())} of {len(found["tests"])} tests passed')
    return found


def step(c):
    places = ('tests/cuda/doubles/doubles_step', 'tests/cuda/doubles/step_test') if c.setup.dry_run else ('tests/cuda/gpu_step_test',)
    return test_program(c, c.program(*places), c.size.step_filter)


def golden(c):
    places = ('tests/cuda/doubles/doubles_golden', 'tests/cuda/doubles/golden_test') if c.setup.dry_run else ('tests/cuda/gpu_golden_test',)
    return test_program(c, c.program(*places))


# ---- compute-sanitizer
def our_kernels(source):
    text = '\n'.join(p.read_text(encoding='utf-8') for p in (source / 'kernels/cuda').glob('*.cu*'))
    return set(re.findall(r'(?:__global__\s+void(?:\s+__launch_bounds__\([^)]*\))?|\bKERNEL)\s+(?!__)(\w+)\s*\(', text))


def sanitizer(c):
    if c.setup.dry_run:
        raise Skip('the doubles are no GPU, and have their own checkers')
    tool = shutil.which('compute-sanitizer')
    if not tool:
        raise Skip("compute-sanitizer is not in PATH: it is part of NVIDIA's CUDA toolkit")
    ours, found = our_kernels(c.setup.source), {}
    loads = {'kernels': [c.setup.bench, 'kernels', '--check', '--device', 'cuda', '--case', 'small', '--dtype', 'bf16', '-q'],
             'training step': [c.setup.bench, 'train', '--device', 'cuda', '--data', 'synthetic', '--classes', '10', '--px', '32', '--batch', '4', '--steps', '3', '-q']}
    for kind in ('memcheck', 'racecheck', 'initcheck', 'synccheck'):
        for load, argv in loads.items():
            command = c.run([tool, '--tool', kind, '--target-processes', 'all', '--error-exitcode', '9', '--print-limit', '1000', *argv], expect=None)
            r = found[f'{kind} {load}'] = {**reading.sanitizer(command.out + command.err, ours), 'exit_code': command.code}
            bad = r['in_our_kernels'] or command.code not in (0, 9) or r['reported'] is None
            c.check(f'{kind}, {load}', not bad, ', '.join(r['in_our_kernels']) or (command.last_word() if bad else ''))
            if r['elsewhere'] or r['unnamed']:
                c.note(f'{kind}, {load}: reports outside our kernels: {r["elsewhere"]}, {r["unnamed"]} without a name')
    c.say(f'{sum(sum(r["in_our_kernels"].values()) for r in found.values())} reports in our {len(ours)} kernels')
    return found


# ---- determinism
def train_words(c, device, dtype, batch, steps):
    return ['train', '--device', device, '--data', 'synthetic', '--classes', '10', '--px', '32', '--batch', batch, '--steps', steps, '--dtype', dtype, '--seed', '7', '-q']


def trained(c, name, dtype):
    folder = c.folder / f'{dtype}-{name}'
    shutil.rmtree(folder, ignore_errors=True)
    store = c.folder / f'{dtype}-{name}.db'
    store.unlink(missing_ok=True)
    c.bench(*train_words(c, 'cuda', dtype, c.size.small_batch, c.size.train_steps), '--save-dir', folder, RINGMARK_STORE=store)
    files = [p for p in sorted(folder.glob('*.safetensors'))]
    digests = {p.name: reading.tensors_sha256(p) for p in files}
    for path in files:
        path.unlink()  # a hundred megabytes each
    return reading.losses(store), digests


def deterministic(c):
    found = {}
    for dtype in c.size.same_bits:
        (loss, files), (loss_again, files_again) = trained(c, 'first', dtype), trained(c, 'second', dtype)
        c.check(f'{dtype}: something to compare', len(loss) == c.size.train_steps and files)
        c.check(f'{dtype}: same losses', loss == loss_again, next((f'step {i}: {a!r}, {b!r}' for i, (a, b) in enumerate(zip(loss, loss_again)) if a != b), ''))
        c.check(f'{dtype}: same checkpoint', files == files_again, ', '.join(n for n in files if files[n] != files_again.get(n)))
        found[dtype] = {'losses': loss, 'losses_again': loss_again, 'sha256': files, 'sha256_again': files_again}
    c.say(f'{c.size.train_steps} steps twice in {", ".join(found)}')
    return found


# ---- a rank that dies
def faults(c):
    c.needs_gpus(2)
    saved = c.folder / 'checkpoints'
    shutil.rmtree(saved, ignore_errors=True)
    command = c.begin([c.setup.bench, *train_words(c, 'cuda', 'bf16', c.size.small_batch, 1000000), '--gpus', 2, '--comm-timeout', c.size.comm_timeout_s, '--save-dir', saved,
                       '--save-every', c.size.save_every])
    if not c.wait(command, ready=lambda: any(saved.glob('*.safetensors'))) or command.process.poll() is not None:
        c.finish(command, expect=())
    victim = processes.rank_process(command.process.pid, 1)
    if not victim:
        processes.end_all(command.process)
        raise Failed('rank 1 was not found among the processes')
    others = [p for p in processes.descendants(command.process.pid) if p != victim]
    killed = time.monotonic()
    processes.kill(victim, 9)
    command = c.finish(command, expect=None, limit_s=c.size.comm_timeout_s + 60)
    seconds = time.monotonic() - killed
    time.sleep(1)
    alive = [p for p in others if processes.alive(p)]
    c.check('exit code 6', command.code == 6, f'{command.code}: {command.last_word()}')
    c.check('within the time-out', seconds < c.size.comm_timeout_s + 30, f'{seconds:.1f} s')
    c.check('no rank is left', not alive, alive or '')
    c.say(f'rank 1 killed: all ended after {seconds:.1f} s with exit code {command.code}')
    shutil.rmtree(saved, ignore_errors=True)
    return {'seconds': round(seconds, 2), 'exit_code': command.code, 'line': command.last_word()}


# ---- training
def losses_on(c, device):
    store = c.folder / f'{device}.db'
    store.unlink(missing_ok=True)
    c.bench(*train_words(c, device, 'fp32', c.size.small_batch, c.size.train_steps), RINGMARK_STORE=store)
    return reading.losses(store)


def training(c):
    cuda, cpu = losses_on(c, 'cuda'), losses_on(c, 'cpu')
    apart = [abs(a - b) / abs(b) for a, b in zip(cuda, cpu)]
    c.check('losses to compare', len(cuda) == len(cpu) == c.size.train_steps)
    c.check('first loss as on the cpu device', apart and apart[0] < 1e-3, f'apart by {apart[0]:.2g}' if apart else '')
    result = {'losses_cuda': cuda, 'losses_cpu': cpu, 'apart': apart, 'to_accuracy': None, 'to_accuracy_reason': 'left out in a dry run and by --quick'}
    c.say(f'first losses {apart[0]:.1g} apart, last {apart[-1]:.1g}' if apart else 'no losses')
    if c.size.to_accuracy:
        try:
            row = to_accuracy(c)
        except Skip as e:  # the losses above are known all the same
            result['to_accuracy_reason'] = str(e)
            c.note(f'not trained to accuracy: {e}')
            return result
        result.update(to_accuracy=row, to_accuracy_reason=None)
        c.say(f'{c.record["summary"]}; top-1 {row["final_top1"]:.2f} % in {row["run_s"]:.0f} s')
    return result


def to_accuracy(c):
    data = embedded_data(c)
    row = c.bench('train', '--device', 'cuda', '--recipe', 'tiny', '--data', data, '-q').rows[0]
    c.check('target accuracy', row['final_top1'] is not None and row['final_top1'] >= row['target_top1'], f'{row["final_top1"]} of {row["target_top1"]} %')
    return row


def embedded_data(c):
    """The embedded data set, made once for all steps."""
    folder = c.setup.work / 'data'
    if not (folder / 'val').is_dir():
        limits = ['--limit-train', c.size.data_images, '--limit-val', c.size.data_images] if c.size.data_images else []
        made = c.run([c.setup.bench, 'data', 'make', folder, *limits, '-q'], expect=None)
        if made.code:
            raise Skip(f'no data set: {made.last_word()}')
    return folder
