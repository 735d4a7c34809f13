"""The steps, in order, and how large each is: a new step is a function and a row here."""
from dataclasses import dataclass, field
from typing import Callable

from . import checks, measures


@dataclass
class Step:
    name: str
    run: Callable
    guess_s: float   # for the time left, until it is known better: a guess
    quick_s: float   # the same with --quick; 0: left out
    limit_s: float   # ended then
    why: str         # what it shows that the test doubles cannot
    record: dict = None


STEPS = [
    Step('facts', checks.facts, 20, 20, 300, 'what the GPU is, in its own words, and where our descriptions of such GPUs are wrong'),
    Step('kernels', checks.kernels, 300, 100, 3600, "every op against ref on the hardware: cuDNN's own numerics, what ptxas made of our kernels"),
    Step('step', checks.step, 900, 120, 5400, 'the whole network and training step against ref, recorded as a CUDA graph and not'),
    Step('golden', checks.golden, 180, 0, 1800, "one training step against PyTorch's numbers"),
    Step('sanitizer', checks.sanitizer, 900, 0, 5400, 'memory, races, uninitialised reads and barriers as the hardware runs them'),
    Step('deterministic', checks.deterministic, 60, 20, 900, 'the same bits in two runs'),
    Step('autotune', measures.autotune, 120, 60, 1800, 'which plans are fastest, how long finding them takes, and that kept plans come back'),
    Step('layers', measures.layers, 300, 60, 2400, 'time, bandwidth and bound of every layer'),
    Step('throughput', measures.throughput, 600, 200, 3600, 'images per second on one GPU to all'),
    Step('clocks', measures.clocks, 1, 1, 60, 'whether the GPU was throttled while it was measured'),
    Step('loader', measures.loader, 120, 0, 1800, 'whether the loader keeps up with the GPU'),
    Step('overlap', measures.overlap, 240, 0, 1800, 'what CUPTI sees of a real step, how much computing hides communication, what tracing costs'),
    Step('comm', measures.comm, 180, 60, 1800, 'all-reduce over NVLink or PCIe: exact sums, bandwidth beside nccl-tests'),
    Step('splits', measures.splits, 600, 0, 3600, 'which cut of the gradients is fastest'),
    Step('faults', checks.faults, 90, 60, 600, 'a rank that dies ends the others, inside NCCL too'),
    Step('training', checks.training, 300, 60, 3600, "losses beside the cpu device's, and the recipe tiny to its target accuracy"),
]
NAMES = [step.name for step in STEPS]
TYPES = ('fp32', 'tf32', 'bf16', 'fp16')


@dataclass
class Sizes:
    px: int = 224
    batches: tuple = (128, 256)
    classes: int = 1000
    steps: int = 50
    warmup: int = 10
    rounds: int = 30
    layer_dtypes: tuple = ('bf16', 'fp16', 'tf32')
    cases: dict = field(default_factory=lambda: {'small': TYPES, 'resnet50-64px': TYPES, 'types': ('',)})
    step_filter: str = 'all'         # None: the quick ones alone
    small_batch: int = 128           # of 32 px
    train_steps: int = 20
    same_bits: tuple = ('fp32', 'bf16', 'fp16')
    to_accuracy: bool = True
    data_images: int = 0             # 0: all
    no_twins: bool = False
    comm_sizes: str = '8:1Gi:2'
    comm_words: tuple = ()
    comm_timeout_s: int = 30
    save_every: int = 20
    splits: str = None


def sizes(dry_run, quick):
    s = Sizes()
    if quick:
        s = Sizes(batches=(256,), steps=20, warmup=5, layer_dtypes=('bf16',), cases={'small': TYPES, 'types': ('',)}, same_bits=('bf16',), to_accuracy=False, no_twins=True,
                  comm_sizes='8:256Mi:8', step_filter=None)
    if dry_run:  # on processors: seconds a step, not minutes
        s = Sizes(px=32, batches=(2,) if quick else (2, 4), classes=10, steps=2, warmup=1, rounds=2, layer_dtypes=('bf16',) if quick else ('bf16', 'fp16', 'tf32'),
                  cases={'small': ('fp32',)} if quick else {'small': ('fp32', 'bf16'), 'types': ('',)}, step_filter='quick_*' if quick else None, small_batch=2, train_steps=2,
                  same_bits=('bf16',), to_accuracy=False, data_images=64, no_twins=True, comm_sizes='8:64Ki:64', comm_words=('--iterations', '3'), comm_timeout_s=15, save_every=1,
                  splits='single;equal:2')
    return s
