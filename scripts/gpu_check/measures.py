"""Steps that measure. Rows are the program's own, each with its origin, less what is only drawn."""
import glob
import shutil

from . import reading
from .checks import embedded_data
from .runner import Failed, Skip

OUT_OF_MEMORY = 5
DRAWN = ('timeline', 'gantt')  # for pictures, and large
SYNTHETIC = ['--data', 'synthetic']


def slim(row):
    return {key: value for key, value in row.items() if key not in DRAWN}


def origins(c, rows):
    """In a dry run every figure must say that it is emulated; else none may."""
    want = 'emulated' if c.setup.dry_run else 'measured'
    wrong = sorted({str(row['origin']) for row in rows if row.get('origin') not in (want, 'not_measured', 'projected')})
    c.check(f'rows are {want}', not wrong, ', '.join(wrong))


def counts_of(gpus):
    """1, 2, 4 ... and all."""
    return sorted({2**k for k in range(gpus.bit_length()) if 2**k <= gpus} | {gpus})


def largest_batch(c, run):
    """run(batch) with the largest batch that fits the GPU's memory: (batch, command)."""
    batch = c.size.batches[-1]
    while True:
        command = run(batch)
        if command.code != OUT_OF_MEMORY or batch == 1:
            return batch, command
        c.note(f'batch {batch} does not fit')
        batch //= 2


# ---- plans
def autotune(c):
    plans, seconds, found = c.folder / 'plans', [], {}
    shutil.rmtree(plans, ignore_errors=True)
    for _ in range(2):
        command = c.bench('layers', '--device', 'cuda', '--dtype', 'bf16', '--px', c.size.px, '--batch', c.size.batches[0], *SYNTHETIC, '--classes', c.size.classes, '--steps', 1, '--warmup', 1,
                          '--no-peaks', RINGMARK_PLANS=plans)
        seconds.append(round(command.seconds, 2))
        found = {'files': reading.kept_plans(plans), 'parity': reading.parity(plans)}
        if len(seconds) == 1:
            first = command.err
    count, anew = sum(f['plans'] for f in found['files']), [line for line in command.err.splitlines() if 'chosen anew' in line]
    c.check('plans are kept', count)
    c.check('kept plans come back', not anew, anew[0] if anew else '')
    if not c.setup.dry_run:  # doubles are compared with ref by tests of their own
        c.check('parity with ref', found['parity'] and all(p.get('passed') for p in found['parity']), '' if found['parity'] else 'no answer was kept')
    c.say(f'{seconds[0]:.0f} s without kept plans, {seconds[1]:.0f} s with {count}')
    return {'first_s': seconds[0], 'second_s': seconds[1], 'plans': count, **found, 'first_says': first.splitlines()[-20:]}


# ---- one GPU
def layers(c):
    rows, projected = [], c.has_option('layers', '--project')
    for dtype in c.size.layer_dtypes:
        for batch in c.size.batches:
            command = c.bench('layers', '--device', 'cuda', '--dtype', dtype, '--px', c.size.px, '--batch', batch, *SYNTHETIC, '--classes', c.size.classes, '--steps', c.size.steps,
                              '--warmup', c.size.warmup, *(['--no-peaks'] if c.setup.dry_run else []), expect=(0, OUT_OF_MEMORY))
            if command.code == OUT_OF_MEMORY:
                c.note(f'{dtype}, batch {batch}: out of memory')
            rows += [slim(row) for row in command.rows]
    origins(c, rows)
    c.check('rows', rows)
    if rows:
        fast = max(rows, key=lambda r: r['images_per_s'])
        c.say(f'{len(rows)} tables; fastest {fast["dtype"]}, batch {fast["batch"]}: {fast["images_per_s"]:.1f} images/s')
    return {'rows': rows, 'projection': projection(c) if projected else None, 'projection_reason': None if projected else 'this build has no bench layers --project'}


def projection(c):
    """What published figures of the GPU make of the same layers, for each GPU that the program knows."""
    rows = []
    for gpu in ('h100', 'a100', 'b200'):
        command = c.bench('layers', '--project', gpu, '--dtype', 'bf16', '--px', c.size.px, '--batch', c.size.batches[-1], *SYNTHETIC, '--classes', c.size.classes, expect=None)
        if command.code:
            c.note(f'projection on {gpu}: {command.last_word()}')
        rows += [slim(row) for row in command.rows]
    return rows


