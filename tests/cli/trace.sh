#!/usr/bin/env bash
# Traces of training and of sweeps: valid JSON, every kernel, all-reduce and copy has its launch, all within its step; counters, workers,
# what tracing cost.
source "$(dirname "$0")/common.bash"
small_data data
cat >look.py <<'E2'
import gzip, json, sys
path, ranks, steps, real = sys.argv[1], int(sys.argv[2]), [int(x) for x in sys.argv[3].split(",") if x], sys.argv[4] == "real"
d = json.load(gzip.open(path, "rt") if path.endswith(".gz") else open(path))
bad = []
def hold(ok, what):
    if not ok and what not in bad: bad.append(what)
events = d["traceEvents"]
X = [e for e in events if e["ph"] == "X"]
lane = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
on = lambda e: lane[e["pid"], e["tid"]]
ns = lambda us: round(us * 1000)
begin, end = lambda e: ns(e["ts"]), lambda e: ns(e["ts"]) + ns(e["dur"])
step = {e["args"]["step"]: e for e in X if e["name"].startswith("ProfilerStep#")}
hold(set(step) == set(steps) if steps else len(step) >= 8, f"steps {sorted(step)}")
hold(all(e["name"] == f"ProfilerStep#{k}" and on(e) == "host" for k, e in step.items()), "names of steps")
launch = {e["args"]["correlation"]: e for e in X if e["cat"] == "cuda_runtime"}
hold(len(launch) == sum(e["cat"] == "cuda_runtime" for e in X), "launches share a correlation")
kind = lambda e: "comm" if e["name"].startswith("nccl") else "copy" if e["cat"] == "gpu_memcpy" else "kernel"
work = [e for e in X if e["cat"] in ("kernel", "gpu_memcpy")]
count = {k: sum(kind(e) == k for e in work) for k in ("kernel", "comm", "copy")}
hold(count["kernel"] >= 300 * len(step) and count["copy"] >= len(step) and count["comm"] == (3 * len(step) if ranks > 1 else 0), f"device work {count}")
hold(len(launch) == len(work), "launches without work")
for e in work:
    a, l = e["args"], launch.get(e["args"]["correlation"])
    hold(l and on(l) == "host" and begin(l) <= begin(e), f"launch of {e['name']}")
    hold(on(e) == {"comm": "communication", "copy": "copies", "kernel": "compute"}[kind(e)], f"lane of {e['name']}")
    if l and kind(e) != "copy":
        hold(a["pass"] == l["args"]["pass"] and a.get("bucket") == l["args"].get("bucket") and a.get("layer_name") == l["args"].get("layer_name"), f"parts of {e['name']}")
    if kind(e) == "kernel":
        hold(("layer" in a) == ("layer_name" in a) and (a["pass"] in ("bwd_weights",)) <= ("bucket" in a), f"layer and bucket of {e['name']}")
        hold(e["name"] == "optim update" or "bucket" not in a or a["pass"].startswith("bwd"), f"a bucket in {a['pass']}")
for e in work + list(launch.values()):
    s = step.get(e["args"]["step"])
    hold(s and begin(s) <= begin(e) and end(e) <= end(s), f"{e['name']} outside of its step")
comm = [e["args"] for e in work if kind(e) == "comm"]
for a in comm:
    hold(a["bucket"] in (0, 1, 2) and a["bytes"] > 0 and a["first_gradient"] <= a["last_gradient"] and a["last_gradient_name"].startswith(a["layer_name"] + "."), "an all-reduce's gradients")
if comm:
    hold((comm[0]["first_gradient_name"], comm[0]["first_gradient"]) == ("fc.bias", 0) and comm[2]["last_gradient_name"] == "conv1.weight", "first and last gradient")
    parts = {(a["first_gradient"], a["last_gradient"]) for a in comm}
    hold(sorted(parts)[0][0] == 0 and all(x[1] + 1 == y[0] for x, y in zip(sorted(parts), sorted(parts)[1:])), "buckets do not follow each other")
arrows = {p: sorted(e["id"] for e in events if e["ph"] == p) for p in "sf"}
hold(arrows["s"] == arrows["f"] == sorted(launch), "arrows")
counter = {}
for e in events:
    if e["ph"] == "C": counter.setdefault(e["name"], []).append(e["args"]["value"])
names = {"device memory (bytes)", "resident memory (bytes)", "trace lanes full (%)"} | ({"batches ready"} if real else set())
hold(set(counter) == names and all(len(v) == len(step) for v in counter.values()), f"counters {counter}")
hold(min(counter["device memory (bytes)"]) > 1e7 and min(counter["resident memory (bytes)"]) > min(counter["device memory (bytes)"]) / 2, "memory")
hold(not real or all(0 <= v <= 4 for v in counter["batches ready"]), "batches ready")
decoded = [e for e in X if e["name"] == "decode and resize"]
hold(bool(decoded) == real and all(on(e).startswith("input worker ") and 0 <= e["args"]["arg"] < 96 and "step" not in e["args"] for e in decoded), "decoded images")
hold({e for e in lane.values() if not e.startswith("input worker")} == {"compute", "communication", "copies", "input", "host"}, f"lanes {lane}")
hold(sum(e.startswith("input worker") for e in lane.values()) == (2 if real else 0), "workers' lanes")
hold(d["dropped"] == 0, "dropped")
print("\n".join(f"{path}: {b}" for b in bad)); sys.exit(bool(bad))
E2
look() { python3 look.py "$@" || fail "look $*"; }
cost='(lambda t: t["low"] <= t["ratio"] <= t["high"] and t["perturbed"] == (abs(t["ratio"] - 1) > 0.02))(r[0]["trace"])'

