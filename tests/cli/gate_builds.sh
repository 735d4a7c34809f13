# bench gate with facts (T0) and with builds: of this program as files, and of a small project of our own as revisions and folders.
. "$(dirname "${BASH_SOURCE[0]}")/common.bash"
export RINGMARK_GATE_CACHE=$PWD/cache GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
gate=("$bench" gate ab --lock "$PWD/lock" --calm 0) # what a test runs is made up: no machine need be calm for it

# ---- facts of this program
null='scaling --device null --px 16 --batch 2 --classes 10'
expect 0 '^allocations +0$' "$bench" gate facts --bench "$null"
"$bench" gate facts --bench "$null" --json facts.json > /dev/null || fail "facts"
check facts.json 'r[0]["facts"]["collective_calls"] == 1 and r[0]["facts"]["launches"] > 200 and r[0]["facts"]["parameters"] > 2e7 and r[0]["facts"]["flops"] > 0'
"$bench" gate facts --bench "$null --split '107,160'" --json split.json > /dev/null || fail "facts of a split"
check split.json 'r[0]["facts"]["collective_calls"] == 2'
python3 - <<'END'
import json
f = json.load(open("facts.json"))["results"][0]
json.dump({"cases": [{"bench": f["bench"], "tolerate": "", "facts": f["facts"]}]}, open("t0.json", "w"))
for name in ("alloc=1", "all-reduce=1"):
    json.dump({"cases": [{"bench": f["bench"] + " --inject " + name, "facts": f["facts"]}]}, open(name + ".json", "w"))
END
expect 0 '^PASS scaling' "$bench" gate facts --facts t0.json
expect 0 '^reproduce: bench gate facts --facts t0.json$' "$bench" gate facts --facts t0.json
expect 1 'T0: allocations 0 became 2' "$bench" gate facts --facts alloc=1.json
expect 1 'T0: collective_calls 1 became 2' "$bench" gate facts --facts all-reduce=1.json
# Facts and timings take the same spec, each its own words of it.
expect 0 '^allocations +0$' "$bench" gate facts --bench 'layers --device null --px 16 --batch 2 --classes 10 --inject step=3%'
expect 0 '"injected": ""' "$bench" $null --gpus 1 --steps 2 --data synthetic --no-twins --inject alloc=1 --json -
expect 2 'of facts it is alloc=N' "$bench" gate facts --bench "$null --inject slow=1"
sed -i 's/"launches": \([0-9]*\)/"launches": 7/' t0.json
expect 1 'T0: launches 7 became [0-9]+$' "$bench" gate facts --facts t0.json
expect 0 'as they are now' "$bench" gate facts --facts t0.json --update
expect 0 '^PASS scaling' "$bench" gate facts --facts t0.json
sed -i 's/"loss": [-0-9.e]*/"loss": 5/' t0.json
expect 2 '^TROUBLE .*loss 5.* became' "$bench" gate facts --facts t0.json
expect 2 'only what trains' "$bench" gate facts --bench comm
expect 2 'a quote does not end' "$bench" gate facts --bench "scaling --split '1"
expect 2 'unknown option --splat' "$bench" gate facts --bench 'scaling --splat 1'
expect 2 'either --bench' "$bench" gate facts
echo '{}' > empty.json
expect 2 'has no cases' "$bench" gate facts --facts empty.json

