#!/usr/bin/env bash
# bench layers: rows add up to the nanosecond, bounds are the roofline's, MFU is reckoned; two tables side by side; damaged files are named.
source "$(dirname "$0")/common.bash"
layers=("$bench" layers --data synthetic --classes 10 --warmup 1 -q)
sums="sum(l['time_ns'] for l in r[0]['layers']) == r[0]['wall_ns'] == round(r[0]['step_s'] * 1e9) and min(l['time_ns'] for l in r[0]['layers']) >= 0"
rest="[l['name'] for l in r[0]['layers'] if l['op'] == '']"

# with peaks: every bound again from the roof that the row gives
"${layers[@]}" --device cpu --dtype fp32 --px 16 --batch 4 --steps 3 --json a.json >a.txt || fail "cpu"
cat >roof.py <<'E2'
import json, math, sys
row = json.load(open(sys.argv[1]))["results"][0]
near = lambda x, y: abs(x - y) <= 1e-9 * max(abs(x), abs(y))
peak = {p["name"]: p["value"] for p in row["peaks"]}
roof = max(peak["fma fp32"], peak["gemm fp32"])
bad, above = [], 0
for l in row["layers"]:
    if not l["op"]:
        bad += [l["name"]] * (l["bound_s"] is not None or not l["bound_s_reason"])
        continue
    level = next(v for v in row["roof"]["levels"] if v["bytes"] is None or l["bytes"] <= v["bytes"])
    bound, limit = max((l["flops"] / roof, "compute"), (l["bytes"] / level["bytes_per_s"], level["name"]))
    above += max(0, l["time_s"] - bound)
    good = near(l["bound_s"], bound) and l["bound_limit"] == limit and near(l["bound_share"], bound / l["time_s"])
    good = good and near(l["step_if_at_bound_s"], row["step_s"] - max(0, l["time_s"] - bound)) and near(l["intensity"], l["flops"] / l["bytes"])
    bad += [l["name"]] * (not good)
if not near(row["at_bounds_s"], row["step_s"] - above): bad.append("at_bounds_s")
if not near(row["mfu"], row["images_per_s"] * row["flops_per_image"] / peak["gemm fp32"]) or row["mfu_peak"] != "gemm fp32": bad.append("mfu")
if not near(row["roof"]["flops_per_s"], roof): bad.append("roof")
print(bad)
sys.exit(len(bad) > 0)
E2
python3 roof.py a.json || fail "bounds"
check a.json "$sums"
check a.json "len([l for l in r[0]['layers'] if l['pass'] == 'update']) == 1 and $rest[-2:] == ['host', 'idle']"
check a.json "all(abs(l['share'] - l['time_s'] / r[0]['step_s']) < 1e-12 and l['time_s_median'] >= 0 for l in r[0]['layers'])"
sed 's/"mfu": [0-9.e-]*/"mfu": 0.5/' a.json >spoilt.json; python3 roof.py spoilt.json >/dev/null && fail "the check of bounds cannot fail"
grep -qE '^peaks: fma fp32 [0-9.]+ GFLOP/s' a.txt || fail "no peaks: $(head -n 3 a.txt)"
grep -qE '^all rows at their bounds: [0-9.]+ ms, [0-9.]+ % of the step' a.txt || fail "no sum at bounds"
grep -qE 'images/s; MFU [0-9.]+ % of gemm fp32$' a.txt || fail "no MFU"
[[ $(sed -n '/^largest gains/,$p' a.txt | grep -c ' ms, .* bound by ') == 5 ]] || fail "not five gains: $(tail -n 7 a.txt)"
awk 'length($0) > 160 { print; bad = 1 } END { exit bad }' a.txt || fail "wider than 160 columns"

# without: null with the reason, in the words of what is missing
"${layers[@]}" --device cpu --px 16 --batch 2 --steps 2 --no-peaks --json b.json >b.txt || fail "no-peaks"
null='all(r[0][k] is None for k in ("peaks","roof","mfu","at_bounds_s")) and all(l["bound_s"] is None and l["bound_limit"] is None for l in r[0]["layers"])'
check b.json "$sums and $null and r[0]['bound_s_reason'] == r[0]['mfu_reason'] == '--no-peaks was given'"
grep -q '^peaks\|bounds' b.txt && fail "bounds without peaks"
"${layers[@]}" --device null --px 224 --batch 1 --classes 1000 --steps 2 --json c.json >/dev/null || fail "null"
check c.json "$sums and $null and 'null has no peaks' in r[0]['peaks_reason'] and round(r[0]['flops_per_image'] / 1e6) == 24535"

