#!/usr/bin/env bash
# Training over a network of hosts on this machine (scripts/testnet): two and four hosts, every MPI that is here, the same bits as
# on one machine, a killed rank, a cut cable. With $RINGMARK_TEST_MPICH_BENCH, a program built against MPICH, that half too.
# shellcheck disable=SC1091,SC2154
source "$(dirname "$0")/../cli/common.bash"
net=$RM_SOURCE_DIR/scripts/testnet
export TESTNET_PREFIX=t$$-
tiny=(--px 16 --batch 16 --workers 1 --seed 3)
null=(train --device null --data synthetic --classes 10 "${tiny[@]}")
cpu=(train --device cpu --data synthetic --classes 10 "${tiny[@]}" --threads 1 --steps 3)
gradient_bytes=94000000 # of one step with ten classes, a little less: what each host must have sent

why=$("$net" up --hosts 2 --rate 2gbit 2>&1 >/dev/null); code=$?
if [[ $code == 77 ]]; then echo "SKIP: ${why#*SKIP: }"; exit 77; fi
[[ $code == 0 ]] || { echo "$why" >&2; exit 1; }
trap '"$net" down' EXIT

sent() { "$net" exec "$1" sed -n 's/^ *veth0: *//p' /proc/net/dev | awk '{ print $9 }'; }
bench_on() { local p; for p in $("$net" pids "$1"); do [[ $(cat "/proc/$p/comm" 2>/dev/null) == bench ]] && echo "$p"; done; }
last_loss() { json "$1" 'float(r[0]["epochs_log"][-1]["train_loss"]).hex()'; }
# on MPI PATTERN WHAT COMMAND...: on host 0, ends well and says PATTERN once
on() {
  local mpi=$1 pattern=$2 what=$3 out; shift 3
  out=$(timeout -s KILL 120 "$net" run --mpi "$mpi" -- "$@" 2>&1 </dev/null) || { fail "$mpi, $what: exit $?: $(tail -n 5 <<<"$out")"; return 1; }
  [[ $(grep -cE -- "$pattern" <<<"$out") == 1 ]] || fail "$mpi, $what: not once /$pattern/: $out"
}

# fault MPI PROGRAM WHAT PATTERN COMMAND...: COMMAND in the middle of training gives exit code 6 and one line
fault() {
  local mpi=$1 program=$2 what=$3 pattern=$4 pid got before begin; shift 4
  before=$(sent 1)
  # shellcheck disable=SC2016
  "$net" run --mpi "$mpi" -- sh -c 'exec "$@" --hostfile "$TESTNET_HOSTFILE"' sh "$program" "${null[@]}" --gpus 2 --steps 100000000 --comm-timeout 5 -q >out.txt 2>err.txt </dev/null & pid=$!
  for _ in $(seq 600); do (($(sent 1) - before > 2 * gradient_bytes)) && break; sleep 0.1; done
  (($(sent 1) - before > 2 * gradient_bytes)) || fail "$mpi, $what: training did not begin: $(cat err.txt)"
  tr '\0' '\n' <"/proc/$(bench_on 1)/environ" | grep -q "^RINGMARK_PLANS=$RINGMARK_PLANS\$" || fail "$mpi: RINGMARK_PLANS did not reach the other host"
  begin=$SECONDS
  "$@"
  ( sleep 60; kill -9 "$pid" 2>/dev/null ) & local guard=$!
  wait "$pid"; got=$?
  kill $guard 2>/dev/null
  echo "$mpi, $what: exit $got after $((SECONDS - begin)) s: $(cat err.txt)"
  [[ $got == 6 ]] || fail "$mpi, $what: exit $got, not 6: $(cat err.txt)"
  [[ $(grep -cE -- "$pattern" err.txt) == 1 && $(grep -c . err.txt) == 1 ]] || fail "$mpi, $what: not the one line /$pattern/: $(cat err.txt)"
  for _ in $(seq 200); do [[ -z $(bench_on 0)$(bench_on 1) ]] && break; sleep 0.1; done
  [[ -z $(bench_on 0) ]] || fail "$mpi, $what: something is left on host 0"
  if [[ -n $(bench_on 1) ]]; then fail "$mpi, $what: a rank is left on host 1"; bench_on 1 | xargs kill -9; fi
}
kill_rank() { kill -9 "$(bench_on 1)"; }
cut_cable() { "$net" link 1 down; }

half() { # MPI PROGRAM
  local mpi=$1 program=$2 before
  before=$(sent 1)
  # shellcheck disable=SC2016
  on "$mpi" ' 2 ranks' "ranks that bench starts" sh -c 'exec "$@" --gpus 2 --hostfile "$TESTNET_HOSTFILE"' sh "$program" "${null[@]}" --steps 3
  (($(sent 1) - before > 3 * gradient_bytes)) || fail "$mpi: the gradients did not cross the network: $(($(sent 1) - before)) bytes"
  on "$mpi" ' 2 ranks' "the user's own mpirun" mpirun -n 2 "$program" "${null[@]}" --steps 3
  on "$mpi" '^ *2  measured' "the user's own mpirun, scaling" mpirun -n 2 "$program" scaling --device null --data synthetic --classes 10 "${tiny[@]}" --steps 3 --warmup 1
  # shellcheck disable=SC2016
  on "$mpi" ' 2 ranks' "training on the processor" sh -c 'exec "$@" --gpus 2 --hostfile "$TESTNET_HOSTFILE"' sh "$program" "${cpu[@]}" --json "$mpi.json"
  [[ -n $(last_loss one.json) && $(last_loss "$mpi.json") == "$(last_loss one.json)" ]] || fail "$mpi: loss $(last_loss "$mpi.json"), on one machine $(last_loss one.json)"
  fault "$mpi" "$program" "a killed rank" 'signal 9' kill_rank
  fault "$mpi" "$program" "a cut cable" "^bench train: rank [01] on ${TESTNET_PREFIX}[01] waited 5.0 s for the all-reduce" cut_cable
  "$net" down; "$net" up --hosts 2 --rate 2gbit >/dev/null # what the launcher left on the host behind the cable ends with it
}

"$bench" "${cpu[@]}" --gpus 2 --oversubscribe --json one.json -q || fail "two ranks on one machine"
built=ompi
"$bench" info | grep -q 'Open MPI' || built=mpich
half $built "$bench"
mpich=${RINGMARK_TEST_MPICH_BENCH-}
if [[ $built == mpich ]]; then echo "Open MPI: not tried, this program is built against MPICH"
elif [[ -z $mpich ]]; then echo "MPICH: not tried, RINGMARK_TEST_MPICH_BENCH names no program"
elif ! command -v mpiexec.mpich >/dev/null; then echo "MPICH: not tried, mpiexec.mpich is missing"
else half mpich "$mpich"; fi

# four hosts, in a network of its own beside the first
# shellcheck disable=SC2016
on4=$(TESTNET_PREFIX=u$$- timeout -s KILL 200 "$net" run --mpi $built --hosts 4 --rate 2gbit -- sh -c 'exec "$@" --gpus 4 --hostfile "$TESTNET_HOSTFILE"' sh "$bench" "${null[@]}" --steps 2 2>&1 </dev/null) || fail "four hosts: $on4"
grep -q ' 4 ranks' <<<"$on4" || fail "four hosts: $on4"
[[ $("$net" status) == *"2 hosts"* ]] || fail "the first network is gone: $("$net" status)"
finish
