#!/usr/bin/env python3
"""Does launches of the emulator again with the PTX that nvcc made of the same kernels, and compares device memory.

ptx.py PROGRAMS LIBRARY ARCHITECTURES PTX... : PROGRAMS is the folder of cuda_cases and cuda_kernels_test, LIBRARY the emulated kernels
they run, PTX what nvcc made of the sources, with the word ARCHITECTURE where one of the ARCHITECTURES (80,90) stands.
Each PTX function is translated to Python, an instruction a statement; an instruction that is not in the tables is an error, as are
reading a register before it is set, an address outside the launch's memory, and a misaligned one. Results must be those that the
emulator got from the same inputs: integers bit by bit, floats but for what a fused multiply-add may change. Then instructions
are made wrong on purpose, which must be noticed. RM_CUDA_PTX=all: every recorded launch, not two a kernel.
"""
import bisect
import collections
import ctypes
import fractions
import math
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile

WARP, SEGMENT = 32, 1 << 20


class Fault(Exception):
    """Something a GPU would not do, or that this program does not know."""


# ---- arithmetic: floats are Python floats that hold values of their type, integers are unsigned
def f32(value):
    return ctypes.c_float(value).value


def bits(value):
    return struct.unpack('<I', struct.pack('<f', value))[0]


def unbits(value):
    return struct.unpack('<f', struct.pack('<I', value))[0]


def signed(value, width):
    return value - (1 << width) if value >> (width - 1) else value


def divide(a, b):
    if b == 0 or math.isnan(b):
        return math.nan if a == 0 or math.isnan(a) or math.isnan(b) else math.copysign(math.inf, a) * math.copysign(1, b)
    return a / b


def exact_fma(a, b, c):
    """a*b + c as a fraction, or a float where it is not finite."""
    if not (math.isfinite(a) and math.isfinite(b) and math.isfinite(c)):
        return a * b + c
    return fractions.Fraction(a) * fractions.Fraction(b) + fractions.Fraction(c)


def fma32(a, b, c):
    """Rounded once: the product is exact in double; the sum is rounded to odd there, which the second rounding cannot spoil."""
    product = a * b
    total = product + c
    if not math.isfinite(total):
        return f32(total)
    back = total - product
    lost = (product - (total - back)) + (c - back)
    if lost:
        pattern = struct.unpack('<q', struct.pack('<d', total))[0]
        if not pattern & 1:
            total = struct.unpack('<d', struct.pack('<q', pattern + (1 if (lost > 0) == (total > 0) else -1)))[0]
    return f32(total)


def fma32_down(a, b, c):
    exact = exact_fma(a, b, c)
    value = f32(float(exact))
    if math.isfinite(value) and value > exact:
        value = unbits(bits(value) - 1 if value > 0 else bits(value) + 1) if value else -2.0 ** -149
    return value


def fma64(a, b, c):
    return float(exact_fma(a, b, c))


def to_bf16(value):
    pattern = bits(value)
    return 0x7fff if math.isnan(value) else ((pattern + 0x7fff + (pattern >> 16 & 1)) >> 16) & 0xffff


def to_f16(value):
    if math.isnan(value):
        return 0x7fff
    try:
        return struct.unpack('<H', struct.pack('<e', value))[0]
    except OverflowError:
        return 0x7c00 if value > 0 else 0xfc00


def from_f16(value):
    return struct.unpack('<e', struct.pack('<H', value))[0]


def exp2(value):
    if value != value:
        return value
    return f32(2.0 ** value) if value < 1024 else math.inf


def quotient(a, b):
    return 0 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def larger(a, b):
    return b if a != a else a if b != b else max(a, b)


def smaller(a, b):
    return b if a != a else a if b != b else min(a, b)


def insert_bits(a, b, at, length):
    mask = ((1 << length) - 1) << at
    return b & ~mask | a << at & mask


