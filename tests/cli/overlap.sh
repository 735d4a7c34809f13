#!/usr/bin/env bash
# bench overlap: HolisticTraceAnalysis' figures of committed traces, our own traces, damage, folders, several ranks.
source "$(dirname "$0")/common.bash"
golden=$RM_SOURCE_DIR/tests/golden/overlap
overlap=("$bench" overlap)

# its figures, to what it prints (tests/golden/make_overlap.py wrote them)
"${overlap[@]}" "$golden" --window hta --json a.json -q >/dev/null || fail "golden"
cat >differences.py <<'E2'
import json, sys
sys.path.insert(0, sys.argv[1] + "/..")
import make_overlap
found = [d for w, r in zip(json.load(open(sys.argv[1] + ".json")), json.load(open(sys.argv[2]))["results"]) for d in make_overlap.differences(w, r)]
print("\n".join(found)); sys.exit(len(found) > 0)
E2
python3 differences.py "$golden" a.json || fail "figures other than HolisticTraceAnalysis'"
"${overlap[@]}" "$golden" --json b.json -q >/dev/null; python3 differences.py "$golden" b.json >/dev/null && fail "the comparison cannot fail"
check a.json "[x['rank'] for x in r] == [0, 1] and d['config']['window'] == 'hta' and d['command'] == 'overlap'"

# a trace that can be reckoned by hand, in microseconds: compute 0..100 and 150..200, all-reduce 80..160, copy 190..230, step 0..220
event() { printf '{"ph":"X","cat":"%s","name":"%s","ts":%s,"dur":%s,"pid":0,"tid":0,"args":{"stream":%s}}' "$@"; }
hand="$(event kernel gemm 0 100 7),$(event kernel ncclDevKernel_AllReduce 80 80 20),$(event kernel gemm 150 50 7),$(event gpu_memcpy 'Memcpy DtoH' 190 40 7)"
step='{"ph":"X","cat":"user_annotation","name":"ProfilerStep#1","ts":-10,"dur":230,"pid":1,"tid":1}'
echo "{\"distributedInfo\":{\"rank\":5},\"traceEvents\":[$hand,$step]}" >hand.json
near() { echo "all(abs(x - y) < 1e-12 for x, y in zip([$1], [$2]))"; }
terms="r[0]['budget_s'][k] for k in ('compute','exposed_comm','exposed_copy','other','idle')"
"${overlap[@]}" hand.json --json c.json -q >c.txt || fail "hand"
check c.json "$(near "*[r[0][k] for k in ('window_s','compute_s','non_compute_s','idle_s','comm_s','overlap_s','overlap_geom','exposed_comm_s','exposed_comm_share')]" '230e-6, 150e-6, 80e-6, 0, 80e-6, 30e-6, .375, 50e-6, 5/23')"
check c.json "$(near "*[$terms]" '150e-6, 50e-6, 30e-6, 0, 0')"
check c.json "r[0]['rank'] == 5 and r[0]['rank_from'] == 'distributedInfo' and r[0]['spans'] == 4 and r[0]['steps'] == 1 and [(s['stream'], s['spans']) for s in r[0]['streams']] == [(7, 3), (20, 1)]"
check c.json "$(near "*[s['busy_s'] for s in r[0]['streams']]" '180e-6, 80e-6')"
check c.json "all(r[0][k] is None and len(r[0][k + '_reason']) > 9 for k in ('comm_cost_s','eta_eff','blocking_comm_s','slowdown','xfer_s','skew_share','input_stall_s','host_s'))"
grep -qE '^ +5 +4 +0\.230 +65\.22 +34\.78 +0\.00 +0\.080 +37\.50 +0\.050 +21\.74$' c.txt || fail "table: $(cat c.txt)"
"${overlap[@]}" hand.json --window steps --json d.json -q >/dev/null || fail "steps"
check d.json "$(near "r[0]['window_s'], r[0]['idle_s'], *[$terms]" '230e-6, 10e-6, 150e-6, 50e-6, 20e-6, 0, 10e-6')"
expect 0 'stream 20: 1 spans, busy 0.080 ms, 34.78 %' "${overlap[@]}" hand.json -v

# the same as bare array, packed, by another name, through a pipe
echo "[$hand]" | gzip >bare.bin
expect 0 'no distributedInfo.rank in this trace; it counts as rank 0' "${overlap[@]}" bare.bin
"${overlap[@]}" <(cat bare.bin) --json e.json -q >/dev/null || fail "pipe"
check e.json "r[0]['rank'] == 0 and r[0]['rank_from'] == 'order' and abs(r[0]['overlap_geom'] - .375) < 1e-12"