# several micro-batches: what the earlier ones took is one row
"${layers[@]}" --device cpu --px 16 --batch 4 --steps 2 --set accumulate=3 --no-peaks --json d.json >/dev/null || fail "accumulate"
check d.json "$sums and $rest[0] == 'other computing' and abs(r[0]['images_per_s'] * r[0]['step_s'] - 12) < 1e-9"

# slowed down on purpose: a share of the step is other computing, a share of a layer is its own. On a busy machine one run says little of a
# layer of microseconds, so that each side's least median counts, and more pairs of runs are taken until it shows. One thread, for while the
# first is kept busy the others fall asleep, and the op that comes next wakes them.
at="{(l['name'], l['pass']): l['time_s_median'] for l in r[0]['layers']}"
"${layers[@]}" --device cpu --px 16 --batch 4 --steps 5 --no-peaks --store other.db --inject step=60% --json s.json >s.txt || fail "inject"
grep -q '^injected: step=60%$' s.txt || fail "the table does not say what was injected"
check s.json "$sums and r[0]['injected'] == 'step=60%' and 0.36 < ($at)[('other computing', 'other')] / r[0]['step_s'] < 0.6"
for try in 1 2 3 4 5 6 7 8; do
  "${layers[@]}" --device cpu --threads 1 --px 16 --batch 4 --steps 9 --store other.db --no-peaks --json "n$try.json" >/dev/null || fail "no injection"
  "${layers[@]}" --device cpu --threads 1 --px 16 --batch 4 --steps 9 --store other.db --no-peaks --json "s$try.json" --inject layer=layer3.0.conv2:bwd_weights:90% >/dev/null || fail "inject a layer"
  python3 - <<'E3' && break
import collections, glob, json, sys
a, b = collections.defaultdict(lambda: 9e9), collections.defaultdict(lambda: 9e9)
for least, files in (a, "n?.json"), (b, "s?.json"):
    for f in glob.glob(files):
        for l in json.load(open(f))["results"][0]["layers"]:
            k = l["name"], l["pass"]
            least[k] = min(least[k], l["time_s_median"])
ratio = {k: b[k] / a[k] for k in a if a[k] > 0 and k[1] == "bwd_weights" and "conv2" in k[0]}
worst = max(ratio, key=ratio.get)
print(worst, ratio[worst])
sys.exit(not (worst == ("layer3.0.conv2", "bwd_weights") and 1.5 < ratio[worst] < 3.5))
E3
  [[ $try != 8 ]] || fail "a slower layer does not show"
done
expect 2 'no such layer' "${layers[@]}" --px 16 --batch 2 --inject layer=conv9:10%
expect 2 'no such layer' "${layers[@]}" --px 16 --batch 2 --inject layer=conv1:sideways:10%
expect 2 'one layer at a time' "${layers[@]}" --px 16 --batch 2 --inject 'layer=conv1:10%;layer=conv1:10%'
expect 2 'layer=conv1:10%' "${layers[@]}" --px 16 --batch 2 --inject layer=conv1:bwd_weights
expect 2 'no link' "${layers[@]}" --px 16 --batch 2 --inject link=1ms

# two tables by hand: largest differences first, doubles added, rows of one side named
table() { echo "{\"config\":{},\"environment\":{\"hard\":{\"processor\":\"P\"}},\"results\":[{\"device\":\"cpu\",\"dtype\":\"f32\",\"px\":$1,\"batch\":2,\"step_s\":$2,\"layers\":[$3]}]}"; }
one() { printf '{"name":"%s","pass":"%s","op":"conv","time_s":%s%s}' "$1" "$2" "$3" "${4:-}"; }
table 32 0.010 "$(one x fwd 0.002),$(one x fwd 0.001),$(one x bwd 0.001),$(one y fwd 0.005),$(one gone fwd 0.001),$(one z fwd 0)" >x.json
table 64 0.011 "$(one y fwd 0.001),$(one x bwd 0.0015),$(one x fwd 0.006),$(one new fwd 0.002),$(one z fwd 0)" >y.json
"$bench" layers --compare x.json y.json --json e.json -q >e.txt || fail "compare"
check e.json "[(x['name'], x['pass']) for x in r[0]['rows']] == [('y','fwd'),('x','fwd'),('x','bwd'),('z','fwd'),('new','fwd'),('gone','fwd')]"
check e.json "[x['difference_s'] and round(x['difference_s'], 9) for x in r[0]['rows']] == [-.004, .003, .0005, 0, None, None]"
check e.json "[x['ratio'] and round(x['ratio'], 9) for x in r[0]['rows']] == [.2, 2, 1.5, None, None, None] and r[0]['rows'][4]['a_s_reason'] == 'not in A'"
check e.json "abs(r[0]['rows_a_s'] - .01) < 1e-12 and abs(r[0]['rows_b_s'] - .0105) < 1e-12 and r[0]['step_b_s'] == .011 and r[0]['time'] == 'of the step shown'"
check e.json "r[0]['unlike'] == [{'what': 'px', 'a': 32, 'b': 64}] and 'kind' not in d['config']"
for line in '^unlike: px 32 against 64$' '^y +fwd +5\.000 +1\.000 +-4\.000 +0\.200$' '^only in A: gone fwd 1\.000 ms$' '^only in B: new fwd 2\.000 ms$' '^step +10\.000 +11\.000 +\+1\.000 +1\.100$'; do
  grep -qE "$line" e.txt || fail "no /$line/ in: $(cat e.txt)"
