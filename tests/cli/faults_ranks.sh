#!/usr/bin/env bash
# Faults of several ranks: none hangs, none loses a checkpoint, each gives one line and the documented exit code (docs/faults.md).
# A rank that hangs in the middle of a step, and a NaN in one gradient of one rank: tests/model/test_parallel.c.
source "$(dirname "$0")/common.bash"
base=("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --batch 4 --oversubscribe)
table=()

saved() { ls "$1"/*.state.safetensors 2>/dev/null; }
# begin DIR [TIME-OUT]: an endless training of two ranks in the background ($pid) that has saved something. (A background job of a
# script ignores SIGINT unless something restores it; env does.)
begin() {
  rm -rf "$1"
  env --default-signal=INT "${base[@]}" --gpus 2 --comm-timeout "${2:-30}" --split 107,160 --save-dir "$1" --save-every 10 --steps 100000000 -q >out.txt 2>err.txt & pid=$!
  for _ in $(seq 600); do [[ -n $(saved "$1") ]] || ! kill -0 "$pid" 2>/dev/null && break; sleep 0.1; done
  [[ -n $(saved "$1") ]] || fail "nothing saved in a minute: $(cat err.txt)"
  began=$(date +%s.%N)
}
# ended CODE PATTERN WHAT: $pid ends within 40 s, with one line and nothing left behind
ended() {
  local code=$1 pattern=$2 what=$3 got
  ( sleep 40; kill -9 "$pid" 2>/dev/null ) & local guard=$!
  wait "$pid"; got=$?
  table+=("$what|$got|$(python3 -c "import time; print('%.1f' % (time.time() - $began))")|$(tail -n 1 err.txt)")
  kill $guard 2>/dev/null
  [[ $got == "$code" ]] || fail "$what: exit $got, not $code: $(cat err.txt)"
  grep -qE -- "$pattern" err.txt || fail "$what: no /$pattern/: $(cat err.txt)"
  [[ $(grep -c . err.txt) == 1 ]] || fail "$what: more than one line: $(cat err.txt)"
  for _ in $(seq 20); do [[ -z $(ranks_of) ]] && break; sleep 0.1; done
  [[ -z $(ranks_of) ]] || fail "$what: ranks are left: $(ranks_of)"
}
newest='newest checkpoint: ck/tiny-[0-9]+.safetensors'

# killed: who, where, when, and what there is to go on from; and it does go on
for rank in 1 0; do
  begin ck; kill -9 "$(rank_pid $rank)"; ended 6 "^bench train: rank $rank on [^ ]+ was killed by signal 9 .*after step [0-9]+; $newest" "rank $rank killed"
done
found=$(saved ck | tail -n 1); found=${found##*tiny-}; found=$((10#${found%%.*}))
expect 0 '' "${base[@]}" --gpus 2 --save-dir ck --resume --steps $((found + 1)) --json on.json -q
check on.json "r[0][\"resumed_from\"] == $found and r[0][\"steps\"] == 1"

# stopped: the time-out, who did not arrive, when
begin ck 5; kill -STOP "$(rank_pid 1)"; ended 6 "^bench train: rank 0 on .* waited 5.0 s for .*rank 1 on .* did not arrive.*in step [0-9]+; $newest" 'rank 1 stopped'

# slow, within the time-out: nothing happens. Then the end as asked for
begin ck; slow=$(rank_pid 1); kill -STOP "$slow"; sleep 2; kill -CONT "$slow"; sleep 0.5; kill -TERM "$pid"; ended 143 'interrupted at step [0-9]+; saved: ck/tiny-' 'rank 1 slow, then SIGTERM'
begin ck; kill -INT "$pid"; ended 130 'interrupted at step [0-9]+; saved: ck/tiny-' 'SIGINT'
# the first signal waits for a step that never ends, the second does not
begin ck; kill -STOP "$(rank_pid 1)"; kill -INT "$pid"; sleep 1; kill -INT "$pid"
wait "$pid"; got=$?
[[ $got == 130 ]] || fail "second SIGINT: exit $got"
for _ in $(seq 100); do [[ -z $(ranks_of) ]] && break; sleep 0.1; done
[[ -z $(ranks_of) ]] || fail "second SIGINT: ranks are left"
table+=("second SIGINT|$got||$(tail -n 1 err.txt)")

# numbers that are not finite: every rank finds them in the same step, one line names the layer
expect 2 '^bench train: (rank 1: )?step [0-9]+: the gradient of [a-z0-9.]+ is not finite .*lower the learning rate' \
  "$bench" train --device cpu --dtype fp32 --threads 1 --data synthetic --classes 10 --px 16 --batch 4 --gpus 2 --oversubscribe --comm-timeout 60 --set lr=1000,weight_decay=1,warmup_epochs=0 --steps 30 -q

# ranks that would train different things, started by the user's own launcher
if ldd "$bench" | grep -q libmpich; then mpirun=$(command -v mpiexec.mpich || command -v mpiexec); else mpirun=$(command -v mpirun.openmpi || command -v mpirun); fi
[[ ${mpirun##*/} == mpiexec* ]] || own=(--oversubscribe --bind-to none $([[ $(id -u) == 0 ]] && echo --allow-run-as-root))
cp "$bench" built-otherwise; LC_ALL=C sed -i 's/0\.1\.0 (git/0.1.9 (git/' built-otherwise
differ() { # FIELD 'VALUE of rank 0' 'VALUE of rank 1' PROGRAM OPTIONS...
  local field=$1 says="the ranks disagree on $1: rank 0 has \"$2\", rank 1 has \"$3\"" program=$4 out got; shift 4
  for _ in 1 2 3; do # MPICH's launcher now and then drops the last words of ranks that end it all
    out=$("$mpirun" "${own[@]}" -n 1 "$program" "${base[@]:1}" --steps 1 "$@" : -n 1 "$bench" "${base[@]:1}" --steps 1 2>&1 </dev/null); got=$?
    [[ $got == 2 ]] || fail "ranks that differ in $field: exit $got: $out"
    grep -Eq -- "$says" <<<"$out" && return
  done
  fail "ranks that differ in $field: no /$says/: $out"
}
if [[ -n $mpirun ]]; then
  differ seed 4 3 "$bench" --seed 4
  differ batch 8 4 "$bench" --batch 8
  differ split 107 single "$bench" --split 107
  differ allreduce-dtype bf16 fp32 "$bench" --allreduce-dtype bf16
  differ lr 0.5 '[0-9.]+' "$bench" --set lr=0.5
  differ graph '[0-9a-f]{16}' '[0-9a-f]{16}' "$bench" --no-fuse
  differ build '0.1.9 .*' '0.1.0 .*' ./built-otherwise
else echo "ranks that disagree: not tried, there is no mpirun"; fi

# a full disk: the old checkpoint stays, training goes on, the exit code says so
mkdir disk
if mount -t tmpfs -o size=240m none disk 2>/dev/null; then
  trap 'umount disk' EXIT
  "${base[@]}" --gpus 2 --comm-timeout 60 --save-dir disk --save-every 1 --keep 3 --steps 3 -q >full.out 2>full.log; code=$?
  [[ $code == 7 ]] || fail "full disk: exit $code: $(tail -3 full.log)"
  grep -q 'checkpoint not written' full.log || fail "full disk: no warning: $(tail -3 full.log)"
  expect 0 '' "${base[@]}" --gpus 2 --comm-timeout 60 --save-dir disk --resume --steps 1 -q
  [[ -z $(ls disk | grep tmp) ]] || fail "full disk: temporaries left: $(ls disk)"
  table+=("full disk|$code||$(grep -m 1 'not written' full.log)")
else echo "full disk: not tried, mounting a tmpfs is not allowed here"; fi
printf '%s\n' "${table[@]}" | column -t -s '|' | cut -c1-300
finish
