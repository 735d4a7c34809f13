#!/usr/bin/env bash
# bench split-sweep: a row per split in the order asked, numbers that fit together, ghosts labelled emulated, bad splits refused before any
# rank starts, Ctrl-C keeps the rounds that were done.
source "$(dirname "$0")/common.bash"
mkdir tmp; export TMPDIR=$PWD/tmp
sweep=("$bench" split-sweep --device null --px 32 --batch 2 --oversubscribe --comm-timeout 60)

# what is asked for in vain
expect 2 'number 2, 5,3: split: index 3 comes after 5' "${sweep[@]}" --splits '107,160;5,3'
expect 2 'number 1, 107,161: split: index 161' "${sweep[@]}" --splits '107,161'
expect 2 'number 2, : the split is empty' "${sweep[@]}" --splits 'ddp;;single'
expect 2 'auto' "${sweep[@]}" --splits auto
expect 2 '2 or more' "${sweep[@]}" --gpus 1
expect 2 'one number' "${sweep[@]}" --gpus 2,4
expect 2 'ghost-bytes' "${sweep[@]}" --ghost --ghost-bytes 0
[[ ! -e test.db ]] || fail "a refused sweep left a store"
expect 0 '107,160 +2 all-reduces: 96.54/3.46 %' "${sweep[@]}" --dry-run
expect 0 '107,160 +2 all-reduces: 76.35/23.65 %' "${sweep[@]}" --dry-run --split-order forward
[[ $("${sweep[@]}" --dry-run --splits 'equal:1..5;ddp' | grep -c 'all-reduces\?: ') == 6 ]] || fail "equal:1..5 is not five splits"

expect 0 '^ddp +5 ' "${sweep[@]}" --splits ddp --steps 2 --update-on-arrival --store other.db -q

# two ranks on the null device
"${sweep[@]}" --splits 'single;107,160;ddp;single' --steps 3 --data here --json a.json -q >/dev/null 2>a.err || fail "two ranks: $(cat a.err)"
grep -q 'uses synthetic input: here is not read' a.err || fail "nothing said about --data: $(cat a.err)"
check a.json '[x["split"] for x in r] == ["single", "107,160", "ddp", "single"] and [x["buckets"] for x in r] == [1, 2, 5, 1]'
check a.json 'all(x["origin"] == "measured" and x["ranks"] == 2 and x["rounds"] == 3 == x["step_s"]["samples"] and x["wire"] == "fp32" and x["bytes"] == r[0]["bytes"] for x in r)'
check a.json 'r[1]["shares"] == "96.54/3.46 %" and r[1]["ends"] == [107, 160]'
check a.json 'all(abs(sum(x["budget_s"].values()) / x["step_s"]["median"] - 1) < 1e-6 for x in r)'
check a.json 'all(abs(x["eta_eff"] - (1 - x["comm_cost_s"] / x["isolated_s"]["median"])) < 1e-9 for x in r)'
check a.json 'all(0 < x["xfer_s"] and 0 <= x["skew_share"] < 1 and x["comm_cost_s_low"] <= x["comm_cost_s"] <= x["comm_cost_s_high"] for x in r)'
check a.json 'all(b["ready_s"] <= b["start_s"] <= b["end_s"] <= x["gantt"]["step_s"] for x in r for b in x["gantt"]["buckets"])'
check a.json 'all(b["end_s"] <= c["start_s"] and c["first"] == b["last"] + 1 for x in r for b, c in zip(x["gantt"]["buckets"], x["gantt"]["buckets"][1:]))'
check a.json 'sum(x["best"] for x in r) == 1 and all(x["next_best"] in ("single", "107,160", "ddp") for x in r if x["best"])'
check a.json 'all(x["step_s"]["median"] >= min(y["step_s"]["median"] for y in r if y["best"]) for x in r)'
check a.json 'all(len(x["ranks_detail"]) == 2 and x["regime"] == "communication-bound" for x in r)' # nothing is computed
"$bench" runs 1 --json b.json >/dev/null || fail "runs"
check b.json 'len([k for k in (x["key"] for x in r[0]["results"]) if k[0] == "0"]) == 4 and r[0]["exit_code"] == 0'
expect 0 'same as best|slower|best' "${sweep[@]}" --splits 'single;ddp' --steps 1

# half the bytes on the wire, counted from conv1.weight, updated on arrival, real computing
"$bench" split-sweep "${tiny[@]:0:4}" --oversubscribe --threads 1 --device cpu --classes 10 --splits '52,160;equal:3' --split-order forward --allreduce-dtype bf16 --steps 2 \
  --warmup 0 --json c.json -q >/dev/null || fail "real computing"
check c.json 'r[0]["ends"] == [107, 160] and all(x["wire"] == "bf16" and x["device"] == "cpu" and x["backward_s"] > 0 and x["bound_s"] > x["backward_s"] for x in r)'
check c.json 'all(x["budget_s"]["compute"] > 0 and x["comm_s"] >= x["exposed_comm_s"] for x in r)'

# ghosts: the time of one rank, measured; emulated, and no claim of a slow-down
"${sweep[@]}" --ghost --gpus 4 --ghost-bytes 0.02 --splits '107,160;equal:2' --steps 3 --json d.json -q >/dev/null || fail "ghosts"
check d.json 'all(x["origin"] == "emulated" and x["device"] == "ghost of null" and x["ranks"] == 4 and x["slowdown"] is None and x["slowdown_reason"] for x in r)'
check d.json 'all(abs(x["bytes"] / 25557032 / 4 / 0.02 - 1) < 0.01 and x["shares"] for x in r) and r[0]["shares"] == "96.54/3.46 %"'
[[ -z $(ls tmp/ringmark-ghost-* 2>/dev/null) ]] || fail "the plan of the ghosts was left behind"

# the user's own mpirun: one row set, from rank 0
mpiexec=$(command -v mpiexec.openmpi || command -v mpirun || command -v mpiexec)
own=("$mpiexec" -n 2)
"$mpiexec" --version 2>&1 | grep -qi 'open' && own+=(--oversubscribe --allow-run-as-root)
"${own[@]}" "$bench" split-sweep --device null --px 32 --batch 2 --splits single --steps 1 --json e.json -q >/dev/null 2>e.err || fail "own mpirun: $(cat e.err)"
check e.json 'len(r) == 1 and r[0]["ranks"] == 2'
expect 2 'starts its own ranks' "${own[@]}" "$bench" split-sweep --device null --ghost --splits single --steps 1 -q

# Ctrl-C: the rounds that were done are shown, stored and counted
env --default-signal=INT RINGMARK_PROGRESS=1 "${sweep[@]}" --ghost --ghost-bytes 0.001 --splits 'single;equal:2' --steps 5000 --json f.json >out.txt 2>err.txt & pid=$!
for _ in $(seq 900); do tr '\r' '\n' <err.txt | grep -Eq 'ghosts ([2-9]|[1-9][0-9]+)/5001 ' && break; sleep 0.05; done
kill -INT $pid
( sleep 60; kill -9 "$pid" 2>/dev/null ) & guard=$!
wait $pid; got=$?; kill $guard 2>/dev/null
[[ $got == 130 ]] || fail "interrupted: exit $got: $(tail -c 400 err.txt)"
check f.json 'len(r) == 2 and all(0 < x["rounds"] < 5000 and x["step_s"]["samples"] == x["rounds"] for x in r)'
grep -q '(interrupted)' out.txt || fail "the table does not say that it was interrupted"
finish
