#!/usr/bin/env python3
"""What scripts/gpu-check reads and how it goes on: gpu_check_test.py SOURCE. No GPU, no doubles: texts and small programs made here."""
import fnmatch
import json
import os
import pathlib
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

SOURCE = pathlib.Path(sys.argv[1])
sys.dont_write_bytecode = True
sys.path.insert(0, str(SOURCE / 'scripts'))
from gpu_check import checks, processes, reading, runner, steps  # noqa: E402

MEMCHECK = """========= COMPUTE-SANITIZER
========= Invalid __global__ read of size 4 bytes
=========     at void <unnamed>::bn_apply<float, (int)4>(const T1 *, int)+0x160 in bn.cu:6
=========     by thread (0,0,0) in block (0,0,0)
=========     Saved host backtrace up to driver entry point at error
=========         Host Frame: other_function(int) [0x1] in bench
========= Invalid __global__ write of size 2 bytes
=========     at sm90_xmma_fprop(Params)+0x10
========= Program hit cudaErrorNoDevice (error 100) on CUDA API call to cudaGetDeviceCount.
=========     Saved host backtrace up to driver entry point at error
========= ERROR SUMMARY: 3 errors
"""
RACECHECK = """========= COMPUTE-SANITIZER
========= Error: Race reported between Read access at 0x6360 in bn.cu:123:bn_apply(float const*)
=========     and Write access at 0x1fe0 in bn.cu:63:bn_apply(float const*) [1088 hazards]
========= RACECHECK SUMMARY: 1 hazard displayed (1 error, 0 warnings)
"""
NCCL_TESTS = """# nThread 1 nGpus 2 minBytes 8 maxBytes 1024 step: 2(factor) warmup iters: 5
#       size         count      type   redop    root     time   algbw   busbw #wrong     time   algbw   busbw #wrong
           8             2     float     sum      -1    12.50    0.00    0.00      0    11.00    0.00    0.01      0
     1048576        262144     float     sum      -1    20.00   52.43   52.43      0    21.00   49.93   49.93    N/A
# Avg bus bandwidth    : 25.6
"""
CMOCKA = """[==========] Running 3 test(s).
[ RUN      ] every_op
f32: 3 of 3 ops
[       OK ] every_op
[ RUN      ] step
[  FAILED  ] step
[==========] 3 test(s) run.
[  FAILED  ] tests: 1 test(s), listed below:
[  FAILED  ] step
"""


class Reading(unittest.TestCase):
    def test_sanitizer(self):
        r = reading.sanitizer(MEMCHECK, {'bn_apply', 'other_function'})
        self.assertEqual(r, {'reported': 3, 'in_our_kernels': {'bn_apply': 1}, 'elsewhere': {'sm90_xmma_fprop': 1}, 'unnamed': 1})
        r = reading.sanitizer(RACECHECK, {'bn_apply'})
        self.assertEqual((r['reported'], r['in_our_kernels']), (1, {'bn_apply': 1}))
        self.assertIsNone(reading.sanitizer('killed', set())['reported'])

    def test_our_kernels(self):
        ours = checks.our_kernels(SOURCE)
        launched = {name for p in (SOURCE / 'kernels/cuda').glob('*.cu') for name in re.findall(r'LAUNCH\(\(?(\w+)', p.read_text())}
        self.assertGreater(len(ours), 10)
        self.assertEqual(launched, ours)

    def test_nccl_tests(self):
        rows = reading.nccl_tests(NCCL_TESTS)
        self.assertEqual([(r['bytes'], r['wrong']) for r in rows], [(8, 0), (1048576, None)])
        self.assertAlmostEqual(rows[1]['time_s'], 21e-6)
        self.assertAlmostEqual(rows[1]['busbw_bytes_per_s'], 49.93e9)

    def test_cmocka(self):
        self.assertEqual(reading.cmocka(CMOCKA), {'tests': {'every_op': 'ok', 'step': 'failed'}, 'says': ['f32: 3 of 3 ops']})

    def test_description(self):
        files = {p.name: reading.described_file(p.read_text()) for p in (SOURCE / 'tests/cuda/devices').glob('*.json')}
        gpu = {**files['h100.json'], 'l2CacheSize': 1, 'pciDeviceId': 7, 'new': 2}
        r = reading.compare_description(gpu, files)
        self.assertEqual((r['file'], r['differences']), ('h100.json', {'l2CacheSize': [files['h100.json']['l2CacheSize'], 1], 'new': [None, 2]}))
        self.assertIsNone(reading.compare_description({'deviceVer': 750}, files)['file'])

    def test_public_lines(self):
        text = 'Product Name : H100\n GPU UUID : GPU-1\n Serial Number : 2\n Process ID : 3\n  Name : /usr/bin/python\n\nClocks\n'
        self.assertEqual(reading.public_lines(text), ['Product Name : H100', 'Clocks'])

    def test_kernels(self):
        output = {'tensor': 'Y', 'norm_error': 1e-6, 'norm_tolerance': 1e-5}
        rows = [{'op': 'a', 'impl': 'x', 'status': 'ok', 'check': {'outputs': [output]}},
                {'op': 'b', 'impl': 'y', 'status': 'wrong', 'check': {'outputs': [{**output, 'norm_error': None}], 'why': 'w', 'reproduce': 'r'}},
                {'op': 'c', 'impl': '', 'status': 'unsupported', 'check': None}]
        r = reading.kernels(rows)
        self.assertEqual((r['ok'], r['wrong'], r['unsupported'], r['wrong_ops'][0]['op'], r['worst']['op']), (1, 1, 1, 'b', 'a'))
        self.assertAlmostEqual(r['worst']['share'], 0.1)

    def test_tensors(self):
        with tempfile.TemporaryDirectory() as folder:
            digests = []
            for meta, body in (('1', b'ab'), ('2', b'ab'), ('1', b'ac')):
                header = json.dumps({'__metadata__': {'time': meta}, 'w': {'dtype': 'U8', 'shape': [2], 'data_offsets': [0, 2]}}).encode()
                path = pathlib.Path(folder) / 'x.safetensors'
                path.write_bytes(len(header).to_bytes(8, 'little') + header + body)
                digests.append(reading.tensors_sha256(path))
            self.assertEqual(digests[0], digests[1])
            self.assertNotEqual(digests[0], digests[2])