# ---- several GPUs
def scaling_words(c, batch, *more):
    gpus = ','.join(map(str, counts_of(c.setup.gpus)))
    return ['scaling', '--device', 'cuda', '--gpus', gpus, '--dtype', 'bf16', '--px', c.size.px, '--batch', batch, '--steps', c.size.steps, '--warmup', c.size.warmup, '-q', *more]


def throughput(c):
    def run(batch, *more):
        return c.bench(*scaling_words(c, batch, *SYNTHETIC, '--classes', c.size.classes, '--input-mode', 'synthetic', '--fresh', *(['--no-twins'] if c.size.no_twins else []), *more),
                       expect=(0, OUT_OF_MEMORY))
    batch, command = largest_batch(c, run)
    if command.code:
        raise Failed(command.last_word())
    rows = [slim(row) for row in command.rows]
    origins(c, rows)
    c.check('a row for each N', [r['ranks'] for r in rows if r['images_per_s']] == counts_of(c.setup.gpus))
    result = {'batch': batch, 'rows': rows, 'unrecorded': None, 'unrecorded_reason': 'bench scaling has no option that switches recorded steps off'}
    if c.has_option('scaling', '--no-record'):
        result.update(unrecorded=[slim(row) for row in run(batch, '--no-record').rows], unrecorded_reason=None)
    c.say(', '.join(f'{r["ranks"]}: {r["images_per_s"]:.1f} images/s' for r in rows if r['images_per_s']) + f'; batch {batch}')
    return result


def clocks(c):
    """From the samples that throughput took before and after every step."""
    store = c.setup.work / 'throughput' / 'store.db'
    if not store.exists():
        raise Skip('needs the samples of throughput, which did not run')
    found = {metric: {key: reading.spread(values) for key, values in reading.samples(store, metric).items()} for metric in ('gpu_sm_mhz', 'gpu_power_w', 'gpu_temperature_c')}
    throttled = {key: sum(1 for v in values if v) for key, values in reading.samples(store, 'throttled').items()}
    if not any(found.values()):
        raise Skip('the GPU was not watched: no NVML here, or it tells nothing')
    if any(throttled.values()):
        c.note(f'throttled steps: {throttled}; the reasons are in the rows of throughput')
    mhz = [s['median'] for s in found['gpu_sm_mhz'].values() if s]
    c.say(f'median clock {min(mhz):.0f} MHz, {sum(throttled.values())} steps throttled' if mhz else f'{sum(throttled.values())} steps throttled')
    return {**found, 'throttled_steps': throttled}


def loader(c):
    data = c.setup.data or embedded_data(c)
    batch = c.size.batches[-1]
    alone = c.bench('input', '--data', data, '--px', c.size.px, '--batch', batch, '--steps', c.size.steps, '-q')
    fed = c.bench(*scaling_words(c, batch, '--data', data, '--input-mode', 'data-only', '--no-twins', '--fresh'))
    result = {'data': 'given with --data' if c.setup.data else 'the embedded data set', 'input': [slim(r) for r in alone.rows], 'data_only': [slim(r) for r in fed.rows],
              'real': None, 'real_reason': 'asked for with --data'}
    if c.setup.data:
        result.update(real=[slim(r) for r in c.bench(*scaling_words(c, batch, '--data', data, '--input-mode', 'real', '--fresh')).rows], real_reason=None)
    c.check('rows', alone.rows and fed.rows)
    c.say(f'data alone of {result["data"]}' + (', and training on it' if c.setup.data else ''))
    return result


