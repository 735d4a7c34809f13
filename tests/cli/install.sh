# cmake --install gives a tree that can be moved: the program still finds its libraries, manual and completions are there.
set -u
bench=$1 failed=0
note() { echo "$*"; failed=1; }
build=$(dirname "$bench")
if grep -q '^RM_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then echo "SKIP: sanitized builds are not installed"; exit 77; fi
cmake --install "$build" --prefix "$PWD/first" > log.txt 2>&1 || { cat log.txt; exit 1; }
mv first second
"$PWD/second/bin/bench" --version > version.txt 2>&1 || note "the moved program does not start: $(cat version.txt)"
if command -v ldd > /dev/null; then
  ldd second/bin/bench > ldd.txt
  grep 'not found' ldd.txt && note "libraries are missing"
  grep -F "$RM_SOURCE_DIR/.deps" ldd.txt && note "the installed program still needs the checkout"
  if compgen -G 'second/lib*/ringmark/libdnnl*' > /dev/null; then grep -q "$PWD/second/.*libdnnl" ldd.txt || note "it does not use the oneDNN beside it"; fi
fi
for file in share/man/man1/bench.1 share/bash-completion/completions/bench share/zsh/site-functions/_bench share/fish/vendor_completions.d/bench.fish share/doc/*/cli.md; do
  compgen -G "second/$file" > /dev/null || note "not installed: $file"
done
exit $failed
