# scripts/setup --no-install: quiet where nothing is missing, names what is, changes nothing.
set -u
failed=0
note() { echo "$*"; failed=1; }
"$RM_SOURCE_DIR/scripts/setup" --no-install > out.txt 2> err.txt || note "on the machine that built this, something is missing: $(cat err.txt)"
[ -s out.txt ] && note "it prints on stdout"
# A machine with nothing but a shell: a folder with these few tools is the whole PATH, and the checkout has no .deps.
mkdir -p bare/scripts tools
cp "$RM_SOURCE_DIR/scripts/setup" bare/scripts/
for tool in bash dirname sed uname id sort head printf; do
  path=$(command -v $tool) && [ -x "$path" ] && ln -s "$path" tools/$tool
done
PATH=$PWD/tools bash bare/scripts/setup --no-install > out.txt 2> err.txt
[ $? = 2 ] || note "missing tools are not exit 2"
for what in 'C compiler' CMake 'MPI (Open MPI or MPICH)' build-essential libopenmpi-dev; do
  grep -qF "$what" err.txt || note "it does not name: $what"
done
grep -q 'gnuplot' err.txt || note "it does not name gnuplot"
[ -e bare/.deps ] && note "--no-install made .deps"
bash bare/scripts/setup --frobnicate > out.txt 2> err.txt; [ $? = 2 ] || note "an unknown option is not exit 2"
bash bare/scripts/setup --help > out.txt 2>&1 || note "--help is not exit 0"
exit $failed
