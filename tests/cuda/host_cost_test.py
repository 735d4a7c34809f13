#!/usr/bin/env python3
"""What host_cost.py makes of callgrind's file: host_cost_test.py SOURCE. No valgrind: a text made here."""
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1] + '/tests/cuda')
import host_cost  # noqa: E402

TEXT = """# callgrind format
positions: line
events: Ir

ob=/b/program
fl=a.c
fn=step
0 100
cfn=enqueue
calls=2 0
0 900
cob=/b/librm_cuda_doubles.so
cfn=cudaLaunchKernel
calls=3 0
0 5000

fn=enqueue
0 50
cob=/lib/libc.so.6
cfi=memcpy.c
cfn=memcpy
calls=4 0
0 80
cfn=local
calls=1 0
0 7

fn=local
0 7

ob=/b/librm_cuda_doubles.so
fn=__wrap_cudnnBackendSetAttribute
0 10
cob=/u/libcudnn_graph.so.9
cfn=cudnnBackendSetAttribute
calls=1 0
0 300

fn=__wrap_cudnnBackendExecute
0 10
cob=/u/libcudnn_graph.so.9
cfn=cudnnBackendGetAttribute
calls=1 0
0 7000
cob=/b/program
cfn=count_work
calls=1 0
0 40

ob=/lib/libc.so.6
fn=memcpy
0 80

ob=/b/program
fn=count_work
0 40
cob=/lib/libc.so.6
cfn=strcmp
calls=1 0
0 9
totals: 1
"""


class Cost(unittest.TestCase):
    def test_whose(self):
        p = host_cost.Profile(TEXT, 'program')
        self.assertEqual((p.own_of('ours'), p.own_of('doubles'), p.own_of('other')), (157, 20, 80))
        r = host_cost.summary(p, 1)
        self.assertEqual((r['instructions'], r['c_library'], r['cudnn_instructions']), (157 + 80, 80, 300))  # neither the doubles nor what they have executed
        self.assertEqual((r['library_calls'], r['calls']), (3, {'cudaLaunchKernel': 3}))
        self.assertEqual(list(r['largest'].items())[0], ('step', 100))


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
