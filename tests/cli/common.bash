# Helpers of the scripts in this folder: source it. $bench is the program; a failure is printed and counted; `finish` ends.
bench=$1
fails=0
fail() { echo "FAIL: $*" >&2; fails=$((fails + 1)); }
# expect CODE 'regular expression of stdout and stderr' COMMAND...
expect() {
  local code=$1 pattern=$2 got out; shift 2
  out=$("$@" 2>&1 </dev/null); got=$?
  [[ $got == "$code" ]] || fail "exit $got, expected $code: $*: $(tail -n 3 <<<"$out")"
  grep -Eq -- "$pattern" <<<"$out" || fail "no /$pattern/ from: $*: $(tail -n 3 <<<"$out")"
}
# json FILE 'python expression over d' : prints its value
json() { python3 -c 'import json,sys; d=json.load(open(sys.argv[1])); r=d["results"]; print(eval(sys.argv[2]))' "$1" "$2"; }
check() { [[ $(json "$1" "$2") == True ]] || fail "$1: $2"; }
finish() { if [[ $fails == 0 ]]; then echo "all held"; else echo "$fails failed" >&2; fi; exit $((fails > 0)); }
# A small data set and options that make a step cheap.
small_data() { "$bench" data make "$1" --limit-train "${2:-96}" --limit-val "${3:-40}" -q || exit 2; }
tiny=(--px 16 --batch 16 --workers 1 --seed 3)
export RINGMARK_STORE=$PWD/test.db RINGMARK_PLANS=$PWD/plans
# Launcher and ranks of this test's program, and not of a test that runs beside it: those have another working folder.
ranks_of() { local p; for p in $(pgrep -f -- "$bench train .*--rank-result"); do if [[ $(readlink "/proc/$p/cwd") == "$PWD" ]]; then echo "$p"; fi; done; }
rank_pid() { local p; for p in $(ranks_of); do grep -qzE "^(OMPI_COMM_WORLD_RANK|PMI_RANK)=$1\$" "/proc/$p/environ" 2>/dev/null && echo "$p" && return; done; }
