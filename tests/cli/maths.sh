#!/usr/bin/env bash
# The maths of data parallelism by the command line: the same bits again, every image once, on with another number of ranks.
# tests/model/test_parallel.c has what needs no files.
source "$(dirname "$0")/common.bash"
small_data data 96 41
run() { "$bench" train --data data --px 16 --workers 1 --seed 3 --device cpu --dtype fp32 --threads 1 --oversubscribe --comm-timeout 120 -q "$@"; }
set=bn_frozen=true,zero_init_last_gamma=true,lr=0.02,warmup_epochs=0,eval_every=0,flip=true
frozen=(--set "$set" --steps 4 --save-every 2)

# apart A B START: |A - B| over |A - START|, over all weights: how far two trainings are apart in units of what they did
apart() { python3 - "$@" <<'P'
import array, json, math, sys
def weights(path):
    raw = open(path, "rb").read(); n = int.from_bytes(raw[:8], "little"); head = json.loads(raw[8:8 + n]); out = {}
    for name, t in head.items():
        if name != "__metadata__" and "running" not in name and t["dtype"] == "F32":
            a, b = t["data_offsets"]; out[name] = array.array("f", raw[8 + n + a:8 + n + b])
    return out
a, b, s = (weights(p) for p in sys.argv[1:4])
off = moved = 0.0
for k in a:
    off += math.fsum((x - y) ** 2 for x, y in zip(a[k], b[k]))
    moved += math.fsum((x - y) ** 2 for x, y in zip(a[k], s[k]))
print(math.sqrt(off / moved))
P
}
less() { python3 -c 'import sys; sys.exit(not float(sys.argv[1]) < float(sys.argv[2]))' "$1" "$2"; }
last=tiny-00000004.safetensors half=tiny-00000002

# the same seed twice on two ranks: the same bits
run --gpus 2 --batch 8 "${frozen[@]}" --save-dir two || fail "two ranks"
run --gpus 2 --batch 8 "${frozen[@]}" --save-dir again || fail "two ranks again"
cmp -s two/$last again/$last || fail "same seed, two ranks, other weights"

# half of it, then on: one rank after two and two after one, of the same global batch, see the same images
run --gpus 1 --batch 16 "${frozen[@]}" --save-dir one || fail "one rank"
for row in "two 1 16" "one 2 8"; do
  read -r from n b <<<"$row"
  mkdir "on$n"; cp "$from/$half".* "on$n"
  run --gpus "$n" --batch "$b" "${frozen[@]}" --resume --save-dir "on$n" --json "on$n.json" || fail "resume $from on $n ranks"
  check "on$n.json" 'r[0]["resumed_from"] == 2 and r[0]["steps"] == 2'
  d=$(apart one/$last "on$n/$last" one/$half.safetensors)
  less "$d" 0.001 || fail "$from resumed on $n ranks is $d of the way off"
done
# and other images would be seen
mkdir mirrored; cp one/$half.* mirrored
run --gpus 1 --batch 16 "${frozen[@]}" --set "$set,flip=false" --resume --save-dir mirrored || fail "without mirroring"
less 0.01 "$(apart one/$last mirrored/$last one/$half.safetensors)" || fail "the measure does not see other images"

# another global batch goes on at the same image, or not at all
mkdir wider odd
cp "one/$half".* wider; cp "one/$half".* odd
run --gpus 1 --batch 32 "${frozen[@]}" --steps 2 --resume --save-dir wider --json wider.json || fail "resume with another batch"
check wider.json 'r[0]["resumed_from"] == 1 and r[0]["steps"] == 1'
expect 2 '32 images into an epoch, where no step of 24 images begins' run --gpus 1 --batch 24 "${frozen[@]}" --resume --save-dir odd

# evaluation: 41 images over 1, 2 and 3 ranks are the same 41
for n in 1 2 3; do
  "$bench" eval one/$last --data data --px 16 --batch 4 --workers 1 --device cpu --dtype fp32 --threads 1 --oversubscribe --gpus $n --comm-timeout 120 --json eval$n.json -q || fail "eval on $n"
  check eval$n.json 'r[0]["images"] == 41 and r[0]["skipped"] == 0'
  [[ $(json eval$n.json '(r[0]["top1"], r[0]["top5"], round(r[0]["loss"], 5))') == "$(json eval1.json '(r[0]["top1"], r[0]["top5"], round(r[0]["loss"], 5))')" ]] \
    || fail "evaluation on $n ranks differs"
done
finish
