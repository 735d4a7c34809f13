#!/usr/bin/env bash
# bench comm: exact sums, honest arithmetic of bandwidths, a cost curve; wrong data, Ctrl-C and a killed rank lose no row.
source "$(dirname "$0")/common.bash"
comm=("$bench" comm --device null --oversubscribe --comm-timeout 20)
row='[x for x in r if x["kind"] == "size"]'
fits='[x for x in r if x["kind"] == "fit"]'

"${comm[@]}" --sizes 8,1000,1Ki,300K --iterations 6 --json a.json -q >/dev/null || fail "two ranks"
check a.json "[(x['op'], x['bytes']) for x in $row] == [(o, b) for o in ('all-reduce', 'broadcast') for b in (8, 1000, 1024, 300000)]"
check a.json "all(x['wrong'] == 0 and x['ranks'] == 2 and x['hosts'] == 1 and x['iterations'] == 6 == x['time_s']['samples'] for x in $row)"
check a.json "all(x['count'] * 4 == x['bytes'] and x['dtype'] == 'fp32' and x['latency_s'] == x['time_s']['median'] > 0 for x in $row)"
check a.json "all(abs(x['algbw_bytes_per_s'] * x['latency_s'] / x['bytes'] - 1) < 1e-9 and abs(x['busbw_bytes_per_s'] / x['algbw_bytes_per_s'] - 1) < 1e-9 for x in $row)"
check a.json "[x['op'] for x in $fits] == ['all-reduce', 'broadcast'] and all(c[0] < d[0] and c[1] < d[1] for x in $fits for c, d in zip(x['cost'], x['cost'][1:]))"
check a.json "all(abs(x['alpha_s'] * 1e9 / x['cost'][0][1] - 1) < 1e-9 and (x['fit_error_share'] is None or x['fit_error_share'] >= 0) for x in $fits)"
"$bench" runs 1 --json b.json >/dev/null || fail "runs"
check b.json '[x["key"] for x in r[0]["results"]].count("fit all-reduce n=2") == 1 and all(x["correct"] for x in r[0]["results"])'

# three ranks, half the bytes on the wire; a sum of small whole numbers is exact in bf16 too
"${comm[@]}" --gpus 3 --allreduce-dtype bf16 --sizes 6,10M --iterations 2 --op all-reduce --json c.json -q >/dev/null || fail "three ranks"
check c.json "all(x['dtype'] == 'bf16' and x['count'] * 2 == x['bytes'] and x['wrong'] == 0 for x in $row) and len($row) == 2"
check c.json "all(abs(x['busbw_bytes_per_s'] / x['algbw_bytes_per_s'] - 4 / 3) < 1e-9 for x in $row)"
"${comm[@]}" --gpus 1 --sizes 8:1Mi:16 --json d.json -q >/dev/null || fail "one rank"
check d.json "[x['bytes'] for x in $row][:6] == [8, 128, 2048, 32768, 524288, 1 << 20] and all(x['wrong'] == 0 for x in $row)"
expect 0 '^# +op +size +count +type +redop +root +time +algbw +busbw +#wrong' "${comm[@]}" --sizes 1K --iterations 1
expect 0 '^# Avg bus bandwidth' "${comm[@]}" --sizes 1K --iterations 1

# the check can fail: a rank's first element is spoilt
expect 2 '1 elements were wrong in all-reduce of 8 bytes' env RINGMARK_COMM_SPOIL=1 "${comm[@]}" --sizes 8,64 --iterations 2 --json e.json
check e.json "all(x['wrong'] == 1 for x in r) and len(r) == 4"
"$bench" runs 6 --json f.json >/dev/null; check f.json 'r[0]["exit_code"] == 2 and not any(x["correct"] for x in r[0]["results"])'

# Ctrl-C, and a rank that is killed: what was measured is stored, printed and said
mkdir tmp; export TMPDIR=$PWD/tmp
children() { local c; for c in $(pgrep -P "$1"); do echo "$c"; children "$c"; done; }
a_rank() { local c; for c in $(children "$pid"); do grep -qz '^OMPI_COMM_WORLD_RANK=1$\|^PMI_RANK=1$' "/proc/$c/environ" 2>/dev/null && [[ $(cat "/proc/$c/comm") == bench ]] && echo "$c" && return; done; }
# begin FILE: a run that would take minutes, until rank 0 has left two rows
begin() {
  env --default-signal=INT "${comm[@]}" --sizes "$(seq -s, 1000 4 1400)" --json "$1" -q >out.txt 2>err.txt & pid=$!
  for _ in $(seq 600); do [[ $(cat tmp/.ringmark-rank-* 2>/dev/null | grep -o latency_s | wc -l) -ge 2 ]] && return; sleep 0.05; done
  fail "no rows in 30 s: $(cat err.txt)"
}
ended() { # ended CODE PATTERN FILE
  ( sleep 40; kill -9 "$pid" 2>/dev/null ) & local guard=$! got
  wait "$pid"; got=$?; kill $guard 2>/dev/null
  [[ $got == "$1" ]] || fail "exit $got, not $1: $(cat err.txt)"
  grep -qE "$2" err.txt || fail "no /$2/: $(cat err.txt)"
  check "$3" "len(r) >= 2 and all(x['kind'] == 'size' and x['wrong'] == 0 for x in r)"
  "$bench" runs --json g.json >/dev/null; check g.json "r[0]['exit_code'] == $1 and len(r[0]['results']) >= 2"
  [[ -z $(ls -A tmp) ]] || fail "left behind: $(ls -A tmp)"
}
begin int.json; kill -INT "$pid"; ended 130 'interrupted' int.json
begin kill.json; kill -9 "$(a_rank)"; ended 6 'killed by signal 9' kill.json

# the ranks' progress line reaches the terminal through the launcher, and is gone in the end
if command -v script >/dev/null; then
  script -qec "'$bench' comm --device null --oversubscribe --sizes 8:4Ki:8 --op all-reduce" seen.txt >/dev/null 2>&1 || fail "on a terminal: $(cat seen.txt)"
  grep -q '3/4 sizes.* left, all-reduce 4096 B' seen.txt || fail "no progress: $(cat -v seen.txt)"
  grep -q $'\r\033\[K# 2 ranks' seen.txt || fail "the progress line is not taken away: $(cat -v seen.txt)"
fi

# under the user's own mpirun
mpirun=$("$bench" comm --gpus 1 --json - --sizes 8 2>/dev/null | grep -q 'Open MPI' && command -v mpirun)
if [[ -n $mpirun ]]; then
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "$mpirun" --oversubscribe -n 2 "$bench" comm --sizes 8,1K --iterations 3 --json h.json -q >own.txt 2>&1 || fail "mpirun: $(cat own.txt)"
  check h.json "all(x['ranks'] == 2 and x['wrong'] == 0 for x in $row) and len($row) == 4"
fi

expect 2 'above the largest' "${comm[@]}" --sizes 9:8
expect 2 'number above 1' "${comm[@]}" --sizes 8:64:1
expect 2 "'' is no size" "${comm[@]}" --sizes 8,,16
expect 2 "'8Q' is no size" "${comm[@]}" --sizes 8Q
expect 2 'less than one element' "${comm[@]}" --sizes 3
expect 2 'takes one number' "${comm[@]}" --gpus 1,2
expect 2 'do not fit' "$bench" comm --gpus 4096
expect 5 'memory' "${comm[@]}" --sizes 900000G
finish
