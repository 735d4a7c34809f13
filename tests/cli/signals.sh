# The first SIGINT or SIGTERM lets the command finish its step and gives 130 or 143; the second ends it at once.
set -u
bench=$1 failed=0
note() { echo "$*"; failed=1; }
run='train --device null --data synthetic --classes 10 --px 32 --batch 2 --steps 100000000 -q --store signals.db'
for row in INT:130 TERM:143; do
  signal=${row%%:*} code=${row##*:}
  # A background job of a script ignores SIGINT unless something restores it; env does.
  env --default-signal=INT "$bench" $run > out.txt 2> err.txt & pid=$!
  sleep 2
  kill -s "$signal" $pid || note "it had ended before the signal: $(cat err.txt)"
  ( sleep 20; kill -9 $pid 2> /dev/null ) & guard=$!
  wait $pid; got=$?
  kill $guard 2> /dev/null
  [ "$got" = "$code" ] || note "SIG$signal: exit $got, not $code: $(cat err.txt)"
  grep -q '^bench train: ' err.txt || note "SIG$signal: no last line: $(cat err.txt)"
done
exit $failed
