"""Changes to a C or CUDA source file that a test should notice: a small tokenizer and a table of operators.

mutants(path, text) lists them as Mutant; each replaces one span of the text, keeps the line numbers, and has a name that stays while its
line and the lines that read the same do. Comments, strings, preprocessor lines, assertions and the texts of errors are left
alone; so are the branches for a host that is out of memory, which no test can take.
"""
import collections
import hashlib
import re

Token = collections.namedtuple('Token', 'kind text at')
Mutant = collections.namedtuple('Mutant', 'name file operator line at old new')

PATTERN = re.compile(r'''(?P<skip>\s+|//[^\n]*|/\*.*?\*/)|(?P<pre>(?<![^\n])[ \t]*\#(?:\\\n|[^\n])*)|(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')
    |(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<name>[A-Za-z_]\w*)
    |(?P<op><<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|::|.)''', re.X | re.S)


def tokenize(text):
    """Tokens without blanks, comments and preprocessor lines."""
    out, at = [], 0
    while at < len(text):
        m = (re.compile(r'[ \t]*#(?:\\\n|[^\n])*').match(text, at) if at == 0 or text[at - 1] == '\n' else None) or PATTERN.match(text, at)
        kind = getattr(m, 'lastgroup') or 'pre'
        if kind not in ('skip', 'pre'):
            out.append(Token(kind, m.group(), at))
        at = m.end()
    return out


# ---- siblings: a name may become the next of its row
SIBLINGS = '''
RM_X RM_Y | RM_X2 RM_X | RM_DY RM_DX | RM_DY2 RM_DY | RM_DX2 RM_DX | RM_DW RM_W | RM_W RM_DW | RM_GAMMA RM_BETA | RM_RMEAN RM_RVAR | RM_DGAMMA RM_DBETA
RM_SAVED RM_Y | RM_LABEL RM_FLIP | RM_LOSS RM_FLAG | RM_MOMENTUM RM_HYPER | RM_LAYOUT_NHWC RM_LAYOUT_NCHW | RM_LAYOUT_ANY RM_LAYOUT_NCHW | CUDA_PADDED RM_LAYOUT_NHWC
RM_CUDA_F32 RM_CUDA_BF16 RM_CUDA_F16 | RM_CUDA_NHWC RM_CUDA_NCHW | RM_F32 RM_BF16 RM_F16 RM_TF32 | RM_MEM_PINNED RM_MEM_DEVICE | RM_E_UNSUPPORTED RM_E_DEVICE
cudaMemcpyHostToDevice cudaMemcpyDeviceToHost | cudaMemcpyDefault cudaMemcpyHostToDevice | cudaStreamNonBlocking cudaStreamDefault
cudaEventDisableTiming cudaEventDefault | cudaEventRecordExternal cudaEventRecordDefault | cudaEventWaitExternal cudaEventWaitDefault
cudaStreamCaptureModeThreadLocal cudaStreamCaptureModeGlobal | cudaStreamCaptureStatusNone cudaStreamCaptureStatusActive | cudaHostAllocPortable cudaHostAllocDefault
cudaErrorInvalidValue cudaSuccess | cudaErrorMemoryAllocation cudaErrorInvalidValue
CUDNN_CROSS_CORRELATION CUDNN_CONVOLUTION | CUDNN_DATA_FLOAT CUDNN_DATA_HALF | CUDNN_DATA_HALF CUDNN_DATA_BFLOAT16 | CUDNN_DATA_BFLOAT16 CUDNN_DATA_HALF
CUDNN_DATA_INT8 CUDNN_DATA_UINT8 | CUDNN_RESAMPLE_MAXPOOL CUDNN_RESAMPLE_AVGPOOL_INCLUDE_PADDING | CUDNN_NEG_INF_PAD CUDNN_ZERO_PAD
CUDNN_HEUR_MODE_A CUDNN_HEUR_MODE_B | CUDNN_HEUR_MODE_FALLBACK CUDNN_HEUR_MODE_A | CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS CUDNN_ATTR_CONVOLUTION_POST_PADDINGS
CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES CUDNN_ATTR_CONVOLUTION_DILATIONS | CUDNN_ATTR_RESAMPLE_PRE_PADDINGS CUDNN_ATTR_RESAMPLE_POST_PADDINGS
CUDNN_ATTR_TENSOR_DIMENSIONS CUDNN_ATTR_TENSOR_STRIDES | CUDNN_ATTR_ENGINE_NUMERICAL_NOTE CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE
TENSOR_CORE WINOGRAD | NONDETERMINISTIC FFT | DOWN_CONVERT_INPUTS FFT | REDUCED_PRECISION_REDUCTION FFT | CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION CUDNN_BEHAVIOR_NOTE_REQUIRES_FILTER_INT8x32_REORDER
ncclSum ncclMax | ncclFloat32 ncclInt32 | ncclFloat64 ncclInt64 | ncclBfloat16 ncclFloat16 | ncclFloat16 ncclBfloat16 | ncclInt32 ncclFloat32 | ncclUint8 ncclInt8
CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL CUPTI_ACTIVITY_KIND_KERNEL | CUPTI_ACTIVITY_KIND_MEMCPY CUPTI_ACTIVITY_KIND_MEMSET CUPTI_ACTIVITY_KIND_MEMCPY
CUPTI_ACTIVITY_KIND_RUNTIME CUPTI_ACTIVITY_KIND_DRIVER CUPTI_ACTIVITY_KIND_RUNTIME | CUPTI_ACTIVITY_KIND_OVERHEAD CUPTI_ACTIVITY_KIND_NAME
CUPTI_ACTIVITY_KIND_EXTERNAL_CORRELATION CUPTI_ACTIVITY_KIND_NAME | CUPTI_ACTIVITY_FLAG_FLUSH_FORCED CUPTI_ACTIVITY_FLAG_NONE
CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM0 CUPTI_EXTERNAL_CORRELATION_KIND_CUSTOM1 | SEEK_END SEEK_SET
'''
SIBLING = {}
for _row in re.split(r'\||\n', SIBLINGS):
    _names = _row.split()
    SIBLING.update(dict(zip(_names, _names[1:] + _names[:1])) if len(_names) > 2 else dict([_names]) if _names else {})
    if len(_names) == 2:
        SIBLING.setdefault(_names[1], _names[0])