def narrow(value):
    """An integer as a float without two roundings."""
    if abs(value) >= 1 << 53:
        raise Fault('conversion of an integer of more than 53 bits')
    return float(value)


# ---- memory
FORMAT = {'f32': 'f', 'f64': 'd', 'u8': 'B', 's8': 'b', 'b8': 'B', 'u16': 'H', 's16': 'h', 'b16': 'H', 'u32': 'I', 's32': 'i', 'b32': 'I',
          'u64': 'Q', 's64': 'q', 'b64': 'Q'}


class Memory:
    """Arrays at addresses. `arrays`: pairs (address, bytearray)."""

    def __init__(self, arrays):
        self.arrays = sorted(arrays, key=lambda pair: pair[0])
        self.starts = [start for start, _ in self.arrays]

    def find(self, address, size):
        at = bisect.bisect_right(self.starts, address) - 1
        if at < 0 or address + size > self.starts[at] + len(self.arrays[at][1]):
            raise Fault(f'{size} bytes at {address:#x}, outside every array')
        if address % size:
            raise Fault(f'{size} bytes at {address:#x}, misaligned')
        return self.arrays[at][1], address - self.starts[at]

    def load(self, address, layout):
        array, offset = self.find(address, layout.size)
        return layout.unpack_from(array, offset)

    def store(self, address, layout, *values):
        array, offset = self.find(address, layout.size)
        layout.pack_into(array, offset, *values)


# ---- one instruction: a Python expression of the operands A, B, C, where {w} is the width of an integer type and {m} its mask
FLOAT = {
    'add.f32': 'f32({A} + {B})', 'sub.f32': 'f32({A} - {B})', 'mul.f32': 'f32({A} * {B})', 'div.rn.f32': 'f32(divide({A}, {B}))',
    'fma.rn.f32': 'fma32({A}, {B}, {C})', 'fma.rm.f32': 'fma32_down({A}, {B}, {C})', 'neg.f32': '-{A}', 'abs.f32': 'abs({A})',
    'max.f32': 'larger({A}, {B})', 'min.f32': 'smaller({A}, {B})', 'ex2.approx.ftz.f32': 'exp2({A})',
    'add.f64': '{A} + {B}', 'sub.f64': '{A} - {B}', 'mul.f64': '{A} * {B}', 'div.rn.f64': 'divide({A}, {B})', 'fma.rn.f64': 'fma64({A}, {B}, {C})',
    'sqrt.rn.f64': '(math.sqrt({A}) if {A} >= 0 else math.nan)', 'rcp.rn.f64': 'divide(1.0, {A})', 'neg.f64': '-{A}',
    'mov.f32': '{A}', 'mov.f64': '{A}', 'selp.f32': '({A} if {C} else {B})', 'selp.f64': '({A} if {C} else {B})',
    'cvt.sat.f32.f32': '(min(max({A}, 0.0), 1.0) if {A} == {A} else 0.0)', 'cvt.f64.f32': '{A}', 'cvt.rn.f32.f64': 'f32({A})',
    'cvt.rn.bf16.f32': 'to_bf16({A})', 'cvt.rn.f16.f32': 'to_f16({A})', 'cvt.f32.bf16': 'unbits({A} << 16)', 'cvt.f32.f16': 'from_f16({A})',
    'not.pred': 'not {A}', 'and.pred': '{A} and {B}', 'or.pred': '{A} or {B}', 'mov.pred': '{A}',
}
INTEGER = {
    'add': '({A} + {B}) & {m}', 'sub': '({A} - {B}) & {m}', 'mul.lo': '({A} * {B}) & {m}', 'mad.lo': '({A} * {B} + {C}) & {m}', 'neg': '-{A} & {m}',
    'and': '{A} & {B}', 'or': '{A} | {B}', 'xor': '{A} ^ {B}', 'not': '~{A} & {m}', 'shl': '({A} << min({B}, {w})) & {m}',
    'mov': '{A}', 'cvta.to.global': '{A}', 'selp': '({A} if {C} else {B})', 'bfi': 'insert_bits({A}, {B}, {C}, {D})',
    'bfe': '{A} >> {B} & ((1 << {C}) - 1)',
}
UNSIGNED = {'shr': '{A} >> min({B}, {w})', 'div': 'quotient({A}, {B})', 'rem': '{A} % {B}', 'min': 'min({A}, {B})', 'max': 'max({A}, {B})',
            'mul.wide': '{A} * {B}', 'mad.wide': '{A} * {B} + {C}', 'mul.hi': '({A} * {B}) >> {w}'}
