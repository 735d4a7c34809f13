# bench gate ab: verdicts, exit codes, outputs, budget, lock, resuming. Numbers are made, not timed, but for a sleep that is ten times as long.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
gate=("$bench" gate ab --lock "$PWD/lock" --calm 0) # what a test runs is made up: no machine need be calm for it
# made MEAN SPREAD [LOG]: prints a number near MEAN
cat > made <<'END'
#!/bin/sh
[ -z "$3" ] || echo run >> "$3"
awk -v mean="$1" -v spread="$2" -v seed="$$" 'BEGIN { srand(seed); for (i = 0; i < 9; i++) rand(); v = mean * (1 + spread * (rand() - 0.5))
  printf "{\"seconds\": %.9f, \"rate\": %.9f, \"launches\": %d, \"deep\": {\"n\": [%.9f, %.9f]}}\n", v, 1 / v, (mean > 1 ? 371 : 370), v, v }'
END
# Twice as fast and twice as slow by turns: no number of pairs tells.
cat > turns <<'END'
#!/bin/sh
n=$(($(cat count 2> /dev/null || echo 0) + 1)); echo $n > count
if [ $((n % 2)) = 0 ]; then echo '{"seconds": 0.5}'; else echo '{"seconds": 2}'; fi
END
chmod +x made turns

# ---- verdicts
expect 0 '^PASS seconds T2 delta=[-+0-9.e]+% low=.* pairs=10 discarded=0 detectable=' "${gate[@]}" --a './made 1 0.01' --b './made 1 0.01' --metric '$.seconds'
expect 1 '^REGRESSED seconds T2 delta=\+[0-9.]+%' "${gate[@]}" --a './made 1 0.01' --b './made 1.1 0.01' --metric '$.seconds'
expect 0 '^IMPROVED seconds' "${gate[@]}" --a './made 1.1 0.01' --b './made 1 0.01' --metric '$.seconds'
expect 1 '^REGRESSED r T2 ' "${gate[@]}" --a './made 1 0.01' --b './made 1.1 0.01' --metric 'r=$.rate:higher'
expect 0 '^IMPROVED r T2 ' "${gate[@]}" --a './made 1.1 0.01' --b './made 1 0.01' --metric 'r=$.rate:higher'
expect 0 'effect=20%' "${gate[@]}" --a './made 1 0.01' --b './made 1.1 0.01' --metric '$.seconds:effect=20%'
expect 1 '^REGRESSED w T2 ' "${gate[@]}" --a 'sleep 0.02' --b 'sleep 0.4' --metric 'w=@wall_s'
expect 1 '^REGRESSED launches T0: 370 became 371' "${gate[@]}" --a './made 1 0' --b './made 1.0001 0' --metric '$.launches:exact'
expect 0 '^PASS launches T0' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.launches:exact'
# Nothing waited for on either side is no change, on one side no ratio.
zero() { echo "echo '{\"wait_s\": $1}'"; }
expect 0 '^PASS wait_s T2 delta=\+0% .*pairs=10' "${gate[@]}" --a "$(zero 0)" --b "$(zero 0.0)" --metric '$.wait_s'
expect 2 '^TROUBLE wait_s T2: \$\.wait_s is 0 on side A and 0\.1 on side B: a change from or to 0 has no ratio' "${gate[@]}" --a "$(zero 0)" --b "$(zero 0.1)" --metric '$.wait_s'
expect 2 '^TROUBLE wait_s T2: side B: .*the number -1, where a number not below 0' "${gate[@]}" --a "$(zero 0)" --b "$(zero -1)" --metric '$.wait_s'
# Steps that never settle are told of the metric whose steps they are. It is 2 and 1 by turns of five; what decides is made up.
printf '{"calm": [%s1], "wild": [%s1]}\n' "$(yes 1, | head -n 29 | tr -d '\n')" "$(for i in 1 2 3 4 5 6; do echo 2,2,2,2,2,1,1,1,1,1,; done | tr -d '\n')" > steps.json
"${gate[@]}" --a 'cat steps.json' --b 'cat steps.json' --metric '$.wild' --metric '$.calm' > steps.txt 2> /dev/null || fail "steps: $(cat steps.txt)"
grep -q '^PASS wild .*: 2[0-9] of 2[0-9] runs never became steady' steps.txt && grep -q '^PASS calm [^:]*$' steps.txt || fail "who never settled: $(cat steps.txt)"
# Exact is every pair, and numbers are numbers.
rm -f turn
expect 1 '^REGRESSED n T0: 370 became 371 in 1 of 10 pairs' "${gate[@]}" --a 'echo "{\"s\": 1, \"n\": 370}"' --b 'n=$(($(cat turn 2> /dev/null || echo 0) + 1)); echo $n > turn; echo "{\"s\": 1, \"n\": $((370 + (n == 7)))}"' --metric '$.s' --metric '$.n:exact'
expect 0 '^PASS n T0$' "${gate[@]}" --a 'echo "{\"n\": {\"x\": [370, \"a\"]}}"' --b 'echo "{\"n\": {\"x\": [370.0, \"a\"]}}"' --metric '$.n:exact'
expect 1 '^REGRESSED n T0: \{"x":370\} became \{"y":370\}$' "${gate[@]}" --a 'echo "{\"n\": {\"x\": 370}}"' --b 'echo "{\"n\": {\"y\": 370}}"' --metric '$.n:exact'
# Several: the worst counts, and each has its share of the error.
expect 1 '^PASS l T0' "${gate[@]}" --a './made 1 0.01' --b './made 0.9 0.01' --metric '$.seconds' --metric 'slow=$.rate' --metric 'l=$.launches:exact'
expect 0 'pairs=8' "${gate[@]}" --a './made 1 0.01' --b './made 1 0.01' --metric '$.seconds' --expensive
expect 0 '^PASS launches' "${gate[@]}" --a './made 1 0.01' --b './made 2 0.01' --metric '$.seconds' --metric '$.launches:exact' --tiers T0 --b './made 1 0'