class Steps(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.work = pathlib.Path(self.folder.name)

    def do(self, run, limit_s=5, size=None):
        class Setup:
            work, variables, dry_run, gpus, source, build = self.work, {}, True, 1, SOURCE, self.work
        Setup.size = size or steps.sizes(True, True)
        step = steps.Step('one', run, 1, 1, limit_s, 'why')
        progress = runner.Progress([step], False)
        progress.begin(step)
        runner.do_step(Setup, step, progress)
        return step.record

    def test_outcomes(self):
        self.assertEqual(self.do(lambda c: {'a': 1})['status'], 'passed')
        self.assertEqual(self.do(lambda c: c.needs_gpus(2))['status'], 'skipped')
        self.assertEqual(self.do(lambda c: c.check('what', False, 'detail') and None)['reason'], 'what: detail')
        self.assertEqual(self.do(lambda c: {}['gone'])['status'], 'failed')
        self.assertEqual(self.do(lambda c: {'a': float('nan')})['status'], 'failed')
        failed = self.do(lambda c: c.run(['sh', '-c', 'echo out; echo the reason >&2; exit 3']))
        self.assertEqual((failed['reason'], failed['commands'][0]['exit_code'], failed['commands'][0]['tail']), ('exit code 3: the reason', 3, ['out', 'the reason']))
        self.assertEqual(self.do(lambda c: c.run(['/no/such/program']))['reason'], '/no/such/program: No such file or directory')

    def test_skip_hides_no_failure(self):
        def run(c):
            c.check('what', False, 'detail')
            c.needs_gpus(2)
        record = self.do(run)
        self.assertEqual(record['status'], 'failed')
        self.assertIn('what: detail; then: needs 2 GPUs', record['reason'])

    def test_step_runs_every_test(self):
        """On a GPU all of step_test.c's tests, bf16 and recordings too; the dry run's pattern matches some."""
        names = set(re.findall(r'cmocka_unit_test\w*\((\w+)', (SOURCE / 'tests/cuda/doubles/step_test.c').read_text()))
        self.assertEqual(steps.sizes(False, False).step_filter, 'all')
        for quick in (False, True):
            pattern = steps.sizes(True, quick).step_filter
            self.assertTrue(pattern is None or fnmatch.filter(names, pattern), pattern)
        program = self.work / 'tests/cuda/doubles/doubles_step'
        program.parent.mkdir(parents=True)
        program.write_text('#!/bin/sh\necho "[       OK ] got_${1-nothing}"; echo "in $RM_SOURCE_DIR"\n')
        program.chmod(stat.S_IRWXU)
        for size, name in ((steps.sizes(False, False), 'got_all'), (steps.sizes(False, True), 'got_nothing')):
            record = self.do(checks.step, size=size)
            self.assertEqual((record['status'], record['result']), ('passed', {'tests': {name: 'ok'}, 'says': [f'in {SOURCE}']}))

    def test_training_without_the_data_set(self):
        """What the losses say stands, right or wrong, when there are no images to train on to accuracy."""
        size = steps.sizes(False, False)
        for first, want in ((2.0, 'passed'), (3.0, 'failed')):
            losses = {'cuda': [first] * size.train_steps, 'cpu': [2.0] * size.train_steps}
            with unittest.mock.patch.multiple(checks, losses_on=lambda c, device: losses[device], embedded_data=unittest.mock.Mock(side_effect=runner.Skip('no data set: why'))):
                record = self.do(checks.training, size=size)
            self.assertEqual((record['status'], record['result']['to_accuracy'], record['result']['to_accuracy_reason']), (want, None, 'no data set: why'))

    def test_time_limit(self):
        began = time.monotonic()
        record = self.do(lambda c: c.run(['sh', '-c', 'sleep 1000 & echo $!; wait']), limit_s=0.3)
        self.assertEqual((record['status'], record['commands'][0]['exit_code'], record['commands'][0]['timed_out']), ('failed', None, True))
        self.assertLess(time.monotonic() - began, 8)
        child = int((self.work / 'one' / '1.out').read_text())
        self.assertFalse(processes.alive(child))


PROGRAM = """#!/usr/bin/env python3
import json, sys
words = sys.argv[1:]
if words == ['--version']: print('bench 1')
elif words[0] == 'info':
    text = json.dumps({'environment': {'hard': {}, 'soft': {}}, 'results': [{'devices': [{'name': 'cuda', 'usable': True}]}]})
    if '--json' in words[:-1]: open(words[-1], 'w').write(text)
    else: print(text)
elif words[0] == 'kernels':
    import os, time
    if os.environ.get('SLOW'): time.sleep(60)
    open(words[-1], 'w').write(json.dumps({'results': [{'op': 'a', 'impl': 'x', 'status': 'ok', 'check': {'outputs': []}}]}))
else: sys.exit('no ' + words[0])
"""
FACTS = "#!/bin/sh\necho '" + '{"gpus": [{"gpu": 0, "name": "G", "description": {"deviceVer": 750}}]}' + "'\n"


class Script(unittest.TestCase):
    """The whole script over a program that is made up."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        (self.root / 'tests/cuda').mkdir(parents=True)
        for name, text in (('bench-doubles', PROGRAM), ('tests/cuda/gpu_facts-doubles', FACTS)):
            (self.root / name).write_text(text)
            (self.root / name).chmod(stat.S_IRWXU)
        self.out = self.root / 'g.json'

    def start(self, *words, **variables):
        argv = [sys.executable, str(SOURCE / 'scripts/gpu-check'), '--dry-run', '--quick', '--build', str(self.root), '--out', str(self.out), *words]
        return subprocess.Popen(argv, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_to_end(self, *words, **variables):
        p = self.start(*words, **variables)
        out, err = p.communicate(timeout=60)
        return p.returncode, out, err

    def test_whole(self):
        code, out, _ = self.run_to_end('--only', 'facts,kernels')
        d = json.loads(self.out.read_text())
        self.assertEqual((code, [s['name'] for s in d['steps']], d['verdict']['passed']), (0, steps.NAMES, ['facts', 'kernels']))
        self.assertIn('2 passed, 0 failed', out)
        self.assertEqual(self.run_to_end('--only', 'golden')[0], 7)  # not built here
        self.assertEqual(self.run_to_end('--only', 'layers')[0], 2)  # this program fails at it
        code, _, err = self.run_to_end('--only', 'nothing')
        self.assertEqual((code, len(err.splitlines())), (2, 1))
        code, _, err = self.run_to_end('--build', '/no/such/folder')
        self.assertEqual((code, len(err.splitlines())), (2, 1))

    def test_program_that_does_not_answer(self):
        """One line that says why, and no file, whatever the program does instead of answering."""
        bench = self.root / 'bench-doubles'
        for text, words in (('#!/bin/sh\necho "bench: error while loading shared libraries: libx.so.9" >&2; exit 127\n', 'exit code 127: bench: error while loading shared libraries: libx.so.9'),
                            ('#!/bin/sh\nkill -9 $$\n', 'ended by signal 9'), ('#!/no/such/shell\n', 'No such file'), ('#!/bin/sh\necho hello\n', 'no JSON')):
            bench.write_text(text)
            code, out, err = self.run_to_end()
            self.assertEqual((code, out, len(err.splitlines()), self.out.exists()), (2, '', 1, False), err)
            self.assertIn(words, err)

    def test_interrupt_and_resume(self):
        started = self.root / 'g.work/kernels/1.err'
        for number, want in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            started.unlink(missing_ok=True)
            p = self.start('--only', 'facts,kernels', SLOW='1')
            until = time.monotonic() + 30
            while not started.exists() and time.monotonic() < until:
                time.sleep(0.05)
            p.send_signal(number)
            p.communicate(timeout=30)
            self.assertEqual(p.returncode, want)
            d = json.loads(self.out.read_text())
            self.assertEqual((d['verdict']['passed'], d['verdict']['interrupted'], d['verdict']['ok']), (['facts'], ['kernels'], False))
        facts = next(s for s in d['steps'] if s['name'] == 'facts')
        self.run_to_end('--resume')
        d = json.loads(self.out.read_text())
        self.assertEqual(next(s for s in d['steps'] if s['name'] == 'facts'), facts)
        self.assertIn('kernels', d['verdict']['passed'])
        code, _, err = self.run_to_end('--resume', '--gpus', '0')
        self.assertEqual((code, len(err.splitlines())), (2, 1))
        self.out.write_text('{')
        self.assertEqual(self.run_to_end('--resume')[0], 2)

    def test_folder_of_others(self):
        (self.root / 'g.work').mkdir()
        (self.root / 'g.work/mine').touch()
        self.assertEqual(self.run_to_end()[0], 2)
        self.assertTrue((self.root / 'g.work/mine').exists())


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