# Members of structs that describe shapes and windows, and the axes of a grid.
MEMBER = {'pad': 'stride', 'stride': 'pad', 'h': 'w', 'w': 'h', 'x': 'y', 'y': 'x', 'x2': 'x', 'dx2': 'dx', 'dy2': 'dy', 'begin': 'end', 'end': 'begin', 'order': 'time', 'time': 'order'}

BINARY = {'<': ('<=', '>='), '<=': ('<', '>'), '>': ('>=', '<='), '>=': ('>', '<'), '==': ('!=',), '!=': ('==',), '&&': ('||',), '||': ('&&',),
          '+': ('-',), '-': ('+',), '*': ('+', '/'), '/': ('*',), '%': ('/',), '<<': ('>>',), '>>': ('<<',), '&': ('|',), '|': ('&',),
          '+=': ('-=',), '-=': ('+=',), '*=': ('/=',), '/=': ('*=',), '|=': ('&=',), '&=': ('|=',)}
RELATIONAL, LOGICAL = {'<', '<=', '>', '>=', '==', '!='}, {'&&', '||'}
# Calls of a library become its success.
SUCCESS = (('cudaError_t', re.compile(r'cuda(?!GetLastError|GetError|Success)[A-Z]\w*$|rm_cuda_(?!check|of|stream|ordinal)\w+$'), 'cudaSuccess'),
           ('cudnn', re.compile(r'cudnn(?!Get)[A-Z]\w*$'), 'CUDNN_STATUS_SUCCESS'), ('nccl', re.compile(r'nccl(?!Get)[A-Z]\w*$'), 'ncclSuccess'),
           ('cupti', re.compile(r'cupti(?!GetResult)[A-Z]\w*$'), 'CUPTI_SUCCESS'))
BARRIER = re.compile(r'__syncthreads|cuda\w*Synchronize|cudaStreamWaitEvent|cudaEventRecord\w*|rm_mark_(set|wait)|rm_sync|pthread_cond_\w+')
RELEASE = re.compile(r'free$|cuda(Free|\w+Destroy)|cudnn\w*Destroy|rm_\w+_(free|destroy|close)$|rm_cudnn_destroy|json_decref|fclose|release$|\w+_free$|\w+_close$|pthread_\w+_destroy')
TEXTS = {'RM_ASSERT', 'static_assert', '_Static_assert', 'rm_fail', 'rm_fail_errno', 'rm_warn_once', 'fail_msg'}