SIGNED = {'shr': '({sA} >> min({B}, {w})) & {m}', 'div': 'quotient({sA}, {sB}) & {m}', 'rem': '({sA} - quotient({sA}, {sB}) * {sB}) & {m}',
          'min': 'min({sA}, {sB}) & {m}', 'max': 'max({sA}, {sB}) & {m}', 'mul.wide': '({sA} * {sB}) & {m2}', 'mul.hi': '(({sA} * {sB}) >> {w}) & {m}'}
COMPARE = {'eq': '==', 'ne': '!=', 'lt': '<', 'le': '<=', 'gt': '>', 'ge': '>=', 'lo': '<', 'ls': '<=', 'hi': '>', 'hs': '>='}
INVERSE = {'lt': 'ge', 'le': 'gt', 'gt': 'le', 'ge': 'lt', 'eq': 'ne'}
TYPED = re.compile(r'(.+)\.([bsu])(8|16|32|64)$')
# mov between banks of registers: to, from.
MOVED = {('r', 'f'): 'bits({A})', ('f', 'r'): 'unbits({A})', ('rd', 'fd'): 'double_bits({A})', ('fd', 'rd'): 'undouble_bits({A})'}


def double_bits(value):
    return struct.unpack('<Q', struct.pack('<d', value))[0]


def undouble_bits(value):
    return struct.unpack('<d', struct.pack('<Q', value))[0]


def bank(register):
    return re.match(r'%([a-z]+)\d', register)[1] if re.match(r'%[a-z]+\d', register) else ''


