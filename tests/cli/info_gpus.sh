# What bench info says of GPUs: that there are none and what was looked for; and of GPUs of a made-up NVML.
. "${RM_SOURCE_DIR:?}/tests/cli/common.bash"
double=$(dirname "$bench")/tests/librm_nvml_now.so
unset CUDA_VISIBLE_DEVICES RM_DOUBLES_FAULTS RM_DOUBLES_GPU RM_DOUBLES_GPUS

says() { grep -qF -- "$2" "$1" || fail "$1 does not say \"$2\": $(cat "$1")"; }

RM_NVML_LIBRARY=/nowhere/none.so "$bench" info --device cpu --json none.json > none.txt 2> none.err || fail "info fails without NVML"
says none.txt 'driver       missing  /nowhere/none.so is not there'
says none.txt 'not usable: '
says none.txt '--device auto takes cpu here'
python3 - none.json <<'END' || fail "none.json is not what it should be"
import json, sys
g = json.load(open(sys.argv[1]))["results"][0]["gpus"]
assert g["gpus"] == [] and g["usable"] is False and g["reason"], g
assert g["driver"] is None and g["driver_reason"], g
assert [p["name"] for p in g["looked_for"]] == ["NVIDIA GPU", "driver", "CUDA", "cuDNN", "NCCL", "CUPTI"], g
assert all(p["found"] == (p["reason"] is None) for p in g["looked_for"]), g
END
if [ -e /dev/nvidiactl ]; then finish; fi # a made-up driver beside a real one would say nothing of use

[ -e "$double" ] || { fail "no $double"; finish; }
export RM_NVML_LIBRARY=$double
RM_DOUBLES_GPUS=4 RM_DOUBLES_FAULTS=nvml-crowd,throttle:1-1000 "$bench" info --device auto --json four.json > four.txt 2> four.err || fail "info fails with NVML"
says four.txt 'joined: NVLink between some, else PCIe switches'
says four.txt 'joined by NVLink to 3; PCIe switches to 0, 1'
says four.txt 'WARNING: 1 other process on it (5.0 GiB)'
says four.txt 'WARNING: its clocks are lowered now: hardware thermal'
says four.txt 'WARNING: its power limit is below the one it is sold with'
says four.txt 'NVIDIA H100 80GB HBM3, compute capability 9.0'
[ "$(grep -c 'passes over the GPU' four.err)" = 1 ] || fail "auto must warn once of the GPU that it passes over: $(cat four.err)"
python3 - four.json <<'END' || fail "four.json is not what it should be"
import json, sys
g = json.load(open(sys.argv[1]))["results"][0]["gpus"]
assert len(g["gpus"]) == 4 and g["driver"] == "580.65.06" and g["links"].startswith("NVLink between some"), g
assert g["gpus"][3]["throttle_reasons"] == ["power cap", "hardware thermal"], g["gpus"][3]
assert g["gpus"][0]["linked"] == ["itself", "NVLink", "PCIe switches", "PCIe switches"], g["gpus"][0]
END
RM_DOUBLES_GPUS=1 RM_DOUBLES_FAULTS=nvml-denied "$bench" info --json denied.json > denied.txt 2> denied.err || fail "info fails where everything is denied"
says denied.txt 'GPU 0  (no name), compute capability -, PCI -'
RM_DOUBLES_GPUS=1 RM_DOUBLES_FAULTS=nvml-hostile "$bench" info > hostile.txt 2> hostile.err || fail "info fails with a hostile NVML"
LC_ALL=C grep -q '[^ -~]' hostile.txt && fail "bytes of the driver reach the terminal"

# device auto goes on with the processor, says so once, and the result says which it was
RM_DOUBLES_GPUS=1 RM_DOUBLES_FAULTS=nvml-cuda:12020 "$bench" kernels --device auto --op 'relu n=1 c=4 h=2 w=2 dtype=f32' --check --json k.json > /dev/null 2> auto.err ||
  fail "kernels --device auto: $(cat auto.err)"
[ "$(grep -c 'passes over the GPU' auto.err)" = 1 ] || fail "auto.err: $(cat auto.err)"
if "$bench" info --device cuda | grep -q 'CUDA         found'; then says auto.err 'the driver 580.65.06 runs CUDA up to 12.2'; fi
python3 -c 'import json; e = json.load(open("k.json"))["environment"]["hard"]; assert e["device"] == "cpu", e' || fail "k.json does not say cpu"

# on test doubles: a GPU that is too old is not usable, and why; another one has its multiprocessors, not the host's one thread
doubles=$(dirname "$bench")/bench-doubles
[ -x "$doubles" ] || finish
sed 's/"deviceVer": *[0-9]*/"deviceVer": 750/' "$RM_SOURCE_DIR/tests/cuda/devices/h100.json" > old.json
RM_DOUBLES_GPU=$PWD/old.json "$doubles" info > old.txt 2> old.err || fail "info fails with an old GPU: $(cat old.err)"
says old.txt 'has compute capability 7.5, and this program needs 8.0 or newer'
says old.txt '--device auto takes cpu here'
grep -q 'usable: --device auto takes cuda' old.txt && fail "an old GPU is called usable"
"$doubles" info --device cuda > h100.txt 2> h100.err || fail "info fails on the doubles: $(cat h100.err)"
says h100.txt 'sm_90, 132 multiprocessors'
finish
