#!/usr/bin/env bash
# Ranks as a user meets them: started by bench or by the user's own launcher; gone when bench is gone. What goes wrong: faults_ranks.sh.
source "$(dirname "$0")/common.bash"
run=("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --gpus 2 --oversubscribe --comm-timeout 5)

# begun: waits until both ranks run
begun() { for _ in $(seq 200); do [[ $(ranks_of | wc -l) -ge 3 ]] && break; sleep 0.05; done; sleep 2; }
begin() { "${run[@]}" --steps 100000000 -q >out.txt 2>err.txt & pid=$!; begun; }

expect 0 '' "${run[@]}" --steps 4

# the launching process itself is killed: its launcher and its ranks go with it
begin; kill -9 "$pid"; wait "$pid" 2>/dev/null
for _ in $(seq 100); do [[ -z $(ranks_of) ]] && break; sleep 0.1; done
[[ -z $(ranks_of) ]] || fail "ranks outlive a killed bench"

expect 2 'RINGMARK_MPIEXEC=/nonexistent' env RINGMARK_MPIEXEC=/nonexistent "${run[@]}" --steps 1
# started as one of two by a launcher of another library
expect 2 'rank 1 of 2, but .* sees 1 ranks' env -u OMPI_COMM_WORLD_SIZE PMI_RANK=1 PMI_SIZE=2 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2 \
  "$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 1
finish
