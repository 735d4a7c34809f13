#!/usr/bin/env bash
# bench gate selftest, history and bisect. Verdicts are on runs that differ by far more than any noise, or whose noise is made up.
source "$(dirname "$0")/common.bash"
mkdir tmp; export TMPDIR=$PWD/tmp

# ---- selftest: everything holds, and is kept
"$bench" gate selftest --json self.json >self.txt 2>self.err || fail "selftest: $(cat self.err)"
for check in 'signed ranks' 'rank sums' count mirror power nulls limits layers history 'other rules' mutants; do grep -q "^ok   $check " self.txt || fail "no '$check' holds"; done
check self.json 'all(x["holds"] and x["origin"] == "emulated" for x in r) and len(r) > 100'
check self.json 'sum(x["check"] == "mutants" and len(x["killed_by"]) > 10 for x in r) >= 3'
check self.json 'all(x["value"] <= x["limit"] and x["limit"] < 0.017 for x in r if x["check"] == "nulls") and {x["model"] for x in r if x["check"] == "nulls"} == {"iid", "drift", "bimodal", "spikes", "second run", "ties"}'
check self.json '[x["false_alarms"] for x in r if x["case"] == "the gate"] < [x["false_alarms"] for x in r if x["case"] == "ten runs, then ten, rank-sum 5 %"]'
expect 0 'gate +0 +1[0-9][0-9]  bench gate selftest' "$bench" runs
expect 2 'effect' "$bench" gate selftest --effect 0

# real runs: the replicate does what is asked of it, verdicts are counted over calls
"$bench" gate selftest --replicate >plain.json || fail "replicate"
"$bench" gate selftest --replicate --slow 50% >slow.json || fail "slow replicate"
python3 - <<'END' || fail "the slowed replicate is not slower, by what it was told or more, step by step"
import json
a, b = (json.load(open(f)) for f in ("plain.json", "slow.json"))
assert len(a["step_s"]) == len(b["step_s"]) >= 50 and min(a["step_s"]) > 0
assert all(s >= 1.4999 * o for o, s in zip(b["op_s"], b["step_s"])) and any(s < 1.4 * o for o, s in zip(a["op_s"], a["step_s"]))
END
expect 0 '^ok +power +1 verdicts' "$bench" gate selftest --power 1 --slow 50% --lock none --calm 0 --json power.json
check power.json 'r[0]["kind"] == "power" and r[0]["pairs"] >= 10 and r[0]["verdict"] in ("REGRESSED", "INCONCLUSIVE") and r[-1]["kind"] == "rate" and r[-1]["verdicts"] == 1 and r[-1]["low"] <= r[-1]["rate"] <= r[-1]["high"]'
expect 0 'the store has 1 such' "$bench" gate selftest --power 1 --slow 50% --lock none --calm 0 --json again.json
check again.json 'len(r) == 1 and r[0]["verdicts"] == 1'
made() { echo "echo '{\"s\": $1}'"; } # a command of one's own, without noise
expect 0 'ok +aa +12 verdicts on equal runs: 0 regressed, 0 improved' "$bench" gate selftest --aa 12 --a "$(made 1)" --metric '$.s' --lock none --calm 0
expect 0 'ok +aa +13 verdicts' "$bench" gate selftest --aa 13 --a "$(made 1)" --metric '$.s' --lock none --calm 0 --json own.json
check own.json 'len(r) == 2 and r[0]["number"] == 13 and r[0]["verdict"] == "PASS" and r[1]["replicate"].startswith("echo")'
expect 0 'ok +aa +1 verdicts' "$bench" gate selftest --aa 1 --a "$(made 1)" --metric '@max_rss_bytes:effect=90%' --lock none --calm 0 --json tier.json # T1
check tier.json 'r[0]["tier"] == "T1" and r[0]["metric"] == "max_rss_bytes"'
expect 0 'ok +aa +1 verdicts' "$bench" gate selftest --aa 1 --a "$(made 1)" --metric '$.s:exact' --lock none --calm 0 --json tier.json
check tier.json 'r[0]["tier"] == "T0" and r[0]["verdict"] == "PASS"'
expect 0 'ok +aa +1 verdicts' "$bench" gate selftest --aa 1 --a "$(made 1)" --metric '$.s' --lock none --calm 0 --expensive # other looks are another rate
expect 2 'FAIL +power +3 verdicts' "$bench" gate selftest --power 3 --a "$(made 1.1)" --b "$(made 1)" --metric '$.s' --lock none --calm 0 # faster is the wrong sign
expect 2 'FAIL +power +4 verdicts .*found 0' "$bench" gate selftest --power 4 --slow 1% --a "$(made 1)" --b "$(made 1.01)" --metric '$.s' --lock none --calm 0
expect 2 'wants --a CMD and --b CMD' "$bench" gate selftest --power 3 --b "$(made 1)" --metric '$.s'
# this machine's noise: equal runs, and what the rules make of them
cat >steps <<'END'
#!/bin/sh
awk -v seed=$$ 'BEGIN { srand(seed); for (i = 0; i < 20; i++) rand(); run = 1 + 0.002 * rand()
  for (i = 0; i < 80; i++) printf "%s%.6f", (i ? ", " : "{\"s\": ["), run * (1 + 0.001 * rand()); print "]}" }'
