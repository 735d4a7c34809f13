"""What programs print and write, as Python values."""
import hashlib
import json
import re
import sqlite3
import statistics

PRIVATE = re.compile(r'uuid|serial|board id|image version|^\s*process|^\s*name\s*:\s*/', re.I)


def public_lines(text):
    """nvidia-smi's text without what names this very board or what others run on it."""
    return [line.rstrip() for line in text.splitlines() if line.strip() and not PRIVATE.search(line)]


def described_file(text):
    """A file of tests/cuda/devices: JSON with '#' comment lines."""
    return json.loads('\n'.join(line for line in text.splitlines() if not line.lstrip().startswith('#')))


NOT_OF_THE_MODEL = {'driverVer', 'cudaDeviceId', 'pciDeviceId'}  # differ from machine to machine


def compare_description(have, files):
    """Against the file that has most in common with it, of those of the same architecture: {"file", "differences": {key: [file, gpu]}}."""
    alike = {name: d for name, d in files.items() if d.get('deviceVer') == have.get('deviceVer')}
    if not alike:
        return {'file': None, 'file_reason': f'no file for deviceVer {have.get("deviceVer")}', 'differences': {}}
    name = max(alike, key=lambda n: sum(alike[n].get(k) == v for k, v in have.items()))
    keys = sorted((have.keys() | alike[name].keys()) - NOT_OF_THE_MODEL)
    return {'file': name, 'file_reason': None, 'differences': {k: [alike[name].get(k), have.get(k)] for k in keys if alike[name].get(k) != have.get(k)}}


def kernels(rows):
    """Counts by status, the wrong ops with the line that repeats them, and the largest error as a share of what is tolerated."""
    counts, worst, wrong = {'ok': 0, 'wrong': 0, 'unsupported': 0}, {'share': 0.0, 'op': None}, []
    for row in rows:
        counts[row['status']] += 1
        if row['status'] == 'wrong':
            wrong.append({'op': row['op'], 'impl': row['impl'], 'why': row['check']['why'], 'reproduce': row['check']['reproduce']})
        for output in (row['check'] or {}).get('outputs', []):
            share = output['norm_error'] / output['norm_tolerance'] if output['norm_error'] is not None and output['norm_tolerance'] else 0
            if share > worst['share']:
                worst = {'share': share, 'op': row['op'], 'tensor': output['tensor'], 'norm_error': output['norm_error'], 'impl': row['impl']}
    return {**counts, 'worst': worst, 'wrong_ops': wrong}


def cmocka(text):
    """{test: "ok" | "failed" | "skipped"} and the lines that tests print about themselves."""
    words = {'OK': 'ok', 'FAILED': 'failed', 'SKIPPED': 'skipped'}
    tests = {name: words[word] for word, name in re.findall(r'^\[\s*(OK|FAILED|SKIPPED)\s*\] (\w+)$', text, re.M)}
    return {'tests': tests, 'says': [line for line in text.splitlines() if line and not line.startswith('[')][:100]}


def samples(store, metric):
    """Of every result of the store that has them, in order: {key of the result: [values]}."""
    with sqlite3.connect(f'file:{store}?mode=ro', uri=True) as db:
        rows = db.execute('SELECT result.id, key, value FROM sample JOIN result ON result.id = sample.result WHERE metric = ? ORDER BY result.id, i', (metric,)).fetchall()
    found = {}
    for number, key, value in rows:
        found.setdefault(f'{number} {key}', []).append(value)
    return found


def losses(store):
    found = samples(store, 'loss')
    return list(found.values())[-1] if found else []


def tensors_sha256(path):
    """Of a safetensors file without its metadata: names, types, shapes and bytes."""
    with open(path, 'rb') as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), 'little')))
        header.pop('__metadata__', None)
        digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
        for piece in iter(lambda: f.read(1 << 20), b''):
            digest.update(piece)
    return digest.hexdigest()


def spread(values):
    values = [v for v in values if v is not None]
    return {'samples': len(values), 'min': min(values), 'median': statistics.median(values), 'max': max(values)} if values else None


def kept_plans(folder):
    """Files of cuDNN's plans: how many plans, for which GPU."""
    found = []
    for path in sorted(folder.glob('**/*')):
        try:
            d = json.loads(path.read_text(encoding='utf-8'))
        except (OSError, ValueError):
            continue
        if isinstance(d, dict) and 'ringmark_cudnn_plans' in d:
            found.append({'file': path.name, 'plans': len(d['plans']), 'for': d['for'], 'bytes': path.stat().st_size})
    return found


def parity(folder):
    """What the first use of each GPU found (bench/verified.h)."""
    found = []
    for path in sorted(folder.glob('**/*parity.json')):
        try:
            found.append(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError) as e:
            found.append({'file': path.name, 'unreadable': str(e)})
    return found


NO_REPORT = re.compile(r'COMPUTE-SANITIZER|\w+ SUMMARY|Target application|No attachable|Warning: The|This ', re.I)


def sanitizer(text, ours):
    """Reports of compute-sanitizer by kernel: a report begins at the left margin and goes on in lines that are indented. `ours`: our kernels' names."""
    total = re.search(r'ERROR SUMMARY: (\d+) error', text) or re.search(r'RACECHECK SUMMARY: (\d+) hazard', text)
    own, elsewhere, unnamed = {}, {}, 0
    marked = '\n'.join(line[len('========= '):] for line in text.splitlines() if line.startswith('========= '))
    for report in re.split(r'^(?=\S)', marked, flags=re.M):
        if not report.strip() or NO_REPORT.match(report):
            continue
        report = report.split('Saved host backtrace')[0]
        names = set(re.findall(r'(\w+)(?:<[^\n]*>)?\(', report))
        at = names & ours
        for name in at:
            own[name] = own.get(name, 0) + 1
        if not at and names:
            name = max(names, key=len)
            elsewhere[name] = elsewhere.get(name, 0) + 1
        unnamed += not names
    return {'reported': int(total[1]) if total else None, 'in_our_kernels': own, 'elsewhere': elsewhere, 'unnamed': unnamed}


def nccl_tests(text):
    """Rows of all_reduce_perf: [{"bytes", "time_s", "busbw_bytes_per_s", "wrong"}] out of place and in place, in place kept: it is what bench comm does."""
    rows = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 13 or not words[0].isdigit():
            continue
        wrong = None if words[12] == 'N/A' else int(words[12])
        rows.append({'bytes': int(words[0]), 'time_s': float(words[9]) * 1e-6, 'busbw_bytes_per_s': float(words[11]) * 1e9, 'wrong': wrong})
    return rows
