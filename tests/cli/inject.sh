#!/usr/bin/env bash
# Proof by injection: known trouble moves its own term of the scaling loss by what was injected, within 10 %, and no other term by
# more than a tenth of it. Ghosts and the null device compute nothing, so that what else happens on the machine is small against the
# injection; a measurement that somebody disturbed may be taken three times, and says so.
source "$(dirname "$0")/common.bash"

# run NAME STEPS OPTIONS...: one sweep into NAME.json
run() {
  local name=$1 steps=$2; shift 2
  "$bench" scaling --data synthetic --classes 10 --px 16 --threads 1 --steps "$steps" --warmup 2 --no-twins --fresh --json "$name.json" -q "$@" > "$name.txt" ||
    fail "$name: exit $?"
}
# moved BASE WITH TERM SECONDS: prints every term's move; true when only TERM moved, and by SECONDS
moved() {
  python3 - "$@" <<'PYTHON'
import json, sys
base, with_, term, want = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
loss = lambda f: json.load(open(f))["results"][1]["loss_attribution_s"]
a, b = loss(base), loss(with_)
good = True
for key in a:
    if key == "loss": continue
    by = b[key] - a[key]
    held = abs(by - (want if key == term else 0)) <= want / 10
    good &= held
    print("  %-18s moved by %8.2f ms%s" % (key, 1e3 * by, "" if held else "   <-- not as injected"))
sys.exit(not good)
PYTHON
}
# proof TERM SECONDS SPEC STEPS OPTIONS...: runs without and with SPEC, at most three times; the first takes the run without from
# the proof before it, where that had the same options
before=
proof() {
  local term=$1 seconds=$2 spec=$3 steps=$4; shift 4
  for try in 1 2 3; do
    echo "$spec ($*), attempt $try:"
    [[ $try == 1 && $before == "$steps $*" ]] || run without "$steps" "$@"
    before="$steps $*"
    run with "$steps" --inject "$spec" "$@"
    moved without.json with.json "$term" "$seconds" && return
  done
  fail "$spec does not show as $term"
}

# four ghosts that exchange a hundredth of the gradients
ghosts=(8 --ghost --ghost-bytes 0.01 --device null --batch 16 --gpus 1,4)
proof straggler 0.1 straggler=100ms@rank1 "${ghosts[@]}"
check with.json "r[1]['injected'] == 'straggler=100ms@rank1' and r[0]['injected'] == '' and r[1]['origin'] == 'emulated'"
check with.json '[x["straggler"] for x in r[1]["stragglers"]] == [False, True, False, False] and r[1]["stragglers"][1]["late_share"] == 1'
check with.json 'abs(r[1]["stragglers"][1]["late_s"] - 0.1) < 0.01 and all(r[1]["stragglers"][k]["wait_s"] > 0.09 for k in (0, 2, 3))'
check with.json 'abs(sum(r[1]["budget_s"].values()) / r[1]["step_s"]["median"] - 1) < 0.02'
proof straggler 0.1 straggler=100ms "${ghosts[@]}"
check with.json '[x["straggler"] for x in r[1]["stragglers"]] == [False, False, False, True]'
proof straggler 0.1 input=100ms@0 "${ghosts[@]}" # who is late makes the others wait, whatever made it late
proof input 0.1 input=100ms "${ghosts[@]}"
proof compute_slowdown 0.1 compute=100ms "${ghosts[@]}"
proof exposed_transfer 0.1 link=100ms "${ghosts[@]}"
check with.json 'r[1]["exposed_comm_s"] > 0.09 and r[1]["blocking_comm_s"] > 0.09'
proof exposed_transfer 0.1 link=100ms "${ghosts[@]}" --split equal:4

# two real ranks with the whole of the gradients, whose transfer depends on what else runs here
ranks=(6 --device null --batch 16 --gpus 1,2 --oversubscribe)
proof straggler 0.5 straggler=500ms@rank1 "${ranks[@]}"
proof exposed_transfer 0.5 link=500ms "${ranks[@]}"
proof input 0.5 input=500ms "${ranks[@]}"
proof compute_slowdown 0.5 compute=500ms "${ranks[@]}"
"$bench" scaling --data synthetic --classes 10 --px 16 --threads 1 --steps 6 --warmup 2 --no-twins --device null --batch 16 --gpus 2 --oversubscribe --inject step=50% --json share.json -q >/dev/null || fail "step=50%"
check share.json 'r[0]["injected"] == "step=50%" and r[0]["budget_s"]["compute"] >= r[0]["step_s"]["median"] * 0.3'
proof straggler 1 straggler=1s@rank1 6 --device cpu --batch 4 --gpus 1,2 --oversubscribe

# what was injected is said in every table, and a spec that no run could take is refused before anything runs
out=$("$bench" scaling --device null --data synthetic --gpus 1,2 --oversubscribe --px 16 --batch 4 --steps 6 --warmup 1 --no-twins --inject 'straggler=20ms;link=5ms' -q) || fail "table: $out"
[[ $(grep -c 'injected: straggler=20ms;link=5ms' <<<"$out") == 4 ]] || fail "not every table says what was injected: $out"
grep -q 'rank 1 on .* is a straggler' <<<"$out" || fail "no straggler is named: $out"
expect 2 'numbered 0 to 1' "$bench" scaling --gpus 1,2 --oversubscribe --inject straggler=20ms@rank2
expect 2 'several devices' "$bench" scaling --gpus 1 --inject straggler=20ms
expect 2 'unit' "$bench" scaling --gpus 1,2 --oversubscribe --inject link=20
expect 2 'ghost only sleeps' "$bench" scaling --ghost --gpus 1,2 --inject step=3% --dry-run
expect 2 'straggler=20ms@rank1' "$bench" scaling --gpus 1,2 --oversubscribe --inject slow=20ms --dry-run
finish
