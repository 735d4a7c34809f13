#!/usr/bin/env python3
"""`bench step` against torchvision: the same weights and batch through PyTorch in double precision.

    make_golden.py step50.json --out DIR
    bench step --init DIR/init.safetensors --batch-file DIR/batch.safetensors --dump O.safetensors --label-smoothing 0.1
    compare_step.py O.safetensors --init DIR/init.safetensors --batch-file DIR/batch.safetensors --label-smoothing 0.1

A row per group: median and largest |have - want| / |want| over its tensors (2-norm) and the tensor with the largest. Beside
ours stand PyTorch's own in float32 and, with --bf16, in bfloat16. Ends with 1 when a tensor is missing, of another shape or
not finite, or when --limit is exceeded."""
import argparse
import sys

import numpy as np
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

import make_golden as golden


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dump")
    p.add_argument("--init", required=True)
    p.add_argument("--batch-file", required=True)
    p.add_argument("--depth", type=int, default=50)
    p.add_argument("--variant", choices=["v1", "v1.5"], default="v1.5")
    p.add_argument("--lr", type=float, default=0.1)
    p.add_argument("--momentum", type=float, default=0.9)
    p.add_argument("--weight-decay", type=float, default=0.0)
    p.add_argument("--decay-bn", action="store_true")
    p.add_argument("--label-smoothing", type=float, default=0.0)
    p.add_argument("--bn-eps", type=float, default=1e-5)
    p.add_argument("--bn-momentum", type=float, default=0.1)
    p.add_argument("--bf16", action="store_true", help="PyTorch in bfloat16 beside it")
    p.add_argument("--limit", type=float, help="largest relative error that passes")
    return p.parse_args()


def build(a, state):
    model = golden.resnet(a.depth, state["fc.bias"].numel(), a.bn_eps, a.bn_momentum)
    if a.variant == "v1":  # torchvision strides in the 3x3
        for block in (m for m in model.modules() if isinstance(m, type(model.layer1[0]))):
            block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
    missing, unexpected = model.load_state_dict(state, strict=False)
    bad = [k for k in missing if not k.endswith("num_batches_tracked")] + unexpected
    if bad:
        sys.exit(f"{a.init}: names that do not fit: {', '.join(bad[:5])}")
    return model


def step(a, state, batch, dtype, autocast=False):
    return golden.run_step(build(a, state), batch["images"], batch["labels"], a.label_smoothing, dtype, autocast, a.lr, a.momentum,
                           a.weight_decay, a.decay_bn)


def group_of(name):
    return "running statistics" if ".running_" in name else name.split(".")[0] if name.startswith(("grad.", "param.")) else name


def spread(have, want):
    groups = {}
    for name, value in want.items():
        groups.setdefault(group_of(name), []).append((golden.relative(np.asarray(have[name], np.float64).reshape(value.shape), value), name))
    return {g: (sorted(e)[len(e) // 2][0], *max(e)) for g, e in groups.items()}


def main():
    a = arguments()
    state, batch, have = load_file(a.init), load_file(a.batch_file), load_numpy(a.dump)
    want = step(a, state, batch, torch.float64)
    bad = [k for k, v in want.items() if k not in have or have[k].size != v.size or not np.isfinite(have[k]).all()]
    bad += [k for k in have if k not in want]
    if bad:
        print("missing, unknown, of another shape or not finite:", ", ".join(bad[:10]))
        return 1
    columns = {"ours": spread(have, want), "torch fp32": spread(step(a, state, batch, torch.float32), want)}
    if a.bf16:
        columns["torch bf16"] = spread(step(a, state, batch, torch.float32, True), want)
    print(f"{'':20}" + "".join(f"{c + ' median':>20}{c + ' max':>20}" for c in columns) + "  worst of ours")
    for g in columns["ours"]:
        print(f"{g:20}" + "".join(f"{c[g][0]:20.3g}{c[g][1]:20.3g}" for c in columns.values()) + "  " + columns["ours"][g][2])
    worst = max(e[1] for e in columns["ours"].values())
    return int(a.limit is not None and not worst <= a.limit)


if __name__ == "__main__":
    sys.exit(main())
