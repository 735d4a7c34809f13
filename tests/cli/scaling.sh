#!/usr/bin/env bash
# Scaling sweeps: one row per N in the order asked, honest about what was not measured, resumed after kill -9.
source "$(dirname "$0")/common.bash"
small_data data
sweep=("$bench" scaling --data data --px 16 --batch 8 --workers 1 --seed 3 --steps 3 --warmup 1)
cores=$(nproc)
big=$((cores * 64))

"${sweep[@]}" --gpus $big,1 --json one.json -q || fail "sweep"
check one.json "[x['ranks'] for x in r] == [$big, 1] and [x['origin'] for x in r] == ['not_measured', 'measured']"
check one.json 'r[0]["images_per_s"] is None and r[0]["reason"] and r[0]["step_s"] is None'
check one.json 'r[1]["input"] == "real" and all(r[1]["modes"][m]["images_per_s"] > 0 for m in ("synthetic", "data-only", "real"))'
check one.json 'abs(sum(r[1]["budget_s"].values()) / r[1]["step_s"]["median"] - 1) < 0.02 and abs(r[1]["efficiency_weak"] - 1) < 1e-9'
check one.json 'r[1]["images_per_s_low"] <= r[1]["images_per_s"] * 1.0001 and r[1]["overlap_geom"] is None and len(r[1]["overlap_geom_reason"]) > 0'
check one.json 'r[1]["baseline_images_per_s"] == r[1]["images_per_s"] and r[1]["baseline_self_images_per_s"] > 0 and r[1]["injected"] == "" and r[1]["stragglers"] == []'
check one.json 'r[1]["blocking_comm_s"] == 0 and r[1]["comm_wait_s"] == 0 and all(k in r[0] and r[0][k] is None for k in ("blocking_comm_s", "comm_wait_s"))'
check one.json 'all(r[1][k] is None and "one rank" in r[1][k + "_reason"] for k in ("comm_cost_s", "eta_eff", "isolated_s", "gantt"))'
[[ $(sqlite3 test.db "select count(*) from samples" 2>/dev/null || echo 1) -gt 0 ]] || fail "no raw samples"

expect 0 'synthetic' "$bench" scaling --data synthetic --gpus 1 --px 16 --batch 8 --steps 2 --warmup 1
# images of all micro-batches count; the loader alone has none. The window is at least the step, and longer where the machine was busy between them.
for try in 1 2 3 4 5; do
  "$bench" scaling --device null --data data --gpus 1 --px 16 --batch 8 --workers 1 --steps 1 --warmup 0 --set accumulate=3 --fresh --json micro.json -q >/dev/null || fail "micro-batches"
  python3 - <<'PYTHON' && break
import json, sys
row = json.load(open("micro.json"))["results"][0]
ratio = {k: m["images_per_s"] * m["step_s"]["median"] / (8 if k == "data-only" else 24) for k, m in row["modes"].items()}
print("micro-batches, images/s x step / images:", ratio)
sys.exit(not (row["batch_per_device"] == 8 and all(0.8 < x < 1.2 for x in ratio.values())))
PYTHON
  [[ $try != 5 ]] || fail "images/s with micro-batches"
done
expect 2 'multiple' "$bench" scaling --data synthetic --gpus 1,2 --strong --batch 9 --px 16 --steps 2 --oversubscribe
expect 0 'not measured' "$bench" scaling --gpus 1,$big --dry-run
expect 2 'gpus' "$bench" scaling --gpus 1,,2
expect 2 'gpus' "$bench" scaling --gpus 0

# counters: a number, or null with a reason; disturbed steps are counted and told apart in the store
keys='("instructions", "cycles", "cache_misses", "cpu_s", "run_delay_s", "foreign_s", "preempted", "faults", "major_faults", "steal_s", "energy_j")'
counted="all((c[k] is None and len(c[k + '_reason']) > 9) or (k + '_reason' not in c and c[k] >= 0) for k in $keys)"
check one.json "(lambda c: $counted and c['cpu_s'] > 0)(r[1]['counters']) and 'counters' not in r[0] and r[1]['memory_high_bytes'] > 1 << 20"
check one.json '(0 <= r[1]["disturbed_steps"] <= r[1]["step_s"]["samples"] and r[1]["foreign_share"] >= 0) if r[1]["counters"]["foreign_s"] is not None else len(r[1]["disturbed_steps_reason"]) > 9'

