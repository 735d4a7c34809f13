# Messages and exit codes of the command line, as a user meets them.
set -u
bench=$1 failed=0
# expect CODE PATTERN WORDS...: exit code, and an extended regular expression that the last line on stderr matches
expect() {
  local code=$1 pattern=$2; shift 2
  "$bench" "$@" > out.txt 2> err.txt; local got=$?
  if [ "$got" != "$code" ]; then echo "bench $*: exit $got, not $code"; cat err.txt; failed=1; fi
  if [ -n "$pattern" ] && ! tail -n 1 err.txt | grep -qE -- "$pattern"; then echo "bench $*: stderr lacks '$pattern':"; cat err.txt; failed=1; fi
}
expect 2 ''
grep -q '^Usage: bench COMMAND' out.txt || { echo "bench alone prints no help"; failed=1; }
expect 0 '' --help
expect 0 '' -h
expect 0 '' --version
grep -qE '^bench [0-9]+\.[0-9]+\.[0-9]+ \(git ' out.txt || { echo "no version"; cat out.txt; failed=1; }
expect 2 '^bench: unknown command trian; did you mean train\?$' trian
expect 2 '^bench: unknown command xyzzy; bench --help' xyzzy
expect 2 '^bench: the command comes first' --px 64 train
expect 2 '^bench train: unknown option --bacth; did you mean --batch\?$' train --bacth 3
expect 2 '^bench train: --px 7: must be from 8 to 4096$' train --px 7
expect 2 '^bench train: --indices is not an option of bench train; it belongs to: input$' train --indices 0..3
expect 2 "^bench info: unexpected word 'now'" info now
expect 2 '^bench help: unknown command nope' help nope
expect 2 '^bench completion: no completion for tcsh' completion tcsh
# One line, however long the argument.
expect 2 '' train --device "$(printf 'x%.0s' $(seq 3000))"
[ "$(wc -l < err.txt)" = 1 ] || { echo "more than one line for a long argument"; failed=1; }
# Errors go to stderr, data to stdout.
"$bench" train --px 7 2> /dev/null > out.txt
[ -s out.txt ] && { echo "an error on stdout"; failed=1; }
exit $failed