# ---- inconclusive, and what would be needed
expect 3 '^INCONCLUSIVE seconds T2 .*pairs=36 .* detectable=none needed=[0-9]+: noise' "${gate[@]}" --a './made 1 0' --b ./turns --metric '$.seconds'
expect 3 '^INCONCLUSIVE seconds T2 needed=10: budget: 1e-07 s were spent after 0 pairs' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --budget 1e-7
expect 3 'needed=1[0-9]*: budget: 2 s were spent after [1-9]+ pairs' "${gate[@]}" --a 'sleep 0.4; ./made 1 0' --b 'sleep 0.4; ./made 1 0' --metric '$.seconds' --budget 2

# ---- trouble
expect 2 '3 of 3 pairs had to be discarded .*side B ended with exit code 3: no disk' "${gate[@]}" --a './made 1 0' --b 'echo no disk >&2; exit 3' --metric '$.seconds'
expect 2 'side B ended with exit code 3 \(no disk\)' "${gate[@]}" --a './made 1 0' --b 'echo no disk >&2; exit 3' --metric '$.seconds' --discard none
expect 2 'TROUBLE nowhere T2: side A: \$.nowhere leads nowhere .*an object with seconds rate' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.nowhere'
expect 2 'side B: .*printed no JSON.*begins with .hello' "${gate[@]}" --a './made 1 0' --b 'echo hello' --metric '$.seconds'
expect 2 'side B: .*: invalid token near .NaN. \(line 1\)' "${gate[@]}" --a './made 1 0' --b 'echo "{\"seconds\": NaN}"' --metric '$.seconds'
expect 2 'side B: .*: too big integer.* \(line 1\)' "${gate[@]}" --a './made 1 0' --b 'echo "{\"seconds\": 99999999999999999999}"' --metric '$.seconds'
expect 2 'side B: .*: end of file expected near .done. \(line 2\)' "${gate[@]}" --a './made 1 0' --b './made 1 0; echo done' --metric '$.launches:exact'
expect 2 'side B: .*printed nothing on stdout' "${gate[@]}" --a './made 1 0' --b true --metric '$.seconds'
expect 2 'did not end within --run-timeout' "${gate[@]}" --a './made 1 0' --b 'sleep 60' --metric '$.seconds' --run-timeout 0.3
# Nor are two among twelve, even if they come early; whether it is too many is asked at the end.
failing() { echo 'n=$(($(cat turn 2> /dev/null || echo 0) + 1)); echo $n > turn; case " '"$1"' " in *" $n "*) exit 1 ;; esac; ./made 1 0'; }
rm -f turn; expect 0 'pairs=10 discarded=2' "${gate[@]}" --a './made 1 0' --b "$(failing '1 3')" --metric '$.seconds'
rm -f turn; expect 2 '3 of 13 pairs had to be discarded' "${gate[@]}" --a './made 1 0' --b "$(failing '1 3 5')" --metric '$.seconds'
# What a program prints need not be UTF-8, nor a command line: the verdict comes, and so do its outputs.
latin1=$'caf\351!'
expect 2 '^TROUBLE seconds T2: .*side B ended with exit code 3: caf\?!' "${gate[@]}" --a './made 1 0' --b 'printf "caf\351!\n" >&2; exit 3' --metric '$.seconds' --json bad.json --junit bad.xml
check bad.json 'r[0]["verdict"] == "TROUBLE" and "caf?!" in r[0]["reason"]'
python3 -c 'import xml.dom.minidom as m; m.parse("bad.xml")' || fail "JUnit of bytes that are not UTF-8"
expect 2 '^TROUBLE seconds T2: side B: .*begins with .*caf\?!' "${gate[@]}" --a './made 1 0' --b 'printf "caf\351!\n"' --metric '$.seconds'
expect 2 '^TROUBLE seconds T2: .*exit code 3: .+' "${gate[@]}" --a './made 1 0' --b 'i=0; while [ $i -lt 700 ]; do printf "x\303\251" >&2; i=$((i + 1)); done; exit 3' --metric '$.seconds'
expect 0 '^PASS seconds T2' "${gate[@]}" --a './made 1 0' --b "./made 1 0 # $latin1" --metric '$.seconds' --json bad.json
check bad.json 'r[0]["head"]["label"] == "./made 1 0 # caf?!"'
# One failure among many is no trouble.
expect 0 'pairs=10 discarded=1' "${gate[@]}" --a './made 1 0' --b 'if [ ! -e failed ]; then touch failed; exit 1; fi; ./made 1 0' --metric '$.seconds'

