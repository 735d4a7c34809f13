#!/usr/bin/env bash
# Where ranks run: host files and their errors, a Slurm job by a stand-in, settings of the MPI library in results.
source "$(dirname "$0")/common.bash"
run=("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 1)

# host files: the file and the line in every message, before any rank starts
expect 2 'nowhere.txt' "${run[@]}" --gpus 2 --hostfile nowhere.txt
: >none.txt;                                 expect 2 'none.txt names no host' "${run[@]}" --gpus 2 --hostfile none.txt
printf 'localhost\nlocalhost slot=2\n' >odd.txt; expect 2 "odd.txt:2: 'slot=2' is not understood" "${run[@]}" --gpus 2 --hostfile odd.txt
printf '# here\nlocalhost slots=2\n' >two.txt
expect 2 '3 devices do not fit: two.txt has 2 slots' "${run[@]}" --gpus 3 --hostfile two.txt
expect 0 '2 ranks' "${run[@]}" --gpus 2 --hostfile two.txt
expect 0 '3 ranks' "${run[@]}" --gpus 3 --hostfile two.txt --oversubscribe
# more slots than this machine has cores are the user's word
cores=$(nproc)
printf 'localhost:%d\n' $((cores + 1)) >more.txt
expect 0 "$((cores + 1)) ranks" "${run[@]}" --gpus $((cores + 1)) --hostfile more.txt
# a sweep measures what the slots allow and says why the rest is missing
"$bench" scaling --device null --data synthetic --classes 10 "${tiny[@]}" --steps 2 --warmup 1 --gpus 1,2,3 --hostfile two.txt --json sweep.json -q || fail "a sweep over a host file"
check sweep.json '[x["origin"] for x in r] == ["measured", "measured", "not_measured"] and "two.txt has 2 slots" in json.dumps(r[2])'

# settings of the MPI library are in the environment of results, and never over the user's
if "$bench" info | grep -q 'Open MPI'; then
  variable=OMPI_MCA_coll_libnbc_iallreduce_algorithm
  "${run[@]}" --gpus 2 --hostfile two.txt --json ours.json -q && check ours.json "d['environment']['soft']['variables']['$variable'] == '1'"
  env $variable=2 "${run[@]}" --gpus 2 --hostfile two.txt --json user.json -q && check user.json "d['environment']['soft']['variables']['$variable'] == '2'"
fi

# Slurm: ranks are started by srun with its words, and know themselves by its variables alone. The stand-in is an mpirun whose
# own variables are taken away again.
mkdir bin
cat >bin/srun <<'END'
#!/bin/bash
echo "$*" >>"$SLURM_TEST_LOG"
while [[ $1 == -* ]]; do if [[ $1 == -n ]]; then n=$2; shift; fi; shift; done
export n
for v in ${!SLURM_@}; do [[ $v == SLURM_TEST* ]] || unset "$v"; done
exec "$SLURM_TEST_MPIRUN" $SLURM_TEST_OPTIONS -n "$n" bash -c '
  export SLURM_JOB_ID=7 SLURM_NTASKS=$n SLURM_STEP_NUM_TASKS=$n SLURM_PROCID=${OMPI_COMM_WORLD_RANK-$PMI_RANK} SLURM_STEP_TASKS_PER_NODE=$n
  export SLURM_LOCALID=$SLURM_PROCID
  unset OMPI_COMM_WORLD_RANK OMPI_COMM_WORLD_SIZE OMPI_COMM_WORLD_LOCAL_RANK OMPI_COMM_WORLD_LOCAL_SIZE
  exec "$@"' task "$@"
END
chmod +x bin/srun
if "$bench" info | grep -q 'Open MPI'; then # MPICH's variables are both its own way and Slurm's: nothing to take away
  mpirun=$(command -v mpirun.openmpi || command -v mpirun)
  job=(env PATH="$PWD/bin:$PATH" SLURM_TEST_LOG="$PWD/srun.log" SLURM_TEST_MPIRUN="$mpirun" SLURM_TEST_OPTIONS="--oversubscribe --bind-to none --allow-run-as-root" SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=2)
  expect 0 '2 ranks' "${job[@]}" SLURM_NTASKS=2 "SLURM_TASKS_PER_NODE=1(x2)" "${run[@]}" --gpus 2
  grep -q -- '--kill-on-bad-exit=1 .*-n 2 ' srun.log || fail "srun was not asked: $(cat srun.log 2>&1)"
  # counted by the job's tasks, not by this machine's cores
  expect 2 "do not fit: this Slurm job has 2 tasks" "${job[@]}" SLURM_NTASKS=2 "SLURM_TASKS_PER_NODE=1(x2)" "${run[@]}" --gpus 3
  expect 0 "$((cores + 1)) ranks" "${job[@]}" SLURM_NTASKS=$((cores + 1)) SLURM_TASKS_PER_NODE=$((cores + 1)) "${run[@]}" --gpus $((cores + 1))
  # the user's own srun: nothing is started, rank 0 alone reports
  n=$(wc -l <srun.log)
  out=$("${job[@]}" srun -n 2 "${run[@]}" 2>&1) || fail "the user's own srun: $out"
  [[ $(grep -c '2 ranks' <<<"$out") == 1 && $(wc -l <srun.log) == $((n + 1)) ]] || fail "the user's own srun: $out"
fi
finish