# several ranks: transfer and waiting; a folder in order of ranks
mkdir ranks; sed 's/"rank":5/"rank":1/' hand.json >ranks/a.json
sed 's/"rank":5/"rank":0/; s/"ts":80,"dur":80/"ts":120,"dur":40/' hand.json | gzip >ranks/b.json.gz; echo no >ranks/notes.txt
"${overlap[@]}" ranks --json f.json -q >f.txt || fail "ranks"
check f.json "[x['rank'] for x in r] == [0, 1] and $(near "r[0]['xfer_s'], r[1]['xfer_s'], r[0]['skew_share']" '40e-6, 40e-6, 1/3')"
grep -q '0.040 ms a rank is transfer; 33.33 % is waiting' f.txt || fail "no line of transfer: $(cat f.txt)"
cp ranks/a.json ranks/c.json; expect 0 'are both rank 1' "${overlap[@]}" ranks

# ours: two ranks; the last step is left out by hta alone
"$bench" train --device null --data synthetic --classes 10 "${tiny[@]}" --steps 6 --gpus 2 --oversubscribe --trace own.json.gz --trace-steps 1..4 -q >/dev/null 2>err.txt || fail "train: $(cat err.txt)"
for w in all steps hta; do "${overlap[@]}" own.rank*.json.gz --window $w --json own.$w -q >/dev/null || fail "ours, $w"; done
check own.all "[x['rank'] for x in r] == [0, 1] and all(x['steps'] == 4 and x['bad_events'] == 0 and 0 <= x['overlap_geom'] <= 1 and x['comm_s'] > 0 for x in r)"
check own.all "all(abs(sum(x['budget_s'].values()) / x['window_s'] - 1) < 1e-9 and x['exposed_comm_s'] == x['budget_s']['exposed_comm'] for x in r)"
check own.all "all(isinstance(x['xfer_s'], float) and 0 <= x['skew_share'] < 1 for x in r)"
[[ $(json own.hta "[x['spans'] for x in r]") != $(json own.all "[x['spans'] for x in r]") ]] || fail "hta keeps the last step"

# damage: what was read, and 7; nothing, and 2
head -c 330 hand.json >cut.json
expect 7 'cut.json: the trace ends at byte 330 in the middle of something; kept the 2 spans of device work before it' "${overlap[@]}" cut.json
"${overlap[@]}" cut.json --json g.json -q >/dev/null 2>&1; [[ $? == 7 ]] || fail "cut: not 7"
check g.json "r[0]['partial'] and 'byte 330' in r[0]['partial_reason'] and r[0]['spans'] == 2 and r[0]['text_bytes'] == 330"
head -c 60 hand.json >none.json
expect 2 'none.json: the trace ends at byte 60 .*; no device work comes before it' "${overlap[@]}" none.json
sed 's/"ts":150/"ts":15x/' hand.json >wrong.json
expect 7 'wrong.json: malformed at byte [0-9]+ \(neither , nor } after a value\); kept the 2 spans' "${overlap[@]}" wrong.json
head -c 200 ranks/b.json.gz >cut.gz; expect 7 'malformed at byte [0-9]+ of the uncompressed text \(the compressed data end early\)|no device work' "${overlap[@]}" ranks/a.json cut.gz
expect 7 'none.json' "${overlap[@]}" hand.json none.json
expect 2 'no traceEvents' "${overlap[@]}" <(echo '{"a":1}')
expect 2 'no device work among its 1 events' "${overlap[@]}" <(echo "[$step]")
expect 2 'no ProfilerStep' "${overlap[@]}" <(echo "[$hand]") --window steps
expect 0 'rank' "${overlap[@]}" <(echo "[$hand]") --window hta
expect 2 'nowhere.json: the trace cannot be opened' "${overlap[@]}" nowhere.json
mkdir empty; expect 2 'no traces in this folder' "${overlap[@]}" empty
expect 2 'TRACE' "${overlap[@]}"
expect 2 'all\|steps\|hta|hta' "${overlap[@]}" hand.json --window hat
expect 0 '2 begin and end events' "${overlap[@]}" <(echo "[$hand,{\"ph\":\"B\",\"ts\":1},{\"ph\":\"E\",\"ts\":2}]")
expect 0 '1 events have no usable time' "${overlap[@]}" <(echo "[$hand,$(event kernel k 1 -5 7)]")
finish
