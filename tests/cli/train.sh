#!/usr/bin/env bash
# Training by the command line: evaluation counts, checkpoints, bitwise resume after kill -9 and Ctrl-C, damaged files.
source "$(dirname "$0")/common.bash"
small_data data
run=("$bench" train --data data "${tiny[@]}" --steps 6)
train() { "${run[@]}" "$@"; }

# straight through
train --save-dir a --save-every 2 --keep 5 --json a.json -q || fail "training"
check a.json 'r[0]["steps"] == 6 and r[0]["final_top1"] is not None and len(r[0]["epochs_log"]) == 1'
check a.json 'abs(sum(r[0]["budget_s"].values()) / r[0]["step_s"]["median"] - 1) < 0.02'
check a.json 'r[0]["counters"]["cpu_s"] > 0 and (r[0]["counters"]["foreign_s"] is None or 0 <= r[0]["disturbed_steps"] <= 6) and r[0]["memory_high_bytes"] > 1 << 20'
[[ $(ls a/*.state.safetensors | wc -l) == 3 ]] || fail "three checkpoints: $(ls a)"
last=tiny-00000006

# the same again, in the same bits
train --save-dir b --save-every 6 -q --json b.json || fail "training again"
cmp -s a/$last.safetensors b/$last.safetensors || fail "same seed, other weights"

# resumed from step 2 on another process
mkdir c && cp a/tiny-00000002.* c/
train --save-dir c --save-every 6 --resume -q --json c.json || fail "resume"
cmp -s a/$last.safetensors c/$last.safetensors || fail "resumed run differs in the model"
cmp -s a/$last.state.safetensors c/$last.state.safetensors || fail "resumed run differs in the momentum"
check c.json 'r[0]["resumed_from"] == 2 and r[0]["steps"] == 4'
train --save-dir d --save-every 6 --workers 3 -q >/dev/null || fail "three workers"
cmp -s a/$last.safetensors d/$last.safetensors || fail "the number of workers changed the weights"

# killed while it writes checkpoints, again and again, then resumed
mkdir k
for try in 1 2 3; do
  "${run[@]}" --save-dir k --save-every 1 --resume -q >/dev/null 2>&1 & # the program itself, not a subshell: it is to be killed
  pid=$!
  for _ in $(seq 400); do ls k/*.safetensors >/dev/null 2>&1 && break; sleep 0.05; done
  sleep 0.$((try * 13)); kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
done
train --save-dir k --save-every 1 --keep 2 --resume -q >/dev/null || fail "resume after kill -9"
cmp -s a/$last.safetensors k/$last.safetensors || fail "after kill -9 the weights differ"
[[ -z $(ls k | grep -v 'safetensors$') ]] || fail "temporaries left: $(ls k)"
[[ $(ls k/*.state.safetensors | wc -l) -le 2 ]] || fail "--keep 2 kept $(ls k)"

# Ctrl-C: the step is finished and saved
"$bench" train --data data "${tiny[@]}" --steps 100000 --save-dir i -q >/dev/null 2>i.log &
pid=$!; sleep 3; kill -INT $pid; wait $pid; code=$?
[[ $code == 130 ]] || fail "SIGINT: exit $code"
ls i/*.state.safetensors >/dev/null 2>&1 || fail "SIGINT: nothing saved: $(cat i.log)"

# evaluation sees every image once; inference names classes
"$bench" eval a/$last.safetensors --data data --px 16 --batch 7 --json e.json -q || fail "eval"
check e.json 'r[0]["images"] == 40 and r[0]["skipped"] == 0 and abs(r[0]["top1"] - json.load(open("a.json"))["results"][0]["final_top1"]) < 1e-9'
image=$(ls data/val/*/* | head -1)
expect 0 '%' "$bench" infer a/$last.safetensors "$image" --px 16 --data data --topk 2
echo nonsense >bad.jpg
expect 2 'bad.jpg' "$bench" infer a/$last.safetensors bad.jpg "$image" --px 16

# damaged and foreign checkpoints
good=a/$last.safetensors
head -c 1000 $good >truncated.safetensors
expect 2 'truncated.safetensors' "$bench" eval truncated.safetensors --data data --px 16
cp $good flipped.safetensors; cp a/$last.state.safetensors flipped.state.safetensors
printf '\xff' | dd of=flipped.safetensors bs=1 seek=5000000 conv=notrunc status=none
mkdir f && cp flipped.safetensors f/tiny-00000006.safetensors && cp flipped.state.safetensors f/tiny-00000006.state.safetensors && cp a/tiny-00000004.* f/
expect 0 'step 4' train --save-dir f --resume
echo '{}' >foreign.safetensors
expect 2 'foreign.safetensors' "$bench" eval foreign.safetensors --data data --px 16
expect 2 'classes' "$bench" step --init $good --classes 7 --px 16 --batch 2
expect 2 'nowhere/at/all' train --save-dir nowhere/at/all
finish
