# Every option appears in the help, the man page and the completions; help is at most 100 columns wide.
set -u
bench=$1 failed=0
note() { echo "$*"; failed=1; }
commands=$("$bench" --help | sed -n '/^Commands$/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ "$(printf '%s\n' "$commands" | wc -l)" -ge 10 ] || note "too few commands in the help: $commands"
"$bench" man > bench.1 || note "no man page"
for shell in bash zsh fish; do "$bench" completion $shell > c.$shell || note "no completion for $shell"; done
sed 's/\\-/-/g' bench.1 > man.txt
for c in $commands; do
  "$bench" "$c" --help > help.txt 2> err.txt || note "bench $c --help fails"
  [ -s err.txt ] && note "bench $c --help talks on stderr"
  "$bench" help "$c" | cmp -s - help.txt || note "bench help $c differs from bench $c --help"
  awk -v c="$c" 'length($0) > 100 { print "bench " c " --help, wider than 100: " $0; bad = 1 } END { exit bad }' help.txt || failed=1
  for part in '^Usage: bench' '^Options that commands share$' '^Examples$' '^Exit codes$' ' --store FILE' ' -v, --verbose'; do
    grep -qE -- "$part" help.txt || note "bench $c --help lacks: $part"
  done
  grep -q "^.SS bench $c" man.txt || note "the man page lacks bench $c"
  options=$(grep -oE '^  ( |-[a-z],) .{0,2}--(\[no-\])?[a-z0-9-]+' help.txt | grep -oE '[a-z0-9-]+$' | sed 's/^--//')
  [ -n "$options" ] || note "no options found in the help of $c"
  for o in $options; do
    grep -qE -- "--(\[no-\])?$o" man.txt || note "--$o of $c is not in the man page"
    grep -E "^    $c\) options=" c.bash | grep -qE -- " --$o( |')" || note "--$o of $c is not in the bash completion"
    sed -n "/^    $c)\$/,/;;/p" c.zsh | grep -q -- "'--$o\[" || note "--$o of $c is not in the zsh completion"
    grep "from $c' " c.fish | grep -qE -- " -l $o( |\$)" || note "--$o of $c is not in the fish completion"
  done
done
"$bench" --help | awk 'length($0) > 100 { print; bad = 1 } END { exit bad }' || note "bench --help is wider than 100 columns"
bash -n c.bash || note "the bash completion does not parse"
if command -v zsh > /dev/null; then zsh -n c.zsh || note "the zsh completion does not parse"; fi
if command -v fish > /dev/null; then fish -n c.fish || note "the fish completion does not parse"; fi
# The bash completion completes.
got=$(bash -c '. ./c.bash; COMP_WORDS=(bench train --dev); COMP_CWORD=2; _bench; echo "${COMPREPLY[*]}"')
case " $got " in *" --device "*) ;; *) note "bench train --dev<TAB> gives '$got'" ;; esac
got=$(bash -c '. ./c.bash; COMP_WORDS=(bench sca); COMP_CWORD=1; _bench; echo "${COMPREPLY[*]}"')
[ "$got" = scaling ] || note "bench sca<TAB> gives '$got'"
got=$(bash -c '. ./c.bash; COMP_WORDS=(bench train --device c); COMP_CWORD=3; _bench; echo "${COMPREPLY[*]}"')
[ "$got" = "cuda cpu" ] || note "bench train --device c<TAB> gives '$got'"
if command -v man > /dev/null && man --warnings -l bench.1 > page.txt 2> warnings.txt; then
  [ -s warnings.txt ] && { cat warnings.txt; note "roff warnings"; }
  grep -q 'EXIT STATUS' page.txt || note "the man page has no exit status"
fi
# docs/cli.md ends with the options as the program knows them: bench man markdown.
sed -n '/^## Options$/,$p' "$RM_SOURCE_DIR/docs/cli.md" > documented.md
"$bench" man markdown | diff documented.md - || note "docs/cli.md differs from bench man markdown"
exit $failed