class Translator:
    """A PTX function as the source of a Python generator that is one thread: it yields at barriers and shuffles."""

    def __init__(self, name, params, body, dyn):
        self.name, self.params, self.used = name, {}, set()
        at = 0
        for match in re.finditer(r'\.param (?:\.align (\d+) )?\.(\w+) (?:\.ptr (?:\.align \d+ )?)?(\w+)(?:\[(\d+)\])?', params):
            size = int(match[4] or 1) * struct.calcsize(FORMAT[match[2]])
            align = int(match[1] or size)
            at = (at + align - 1) // align * align
            self.params[match[3]] = at
            at += size
        self.param_bytes = at
        self.shared = {dyn: SEGMENT} if dyn else {}
        self.shared_sizes = {}
        for match in re.finditer(r'\.shared \.align \d+ \.(\w+) (\w+)(?:\[(\d+)\])?;', body):
            self.shared[match[2]] = (len(self.shared_sizes) + 2) * SEGMENT
            self.shared_sizes[match[2]] = int(match[3] or 1) * struct.calcsize(FORMAT[match[1]])
        self.statements = self.split(body)

    @staticmethod
    def split(body):
        """Labels ("$L:") and instructions, in order."""
        body = re.sub(r'//[^\n]*', '', body)
        body = re.sub(r'^\s*\.(loc|file)\b[^\n]*', '', body, flags=re.M)
        body = re.sub(r'^\s*\.(reg|shared|pragma)[^;]*;', '', body, flags=re.M)
        body = re.sub(r'^\s*\{\s*(.*;)\s*\}\s*$', r'\1', body, flags=re.M)
        out = []
        for line in body.replace(';', ';\n').splitlines():
            line = line.strip()
            while match := re.match(r'(\$\w+):\s*', line):
                out.append(match[1] + ':')
                line = line[match.end():]
            if line in ('', '{', '}'):
                continue
            if not line.endswith(';'):
                raise Fault(f'not an instruction: {line}')
            out.append(line[:-1].strip())
        return out

    def value(self, text, width=64):
        if re.match(r'%(tid|ctaid|ntid|nctaid)\.[xyz]$', text):
            return text[1:].replace('.', '_')
        if text.startswith('%'):
            return '_' + text[1:]     # %f32 is a register, f32() a function
        if text.startswith('0f'):
            return self.constant(unbits(int(text[2:], 16)))
        if text.startswith('0d'):
            return self.constant(undouble_bits(int(text[2:], 16)))
        if re.match(r'-?\d', text):
            return str(int(text, 0) & ((1 << width) - 1))
        if text in self.shared:
            return str(self.shared[text])
        raise Fault(f'unknown operand {text}')

    @staticmethod
    def constant(value):
        return repr(value) if math.isfinite(value) else f"float('{value}')"

    def address(self, text):
        match = re.match(r'\[([^+\]]+)(?:\+(-?\d+))?\]$', text)
        if not match:
            raise Fault(f'unknown address {text}')
        return match[1], int(match[2] or 0)

    def memory(self, op, args):
        parts = op.split('.')
        layout = f"LAYOUT['{parts[-1]}', {int(parts[2][1:]) if parts[2].startswith('v') else 1}]"
        mask = (1 << 8 * struct.calcsize(FORMAT[parts[-1]])) - 1
        registers = [self.value(word.strip()) for word in args[0 if parts[0] == 'ld' else 1].strip('{}').split(',')]
        base, offset = self.address(args[1 if parts[0] == 'ld' else 0])
        if parts[1] == 'param':
            return [f"{', '.join(registers)}, = {layout}.unpack_from(params, {self.params[base] + offset})"] + self.sign_fix(parts[-1], registers)
        if parts[1] not in ('global', 'shared'):
            raise Fault(f'unknown space of {op}')
        where = f'{self.value(base)} + {offset}' if offset else self.value(base)
        if parts[0] == 'ld':
            return [f"{', '.join(registers)}, = {parts[1]}_.load({where}, {layout})"] + self.sign_fix(parts[-1], registers)
        if parts[-1][0] != 'f':
            registers = [f'{register} & {mask}' for register in registers]
        return [f"{parts[1]}_.store({where}, {layout}, {', '.join(registers)})"]

    @staticmethod
    def sign_fix(kind, registers):
        """A loaded signed value is kept as the unsigned one of 32 bits, or of 64."""
        return [f'{r} &= {(1 << (64 if kind == "s64" else 32)) - 1}' for r in registers] if kind[0] == 's' else []

    def compare(self, op, args):
        _, how, kind = op.split('.')
        target = self.value(args[0])
        if kind[0] == 'f':
            a, b = self.value(args[1]), self.value(args[2])
            if how in COMPARE:
                both = f' and {a} == {a} and {b} == {b}' if how == 'ne' else ''
                return [f'{target} = {a} {COMPARE[how]} {b}{both}']
            if how not in ('equ', 'neu') and how.endswith('u') and how[:-1] in INVERSE:
                return [f'{target} = not {a} {COMPARE[INVERSE[how[:-1]]]} {b}']
            if how == 'equ':
                return [f'{target} = not ({a} < {b} or {a} > {b})']
            if how == 'neu':
                return [f'{target} = {a} != {b}']
            raise Fault(f'unknown comparison {op}')
        width = int(kind[1:])
        mask = (1 << width) - 1
        a, b = (f'({self.value(x, width)} & {mask})' if width < 32 else self.value(x, width) for x in args[1:3])
        if kind[0] == 's' and how not in ('eq', 'ne'):
            a, b = f'signed({a}, {width})', f'signed({b}, {width})'
        return [f'{target} = {a} {COMPARE[how]} {b}']

    def convert(self, op, args):
        match = re.match(r'cvt\.(rn\.)?([fsu])(\d+)\.([fsu])(\d+)$', op)
        if not match or match[4] == 'f':
            raise Fault(f'unknown conversion {op}')
        width = int(match[5])
        a = f'({self.value(args[1], width)} & {(1 << width) - 1})'
        if match[4] == 's':
            a = f'signed({a}, {width})'
        result = {'f32': f'f32(narrow({a}))', 'f64': f'narrow({a})'}.get(match[2] + match[3], f'{a} & {(1 << int(match[3])) - 1}')
        return [f'{self.value(args[0])} = {result}']

    def move_parts(self, op, args):
        """mov between a register and a pair of halves."""
        half = int(op.split('.b')[1]) // 2
        if args[0].startswith('{'):
            low, high = (self.value(x.strip()) for x in args[0].strip('{}').split(','))
            whole = self.value(args[1])
            if bank(args[1]) in ('f', 'fd'):
                whole = f'{"bits" if bank(args[1]) == "f" else "double_bits"}({whole})'
            return [f'{low}, {high} = {whole} & {(1 << half) - 1}, {whole} >> {half}']
        low, high = (self.value(x.strip()) for x in args[1].strip('{}').split(','))
        whole = f'({low} & {(1 << half) - 1}) | {high} << {half}'
        wrap = {'f': 'unbits', 'fd': 'undouble_bits'}.get(bank(args[0]), '')
        return [f'{self.value(args[0])} = {wrap}({whole})']

    def integer(self, op, args):
        match = TYPED.match(op)
        if not match:
            raise Fault(f'unknown instruction {op}')
        base, kind, width = match[1], match[2], int(match[3])
        pattern = (base != 'bfe' or kind == 'u') and INTEGER.get(base) or (SIGNED if kind == 's' else UNSIGNED).get(base)
        if base == 'mov' and (bank(args[0]), bank(args[1])) in MOVED:
            pattern = MOVED[bank(args[0]), bank(args[1])]
        if not pattern:
            raise Fault(f'unknown instruction {op}')
        names = dict(zip('ABCD', (self.value(x, width) for x in args[1:])))
        values = {**names, **{'s' + name: f'signed({text}, {width})' for name, text in names.items()}}
        return [f'{self.value(args[0])} = ' + pattern.format(w=width, m=(1 << width) - 1, m2=(1 << 2 * width) - 1, **values)]

    def shuffle(self, args):
        target, _, flag = args[0].partition('|')
        lines = [f'{self.value(target)} = yield ({self.value(args[1])}, {self.value(args[2], 32)}, {self.value(args[3], 32)}, {self.value(args[4], 32)})']
        return lines + ([f'{self.value(flag)} = True'] if flag else [])

    def instruction(self, op, args):
        self.used.add(op)
        if op == 'bar.sync':
            return ['yield None']
        if op == 'ret':
            return ['return']
        if op.startswith('shfl.sync.bfly.b32'):
            return self.shuffle(args)
        if op.split('.')[0] in ('ld', 'st'):
            return self.memory(op, args)
        if op in FLOAT:
            values = dict(zip('ABC', (self.value(x) for x in args[1:])))
            return [f'{self.value(args[0])} = ' + FLOAT[op].format(**values)]
        if op.startswith('setp.'):
            return self.compare(op, args)
        if op.startswith('cvt.'):
            return self.convert(op, args)
        if op.startswith('mov.b') and '{' in args[0] + args[1]:
            return self.move_parts(op, args)
        return self.integer(op, args)

    def source(self):
        labels, blocks = {}, [[]]
        for statement in self.statements:
            if statement.endswith(':'):
                blocks.append([])
                labels[statement[:-1]] = len(blocks) - 1
            else:
                blocks[-1].append(statement)
        lines = ['def thread(params, global_, shared_, tid_x, tid_y, tid_z, ctaid_x, ctaid_y, ctaid_z, ntid_x, ntid_y, ntid_z, nctaid_x, nctaid_y, nctaid_z):',
                 '    if False: yield', '    pc = 0', '    while True:']
        for number, block in enumerate(blocks):
            lines.append(f'        if pc == {number}:')
            for statement in block:
                lines += ['            ' + line for line in self.statement(statement, labels)]
            lines.append(f'            pc = {number + 1}')
        lines.append("        raise Fault('ran past the end')")
        return '\n'.join(lines)

    def statement(self, text, labels):
        guard = re.match(r'@(!?)%(p\d+)\s+(.*)$', text)
        condition = f"if {'not ' if guard[1] else ''}_{guard[2]}: " if guard else ''
        op, _, rest = (guard[3] if guard else text).replace('\t', ' ').partition(' ')
        args = [a.strip() for a in re.findall(r'\{[^}]*\}|\[[^\]]*\]|[^,\s][^,]*', rest)]
        if op in ('bra', 'bra.uni'):
            self.used.add(op)
            return [condition + f'pc = {labels[args[0]]}; continue']
        return [condition + line for line in self.instruction(op, args)]


