#!/usr/bin/env bash
# Bad input and faults: a clear line, the documented exit code, nothing lost.
source "$(dirname "$0")/common.bash"
small_data data
train=("$bench" train "${tiny[@]}" --steps 2)

# impossible options
expect 2 'batch' "$bench" train --batch 0
expect 2 'px' "$bench" train --px 7
expect 2 'fp16' "${train[@]}" --device cpu --dtype fp16 --data data
expect 2 'do not fit' "${train[@]}" --gpus 4096 --data data
expect 2 'split' "${train[@]}" --data data --split 5,3
expect 2 'cuda' "${train[@]}" --device cuda
expect 2 'classes' "${train[@]}" --data data --classes 7
expect 2 'larger than' "$bench" train --px 16 --batch 4096 --data data --steps 1
expect 2 'save-dir' "${train[@]}" --data data --resume
expect 2 'nonsense' "${train[@]}" --set nonsense=1
printf 'lr = 0.1\ncolour = red\n' >odd.recipe
expect 2 'odd.recipe.*colour|colour.*odd.recipe' "${train[@]}" --recipe ./odd.recipe

# data folders
expect 2 'nowhere' "${train[@]}" --data nowhere
mkdir empty; expect 2 'empty' "${train[@]}" --data empty
mkdir -p one/train/a one/val/a; cp "$(ls data/train/*/* | head -1)" one/train/a/; cp "$(ls data/val/*/* | head -1)" one/val/a/
expect 2 'one' "${train[@]}" --data one
cp -r data other; mv other/val/"$(ls other/val | head -1)" other/val/zzz
expect 2 'other' "${train[@]}" --data other

# a few bad files within the limit are skipped and listed; more stop the run
cp -r data bad; first=$(ls bad/train/*/* | head -1); head -c 100 "$first" >x && mv x "$first"
expect 0 'skipped' "$bench" train "${tiny[@]}" --data bad --max-bad 0.05 --epochs 1
expect 2 'bad' "${train[@]}" --data bad --max-bad 0.05 --bad-images fail --steps 6
for f in bad/train/*/*; do : >"$f"; done
expect 2 'bad' "${train[@]}" --data bad

# the loss is not a number: the layer is named
expect 2 'not finite|is -?nan|is inf' "${train[@]}" --data data --set lr=1000,warmup_epochs=0 --steps 6

# a full disk: the old checkpoint stays, training goes on, the exit code says so
mkdir disk
if mount -t tmpfs -o size=240m none disk 2>/dev/null; then
  trap 'umount disk' EXIT
  "${train[@]}" --data data --save-dir disk --save-every 1 --keep 3 --steps 3 -q >full.out 2>full.log; code=$?
  [[ $code == 7 ]] || fail "full disk: exit $code: $(tail -3 full.log)"
  grep -q 'checkpoint not written' full.log || fail "full disk: no warning: $(tail -3 full.log)"
  expect 0 '' "$bench" eval disk/tiny-00000001.safetensors --data data --px 16 -q
  [[ -z $(ls disk | grep tmp) ]] || fail "full disk: temporaries left: $(ls disk)"
else echo "full disk: not tried, mounting a tmpfs is not allowed here"; fi
finish