END
chmod +x steps
expect 0 '^80 equal runs: spread 0\.[01][0-9] %' "$bench" gate selftest --noise 80 --a ./steps --metric '$.s' --lock none --calm 0 --json noise.json
check noise.json 'r[0]["kind"] == "noise" and r[0]["runs"] == len(r[0]["values_s"]) == 80 and all(0.999 < v < 1.005 for v in r[0]["values_s"]) and r[0]["origin"] == "measured"'
check noise.json '[(x["trials"], x["slower"], x["origin"]) for x in r[1:] if x["rule"].startswith("one run")] == [(40, 0, "measured"), (40, 40, "emulated")]'
check noise.json '[(x["trials"], x["slower"]) for x in r[1:] if x["rule"] == "the gate"] == [(1, 0), (1, 1)] and len(r) == 13'
expect 0 'one run of each.* finds 5 % added to B in 40 of 40' "$bench" gate selftest --noise 80 --slow 5% --a ./steps --metric '$.s[0]' --lock none --calm 0 --json few.json
check few.json 'len(r) == 11 and not any("iterations" in x.get("rule", "") for x in r)'
expect 2 'path into the JSON' "$bench" gate selftest --noise 80 --a ./steps --metric @wall_s --lock none --calm 0
expect 2 'exit code 3' "$bench" gate selftest --noise 80 --a 'exit 3' --metric '$.s' --lock none --calm 0
expect 2 'noise' "$bench" gate selftest --noise 10
[[ -z $(ls tmp) ]] || fail "left behind: $(ls tmp)"

# ---- history: a repository, and a store as if its commits had been measured
git init -q repo; cd repo || exit 2
git config user.email test@example.org; git config user.name test
cat >CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(stand_in LANGUAGES NONE)
add_custom_target(bench COMMAND ${CMAKE_COMMAND} -E copy ${CMAKE_SOURCE_DIR}/stand_in.sh ${CMAKE_BINARY_DIR}/bench)
END
# Stands in for this program, so that builds of revisions take no time; what it prints has no noise but 0 to 0.6 % in turn.
for i in $(seq 1 14); do
  { echo '#!/bin/sh'; echo "n=\$((\$(cat '$PWD/../turn' 2>/dev/null || echo 0) + 1)); echo \$n >'$PWD/../turn'"
    echo "echo '{\"results\": [{\"step_s\": {\"median\": 1.0'\$((\$n * 5 % 7 + (${i} > 13 ? 50 : 0) + 10))'}}]}'"; } >stand_in.sh
  chmod +x stand_in.sh; echo "$i" >file; git add -A; git commit -qm "Change number $i"
done
git log --reverse --abbrev=10 --format=%h >../revisions
cd ..
"$bench" layers --device null --data synthetic --px 32 --batch 2 --steps 2 --no-peaks --store seed.db >/dev/null 2>&1 || fail "a run to copy"
cat >history.py <<'END'
"""history.py STORE NEWEST [REVISION]: four sessions at 100 ms, five at 90, four at 95.5, and one at NEWEST (of REVISION)."""
import datetime, json, sqlite3, sys
db = sqlite3.connect(sys.argv[1])
revision = open("revisions").read().split()
def row_of(table):
    names = [c[1] for c in db.execute(f"PRAGMA table_info({table})")]
    return dict(zip(names, db.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()))
def put(table, row):
    row = {k: v for k, v in row.items() if k != "id"}
    return db.execute(f"INSERT INTO {table} ({','.join(row)}) VALUES ({','.join('?' * len(row))})", list(row.values())).lastrowid