# one rank with real images, of which each is seen more than once
"$bench" train --device null --data data "${tiny[@]}" --workers 2 --steps 14 --trace one.json --trace-steps 3..12 --json one.out -q >/dev/null 2>err.txt || fail "one rank: $(cat err.txt)"
python3 -m json.tool one.json >/dev/null || fail "one.json is no JSON"
look one.json 1 3,4,5,6,7,8,9,10,11,12 real
check one.out 'r[0]["trace"]["steps"] == 10 and r[0]["trace"]["file"] == "one.json"'
check one.out "$cost"

# two ranks, three buckets; packed; without -q what tracing cost is said
out=$("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 10 --split 53,107,160 --gpus 2 --oversubscribe --trace two.json.gz --trace-steps 2..6 --json two.out 2>&1) || fail "two ranks: $out"
grep -Eq 'trace written: two.rank0.json.gz; traced steps took [0-9.]+ of the others \(95 %: [0-9.]+ to [0-9.]+\): (perturbed|undecided|within)' <<<"$out" || fail "what it cost: $out"
for k in 0 1; do look two.rank$k.json.gz 2 2,3,4,5,6 synthetic; done
check two.out "$cost"

# every step traced: nothing to compare with. Micro-batches and the update on arrival are whole too.
out=$("$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --set accumulate=3 --update-on-arrival --steps 3 --trace all.json --trace-steps 0..9 --json all.out 2>&1) || fail "all steps: $out"
grep -q 'what tracing cost is not known' <<<"$out" || fail "unknown cost: $out"
check all.out 'all(r[0]["trace"][k] is None and r[0]["trace"][k + "_reason"] for k in ("ratio", "low", "high", "perturbed")) and r[0]["trace"]["file"] == "all.json"'
python3 - <<'E2' || fail "micro-batches"
import collections, json
X = [e for e in json.load(open("all.json"))["traceEvents"] if e["ph"] == "X"]
n = collections.Counter((e["name"], e["args"]["step"]) for e in X if e["cat"] in ("kernel", "gpu_memcpy"))
assert all(n["conv1 fwd", k] == 3 and n["conv1 bwd_weights", k] == 3 and n["Memcpy images and labels", k] == 3 and n["optim update", k] == 1 and n["conv1 weights", k] == 1 for k in range(3)), n
assert sum(e["cat"] == "cuda_runtime" for e in X) == sum(n.values())
E2
"$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 2 --json none.out -q >/dev/null || fail "no trace"
check none.out 'r[0]["trace"] is None and r[0]["trace_reason"] == "--trace was not given"'
expect 7 'the run ended before step 50' "$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 3 --trace late.json --trace-steps 50..60
expect 7 'nowhere/t.json: the trace cannot be written' "$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 3 --trace nowhere/t.json --trace-steps 1..2

# sweeps: a trace for each N, by pairs of steps
sweep=("$bench" scaling --device null --px 16 --batch 16 --workers 2 --seed 3 --steps 4 --warmup 1 --gpus 1,2 --oversubscribe --no-twins --input-mode real --data data --split 53,107,160)
out=$("${sweep[@]}" --trace sweep.json.gz --json sweep.out -q) || fail "sweep: $out"
grep -Eq 'trace of N=2: traced steps took [0-9.]+ of the others \(95 %: [0-9.]+ to [0-9.]+, 8 pairs\).*look closer with: bench overlap sweep.n2.rank\*.json.gz' <<<"$out" || fail "printed: $out"
look sweep.n1.json.gz 1 '' real
for k in 0 1; do look sweep.n2.rank$k.json.gz 2 '' real; done
check sweep.out '[x["trace"]["file"] for x in r] == ["sweep.n1.json.gz", "sweep.n2.rank0.json.gz"] and all(x["trace"]["pairs"] == 8 and not x["trace"]["cut"] for x in r)'
check sweep.out "$cost"
"$bench" overlap sweep.n2.rank*.json.gz -q >/dev/null || fail "overlap of a sweep's traces"
python3 - <<'E2' || fail "order of the pairs"
import gzip, json
ranks = [sorted(e["args"]["step"] for e in json.load(gzip.open(f"sweep.n2.rank{k}.json.gz"))["traceEvents"] if e["name"].startswith("ProfilerStep")) for k in (0, 1)]
assert ranks[0] == ranks[1] and len(ranks[0]) == 8 and len({k % 2 for k in ranks[0]}) == 2, ranks  # the same on both, in no fixed order
assert all(sum(k // 2 == p for k in ranks[0]) == 1 for p in range(1, 9)), ranks # one of each pair; the first pair is thrown away
E2
# as many steps as asked for find room, with one worker too
"${sweep[@]}" --gpus 1 --steps 450 --workers 1 --input-mode real --trace long.json.gz --json long.out -q >/dev/null || fail "many steps"
check long.out 'r[0]["trace"]["pairs"] == 450 and not r[0]["trace"]["cut"]'
expect 7 'the sweep finished, but a trace is not whole' "${sweep[@]}" --gpus 1 --trace nowhere/t.json
expect 2 'ghosts sleep and have nothing to trace' "$bench" scaling --ghost --trace t.json
expect 2 'leave one of them out' "${sweep[@]}" --trace t.json --no-timers
expect 2 'takes no steps to trace' "${sweep[@]}" --trace t.json --input-mode data-only
"${sweep[@]}" --gpus 1 --json plain.out -q >/dev/null || fail "sweep without a trace"
check plain.out 'r[0]["trace"] is None and r[0]["trace_reason"] == "--trace was not given"'
finish