# ---- usage
expect 2 '--metric is missing' "${gate[@]}" --a true --b true
expect 2 '--tiers T1 leaves no metric to compare: .* T2' "${gate[@]}" --a true --b true --metric '$.x' --tiers T1
expect 2 'come together' "${gate[@]}" --a true --metric '$.x'
expect 2 'what is to be compared' "${gate[@]}" --metric '$.x'
expect 2 'the path \$\.x\[ is wrong' "${gate[@]}" --a true --b true --metric '$.x['
expect 2 '--tiers T3' "${gate[@]}" --a true --b true --metric '$.x' --tiers T3
expect 2 'two metrics are called x' "${gate[@]}" --a true --b true --metric '$.x' --metric 'x=$.y'
expect 2 'no such verb' "$bench" gate abc

# ---- outputs
: > summary.md
GITHUB_STEP_SUMMARY=$PWD/summary.md "${gate[@]}" --a './made 1 0' --b './made 1.1 0' --metric '$.seconds' --seed 7 --json v.json --junit v.xml --markdown v.md --github > v.txt 2> v.err
[[ $? == 1 ]] || fail "outputs: not exit 1"
check v.json 'len(r) == 1 and r[0]["verdict"] == "REGRESSED" and r[0]["tier"] == "T2" and r[0]["pairs"] == 10 and r[0]["looks"] == 1 and r[0]["needed"] == 0'
check v.json 'len(r[0]["d"]) == 10 and all(abs(d - 0.0953101798) < 1e-6 for d in r[0]["d"]) and len(r[0]["order"]) == 20 and abs(r[0]["delta"] - 0.1) < 1e-6'
check v.json 'r[0]["kind"] == "verdict" and r[0]["layers"] == [] and r[0]["base"]["label"] == "./made 1 0" and r[0]["head"]["label"] == "./made 1.1 0" and "--seed 7" in r[0]["reproduce"]'
grep -q '^::error title=gate seconds::REGRESSED seconds T2 delta=+10%25' v.txt || fail "no annotation"
cmp -s summary.md v.md || fail "the step summary differs from --markdown"
grep -q '^| \*\*REGRESSED\*\* | seconds | T2 | +10%' v.md || fail "no Markdown row"
python3 -c 'import sys,xml.dom.minidom as m; d=m.parse("v.xml"); s=d.getElementsByTagName("testsuite")[0]; sys.exit(s.getAttribute("failures")!="1")' || fail "JUnit"
# The line that a verdict prints gives it again: the same order of runs.
grep '^reproduce: ' v.txt | sed "s|^reproduce: bench|$bench|" > again.sh
sh -c "$(cat again.sh) --lock none --json again.json" > /dev/null 2>&1
[[ $(json v.json 'r[0]["order"]') == $(json again.json 'r[0]["order"]') ]] || fail "the seed does not give the same order again"
expect 0 '"verdict": "PASS"' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --json
expect 0 "^reproduce: .* --a \\$'true.n./made 1 0' --b" "${gate[@]}" --a $'true\n./made 1 0' --b './made 1 0' --metric '$.seconds' # one line
# One output that cannot be written takes no other with it, and none of them the verdict; nor does a store that fails after it.
slower=("${gate[@]}" --a './made 1 0' --b './made 1.1 0' --metric '$.seconds')
expect 5 '^REGRESSED seconds' "${slower[@]}" --junit /dev/full --markdown full.md --json full.json
grep -q REGRESSED full.md && check full.json 'r[0]["verdict"] == "REGRESSED"' || fail "a full disk took the other outputs with it"
expect 2 'cannot open nowhere/x.xml' "${slower[@]}" --junit nowhere/x.xml --markdown full2.md
[[ -s full2.md ]] || fail "a folder that is not there took the other outputs with it"
"${slower[@]}" --store fails.db > /dev/null 2>&1
python3 -c 'import sqlite3; d = sqlite3.connect("fails.db"); d.execute("CREATE TRIGGER fails BEFORE INSERT ON result WHEN NEW.key LIKE \"verdict%\" BEGIN SELECT RAISE(ABORT, \"no room\"); END")'
expect 2 '^REGRESSED seconds' "${slower[@]}" --store fails.db
expect 2 'no room' "${slower[@]}" --store fails.db