# ---- programs as they are
cp "$bench" one; cp "$bench" two
expect 0 '^PASS step_s T2: identical' "${gate[@]}" --base ./one --head ./two --bench "$null"
cat > other <<END
#!/bin/sh
# The same program, but every step has one all-reduce more.
for w; do shift; case \$w in scaling*) w="\$w --split 107,160" ;; esac; set -- "\$@" "\$w"; done
exec "$bench" "\$@"
END
printf '#!/bin/sh\nexec "%s" "$@"\n' "$bench" > same
chmod +x other same
expect 1 '^REGRESSED facts T0: collective_calls 1 became 2; all_reduces 1 became 2' "${gate[@]}" --base ./one --head ./other --bench "$null" --tiers T0
expect 0 '^PASS facts T0' "${gate[@]}" --base ./one --head ./same --bench "$null" --tiers T0
expect 0 '^PASS facts T0' "${gate[@]}" --base ./one --head ./other --bench "$null" --tiers T0 --tolerate collective_calls=1,all_reduces=100%
expect 2 '--tolerate at' "${gate[@]}" --base ./one --head ./other --bench "$null" --tiers T0 --tolerate launches
expect 2 'no fact that is a number has that name' "${gate[@]}" --base nowhere --head ./other --bench "$null" --tolerate launch=1 # before anything is built
expect 2 '--tolerate at' "${gate[@]}" --base nowhere --head ./other --bench "$null" --tolerate launches
all=$(json facts.json '"=1,".join(k for k, v in r[0]["facts"].items() if isinstance(v, (int, float))) + "=1"')
expect 0 '^PASS facts T0' "${gate[@]}" --base ./one --head ./same --bench "$null" --tiers T0 --tolerate "$all"
expect 4 '^NO_BASELINE facts T0: .*/true gives no facts' "${gate[@]}" --base "/bin/true" --head ./same --bench "$null" --tiers T0
expect 2 '^TROUBLE facts T0: .*/true gives no facts' "${gate[@]}" --base ./same --head "/bin/true" --bench "$null" --tiers T0
# A baseline that is too old for facts is none; one that fails is trouble, and so is one that takes too long.
failing() { printf '#!/bin/sh\necho "%s" >&2\n%s\n' "$2" "$3" > "$1"; chmod +x "$1"; }
failing old 'bench: no such verb: bench gate facts; there is ab' 'exit 2'; failing crashed 'out of luck' 'exit 139'; failing wrong 'the loss is NaN' 'exit 2'; failing late 'wait' 'sleep 60'
expect 4 '^NO_BASELINE facts T0: .*no such verb' "${gate[@]}" --base ./old --head ./same --bench "$null" --tiers T0
expect 2 '^TROUBLE facts T0: .*no such verb' "${gate[@]}" --base ./same --head ./old --bench "$null" --tiers T0
for base in crashed wrong; do expect 2 '^TROUBLE facts T0: .* gives no facts: (out of luck|the loss is NaN)' "${gate[@]}" --base "./$base" --head ./same --bench "$null" --tiers T0; done
expect 2 '^TROUBLE facts T0: .*did not end within --run-timeout' "${gate[@]}" --base ./late --head ./same --bench "$null" --tiers T0 --run-timeout 0.3
# One convolution runs by another implementation: really run, not edited into the facts.
on_cpu='layers --device cpu --dtype fp32 --px 32 --batch 8 --classes 10'
mkdir plans-a && RINGMARK_PLANS=$PWD/plans-a "$bench" gate facts --bench "$on_cpu" > /dev/null || fail "facts of the cpu"
cp -r plans-a plans-b
awk -F '\t' -v OFS='\t' '!done && /^conv_bwd_data / && $2 != "reorder+taps:sgemm" { $2 = "reorder+taps:sgemm"; done = 1 } 1' plans-a/*.plans > "$(echo plans-b/*.plans)"
cmp -s plans-a/*.plans plans-b/*.plans && fail "no plan to change"
for side in a b; do printf '#!/bin/sh\nRINGMARK_PLANS="%s" exec "%s" "$@"\n' "$PWD/plans-$side" "$bench" > with-$side; done
chmod +x with-a with-b
expect 0 '^PASS facts T0' "${gate[@]}" --base ./with-a --head ./with-a --bench "$on_cpu" --tiers T0 --even-if-identical
expect 1 '^REGRESSED facts T0: .*implementations reorder.taps:sgemm [0-9]+ became [0-9]+.*places' "${gate[@]}" --base ./with-a --head ./with-b --bench "$on_cpu" --tiers T0
# The steps come from the store of each run: no two runs take the same time to the nanosecond.
"${gate[@]}" --base ./one --head ./same --bench "layers --device null --px 16 --batch 2 --classes 10 --steps 12 --warmup 0 --no-peaks" --tiers T1,T2 --budget 8 --json steps.json > /dev/null 2>&1
check steps.json 'sorted(x["metric"] for x in r if x["tier"] != "layers") == ["cpu_s", "step_s"]'
check steps.json 'all(x["pairs"] >= 1 and all(d != 0 for d in x["d"]) for x in r)'

# Several numbers of devices have a metric each; where those have no names yet, the refusal comes before anything is built or run.
several='scaling --device null --gpus 1,2 --oversubscribe --px 16 --batch 2 --classes 10 --steps 3 --warmup 1 --no-twins --data synthetic'
"${gate[@]}" --base ./one --head ./same --bench "$several" --tiers T1,T2 --budget 1 --json several.json > several.txt 2>&1
check several.json 'sorted(x["metric"] for x in r) == ["cpu_s", "step_s_n1", "step_s_n2"] and all(x["pairs"] >= 1 for x in r)'
expect 2 "has a step time a split: .*--metric" "${gate[@]}" --base nowhere --head nowhere --bench 'split-sweep --gpus 2'
expect 2 "has 4 step times: .*--metric" "${gate[@]}" --base nowhere --head nowhere --bench 'scaling --gpus=1,2,3,4'

# ---- layers: one of twelve is 10 % slower, the step by less than 1 %
layered() { # FILE SLOW
  cat > "$1" <<END
#!/bin/sh
awk -v seed="\$\$" 'BEGIN { srand(seed); for (i = 0; i < 20; i++) rand(); printf "{\"results\": [{\"step_s\": %.9f, \"layers\": [", 1 + 0.001 * rand()
  for (i = 0; i < 12; i++) printf "%s{\"name\": \"conv%d\", \"pass\": \"fwd\", \"time_s_median\": %.9f}", (i ? ", " : ""), i, (i == 7 ? $2 : 1) * (1 + 0.01 * rand()) / 12
  print "]}]}" }'
END
  chmod +x "$1"
}
layered level 1; layered slow 1.1
by_layer=("${gate[@]}" --bench 'layers' --metric '$.results[0].step_s' --tiers T2)
expect 0 '^  slower layer conv7 fwd delta=\+(9|10)[.0-9]*% p=' "${by_layer[@]}" --base ./level --head ./slow
expect 1 '^REGRESSED layers layers: 1 of 12 layers are slower' "${by_layer[@]}" --base ./level --head ./slow --gate-layers
expect 0 '^PASS layers layers: a regression, accepted until 2999-12-31: a new feature; 1 of 12' "${by_layer[@]}" --base ./level --head ./slow --gate-layers --accept 'a new feature' --until 2999-12-31
expect 0 '^PASS layers layers: 0 of 12' "${by_layer[@]}" --base ./level --head ./level --even-if-identical --gate-layers

# ---- revisions and folders of a project whose program says what its source says
command -v git > /dev/null || finish
mkdir repo && cd repo || exit 2
git init -q . && git config user.email a@b && git config user.name a
cat > CMakeLists.txt <<'END'
cmake_minimum_required(VERSION 3.18)
project(small LANGUAGES C)
add_executable(bench bench.c)
END
cat > bench.c <<'END'
#include <stdio.h>
#include <string.h>
#include "value.h"
int main(int argc, char **argv)
{
    if (argc > 2 && !strcmp(argv[2], "facts")) printf("{\"results\": [{\"facts\": {\"launches\": %d}}]}\n", LAUNCHES);
    else printf("{\"seconds\": %g}\n", SECONDS);
    return 0;
}
END
printf '#define SECONDS 1.0\n#define LAUNCHES 5\n' > value.h
git add -A && git commit -qm one && git tag one
printf '#define SECONDS 1.1\n#define LAUNCHES 6\n' > value.h
git commit -qam two && git tag two
echo words > README && git add -A && git commit -qm three
ab=("${gate[@]}" --bench 'train' --metric '$.seconds')
expect 1 '^REGRESSED facts T0: launches 5 became 6' "${ab[@]}" --base one --head two
expect 1 '^REGRESSED seconds T2 delta=\+10%' "${ab[@]}" --base one --head two --tiers T2
expect 0 'was built before' "${ab[@]}" --base two --head one --tiers T2
[[ -z $(git worktree list | sed 1d) ]] || fail "a worktree stays"
expect 0 '^PASS seconds T2: identical' "${ab[@]}" --base two --head HEAD # words alone
expect 0 "^reproduce: .* --base $(git rev-parse two) --head $(git rev-parse HEAD) " "${ab[@]}" --base two --head HEAD # HEAD will be another commit
expect 0 '^PASS seconds T2 delta=\+0%' "${ab[@]}" --base two --head HEAD --even-if-identical
# A worktree that a gate left when it was killed, and that git does not take any more.
git worktree add -q --detach --no-checkout ../left HEAD
printf '#define SECONDS 1.1\n#define LAUNCHES 7\n' > value.h; git commit -qam four
"${ab[@]}" --base one --head HEAD --tiers T0 --keep-builds > /dev/null 2>&1
printf '#define SECONDS 1.1\n#define LAUNCHES 8\n' > value.h; git commit -qam five
for lock in .git/worktrees/*; do : > "$lock/index.lock"; done
expect 1 'launches 7 became 8' "${ab[@]}" --base HEAD~1 --head HEAD --tiers T0
git worktree remove --force ../left; git reset -q --hard HEAD~2
# From elsewhere, a folder: nothing is left in its repository either.
mkdir ../elsewhere && cd ../elsewhere || exit 2
expect 0 'identical' "${ab[@]}" --base ../repo --head ../repo
cd ../repo || exit 2
[[ -z $(git worktree list | sed 1d) ]] || fail "a worktree stays: $(git worktree list)"
# A pinned build: the program that was kept, or its revision built again.
expect 0 'is the baseline v1 from now on' "${ab[@]}" --base one --head one --pin v1
expect 1 '^REGRESSED seconds T2 delta=\+10%' "${ab[@]}" --against v1 --head two --tiers T2
rm -rf "$RINGMARK_GATE_CACHE"
expect 1 '^REGRESSED seconds T2 delta=\+10%' "${ab[@]}" --against v1 --head two --tiers T2
# A folder is built as it is, and its index stays as it is.
printf '#define SECONDS 1.2\n#define LAUNCHES 6\n' > value.h
echo new > untracked
expect 1 '^REGRESSED seconds T2 delta=\+9.09%' "${ab[@]}" --base two --head .
[[ $(git status --porcelain) == " M value.h"$'\n'"?? untracked" ]] || fail "the folder's index changed: $(git status --porcelain)"
expect 2 'is no program, no folder, and no revision' "${ab[@]}" --base nowhere --head two
echo 'this is no C' >> bench.c
expect 2 '^TROUBLE seconds T2: the build failed: .*build.log' "${ab[@]}" --base two --head . --junit broken.xml
python3 -c 'import json,sqlite3,sys; r = sqlite3.connect("'"$RINGMARK_STORE"'").execute("SELECT row FROM result WHERE key = \"verdict T2 seconds\" ORDER BY run DESC").fetchone()
sys.exit(json.loads(r[0])["verdict"] != "TROUBLE")' || fail "a build that failed is not in the store"
grep -q '<error message="TROUBLE seconds T2: the build failed' broken.xml || fail "a build that failed is not in JUnit"
cd .. && mkdir plain && cd plain || exit 2
GIT_CEILING_DIRECTORIES=$(dirname "$PWD") expect 2 'no git repository here' "${ab[@]}" --base one --head two
finish
