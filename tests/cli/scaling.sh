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
[[ $(sqlite3 test.db "select count(*) from samples" 2>/dev/null || echo 1) -gt 0 ]] || fail "no raw samples"

expect 0 'synthetic' "$bench" scaling --data synthetic --gpus 1 --px 16 --batch 8 --steps 2 --warmup 1
expect 2 'multiple' "$bench" scaling --data synthetic --gpus 1,2 --strong --batch 9 --px 16 --steps 2 --oversubscribe
expect 0 'not measured' "$bench" scaling --gpus 1,$big --dry-run
expect 2 'gpus' "$bench" scaling --gpus 1,,2
expect 2 'gpus' "$bench" scaling --gpus 0

# two ranks, weak and strong
"${sweep[@]}" --gpus 1,2 --oversubscribe --json two.json -q || fail "two ranks"
check two.json 'r[1]["ranks"] == 2 and r[1]["exposed_comm_s"] > 0 and r[1]["batch_per_device"] == 8'
check two.json 'abs(sum(v for k, v in r[1]["loss_attribution_s"].items() if k != "loss") - r[1]["loss_attribution_s"]["loss"]) < 1e-9'
"${sweep[@]}" --gpus 1,2 --strong --oversubscribe --json strong.json -q || fail "strong"
check strong.json 'r[1]["batch_per_device"] == 4 and r[1]["efficiency_strong"] > 0'

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