# ---- two files: at most SUSPECT
for i in 1 2 3 4 5 6; do ./made 1 0.01 >> before.json; ./made 1.1 0.01 >> after.json; ./made 1 0.01 >> same.json; done
expect 3 '^SUSPECT seconds T2 .*unpaired rank test over 6 and 6 runs' "$bench" gate ab before.json after.json --metric '$.seconds'
expect 0 '^PASS seconds' "$bench" gate ab before.json same.json --metric '$.seconds'
head -n 3 before.json > few.json
expect 4 '^NO_BASELINE seconds .*3 and 6 runs cannot tell' "$bench" gate ab few.json after.json --metric '$.seconds'
# A PASS is shown, not assumed; several metrics share the error; an array is several runs.
printf '{"seconds": %s}\n' 1 1.2 1.4 1.6 1.8 2 > wide.json
printf '{"seconds": %s}\n' 1.1 1.3 1.5 1.7 1.9 2.1 > wider.json
expect 3 '^INCONCLUSIVE seconds T2 delta=\+6.*neither is excluded' "$bench" gate ab wide.json wider.json --metric '$.seconds'
expect 3 '^INCONCLUSIVE seconds' "$bench" gate ab wide.json wide.json --metric '$.seconds'
expect 0 '^PASS seconds' "$bench" gate ab wide.json wide.json --metric '$.seconds:effect=99%'
python3 -c 'import json; print(json.dumps([json.loads(line) for line in open("after.json")], indent=2))' > array.json
expect 3 '^SUSPECT seconds T2 .*over 6 and 6 runs' "$bench" gate ab before.json array.json --metric '$.seconds'
head -n 5 before.json > five.json; head -n 5 after.json > five_after.json
expect 3 '^SUSPECT seconds .*over 5 and 5 runs' "$bench" gate ab five.json five_after.json --metric '$.seconds'
expect 4 '^NO_BASELINE seconds .*a rank test needs 6 of each' "$bench" gate ab five.json five_after.json --metric '$.seconds' --metric 'r=$.rate:higher' --metric 'n=$.deep.n'
expect 3 '^SUSPECT n .*over 6 and 6 runs' "$bench" gate ab before.json after.json --metric '$.seconds' --metric 'r=$.rate:higher' --metric 'n=$.deep.n'
echo '{' > broken.json
expect 2 'broken.json: no JSON at byte' "$bench" gate ab broken.json after.json --metric '$.seconds'