run, result = row_of("run"), row_of("result")
levels = [0.100] * 4 + [0.090] * 5 + [0.0955] * 4 + [float(sys.argv[2])]
if len(sys.argv) > 3: revision[13] = sys.argv[3]
for i, level in enumerate(levels):
    for k in range(5):
        when = datetime.datetime(2026, 1, 1 + i, 12, k).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        environment = json.loads(run["environment"]); environment["soft"]["git"] = revision[i]
        row = json.loads(result["row"]); row["step_s"] = {"median": level * (1 + 0.001 * ((7 * i + k) % 5 - 2))}
        n = put("run", run | {"environment": json.dumps(environment), "started": when, "finished": when, "exit_code": 0})
        put("result", result | {"run": n, "row": json.dumps(row)})
db.execute("DELETE FROM result WHERE run = ?", (run["id"],)); db.execute("DELETE FROM run WHERE id = ?", (run["id"],)); db.commit()
END
store() { rm -f "$1"*; cp seed.db "$1"; python3 history.py "$@" || fail "history.py $*"; }
store slow.db 0.12; store same.db 0.0957; store quick.db 0.07; store self.db 0.12 "$(tail -1 revisions)x"; store dirty.db 0.12 "$(tail -1 revisions), dirty"
cd repo || exit 2
expect 3 '^SUSPECT .*step_s \+25' "$bench" gate history --store ../slow.db --json ../slow.json
"$bench" gate history --store ../slow.db >../slow.txt 2>/dev/null
grep -q "changed by -10.0. % at session 5 .*: [0-9a-f]* Change number 5$" ../slow.txt || fail "the change is not named: $(cat ../slow.txt)"
grep -q "decide: bench gate ab --base $(sed -n 13p ../revisions) --head $(sed -n 14p ../revisions) --bench 'layers --device null .*--steps 2" ../slow.txt || fail "no command decides: $(cat ../slow.txt)"
expect 0 '^PASS .*best level ever' "$bench" gate history --store ../same.db
expect 0 '^PASS ' "$bench" gate history --store ../quick.db
export RINGMARK_GATE_CACHE=$PWD/../builds
timed=(--metric 'step=$.step_s.median' --tiers T2 --lock none --calm 0)
expect 3 "decide: .*--metric 'step=.*results\[0\].step_s.median" "$bench" gate history --store ../slow.db "${timed[@]}"
expect 1 'the pairs say: REGRESSED' "$bench" gate history --store ../slow.db --then-ab "${timed[@]}" --json ../decided.json
"$bench" gate history --store ../slow.db --then-ab "${timed[@]}" --json - 2>/dev/null | python3 -c 'import json,sys; json.load(sys.stdin)' || fail "more than JSON on stdout"
expect 2 '.' "$bench" gate history --store ../slow.db --then-ab --metric 'step=$.step_s.median' --tiers T9 --lock none --calm 0 # trouble is no verdict
expect 0 'first slower commit: .* Change number 14' "$bench" gate bisect --base HEAD~9 --head HEAD --bench step --metric '$.results[0].step_s.median' --lock none --calm 0
expect 4 'too few|no session' "$bench" gate history --store ../same.db --session 6
expect 3 '^  a side was built of changed files' "$bench" gate history --store ../dirty.db --then-ab "${timed[@]}" --json ../dirty.json
cd ..
check dirty.json 'r[0]["verdict"] == "SUSPECT" and "decided" not in r[0] and "reproduce" not in r[0]'
check slow.json 'r[0]["verdict"] == "SUSPECT" and [c["session"] for c in r[0]["changes"]] == [4, 9] and len(r[0]["sessions"]) == 14 and r[0]["baseline"]["sessions"] == 4'
check decided.json 'r[0]["decided"] == "REGRESSED" and r[0]["verdict"] == "SUSPECT"'
check slow.json 'r[0]["delta"] >= r[0]["threshold"] and abs(r[0]["best"]["value"] - 0.09) < 1e-4'
expect 3 'git knows' "$bench" gate history --store self.db # no repository here, no clean revision: still a suspicion
expect 4 'no session' "$bench" gate history --store seed.db
"$bench" report --store slow.db --out report >/dev/null 2>report.err || grep -q gnuplot report.err || fail "report: $(cat report.err)"
grep -q 'History of layers' report/report.md || fail "the report has no history"

# ---- bisect: in worktrees of its own, so that a changed file stays as it is
rm -rf repo; git init -q repo; cd repo || exit 2
git config user.email test@example.org; git config user.name test
cat >run.sh <<'END'
n=$(($(cat ../../count 2>/dev/null || echo 0) + 1)); echo $n >../../count # noise that is no chance: 0 to 0.6 % in turn
test -e built || exit 9
echo "{\"s\": 1.$(cat speed)$(((n * 5) % 7))}"
END
git add run.sh
for i in $(seq 1 9); do
  case $i in 1) echo 00 >speed ;; 6) echo 08 >speed ;; 5) touch broken ;; 7) rm -f broken ;; esac
  echo "$i" >file; git add -A; git commit -qm "Change number $i"