LAYOUT = {(kind, n): struct.Struct(f'<{n}{letter}') for kind, letter in FORMAT.items() for n in (1, 2, 4)}


class Kernel:
    def __init__(self, name, params, body, dyn):
        self.name = name
        self.translator = Translator(name, params, body, dyn)
        self.dyn, self.code = dyn, None

    def thread(self):
        if self.code is None:
            scope = dict(globals())
            exec(compile(self.translator.source(), self.name, 'exec'), scope)  # pylint: disable=exec-used
            self.code = scope['thread']
        return self.code


def parse_ptx(path):
    text = pathlib.Path(path).read_text(encoding='utf-8')
    dyn = re.search(r'^\.extern \.shared[^;]*?(\w+)\[\];', text, re.M)
    found = {}
    for match in re.finditer(r'^\.visible \.entry (\w+)\(([^)]*)\)[^{]*\{\n(.*?)^\}', text, re.S | re.M):
        found[match[1]] = Kernel(match[1], match[2], match[3], dyn[1] if dyn else '')
    if not found:
        raise Fault(f'{path}: no kernel in it')
    return found


# ---- a launch
def resolve_shuffles(waiting, warp):
    """Values for the lanes of a warp that all wait in a shuffle."""
    for value, lanes, clamp, mask in (waiting[t] for t in warp):
        if clamp != WARP - 1 or mask != 0xffffffff or lanes >= WARP:
            raise Fault('shuffle with a mask or width of its own')
    return {t: waiting[warp[i ^ waiting[t][1]]][0] for i, t in enumerate(warp)}


