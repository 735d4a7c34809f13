#!/usr/bin/env python3
"""One training step of torchvision's ResNet-50 in double precision, as numbers that tests/golden/golden.h can check.

    make_golden.py step50.json            writes the numbers (tests read the committed file; Python is not needed for them)
    make_golden.py step50.json --out DIR  also DIR/init.safetensors and DIR/batch.safetensors for `bench step`

Weights, images and labels come from the integer hash below, which golden.h repeats bit for bit; every value is exact in
float32. They are conditioned so that float32 and float64 differ by rounding alone: small last gammas keep the gradients
of a deep network from growing, betas of 2 keep pre-activations away from ReLU's kink. The betas before a
downsampling block are -1: were all values there positive, the batch norms behind it would cancel a beta, and its gradient
would be zero.

Of each tensor the file holds its 2-norm, sum, 8 elements at hashed places and 8 projections on hashed vectors of signs.
For a difference d between two tensors the mean square of its projections estimates |d|^2, every element included."""
import argparse
import json
import math

import numpy as np
import torch
import torchvision

PX, BATCH, CLASSES = 64, 4, 1000
LR, MOMENTUM, DECAY, SMOOTHING = 0.1, 0.9, 1e-4, 0.1
SAMPLES, PROJECTIONS = 8, 8
SAMPLE_AT, SIGN_AT = 1 << 40, 1 << 41  # where in a name's stream the places and the signs come from
SEED = 18  # of 20, the one whose pre-activations and max-pool ties keep farthest from the kink: 7 times float32 rounding
MASK = (1 << 64) - 1


def fnv1a(text):
    h = 0xCBF29CE484222325 ^ SEED
    for c in text.encode():
        h = ((h ^ c) * 0x100000001B3) & MASK
    return h