# two ranks, weak and strong
"${sweep[@]}" --gpus 1,2 --oversubscribe --json two.json -q || fail "two ranks"
check two.json 'r[1]["ranks"] == 2 and r[1]["exposed_comm_s"] > 0 and r[1]["batch_per_device"] == 8'
check two.json 'abs(sum(r[1]["budget_s"].values()) / r[1]["step_s"]["median"] - 1) < 0.02 and r[1]["comm_s"] >= r[1]["exposed_comm_s"] and r[1]["split"] and r[1]["buckets"] >= 1'
check two.json 'abs(1 - r[1]["exposed_comm_s"] / r[1]["comm_s"] - r[1]["overlap_geom"]) < 1e-6 and 0 <= r[1]["blocking_comm_s"] <= r[1]["step_s"]["max"] and r[1]["comm_wait_s"] > 0 and 0 <= r[1]["comm_cpu_share"] <= 1.05'
check two.json 'r[1]["comm_cost_s_low"] <= r[1]["comm_cost_s"] <= r[1]["comm_cost_s_high"] and abs(1 - r[1]["comm_cost_s"] / r[1]["isolated_s"]["median"] - r[1]["eta_eff"]) < 1e-6'
check two.json '0 < r[1]["xfer_s"] <= r[1]["comm_s"] * 1.5 and len(r[1]["gantt"]["buckets"]) == r[1]["buckets"] and r[1]["baseline_self_images_per_s"] > 0'
check two.json '[x["rank"] for x in r[1]["stragglers"]] == [0, 1] and all(x["host"] and x["own_s"] > 0 for x in r[1]["stragglers"]) and 0 <= r[1]["jitter_s"] <= r[1]["loss_attribution_s"]["straggler"] + 1e-9'
check two.json 'abs(sum(v for k, v in r[1]["loss_attribution_s"].items() if k != "loss") - r[1]["loss_attribution_s"]["loss"]) < 1e-9'
"${sweep[@]}" --gpus 1,2 --strong --oversubscribe --json strong.json -q || fail "strong"
check strong.json 'r[1]["batch_per_device"] == 4 and r[1]["efficiency_strong"] > 0'
check strong.json 'r[1]["comm_cost_s"] is not None and abs(sum(r[1]["budget_s"].values()) / r[1]["step_s"]["median"] - 1) < 0.02'
"$bench" scaling --device null --data synthetic --px 16 --batch 4 --steps 4 --warmup 1 --gpus 2 --oversubscribe --no-twins --split equal:3 --json no.json -q || fail "--no-twins"
check no.json 'r[0]["comm_cost_s"] is None and r[0]["comm_cost_s_reason"] == "--no-twins" and r[0]["comm_s"] > 0 and (r[0]["split"], r[0]["buckets"]) == ("equal:3", 3)'
out=$("$bench" scaling --device null --data synthetic --px 16 --batch 4 --steps 4 --warmup 1 --gpus 1,2 --oversubscribe -q) || fail "table"
for words in 'where the loss goes' '\+ straggler' 'communicator of one rank' 'eta_eff' 'ranks by lateness' 'distinguishably|is a straggler'; do
  grep -Eq -- "$words" <<<"$out" || fail "no /$words/ in: $out"
done

# ghosts: more ranks than this machine has, emulated
ghosts=("$bench" scaling --ghost --ghost-bytes 0.01 --device null --px 16 --batch 4 --steps 6 --warmup 1 --gpus "4,1,$((cores * 4))")
"${ghosts[@]}" --json ghost.json -q > ghost.txt || fail "ghosts"
check ghost.json "[x['ranks'] for x in r] == [4, 1, $((cores * 4))] and all(x['origin'] == 'emulated' and x['device'] == 'ghost of null' for x in r)"
check ghost.json 'abs(r[1]["efficiency_weak"] - 1) < 1e-9 and r[0]["comm_cost_s"] is not None and len(r[2]["stragglers"]) == r[2]["ranks"] and "oversubscribed" not in r[2]'
check ghost.json "all((lambda c: $counted and c['cpu_s'] is None)(x['counters']) and x['disturbed_steps'] is None and 'ghost' in x['disturbed_steps_reason'] for x in r)"
check ghost.json 'all(abs(sum(x["budget_s"].values()) / x["step_s"]["median"] - 1) < 0.02 for x in r)'
grep -q 'emulated by ranks that sleep' ghost.txt || fail "the table does not say that it is emulated"
expect 2 'leave --strong out' "${ghosts[@]}" --strong
expect 2 'leave --input-mode out' "${ghosts[@]}" --input-mode real
expect 2 'learn nothing' "${ghosts[@]}" --to-accuracy
expect 0 'N=4: emulated' "${ghosts[@]}" --dry-run

# killed in the middle: finished rows are kept, and only they
rm -f test.db*
"${sweep[@]}" --gpus 1,2 --oversubscribe -q >/dev/null 2>&1 &
pid=$!
for _ in $(seq 600); do [[ -n $("$bench" runs 1 --json 2>/dev/null | grep 'gathered n=1') ]] && break; sleep 0.05; done
kill -9 $pid; wait $pid 2>/dev/null
out=$("${sweep[@]}" --gpus 1,2 --oversubscribe 2>&1) || fail "resumed sweep: $out"
grep -q 'already measured' <<<"$out" || fail "nothing was resumed: $out"
out=$("${sweep[@]}" --gpus 1 --oversubscribe 2>&1)
grep -q 'resuming' <<<"$out" && fail "another configuration resumed the run"
finish