def run_block(threads):
    """Threads go on until each has ended; None is a barrier, a tuple a shuffle."""
    waiting, ready, send = {}, list(range(len(threads))), {}
    live = set(ready)
    while live:
        for t in ready:
            try:
                waiting[t] = threads[t].send(send.pop(t, None))
            except StopIteration:
                live.discard(t)
                waiting.pop(t, None)
        ready = []
        for first in range(0, len(threads), WARP):
            warp = list(range(first, min(first + WARP, len(threads))))
            if all(waiting.get(t) is not None for t in warp):
                send.update(resolve_shuffles(waiting, warp))
                ready += warp
        if not ready and live:
            if any(waiting[t] is not None for t in live):
                raise Fault('a shuffle waits for lanes that do not come')
            if len(live) != len(threads):
                raise Fault('a barrier waits for threads that have ended')
            ready = list(live)


def execute(kernel, launch, memory):
    thread, (grid, block) = kernel.thread(), (launch.grid, launch.block)
    if len(launch.params) != kernel.translator.param_bytes:
        raise Fault(f'{len(launch.params)} bytes of parameters, PTX has {kernel.translator.param_bytes}')
    for z in range(grid[2]):
        for y in range(grid[1]):
            for x in range(grid[0]):
                arrays = [(kernel.translator.shared[name], bytearray(b'\xff' * size)) for name, size in kernel.translator.shared_sizes.items()]
                shared = Memory(arrays + ([(SEGMENT, bytearray(b'\xff' * launch.smem))] if launch.smem else []))
                run_block([thread(launch.params, memory, shared, i % block[0], i // block[0] % block[1], i // block[0] // block[1], x, y, z, *block, *grid)
                           for i in range(block[0] * block[1] * block[2])])


class Launch:
    """One file of emu_record()."""

    def __init__(self, path):
        data, at = path.read_bytes(), 4
        if data[:4] != b'EMU1':
            raise Fault(f'{path}: not a recorded launch')

        def take(layout):
            nonlocal at
            values = struct.unpack_from('<' + layout, data, at)
            at += struct.calcsize('<' + layout)
            return values

        self.path, self.address = path, take('Q')[0]
        self.grid, self.block = take('3I'), take('3I')
        self.smem, size = take('2I')
        self.params = data[at:at + size]
        at += size
        self.pointers = [take('2I') for _ in range(take('I')[0])]
        ranges = [take('2Q') for _ in range(take('I')[0])]
        self.before, self.after = [], []
        for contents in (self.before, self.after):
            for start, size in ranges:
                contents.append((start, data[at:at + size]))
                at += size
        if at != len(data):
            raise Fault(f'{path}: {len(data)} bytes, not {at}')

    def kind(self, start, size, symbol):
        """What an array holds: what a pointer into it points to, else the kernel's type."""
        for at, code in self.pointers:
            if start <= struct.unpack_from('<Q', self.params, at)[0] < start + size:
                return chr(code)
        return 'b' if '__nv_bfloat16' in symbol else 'h' if '__half' in symbol else 'f'


# Element, its value, and how far it may be off in units of the array's largest value.
DECODE = {'f': ('f', lambda v: v, 2e-6), 'd': ('d', lambda v: v, 1e-14), 'h': ('e', lambda v: v, 2.0 ** -10), 'b': ('H', lambda v: unbits(v << 16), 2.0 ** -7)}
SELDOM = 0.01  # of the halves may be rounded the other way


def difference(got, want, kind):
    """'' or how two arrays of a kind differ, beyond what a fused multiply-add may change."""
    if got == want:
        return ''
    if kind == 'i':
        return 'integers differ'
    letter, decode, allowed = DECODE[kind]
    count = len(got) // struct.calcsize(letter)
    a, b = ([decode(v) for v in struct.unpack(f'<{count}{letter}', x[:count * struct.calcsize(letter)])] for x in (got, want))
    largest = max((abs(v) for v in b if math.isfinite(v)), default=0.0)
    pairs = [(i, x, y) for i, (x, y) in enumerate(zip(a, b)) if x != y and not (x != x and y != y)]
    for i, x, y in pairs:
        if not (math.isfinite(x) and math.isfinite(y)) or abs(x - y) > allowed * largest:
            return f'element {i} is {x!r}, the emulator has {y!r}'
    if kind in 'hb' and len(pairs) > 1 + SELDOM * count:
        return f'{len(pairs)} of {count} elements are rounded otherwise'
    return ''


def replay(kernel, launch):
    """'' when the PTX does what the emulator did, else why not."""
    arrays = [(start, bytearray(content)) for start, content in launch.before]
    try:
        execute(kernel, launch, Memory(arrays))
    except Fault as fault:
        return str(fault)
    except UnboundLocalError as error:
        return f'a register is read before it is set: {error}'
    got = {start: bytes(content) for start, content in arrays}
    for start, want in launch.after:
        if why := difference(got[start], want, launch.kind(start, len(want), kernel.name)):
            return why
    return ''


def symbols_of(library):
    """address -> name as nvcc writes it: without the L of internal linkage."""
    table = {}
    for line in subprocess.run(['nm', library], check=True, capture_output=True, text=True).stdout.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in 'tT':
            table[int(words[0], 16)] = re.sub(r'^_ZL', '_Z', words[2])
    return table


def choose(launches, every):
    """Pairs of name and launch: of each kernel all, or two, from the middle and the end of what was recorded."""
    if every:
        return [(name, launch) for name, rows in launches.items() for launch in rows]
    return [(name, launch) for name, rows in launches.items() for launch in {id(rows[i]): rows[i] for i in (len(rows) // 2, -1)}.values()]


# An instruction made wrong, and a kernel (part of its name) whose replay must notice.
SABOTAGE = [('fma.rn.f32', 'f32({A} * {B} - {C})', 'bn_applyIf'), ('max.f32', 'smaller({A}, {B})', 'softmax_xentIf'),
            ('cvt.rn.bf16.f32', 'bits({A}) >> 16', 'convertIf13'), ('add.f64', '{A}', 'bn_backward_merge'), ('selp.f32', '{A}', 'pointwiseI7relu_opf')]


def sabotaged(kernels_of, launches):
    """Lines about instructions made wrong whose replay went unnoticed."""
    missed = []
    for op, wrong, part in SABOTAGE:
        right, FLOAT[op] = FLOAT[op], wrong
        fresh = kernels_of()
        rows = [(name, row) for name, all_rows in launches.items() if part in name for row in all_rows]
        if not rows or not any(replay(fresh[name], row) for name, row in rows):
            missed.append(f'{op} made wrong in {part}: not noticed in {len(rows)} launches')
        FLOAT[op] = right
    return missed


def record(programs, symbols):
    """name of a kernel -> its recorded launches."""
    launches = collections.OrderedDict()
    for command in (['cuda_cases', '--quick', '--quiet', '--record'], ['cuda_kernels_test', '--record']):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([str(programs / command[0])] + command[1:] + [folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for path in sorted(pathlib.Path(folder).glob('*.launch')):
                launch = Launch(path)
                launches.setdefault(symbols.get(launch.address, hex(launch.address)), []).append(launch)
    return launches


def check(sources, launches, every):
    """Replays on the PTX of one architecture: lines of failures, and what was done in words."""

    def kernels_of():
        return {name: kernel for path in sources for name, kernel in parse_ptx(path).items()}

    kernels, bad, chosen = kernels_of(), [], choose(launches, every)
    for name, launch in chosen:
        why = replay(kernels[name], launch) if name in kernels else 'not in the PTX'
        if why:
            bad.append(f'{name} ({launch.path.name}): {why}')
    bad += sabotaged(kernels_of, launches)
    used = set().union(*(kernels[name].translator.used for name in launches if name in kernels))
    bad += [f'{name}: no test launches it' for name in sorted(set(kernels) - set(launches))]
    return bad, f'{len(chosen)} launches of {len(launches)} kernels done again, {len(used)} different instructions'


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    every = os.environ.get('RM_CUDA_PTX') == 'all'
    architectures = sys.argv[3].split(',')
    launches = record(pathlib.Path(sys.argv[1]), symbols_of(sys.argv[2]))
    failed = not launches
    for architecture in architectures if every else architectures[1:2] or architectures:
        bad, done = check([path.replace('ARCHITECTURE', architecture) for path in sys.argv[4:]], launches, every)
        print(f'compute_{architecture}: {done}')
        for line in bad:
            print(f'FAIL {line}')
        failed = failed or bool(bad)
    return 1 if failed else 0


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (Fault, OSError, struct.error, subprocess.CalledProcessError) as error:
        sys.exit(f'ptx.py: {error}')