class Source:
    def __init__(self, file, text):
        self.file, self.text, self.tokens = file, text, tokenize(text)
        self.match, self.inside = self.brackets()
        self.out, self.depth = [], self.depths()
        self.quiet = self.quiet_tokens()

    def brackets(self):
        """The other bracket of each, and of each token the bracket it stands in."""
        match, stack, inside = {}, [], []
        for i, t in enumerate(self.tokens):
            if t.text in ')]}' and t.kind == 'op' and stack:
                match[i] = stack.pop()
                match[match[i]] = i
            inside.append(self.tokens[stack[-1]].text if stack else '')
            if t.text in '([{' and t.kind == 'op':
                stack.append(i)
        return match, inside

    def depths(self):
        """Of each token: inside how many braces it is."""
        depth, out = 0, []
        for t in self.tokens:
            depth -= t.text == '}'
            out.append(depth)
            depth += t.text == '{'
        return out

    def quiet_tokens(self):
        """Tokens that stay as they are: assertions, texts of errors, branches for want of memory, sizes of arrays of char."""
        quiet = set()
        for i, t in enumerate(self.tokens):
            if t.text in TEXTS and self.word(i + 1) == '(':
                quiet.update(range(i, self.match[i + 1] + 1))
                inside = {u.text for u in self.tokens[i:self.match[i + 1]]}
                if 'RM_E_NOMEM' in inside:
                    quiet.update(range(self.statement_start(i), i))
            if t.text == 'snprintf' and self.word(i + 1) == '(':
                quiet.update(range(i, self.match[i + 1] + 1))
            if t.text in ('template', 'extern') or (t.text == 'sizeof' and self.word(i + 1) == '('):
                quiet.add(i)
            if t.text == 'char' and self.depth[i] and self.word(i - 1) in (';', '{', '}', 'const'):
                while self.word(i) not in (';', ')'):
                    quiet.add(i)
                    i += 1
        return quiet

    def word(self, i):
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ''

    def statement_start(self, i):
        while i > 0 and self.word(i - 1) not in (';', '{', '}'):
            i -= 1
            if self.word(i) == ')' and i in self.match and self.word(self.match[i] - 1) != 'for':
                i = self.match[i]
        return i

    def span(self, first, last):
        return self.tokens[first].at, self.tokens[last].at + len(self.tokens[last].text)

    def add(self, operator, first, last, new):
        """The tokens first..last become `new`."""
        if any(i in self.quiet for i in range(first, last + 1)):
            return
        at, end = self.span(first, last)
        self.replace(operator, at, end, new)

    def replace(self, operator, at, end, new):
        old = self.text[at:end]
        if old != new:
            self.out.append((operator, at, old, new + '\n' * (old.count('\n') - new.count('\n'))))

    def spaced(self, i):
        """Whether the operator stands between blanks, as binary ones do here; brackets of templates and stars of pointers do not."""
        t = self.tokens[i]
        return self.text[t.at - 1].isspace() and self.text[t.at + len(t.text)].isspace()

    def arguments(self, opening):
        """(first, last) tokens of each argument of the bracket."""
        out, first, i, end = [], opening + 1, opening + 1, self.match[opening]
        while i <= end:
            if self.word(i) in ('(', '[', '{') and i in self.match:
                i = self.match[i]
            elif self.word(i) in (',', ')') :
                if i > first:
                    out.append((first, i - 1))
                first = i + 1
            i += 1
        return out

    def is_call(self, i):
        before = self.tokens[i - 1] if i else None
        return (self.tokens[i].kind == 'name' and self.word(i + 1) == '(' and self.depth[i] > 0 and self.word(i) not in ('if', 'for', 'while', 'switch', 'return', 'sizeof')
                and not (before and (before.kind == 'name' and before.text not in ('return', 'else', 'case') or before.text in ('.', '->'))))


# ---- operators: each adds to s.out
def binary(s):
    for i, t in enumerate(s.tokens):
        if t.kind == 'op' and t.text in BINARY and s.depth[i] and s.spaced(i):
            kind = 'relational' if t.text in RELATIONAL else 'logical' if t.text in LOGICAL else 'arithmetic'
            for new in BINARY[t.text]:
                s.add(kind, i, i, new)
        if t.text == '!' and s.depth[i] and s.word(i - 2) != 'void':
            s.add('logical', i, i, ' ' * 0)