# ---- pins
pin=("${gate[@]}" --metric '$.seconds')
expect 4 '^NO_BASELINE seconds T2: no baseline is pinned as good' "${pin[@]}" --against good --b './made 1 0'
newest() { python3 -c 'import json, sqlite3
print(json.loads(sqlite3.connect("test.db").execute("SELECT row FROM result WHERE key LIKE \"verdict%\" ORDER BY run DESC LIMIT 1").fetchone()[0])["verdict"])'; }
[[ $(newest) == NO_BASELINE ]] || fail "the store does not know that there was no baseline: $(newest)"
expect 0 'is the baseline good from now on' "${pin[@]}" --a './made 1 0' --b './made 1.01 0' --pin good
expect 1 'the baseline stays as it was' "${pin[@]}" --a './made 1 0' --b './made 1.2 0' --pin good
expect 1 '^REGRESSED seconds T2 delta=\+8.91%' "${pin[@]}" --against good --b './made 1.1 0'
expect 0 '^PASS seconds' "${pin[@]}" --against good --b './made 1.01 0'
expect 4 '^NO_BASELINE .*is a command' "${pin[@]}" --against good --head "$bench" --bench train
cp made new
expect 0 'is the baseline copy' "${pin[@]}" --a './made 1 0' --b 'X=1 ./new 1 0' --pin copy --effect 3%
expect 0 '^PASS seconds' "${pin[@]}" --against copy --b './made 1 0'
python3 -c 'import json, sqlite3, sys
pin = json.loads(sqlite3.connect("test.db").execute("SELECT row FROM result WHERE key = \"pin copy\"").fetchone()[0]); sys.exit(not (pin["effect"] == 0.03 and len(pin["digest"]) == 64))' || fail "a pin lacks its effect or its program"
echo '# built anew' >> new # and is not to be compared with itself
expect 4 '^NO_BASELINE .*pinned as copy is gone, or another one now' "${pin[@]}" --against copy --b './new 1 0'
expect 2 'is side A' "${pin[@]}" --against good --a true --b true
expect 2 'wants side B' "${pin[@]}" --against good

# ---- accepted regressions: shown, up to their bound and day
worse=("${gate[@]}" --a './made 1 0' --b './value' --metric '$.seconds' --metric 'l=$.launches:exact')
value() { printf '#!/bin/sh\nexec ./made %s 0\n' "$1" > value; chmod +x value; }
value 1.1
expect 1 '^REGRESSED l T0' "${worse[@]}"
expect 2 'come together' "${worse[@]}" --accept 'a new feature'
expect 2 'is a day such as' "${worse[@]}" --accept 'a new feature' --until 2999-02-30
expect 2 'is over' "${worse[@]}" --accept 'a new feature' --until 1999-01-01
expect 0 '^PASS seconds .*a regression, accepted until 2999-12-31: a new feature' "${worse[@]}" --accept 'a new feature' --until 2999-12-31
expect 0 '^PASS l T0: a regression, accepted until 2999-12-31: a new feature; 370 became 371' "${worse[@]}"
value 1.3
expect 1 '^REGRESSED seconds .*worse than, or other than, what was accepted \(a new feature\)' "${worse[@]}"
expect 1 '^REGRESSED s2 T2 [^:]*$' "${worse[@]}" --metric 's2=$.seconds' # another metric
value 1.05
expect 0 '^PASS seconds .*accepted until' "${worse[@]}" --json acc.json
check acc.json 'r[0]["verdict"] == "PASS" and r[0]["accepted"] == {"reason": "a new feature", "until": "2999-12-31"} and r[0]["delta"] > 0.04'

# ---- instructions by valgrind: 1 % more work is found with an effect of 0.5 %, one part in ten thousand passes
expect 2 'gate it alone' "${gate[@]}" --a true --b true --metric @callgrind --metric @wall_s
if command -v valgrind > /dev/null; then
  work() { printf "awk -v n=%d 'BEGIN { for (i = 0; i < n; i++) s += i }'" "$1"; }
  counting=("${gate[@]}" --metric '@callgrind:effect=0.5%' --expensive)
  expect 1 '^REGRESSED callgrind T1 delta=\+0\.9' "${counting[@]}" --a "$(work 100000)" --b "$(work 101000)"
  expect 0 '^PASS callgrind T1 delta=\+0\.0' "${counting[@]}" --a "$(work 100000)" --b "$(work 100010)"
  mkdir tmp; TMPDIR=$PWD/tmp "${counting[@]}" --a 'awk "BEGIN { exit 3 }"' --b 'awk "BEGIN { exit 3 }"' > /dev/null 2>&1
  [[ $? == 2 && -z $(ls tmp) ]] || fail "a command that failed under valgrind left its reports, or passed"
fi

# ---- on a calm machine, where that comes soon enough
expect 0 '^PASS seconds T2' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --calm 0.01 --json calm.json
check calm.json 'r[0]["waited_s"] > 0 and 0 <= r[0]["busy_runs"] <= 2 * r[0]["pairs"]'
expect 0 '^PASS seconds T2' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --fresh --json calm.json
check calm.json 'r[0]["waited_s"] == 0 == r[0]["busy_runs"]'
expect 2 'calm' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --calm=-1

# ---- alone
exec 9> lock; flock 9
expect 2 'has had .*lock for 0 s' "${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --lock-timeout 0.1
exec 9>&-
flock lock -c 'touch held; sleep 3' & for _ in $(seq 100); do [[ -e held ]] && break; sleep 0.05; done
[[ $("${gate[@]}" --a './made 1 0' --b './made 1 0' --metric '$.seconds' --budget 2.5 2>&1) != *"after 0 pairs"* ]] || fail "waiting for the lock used the budget up"
wait

# ---- killed, and taken up again
slow=("${gate[@]}" --a "sleep 0.1; ./made 1 0 $PWD/log" --b "sleep 0.1; ./made 1 0 $PWD/log" --metric '$.seconds' --store slow.db)
"${slow[@]}" > /dev/null 2>&1 & pid=$!
for _ in $(seq 600); do [[ -e log && $(wc -l < log) -ge 7 ]] && break; sleep 0.05; done
kill -9 "$pid"; wait "$pid" 2> /dev/null
before=$(wc -l < log)
((before < 20)) || fail "the gate was through before it was killed"
expect 0 'resuming interrupted run [0-9]+ with [1-9][0-9]* pairs' "${slow[@]}"
total=$(wc -l < log)
((total >= 20 && total <= 23)) || fail "$total runs after resuming at $before, expected 20 and those of the pair that was cut"
expect 0 '^PASS seconds' "${slow[@]}"
[[ $(wc -l < log) -ge $((total + 20)) ]] || fail "a gate that finished is not run anew"
# After a build in place the pairs that are there are another program's.
printf '#!/bin/sh\nexec ./made 1 0 log2\n' > program; chmod +x program
again=("${gate[@]}" --a ./program --b "./program; [ \$(wc -l < log2) != 9 ] || kill -9 \$PPID" --metric '$.seconds' --seed 5) # killed in the fifth pair
"${again[@]}" > /dev/null 2>&1 & wait $! 2> /dev/null
echo '# built anew' >> program
"${again[@]}" > again.txt 2>&1 || fail "after a build: $(cat again.txt)"
grep -q resuming again.txt && fail "pairs of two programs are mixed"
# Interrupted: exit code 130, and the state is kept.
: > log
"${slow[@]}" --seed 3 > int.txt 2>&1 & pid=$!
for _ in $(seq 600); do [[ $(wc -l < log) -ge 5 ]] && break; sleep 0.05; done
kill -INT "$pid"; wait "$pid"; [[ $? == 130 ]] || fail "SIGINT: not exit 130: $(tail -n 1 int.txt)"
expect 0 'resuming interrupted run' "${slow[@]}" --seed 3
finish
