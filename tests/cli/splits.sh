#!/usr/bin/env bash
# What a split means: the published shares digit for digit, names, both orders, and every refusal naming the index.
source "$(dirname "$0")/common.bash"
show=("$bench" splits show)

expect 0 ' 96\.54 +fc\.bias +layer2\.1\.bn3\.bias' "${show[@]}" 107,160
expect 0 '108\.\.160 +53 +3537152 +3\.46 +layer2\.1\.bn3\.weight +conv1\.weight' "${show[@]}" 107,160
expect 0 ' 96\.24 +fc\.bias' "${show[@]}" 107,160 --classes 10
expect 0 'in ready order.*: 52,160' "${show[@]}" 107,160 --split-order forward
expect 0 ' 76\.35 +fc\.bias' "${show[@]}" 107,160 --split-order forward
expect 0 ' 23\.65 .* conv1\.weight' "${show[@]}" 107,160 --split-order forward

"${show[@]}" 107,160 --json a.json >/dev/null || fail "json"
check a.json 'len(r) == 1 and r[0]["gradients"] == 161 and r[0]["bytes"] == 4 * 25557032 and r[0]["classes"] == 1000 and r[0]["order"] == "ready"'
check a.json 'r[0]["shares"] == "96.54/3.46 %" and r[0]["ends"] == "107,160" and round(r[0]["parts"][0]["share"], 4) == .9654'
check a.json '[p["first"] for p in r[0]["parts"]] == [0, 108] and [p["last_name"] for p in r[0]["parts"]] == ["layer2.1.bn3.bias", "conv1.weight"]'
for spec in single per-layer ddp bytes:8M equal:5 107; do
  for order in ready forward; do
    "${show[@]}" $spec --split-order $order --json b.json -q >/dev/null || fail "$spec $order"
    check b.json 'sum(p["bytes"] for p in r[0]["parts"]) == r[0]["bytes"] and abs(sum(p["share"] for p in r[0]["parts"]) - 1) < 1e-9'
    check b.json 'sum(p["gradients"] for p in r[0]["parts"]) == 161 and r[0]["parts"][-1]["last"] == 160 and r[0]["parts"][0]["first_name"] == "fc.bias"'
  done
done
"${show[@]}" per-layer --json c.json >/dev/null; check c.json 'len(r[0]["parts"]) == 161 and r[0]["ends"].count(",") == 160'
expect 0 '314 gradients' "${show[@]}" single --depth 101

expect 2 'index 107 is there twice' "${show[@]}" 107,107
expect 2 'index 5 comes after 9' "${show[@]}" 9,5
expect 2 'index -1 is negative' "${show[@]}" -1,160
expect 2 'index -4 is negative' "${show[@]}" 3,-4
expect 2 'index 161 is too large' "${show[@]}" 107,161
expect 2 'is empty' "${show[@]}" ''
expect 2 "'' is no index" "${show[@]}" 1,,2
expect 2 "'x' is no index" "${show[@]}" 1,x
expect 2 'wants a split' "${show[@]}"
expect 2 'not in this version' "$bench" splits search --json
expect 2 'unknown verb tell' "$bench" splits tell
expect 2 'split-order' "${show[@]}" 107 --split-order backward

# commands that run a split count its indices likewise
for command in train scaling; do
  expect 0 'of 96\.54 % / 3\.46 %' "$bench" $command --dry-run --device null --data synthetic --px 32 --batch 2 --split 107,160
  expect 0 'of 76\.35 % / 23\.65 %' "$bench" $command --dry-run --device null --data synthetic --px 32 --batch 2 --split 107,160 --split-order forward
done
expect 0 'of 96\.54 % / 3\.46 %' "$bench" train --dry-run --device null --data synthetic --px 32 --batch 2 --set 'split=107\,160,,lr=0.5,'
expect 2 'set 160: expected KEY=VALUE; a comma within' "$bench" train --dry-run --device null --data synthetic --set split=107,160
expect 2 'set .: expected KEY=VALUE' "$bench" train --dry-run --device null --data synthetic --set '\'
finish