def constants(s):
    for i, t in enumerate(s.tokens):
        if t.kind != 'number' or (s.word(i - 1) == '{' and s.word(i + 1) == '}') or s.word(i - 1) in ('#', '1u'):
            continue
        m = re.fullmatch(r'(0x[0-9a-fA-F]+|\d+)([uUlL]*)', t.text)
        if m:
            value = int(m.group(1), 0)
            s.add('constant', i, i, f'{value + 1}{m.group(2)}')
            if value:
                s.add('constant', i, i, f'{value - 1}{m.group(2)}')
        elif re.fullmatch(r'[\d.]+f?', t.text):
            suffix = 'f' if t.text.endswith('f') else ''
            s.add('constant', i, i, f'{float(t.text.rstrip("f")) + 1}{suffix}')


def simple(s, a, b):
    """Whether another operator negates the condition as a whole already."""
    words = [u.text for u in s.tokens[a:b + 1]]
    return not LOGICAL & set(words) and (words[0] == '!' or sum(w in RELATIONAL for w in words) == 1)


def conditions(s):
    for i, t in enumerate(s.tokens):
        if t.text in ('if', 'while') and s.word(i + 1) == '(':
            a, b = i + 2, s.match[i + 1] - 1
            at, end = s.span(a, b)
            if not simple(s, a, b):
                s.add('condition', a, b, f'!({s.text[at:end]})')
        if t.text == '?':
            a = i
            while s.word(a - 1) not in ('(', ',', '=', 'return', '{', ';', '[', '?', ':', '-=', '+='):
                a = s.match[a - 1] if s.word(a - 1) in (')', ']', '}') else a - 1
            at, end = s.span(a, i - 1)
            if not simple(s, a, i - 1):
                s.add('condition', a, i - 1, f'!({s.text[at:end]})')


def deletions(s):
    for i, t in enumerate(s.tokens):
        if t.kind != 'name' or s.inside[i] != '{' or s.word(i - 1) not in (';', '{', '}', ')', 'else') or t.text in (
                'return', 'if', 'for', 'while', 'do', 'else', 'goto', 'case', 'default', 'switch', 'const', 'static', 'struct', 'enum', 'union', 'typedef', 'break', 'continue'):
            continue
        end = i
        while s.word(end) not in (';', '{', '}', '') or (s.word(end) == '{' and s.word(end - 1) in ('=', ')', '(')):
            end = s.match[end] + 1 if s.word(end) in ('(', '[', '{') else end + 1
        second = s.tokens[i + 1]
        if s.word(end) != ';' or second.kind == 'name' or (second.text in ('*', '<') and s.word(i + 2) != '='):
            continue  # a declaration
        if s.word(i - 1) == ')' and s.word(s.match.get(i - 1, 0) - 1) not in ('if', 'for', 'while'):
            continue  # a cast
        words = [u.text for u in s.tokens[i:end]]
        operator = ('ordering' if any(BARRIER.match(w) for w in words) else 'release' if RELEASE.match(words[0]) or words[0] == 'if' else
                    'deleted call' if second.text == '(' else 'deleted assignment')
        s.add(operator, i, end, ';')


def successes(s):
    for i, t in enumerate(s.tokens):
        if not s.is_call(i) or s.word(s.statement_start(i)) == 'RM_TRY':
            continue
        for _, pattern, success in SUCCESS:
            if pattern.match(t.text) and s.word(i - 1) not in (';', '{', '}') and not (s.word(i - 1) == ')' and s.word(s.match[i - 1] - 1) in ('if', 'for', 'while')):
                operator = 'ordering' if BARRIER.match(t.text) else 'deleted call'
                s.add(operator, i, s.match[i + 1], success)


def streams(s):
    for i, t in enumerate(s.tokens):
        if not s.depth[i]:
            continue
        if s.word(i - 1) in (',', '(') and s.word(i + 1) in (',', ')'):
            if t.text == 'stream' or (t.text == 's' and re.search(r'cudaStream_t s\b', s.function_of(i))):
                s.add('stream', i, i, 'NULL')
        if s.is_call(i) and t.text in ('rm_cuda_stream', 'stream_of'):
            s.add('stream', i, s.match[i + 1], 'NULL')
            if t.text == 'rm_cuda_stream':
                last = s.arguments(i + 1)[-1]
                s.add('stream', last[0], last[1], 'NULL')
        if t.text == 'compute' and s.word(i + 1) == '.' and s.word(i + 2) == 'stream':
            s.add('stream', i - 2, i + 2, 'NULL')
        if s.is_call(i) and re.match(r'rm_mark_(set|wait)|rm_read|rm_write|rm_sync', t.text):
            queue = s.arguments(i + 1)[1]
            if s.word(queue[0]) != 'NULL':
                s.add('stream', queue[0], queue[1], 'NULL')


