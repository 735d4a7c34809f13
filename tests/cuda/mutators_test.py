#!/usr/bin/env python3
"""That mutators.py changes what it is to change, and nothing else: each line of CASES, in a function, gives these changes."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import mutators  # noqa: E402

CASES = {
    'if (a < b) f();': {'< -> <=', '< -> >=', 'f(); -> ;'},
    'if (a && b < 2) return;': {'&& -> ||', '< -> <=', '< -> >=', '2 -> 3', '2 -> 1', 'a && b < 2 -> !(a && b < 2)', 'return; -> ;'},
    'int n = row ? width : 7;': {'row -> !(row)', '7 -> 8', '7 -> 6'},
    'y[i] = x[i];': {'y[i] = x[i]; -> ;', 'i -> i + 1'},
    'v = static_cast<const T *>(p); /* a < b */': {'v = static_cast<const T *>(p); -> ;'},
    '__syncthreads();': {'__syncthreads(); -> ;'},
    'RM_ASSERT(a < 3); // a + 1': set(),
    'if (!p) return rm_fail(RM_E_NOMEM, "no memory for %d + 1", 4);': set(),
    'char text[64];': set(),
    'LAUNCH(k, g, b, 0, stream, p);': {'LAUNCH(k, g, b, 0, stream, p); -> ;', '0 -> 1', 'stream -> NULL', 'k, g -> g, k', 'g, b -> b, g', 'stream, p -> p, stream'},
    'return ran(p, rm_cuda_add(t[RM_X], t[RM_Y]));': {'rm_cuda_add(t[RM_X], t[RM_Y]) -> cudaSuccess', 't[RM_X], t[RM_Y] -> t[RM_Y], t[RM_X]', 'RM_X -> RM_Y', 'RM_Y -> RM_X'},
    'set(b, CUDNN_CROSS_CORRELATION);': {'set(b, CUDNN_CROSS_CORRELATION); -> ;', 'CUDNN_CROSS_CORRELATION -> CUDNN_CONVOLUTION', 'b, CUDNN_CROSS_CORRELATION -> CUDNN_CROSS_CORRELATION, b'},
    'd.pad = 1;': {'d.pad = 1; -> ;', 'pad -> stride', '1 -> 2', '1 -> 0'},
    'rm_buf_free(d, b);': {'rm_buf_free(d, b); -> ;', 'd, b -> b, d'},
}


def changes(line):
    before = '#define TWO 2\nstatic int g(int a)\n{\n    '
    return [m for m in mutators.mutants('t.c', before + line + '\n}\n') if m.at >= len(before)]


def main():
    bad = 0
    for line, want in CASES.items():
        got = {f'{m.old} -> {m.new}' for m in changes(line)}
        if got != want:
            bad += 1
            print(f'{line}\n  missing: {sorted(want - got)}\n  too many: {sorted(got - want)}')
    names = [m.name for m in changes('f(a + 1);')], [m.name for m in changes('int c; f(a + 1);')], [m.name for m in changes('f(a + 1); f(a + 1);')]
    later = [m.name for m in mutators.mutants('t.c', 'static int h(int a)\n{\n    return a;\n}\nstatic int g(int a)\n{\n    f(a + 1);\n}\n') if m.line == 7]
    if names[0] != later or set(names[0]) & set(names[1]) or len(set(names[2])) != len(names[2]):
        bad += 1
        print('names are not stable, or not unique')
    print(f'{len(CASES)} lines, {bad} wrong')
    return 1 if bad else 0


sys.exit(main())