done
sed 's/"P"/"Q"/' x.json >q.json; expect 0 '^unlike: processor "P" against "Q"$' "$bench" layers --compare x.json q.json
expect 0 '^A: x.json$' "$bench" layers --compare x.json x.json
"$bench" layers --compare x.json x.json | grep -q unlike && fail "like tables are called unlike"
# medians where both have them
table 32 0.010 "$(one x fwd 0.002 ',"time_s_median":0.004')" >m.json
"$bench" layers --compare m.json m.json --json f.json -q >/dev/null; check f.json "r[0]['rows'][0]['a_s'] == .004 and r[0]['time'] == 'medians over the steps'"
"$bench" layers --compare m.json x.json --json f.json -q >/dev/null; check f.json "r[0]['rows'][0]['a_s'] == .002"

# runs of the store, the store itself, files of --json: the same table by three ways
"$bench" layers --compare 1 a.json --json g.json -q >/dev/null || fail "run and file"
check g.json "r[0]['unlike'] == [] and all(x['difference_s'] == 0 for x in r[0]['rows']) and r[0]['a'] == 'run 1 of $RINGMARK_STORE'"
"$bench" layers --compare test.db d.json --json g.json -q >/dev/null || fail "store and file"
check g.json "r[0]['unlike'] == [] and all(x['difference_s'] == 0 for x in r[0]['rows'])"
expect 0 '^unlike: batch 4 against 2$' "$bench" layers --compare 1 2
expect 0 '^unlike: device "cpu" against "null"$' "$bench" layers --compare 1 3
"${layers[@]}" --device null --px 16 --batch 4 --no-fuse >/dev/null || fail "no-fuse"
expect 0 '^only in B: layer1\.0\.relu1? ' "$bench" layers --compare 3 5
expect 0 '^unlike: no_fuse not given against true$' "$bench" layers --compare 3 5

# damage and misuse: one line that names the file
bad() { local pattern=$1; shift; expect 2 "$pattern" "$bench" layers --compare "$@"; [[ $("$bench" layers --compare "$@" 2>&1 >/dev/null | wc -l) == 1 ]] || fail "more than a line: $*"; }
: >empty; echo '{"results": [' >cut; echo '[1]' >list; echo '{"results": [{"px": 1}]}' >other; printf 'SQLite format 3\0rest' >db; mkdir folder
table 1 1 '' >none; table 1 1 '{"pass":"fwd","time_s":1}' >nameless; table 1 1 "$(one x fwd -1)" >negative; table 1 1 "$(one x fwd '"1"')" >text
table 1 1 "$(one x fwd 1e308),$(one y fwd 1e308)" >endless; table 1 1 '{"name":"x","pass":"fwd","time_s":1,"time_s_median":-1e308}' >median
table 1 1 7 >number; echo '{"results": [{"layers": {}}], "results": []}' >twice; echo '{"results": [{"layers": [{"name": "a\u0000b", "pass": "p", "time_s": 1}]}]}' >nul
bad 'missing.json.*No such file' x.json missing.json
for f in empty cut list other db folder none nameless negative endless median text number twice nul; do bad "(^|[^a-z])$f[^a-z]" x.json $f; bad "(^|[^a-z])$f[^a-z]" $f x.json; done
bad 'there is no run 99' 1 99; bad 'not the number of a run' 1 99999999999999999999; bad 'not the number of a run' 0 1
"$bench" comm --device null --gpus 1 --sizes 8 --iterations 1 -q >/dev/null || fail "comm"
bad 'run 6 has no table of layers' 1 6
bad 'takes two tables' x.json; expect 2 'at most 2|too many|expected' "$bench" layers --compare x.json x.json x.json
expect 2 'only with --compare' "$bench" layers x.json
finish
