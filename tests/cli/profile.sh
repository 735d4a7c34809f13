#!/usr/bin/env bash
# bench profile: figures that fit together on one rank and on two, the one screen, a trace, refusals before anything is measured.
source "$(dirname "$0")/common.bash"
mkdir tmp; export TMPDIR=$PWD/tmp
null=("$bench" profile --device null --data synthetic --px 32 --batch 2)

expect 2 'one number of devices' "${null[@]}" --gpus 1,2
OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_RANK=0 expect 2 'the launcher started 2 ranks' "${null[@]}" --gpus 3
expect 2 'split' "${null[@]}" --split 107,161
expect 2 'no folder|missing|cannot' "$bench" profile --data nowhere --px 32 --batch 2
[[ ! -e test.db ]] || fail "a refused profile left a store"
expect 0 '4 pairs of a traced and an untraced step' "${null[@]}" --steps 4 --dry-run

# one rank on the null device: nothing is communicated, nothing is bounded, and both are said
"${null[@]}" --steps 6 --json one.json >one.txt 2>/dev/null || fail "one rank"
for line in '^bound by ' 'where the step goes' 'one rank: nothing is communicated' 'no files are read' 'no bounds: ' 'worth changing' '^tracing '; do grep -q "$line" one.txt || fail "no '$line' on the screen"; done
[[ $(wc -l <one.txt) -le 40 ]] || fail "the screen has $(wc -l <one.txt) lines"
grep -Eq 'PERTURBED|UNDECIDED' one.txt || fail "an empty step is not said to be perturbed by its timers"
check one.json 'len(r) == 1 and r[0]["ranks"] == 1 and r[0]["comm_cost_s"] is None and "one rank" in r[0]["comm_cost_s_reason"] and r[0]["peaks"] is None and "peaks" in r[0]["peaks_reason"]'
check one.json 'sum(x["time_ns"] for x in r[0]["layers"]) == r[0]["wall_ns"]'
check one.json 'abs(sum(r[0]["budget_s"].values()) / r[0]["step_s"]["median"] - 1) < 0.02'
check one.json 'r[0]["trace"]["pairs"] == 6 == r[0]["step_s"]["samples"] and r[0]["trace"]["ratio"] > 1 and r[0]["sensitivity"] is None'
check one.json 'r[0]["changes"] == sorted(r[0]["changes"], key=lambda c: -c["gain_s"]) and len(r[0]["changes"]) <= 3'
check one.json '{l["name"] for l in r[0]["timeline"]["ranks"][0]["lanes"]} >= {"compute", "copies", "host"}'
check one.json 'all(0 <= s[0] and s[0] + s[1] <= 1.000001e9 * r[0]["timeline"]["step_s"] for l in r[0]["timeline"]["ranks"][0]["lanes"] for s in l["spans"])'

# two ranks, real images, every delay, a trace
small_data data 64 16
"$bench" profile --device null --gpus 2 --oversubscribe --data data --px 16 --batch 8 --workers 1 --split 107,160 --steps 6 --sensitivity --trace t.json.gz --json two.json >two.txt 2>two.err || fail "two ranks: $(cat two.err)"
check two.json 'r[0]["ranks"] == 2 and r[0]["input"] == "real" and r[0]["buckets"] == 2 and r[0]["loader_images_per_s"] > 0 and r[0]["comm_s"] > 0'
check two.json 'r[0]["comm_cost_s_low"] <= r[0]["comm_cost_s"] <= r[0]["comm_cost_s_high"] and len(r[0]["stragglers"]) == 2'
check two.json 'sorted(s["index"] for s in r[0]["sensitivity"] if s["kind"] == "bucket") == [0, 1] and sum(s["kind"] == "input" for s in r[0]["sensitivity"]) == 1'
check two.json 'all(abs(s["prediction_error"] - (s["measured_slope"] - s["predicted_slope"])) < 1e-9 and s["slope_low"] <= s["measured_slope"] <= s["slope_high"] for s in r[0]["sensitivity"])'
check two.json 'len(r[0]["timeline"]["ranks"]) == 2 and any("input worker" in l["name"] for l in r[0]["timeline"]["ranks"][0]["lanes"])'
check two.json 'r[0]["trace"]["file"] == "t.rank*.json.gz" and not r[0]["trace"]["cut"]'
expect 0 'was not traced and counts as idle' "$bench" overlap t.rank0.json.gz t.rank1.json.gz
[[ $(awk '{ print length }' two.txt | sort -n | tail -1) -le 130 ]] || fail "lines of the screen are too long"
grep -q 'sensitivity: ' two.txt || fail "no sensitivities on the screen"

# the lanes of both ranks are of one step, which the traces number
"$bench" profile --device null --gpus 2 --oversubscribe --data synthetic --px 16 --batch 2 --steps 30 --trace s.json --json lanes.json >/dev/null 2>lanes.err || fail "lanes: $(cat lanes.err)"
python3 - <<'END' || fail "the ranks' lanes are not of one step"
import json
row = json.load(open("lanes.json"))["results"][0]
def steps_of(rank):
    """Steps of the rank's trace whose kernels last as long as the shown ones do."""
    lanes = row["timeline"]["ranks"][rank]["lanes"]
    shown = [s[1] for l in lanes if l["name"] == "compute" for s in l["spans"]]
    step = {}
    for e in json.load(open(f"s.rank{rank}.json"))["traceEvents"]:
        if e.get("cat") == "kernel" and "bytes" not in e["args"] and round(e["dur"] * 1000): step.setdefault(e["args"]["step"], []).append(round(e["dur"] * 1000))
    return {n for n, durs in step.items() if durs == shown}
a, b = steps_of(0), steps_of(1)
assert a and b and a & b, (a, b)
END

# an update in parts has more ops than the table has rows; micro-batches are images too
"$bench" profile --device null --gpus 2 --oversubscribe --data synthetic --px 16 --batch 2 --split per-layer --update-on-arrival --steps 2 --sensitivity --json parts.json >/dev/null 2>parts.err || fail "update in parts: $(cat parts.err)"
check parts.json 'sum(s["kind"] == "op" for s in r[0]["sensitivity"]) >= 4'
"${null[@]}" --set accumulate=3 --steps 1 --json three.json >/dev/null 2>&1 || fail "accumulate"
check three.json 'abs(r[0]["images_per_s"] * r[0]["step_s"]["median"] - 6) < 1e-6'

# interrupted while it delays: nothing is stored (a delay takes 1 ms: 4000 rounds take long)
export RINGMARK_STORE=$PWD/interrupted.db
"${null[@]}" --steps 4000 --sensitivity --json interrupted.json >/dev/null 2>interrupted.err &
pid=$!; sleep 5; kill -INT $pid; wait $pid; [[ $? == 130 ]] || fail "exit code of an interrupted profile"
grep -q 'interrupted' interrupted.err || fail "an interruption is not said"
[[ ! -e interrupted.json && ! -e interrupted.db ]] || fail "an interrupted profile left something"
export RINGMARK_STORE=$PWD/test.db

# a trace that cannot be written costs the trace alone
"${null[@]}" --steps 2 --trace nowhere/t.json --json cut.json >/dev/null 2>cut.err; [[ $? == 7 ]] || fail "exit code of a trace that was not written"
grep -q 'nowhere/t.json' cut.err || fail "the trace's file is not named: $(cat cut.err)"
check cut.json 'r[0]["trace"]["cut"] and r[0]["images_per_s"] > 0'

# the report shows it
"$bench" report --out report -q >/dev/null 2>&1 || fail "report"
grep -q 'Where a step goes' report/index.html || fail "the report has no profile"
finish
