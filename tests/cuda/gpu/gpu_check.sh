#!/usr/bin/env bash
# scripts/gpu-check on the test doubles, a few steps of it, and on a machine without a GPU: gpu_check.sh BUILD, in a folder of its own.
source "${RM_SOURCE_DIR:?}/tests/cli/common.bash"
build=$1
gpu_check=("$RM_SOURCE_DIR/scripts/gpu-check" --build "$build")
unset RINGMARK_STORE RINGMARK_PLANS
look() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); s={x["name"]: x for x in d["steps"]}; print(eval(sys.argv[2]))' "$1" "$2"; }
holds() { [[ $(look "$1" "$2") == True ]] || fail "$1: $2: $(look "$1" 'd["verdict"]')"; }

# every step stands in the file, done or with the reason why not; what was done is called emulated
steps=facts,kernels,step
expect 0 '3 passed, 0 failed, 13 skipped \(dry run: every figure is emulated\)' "${gpu_check[@]}" --dry-run --quick --only $steps --out a.json
holds a.json "list(s) == '''$("${gpu_check[@]}" --list | cut -d' ' -f1)'''.split() and len(s) == 16"
holds a.json "d['dry_run'] and d['verdict']['ok'] and d['verdict']['passed'] == '$steps'.split(',') and all(x['origin'] == 'emulated' for x in s.values())"
holds a.json "all(s[n]['checks'] and s[n]['result'] for n in d['verdict']['passed']) and all(x['reason'] for x in s.values() if x['status'] == 'skipped')"
holds a.json "len(s['facts']['result']['gpus']) == d['machine']['gpus'] == 2 and s['facts']['result']['gpus'][0]['compared']['file'] == 'h100.json'"
holds a.json "list(s['facts']['result']['gpus'][1]['compared']['differences']) in ([], ['deviceName'])"
holds a.json "s['kernels']['result']['small fp32']['ok'] > 50"
holds a.json "set(s['step']['result']['tests'].values()) == {'ok'} and len(s['step']['result']['tests']) > 1"

# something breaks on the GPU: that step fails, the verdict says so and how
RM_DOUBLES_FAULTS=launch:100 expect 2 'failed  kernels: ' "${gpu_check[@]}" --dry-run --quick --only facts,kernels --out b.json
holds b.json "not d['verdict']['ok'] and list(d['verdict']['failed']) == ['kernels'] and d['verdict']['passed'] == ['facts'] and len(s['kernels']['commands'][0]['tail']) > 0"

# without a GPU: one line, and nothing is written
if "$build/tests/cuda/gpu_facts" >/dev/null 2>&1; then echo "without a GPU: not tried, there is one"; else
  expect 2 'no usable GPU here' "${gpu_check[@]}" --out c.json
  [[ $("${gpu_check[@]}" --out c.json 2>&1 | wc -l) == 1 && ! -e c.json ]] || fail "more than one line, or a file"
fi
finish
