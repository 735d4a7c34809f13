#!/usr/bin/env bash
# Ranks as a user meets them: started by bench or by the user's own mpirun; killed, stopped, interrupted; one line each time.
source "$(dirname "$0")/common.bash"
run=("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --gpus 2 --oversubscribe --comm-timeout 5)

ranks_of() { pgrep -f -- "$bench train .*--rank-result"; }   # launcher and ranks of this test's program
lines() { grep -c . "$1"; }
# ended CODE PATTERN WHAT: the background job $pid ends within 30 s, with one line and nothing left behind
ended() {
  local code=$1 pattern=$2 what=$3 got
  ( sleep 30; kill -9 "$pid" 2>/dev/null ) & local guard=$!
  wait "$pid"; got=$?
  kill $guard 2>/dev/null
  [[ $got == "$code" ]] || fail "$what: exit $got, not $code: $(cat err.txt)"
  grep -qE "$pattern" err.txt || fail "$what: no /$pattern/: $(cat err.txt)"
  [[ $(lines err.txt) == 1 ]] || fail "$what: more than one line: $(cat err.txt)"
  sleep 0.5
  [[ -z $(ranks_of) ]] || fail "$what: ranks are left: $(ps -o pid,args -p $(ranks_of | tr '\n' ,)1)"
}
# begun: waits until both ranks run
begun() { for _ in $(seq 200); do [[ $(ranks_of | wc -l) -ge 3 ]] && break; sleep 0.05; done; sleep 2; }
# A background job of a script ignores SIGINT unless something restores it; env does.
begin() { env --default-signal=INT "${run[@]}" --steps 100000000 -q >out.txt 2>err.txt & pid=$!; begun; }
rank_pid() { local p; for p in $(ranks_of); do grep -qzE "^(OMPI_COMM_WORLD_RANK|PMI_RANK)=$1\$" "/proc/$p/environ" 2>/dev/null && echo "$p" && return; done; }

expect 0 '' "${run[@]}" --steps 4

for row in INT:130 TERM:143; do
  begin; kill -s "${row%%:*}" "$pid"; ended "${row##*:}" '^bench train: ' "SIG${row%%:*}"
done
begin; kill -9 "$(rank_pid 1)"; ended 6 '^bench train: .*killed by signal 9' 'a killed rank'
begin; kill -STOP "$(rank_pid 1)"; ended 6 '^bench train: rank 0 on .* waited 5.0 s for the all-reduce' 'a stopped rank'
# the launching process itself is killed: its launcher and its ranks go with it
begin; kill -9 "$pid"; wait "$pid" 2>/dev/null
for _ in $(seq 100); do [[ -z $(ranks_of) ]] && break; sleep 0.1; done
[[ -z $(ranks_of) ]] || fail "ranks outlive a killed bench"

expect 2 'RINGMARK_MPIEXEC=/nonexistent' env RINGMARK_MPIEXEC=/nonexistent "${run[@]}" --steps 1
# started as one of two by a launcher of another library
expect 2 'rank 1 of 2, but .* sees 1 ranks' env -u OMPI_COMM_WORLD_SIZE PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 \
  "$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 1
finish