done
echo changed >file
bisect() { "$bench" gate bisect --base HEAD~8 --head HEAD --build 'test ! -e broken && touch built' --b 'sh run.sh' --metric '$.s' --lock none --calm 0 "$@"; }
bisect --json ../bisect.json >../bisect.txt 2>../bisect.err
[[ $? == 3 ]] || fail "changes 5 and 6 cannot be built, so it is one of them or 7: $(cat ../bisect.txt ../bisect.err)"
for i in 5 6 7; do grep -q "Change number $i\$" ../bisect.txt || fail "change $i is not named: $(cat ../bisect.txt)"; done
[[ $(cat file) == changed && $(git worktree list | wc -l) == 1 ]] || fail "the tree is not as it was: $(git status --short; git worktree list)"
echo 00 >speed; git add -A; git commit -qm "Quick again"; git tag quick
for i in 11 12 13 14; do if [[ $i == 13 ]]; then echo 08 >speed; fi; echo $i >file; git add -A; git commit -qm "Change number $i"; done
echo changed >file
expect 0 'first slower commit: [0-9a-f]{40} Change number 13' "$bench" gate bisect --base quick --head HEAD --build 'touch built' --b 'sh run.sh' --metric '$.s' --lock none --calm 0 --json ../found.json
(cd .. && check found.json 'r[0]["first_slower"].endswith("Change number 13") and r[0]["steps"] >= 3 and r[0]["skipped"] == 0')
expect 2 'not slower' "$bench" gate bisect --base quick --head quick~0 --build 'touch built' --b 'sh run.sh' --metric '$.s' --lock none --calm 0
expect 2 'no such commit' "$bench" gate bisect --base nowhere --head HEAD --b 'sh run.sh' --metric '$.s'
expect 2 'wants --bench' "$bench" gate bisect --base quick --head HEAD
expect 2 '[-]-build ended with exit code 1 on --base quick' "$bench" gate bisect --base quick --head HEAD --build false --b 'sh run.sh' --metric '$.s' --lock none --calm 0
ends() { "$bench" gate bisect --base quick --head HEAD --build 'touch built' --b 'sh run.sh' --metric '$.s' --lock none --calm 0 "$@"; } # a later option wins
expect 2 'the path \$\.s\[ is wrong' ends --metric '$.s['
expect 2 '[-]-effect 200%' ends --effect 200%
expect 2 'cannot be compared .*\$\.nowhere leads nowhere' "$bench" gate bisect --base quick --head HEAD --build 'touch built' --b 'sh run.sh' --metric '$.nowhere' --lock none --calm 0
expect 2 'cannot be compared .*side B ended with exit code 7: no head' ends --b 'if grep -q 14 file; then echo no head >&2; exit 7; fi; sh run.sh'
expect 2 '[-]-build ended with exit code 6 on --head HEAD' ends --build 'if grep -q 14 file; then exit 6; fi; touch built'
expect 2 'cannot be compared' ends --discard nonsense
# An exact metric, and a store that is not there yet: it is made here, not in the temporary tree.
expect 0 'first slower commit: [0-9a-f]{40} Change number 13' ends --b 'echo "{\"s\": 1, \"n\": $(cat speed | sed s/^0*//)0}"' --metric 'n=$.n:exact' --store fresh.db
[[ $(ls fresh.db) == fresh.db ]] && rm -f fresh.db* || fail "no store here"
# Ctrl-C in the middle of a run: nothing is left, nothing has changed
"$bench" gate bisect --base quick --head HEAD --build 'touch built' --b 'touch ../../running; sleep 60' --metric '$.s' --lock none --calm 0 >/dev/null 2>../interrupted.err &
pid=$!
for _ in $(seq 600); do [[ -e ../tmp/running || -e ../running ]] && break; sleep 0.1; done
kill -INT $pid; wait $pid; code=$?
[[ $code == 130 ]] || fail "interrupted: exit $code: $(cat ../interrupted.err)"
[[ $(cat file) == changed && $(git worktree list | wc -l) == 1 ]] || fail "the tree is not as it was: $(git status --short; git worktree list)"
cd ..
[[ -z $(ls tmp | grep -v '^count$\|^running$') ]] || fail "left behind: $(ls tmp)"
finish
