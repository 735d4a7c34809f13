# Where output goes: JSON to stdout or to a file, whole or not at all; full disks and closed pipes; signals.
set -u
bench=$1 failed=0
note() { echo "$*"; failed=1; }
valid() { if command -v python3 > /dev/null; then python3 -m json.tool "$1" > /dev/null; else grep -q '"schema": "ringmark/1"' "$1"; fi; }

"$bench" info > table.txt 2> err.txt || note "bench info fails: $(cat err.txt)"
grep -q '^Devices' table.txt || note "bench info prints no devices"
"$bench" info --json > a.json || note "bench info --json fails"
valid a.json || note "bench info --json is no JSON"
"$bench" info --json b.json > table.txt && valid b.json || note "bench info --json F"
grep -q '^Devices' table.txt || note "with --json F the table still goes to stdout"
"$bench" info --json=c.json > /dev/null && valid c.json || note "bench info --json=F"
for key in schema command config environment results; do grep -q "^  \"$key\":" a.json || note "no $key in the envelope"; done
for device in cpu ref null cuda; do grep -qE "^  $device +(ready|missing) " table.txt || note "bench info does not name the device $device"; done
grep -E '^  cuda +missing' table.txt | grep -qE 'missing +.*: .{10}' && : || grep -qE '^  cuda +ready' table.txt || note "cuda is missing without a reason"
ls ./*.tmp > /dev/null 2>&1 && note "temporary files are left"

# A file that cannot be replaced stays, and the code says so.
mkdir folder
"$bench" info --json folder > /dev/null 2> err.txt; [ $? = 2 ] || note "--json FOLDER: not exit 2"
"$bench" info --json no/such/folder.json > /dev/null 2> err.txt; [ $? = 2 ] || note "--json into a missing folder: not exit 2"
grep -q 'no/such/folder.json' err.txt || note "the message does not name the file: $(cat err.txt)"
"$bench" info --json /dev/null > /dev/null || note "--json /dev/null fails"
[ -c /dev/null ] || note "/dev/null was replaced"
if [ -c /dev/full ]; then
  "$bench" info > /dev/full 2> err.txt; [ $? = 5 ] || note "a full disk behind stdout is not exit 5: $(cat err.txt)"
  "$bench" info --json > /dev/full 2> err.txt; [ $? = 5 ] || note "a full disk behind --json is not exit 5: $(cat err.txt)"
  "$bench" train --help > /dev/full 2> err.txt; [ $? = 5 ] || note "a full disk behind --help is not exit 5"
fi
# A reader that has seen enough is no error.
(set -o pipefail; "$bench" man 2> err.txt | head -n 1 > /dev/null) || note "a closed pipe is an error: $(cat err.txt)"
[ -s err.txt ] && note "a closed pipe is talked about: $(cat err.txt)"
exit $failed