def hashes(name, start, count):
    """Elements start.. of the stream of `name`: SplitMix64's finaliser over the name's FNV-1a hash plus a Weyl sequence."""
    with np.errstate(over="ignore"):
        i = np.arange(start + 1, start + 1 + count, dtype=np.uint64)
        z = np.uint64(fnv1a(name)) + i * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def unit(name, count):
    """-1 <= u < 1 in steps of 2^-23."""
    return (hashes(name, 0, count) >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0


# The first rule whose ending fits: (value = centre + width * u), width None: sqrt(numerator / fan-in).
RULES = [
    (".running_mean", 0.0, 1 / 8, None), (".running_var", 1.0, 1 / 4, None),
    ("bn3.weight", 3 / 16, 1 / 32, None), ("layer1.2.bn3.bias", -1.0, 1 / 8, None), ("layer2.3.bn3.bias", -1.0, 1 / 8, None),
    ("layer3.5.bn3.bias", -1.0, 1 / 8, None), ("bn3.bias", 1 / 4, 1 / 8, None),
    ("bn1.weight", 1.0, 1 / 8, None), ("bn2.weight", 1.0, 1 / 8, None), ("downsample.1.weight", 1.0, 1 / 8, None),
    (".bn1.bias", 2.0, 1 / 4, None), ("bn1.bias", -1.0, 1 / 4, None), ("bn2.bias", 2.0, 1 / 4, None), ("downsample.1.bias", 2.0, 1 / 4, None),
    ("fc.weight", 0.0, None, 1.0), ("fc.bias", 0.0, 1 / 64, None), ("weight", 0.0, None, 6.0),
]


def tensor(name, shape):
    count = math.prod(shape)
    _, centre, width, numerator = next(r for r in RULES if name.endswith(r[0]))
    if width is None:
        width = math.sqrt(numerator / math.prod(shape[1:]))
    return (centre + width * unit(name, count)).astype(np.float32).reshape(shape)


def init_state(model):
    return {k: torch.from_numpy(tensor(k, tuple(v.shape))) for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def batch(n=BATCH, px=PX, classes=CLASSES):
    images = (2 * unit("images", n * 3 * px * px)).astype(np.float32).reshape(n, 3, px, px)
    labels = ((hashes("labels", 0, n) >> np.uint64(33)) % np.uint64(classes)).astype(np.int64)
    return torch.from_numpy(images), torch.from_numpy(labels)


def resnet(depth=50, classes=CLASSES, eps=1e-5, bn_momentum=0.1):
    model = getattr(torchvision.models, f"resnet{depth}")(num_classes=classes)
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eps, m.momentum = eps, bn_momentum
    return model


def run_step(model, images, labels, smoothing, dtype=torch.float64, autocast=False, lr=LR, momentum=MOMENTUM, decay=DECAY, decay_bn=False):
    """The step as a dict of float64 arrays: loss, logits, grad.NAME, param.NAME, NAME.running_mean and running_var."""
    model = model.to(dtype).train()
    named = dict(model.named_parameters())
    bn = {k for m, mod in model.named_modules() if isinstance(mod, torch.nn.BatchNorm2d) for k in (m + ".weight", m + ".bias")}
    groups = [{"params": [p for k, p in named.items() if (k in bn) == side], "weight_decay": decay if not side or decay_bn else 0.0}
              for side in (False, True)]
    optimiser = torch.optim.SGD(groups, lr=lr, momentum=momentum)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(images.to(dtype))
    loss = torch.nn.functional.cross_entropy(logits.to(dtype), labels, label_smoothing=smoothing)
    loss.backward()
    out = {"loss": loss, "logits": logits} | {"grad." + k: p.grad.clone() for k, p in named.items()}
    optimiser.step()
    out |= {"param." + k: p for k, p in named.items()}
    out |= {k: v for k, v in model.state_dict().items() if ".running_" in k}
    return {k: v.detach().to(torch.float64).numpy() for k, v in out.items()}


def sketch(name, v):
    """`name` seeds places and signs: the tensor's own, whatever the group."""
    v = v.reshape(-1)
    at = (hashes(name, SAMPLE_AT, SAMPLES) >> np.uint64(11)) % np.uint64(v.size)
    bits = hashes(name, SIGN_AT, v.size)
    signs = [np.where((bits >> np.uint64(63 - k)) & np.uint64(1), -1.0, 1.0) for k in range(PROJECTIONS)]
    fsum = math.fsum
    return {"norm": math.sqrt(fsum(v * v)), "sum": fsum(v), "at": [float(v[int(i)]) for i in at], "proj": [fsum(s * v) for s in signs]}


def group(step, prefix):
    return {k[len(prefix):]: sketch(k[len(prefix):], v) for k, v in step.items() if k.startswith(prefix)}


def relative(have, want):
    return float(np.linalg.norm((have - want).ravel()) / max(np.linalg.norm(want.ravel()), 1e-300))


def spread(have, want, select):
    e = sorted(relative(have[k], want[k]) for k in want if select(k))
    return {"median": e[len(e) // 2], "max": e[-1]}


SELECT = {"grad": lambda k: k.startswith("grad."), "param": lambda k: k.startswith("param."), "stats": lambda k: ".running_" in k}


def scores(have, want):
    """Errors of another precision against double: what is reached by PyTorch is asked of others, times a small factor."""
    return {"loss": relative(have["loss"], want["loss"]), "logits": relative(have["logits"], want["logits"])} | {
        g: spread(have, want, f) for g, f in SELECT.items()}


def fresh(state):
    model = resnet()
    model.load_state_dict(state, strict=False)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json")
    parser.add_argument("--out", help="folder for init.safetensors and batch.safetensors")
    args = parser.parse_args()
    torch.manual_seed(0)
    state = init_state(resnet())
    images, labels = batch()
    smooth = run_step(fresh(state), images, labels, SMOOTHING)
    hard = run_step(fresh(state), images, labels, 0.0)
    doc = {
        "about": "tests/golden/make_golden.py: one step of torchvision's resnet50 in float64",
        "config": {"px": PX, "batch": BATCH, "classes": CLASSES, "variant": "v1.5", "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY,
                   "decay_bn": False, "decay_bias": True, "label_smoothing": SMOOTHING, "bn_eps": 1e-5, "bn_momentum": 0.1},
        "labels": labels.tolist(),
        "logits": smooth["logits"].reshape(-1).tolist(),
        "smooth": {"loss": float(smooth["loss"]), "grad": group(smooth, "grad."), "param": group(smooth, "param.")},
        "hard": {"loss": float(hard["loss"]), "grad": group(hard, "grad.")},
        "stats": {k: sketch(k, v) for k, v in smooth.items() if SELECT["stats"](k)},
        "torch": {"fp32": scores(run_step(fresh(state), images, labels, SMOOTHING, torch.float32), smooth),
                  "bf16": scores(run_step(fresh(state), images, labels, SMOOTHING, torch.float32, autocast=True), smooth)},
    }
    with open(args.json, "w") as f:
        f.write(json.dumps(doc, separators=(",", ":")).replace('},"', '},\n"') + "\n")
    print(json.dumps({"loss": doc["smooth"]["loss"], "torch": doc["torch"]}, indent=1))
    if args.out:
        from safetensors.torch import save_file
        save_file(state, args.out + "/init.safetensors")
        save_file({"images": images, "labels": labels}, args.out + "/batch.safetensors")


if __name__ == "__main__":
    main()