# ---- where a step goes
def overlap(c):
    gpus = min(2, c.setup.gpus) if c.setup.dry_run else c.setup.gpus
    for path in glob.glob(str(c.folder / 'trace*')):
        (c.folder / path).unlink()
    profile = c.bench('profile', '--device', 'cuda', '--gpus', gpus, '--dtype', 'bf16', '--px', c.size.px, '--batch', c.size.batches[0], *SYNTHETIC, '--classes', c.size.classes,
                      '--steps', c.size.steps, '--warmup', c.size.warmup, '--trace', c.folder / 'trace.json', *(['--no-peaks'] if c.setup.dry_run else []))
    rows = [slim(r) for r in profile.rows]
    traces = sorted(glob.glob(str(c.folder / 'trace*.json')))
    seen = c.bench('overlap', *traces)
    origins(c, rows)
    c.check('a trace of each rank', len(traces) == gpus, f'{len(traces)} of {gpus}')
    c.check('the trace has computing', all(r['compute_s'] > 0 for r in seen.rows))
    trace = rows[0].get('trace') or {}
    if trace.get('perturbed'):
        c.note(f'tracing perturbed the step: ratio {trace.get("ratio")}, {"undecided" if trace.get("undecided") else "decided"}')
    saw = trace.get('cupti')
    if saw:
        c.check('the trace holds every traced step', not saw['left_out'], f'{saw["left_out"]} were left out: {saw["dropped"]} records dropped, {saw["untimed"]} without times')
        c.note(f'CUPTI: {saw["kernels"]} kernels in {saw["steps"]} steps, {saw["unattributed"]} of no layer or bucket, {saw["by_order"]} all-reduces known by their order, '
               f'overhead {saw["overhead_share"]}')
    else:
        c.note(f'kernel times are from marks, not from CUPTI: {trace.get("kernel_times_reason") or "the row says no reason"}')
    c.say(f'{gpus} GPUs; traced step / untraced step {trace["ratio"]:.4f}' if trace.get('ratio') else f'{gpus} GPUs')
    return {'profile': rows, 'overlap': seen.rows}


# ---- communication
def comm(c):
    c.needs_gpus(2)
    gpus, rows = counts_of(c.setup.gpus)[1:], []
    for n in gpus:
        rows += c.bench('comm', '--device', 'cuda', '--gpus', n, '--sizes', c.size.comm_sizes, '-q', *c.size.comm_words).rows
    sizes = [r for r in rows if r['kind'] == 'size']
    origins(c, rows)
    c.check('exact sums', sizes and all(r['wrong'] == 0 for r in sizes))
    best = max((r for r in sizes if r['op'] == 'all-reduce'), key=lambda r: r['busbw_bytes_per_s'])
    c.say(f'busbw up to {best["busbw_bytes_per_s"] / 1e9:.2f} GB/s at {best["bytes"]} bytes, {best["ranks"]} GPUs')
    return {'rows': rows, **against_nccl_tests(c, sizes)}


def against_nccl_tests(c, sizes):
    tool = shutil.which('all_reduce_perf')
    if not tool or c.setup.dry_run:
        return {'nccl_tests': None, 'nccl_tests_reason': "a dry run" if c.setup.dry_run else "nccl-tests' all_reduce_perf is not in PATH"}
    ours = {r['bytes']: r for r in sizes if r['op'] == 'all-reduce' and r['ranks'] == c.setup.gpus}
    theirs = reading.nccl_tests(c.run([tool, '-b', '8', '-e', '1G', '-f', '2', '-g', c.setup.gpus, '-d', 'float', '-c', '1']).out)
    for row in theirs:
        mine = ours.get(row['bytes'])
        row['ours_busbw_bytes_per_s'] = mine and mine['busbw_bytes_per_s']
        row['ratio'] = mine['busbw_bytes_per_s'] / row['busbw_bytes_per_s'] if mine and row['busbw_bytes_per_s'] else None
    return {'nccl_tests': theirs, 'nccl_tests_reason': None}


def splits(c):
    c.needs_gpus(2)
    words = ['--splits', c.size.splits] if c.size.splits else []
    rows = c.bench('split-sweep', '--device', 'cuda', '--gpus', c.setup.gpus, '--dtype', 'bf16', '--px', c.size.px, '--batch', c.size.batches[0], *SYNTHETIC, '--classes', c.size.classes,
                   '--steps', c.size.rounds, '--warmup', 1, '-q', *words).rows
    origins(c, rows)
    c.check('rows', rows)
    best = next((r for r in rows if r['best']), None)
    c.say(f'{len(rows)} splits; best {best["split"]}, {best["step_s"]["median"] * 1e3:.1f} ms' if best else f'{len(rows)} splits')
    return {'rows': [slim(r) for r in rows]}