def swaps(s):
    for i, t in enumerate(s.tokens):
        if not s.is_call(i) or t.text in TEXTS or i in s.quiet:
            continue
        arguments = s.arguments(i + 1)
        for (a, b), (c, d) in zip(arguments, arguments[1:]):
            if any(u.kind not in ('name', 'op') or u.text not in ('.', '->', '[', ']', '&') and u.kind == 'op' for k in ((a, b), (c, d)) for u in s.tokens[k[0]:k[1] + 1]):
                continue
            first, second = s.text[slice(*s.span(a, b))], s.text[slice(*s.span(c, d))]
            between = s.text[s.span(a, b)[1]:s.span(c, d)[0]]
            s.add('swapped arguments', a, d, second + between + first)


def indices(s):
    for i, t in enumerate(s.tokens):
        if t.text == '[' and s.depth[i] and s.tokens[i - 1].kind in ('name',) or (t.text == '[' and s.word(i - 1) in (']', ')')):
            a, b = i + 1, s.match[i] - 1
            before = s.tokens[i - 2].kind == 'name' and s.word(i - 2) not in ('return', 'else') or s.word(i - 2) == '*' and not s.spaced(i - 2)
            if b < a or before or s.tokens[a].kind == 'number' or s.word(a).isupper() or s.word(i + 1) in ('=', '&'):
                continue
            at, end = s.span(a, b)
            s.add('index', a, b, f'{s.text[at:end]} + 1')


def siblings(s):
    for i, t in enumerate(s.tokens):
        if t.kind != 'name' or s.word(i - 1) == '#':
            continue
        if t.text in SIBLING and (s.depth[i] or '_' in t.text):
            s.add('enum constant' if not t.text.startswith('RM_') or t.text.startswith(('RM_CUDA', 'RM_LAYOUT', 'RM_E', 'RM_MEM')) else 'slot or type', i, i, SIBLING[t.text])
        if t.text in MEMBER and s.depth[i] and s.word(i - 1) in ('.', '->') and s.word(i + 1) != '(' and s.word(i - 2) != '{' and s.word(i - 2) != ',':
            s.add('member', i, i, MEMBER[t.text])


def returns(s):
    for i, t in enumerate(s.tokens):
        if t.text == 'continue' and s.depth[i]:
            s.add('early return', i, i, 'break')
        if t.text == 'break' and s.depth[i]:
            s.add('early return', i, i, 'continue')
        if t.text == 'return' and s.word(i + 1) == ';':
            s.add('early return', i, i + 1, ';')
        if t.text != '{' or s.depth[i] or s.word(i - 1) != ')' or i not in s.match:
            continue
        head = s.function_of(i).split('(')[0]
        value = next((v for k, v in (('rm_status', 'RM_OK'), ('bool', 'false'), ('cudaError_t', 'cudaSuccess'), ('KERNEL', ''), ('void ', '')) if k in head and 'void *' not in head), None)
        if value is not None and s.word(i + 1) not in ('return', '}'):
            at = s.tokens[i].at
            s.replace('early return', at, at + 1, '{ if (1) return ' + value + ';' if value else '{ if (1) return;')


def function_of(self, i):
    """The head of the function that token i is in."""
    while i and (self.depth[i] or self.word(i) != '{'):
        i -= 1
    first = i - 1
    while first > 0 and (self.depth[first - 1] or self.word(first - 1) not in (';', '}')):
        first -= 1
    return self.text[self.tokens[max(first, 0)].at:self.tokens[i].at]


Source.function_of = function_of
OPERATORS = (binary, constants, conditions, deletions, successes, streams, swaps, indices, siblings, returns)


def mutants(file, text):
    source = Source(file, text)
    for operator in OPERATORS:
        operator(source)
    out, seen = [], collections.Counter()
    for operator, at, old, new in sorted(set(source.out), key=lambda m: (m[1], m[0], m[3])):
        begin = text.rfind('\n', 0, at) + 1
        line = text[begin:text.find('\n', at + len(old))]
        key = '\0'.join((file, operator, line.strip(), str(at - begin), old, new))
        seen[key] += 1
        digest = hashlib.sha256(f'{key}\0{seen[key]}'.encode()).hexdigest()[:7]
        out.append(Mutant(f'{file}-{digest}', file, operator, text.count('\n', 0, at) + 1, at, old, new))
    return out
