# Who may include whom, and vendor headers in their room: docs/architecture.md. Prints every offender.
set -u
cd "${RM_SOURCE_DIR:?}" || exit 1
failed=0

# room: rooms whose headers it may include (its own is always allowed). tests/ may include everything.
rooms='base:
profiler: base
kernels: base profiler
model: base profiler kernels
reports: base profiler
bench: base profiler kernels model reports'
while IFS=: read -r room allowed; do
  [ -d "$room" ] || { echo "no such folder: $room"; failed=1; continue; }
  for other in base profiler kernels model reports bench tests; do
    case " $allowed $room " in *" $other "*) continue ;; esac
    if grep -rnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[\"<]$other/" "$room" --include='*.[ch]' --include='*.inc' --include='*.cu' --include='*.cuh'; then
      echo "^ $room may not include $other/"; failed=1
    fi
  done
done <<END
$rooms
END

# header pattern: files that may include it (extended regular expression).
vendors='(oneapi/|dnnl)[^">]*:^kernels/cpu/
(cuda|cudnn|cublas)[^">]*:^kernels/cuda/
nccl[^">]*:^kernels/comm/nccl[^/]*$
mpi\.h:^kernels/comm/mpi[^/]*$
cupti[^">]*:^profiler/cupti[^/]*$
(jpeglib|jerror|turbojpeg)\.h:^model/input/jpeg[^/]*$
sqlite3[^">]*:^profiler/store[^/]*$
zlib\.h:^(model/input/|profiler/kineto)
omp\.h:^kernels/cpu/
hwloc[^">]*:^(kernels|profiler|bench)/'
while IFS= read -r row; do
  header=${row%%:*} where=${row#*:}
  offenders=$(grep -rlE "^[[:space:]]*#[[:space:]]*include[[:space:]]*[\"<]${header}[\">]" base profiler kernels model reports bench --include='*.[ch]' --include='*.inc' --include='*.cu' --include='*.cuh' |
    grep -vE "$where")
  if [ -n "$offenders" ]; then echo "$offenders"; echo "^ <$header> belongs to $where"; failed=1; fi
done <<END
$vendors
END

# Only main ends the process (and a second Ctrl-C, and the child between fork and exec, with _exit).
if grep -rnE '(^|[^_a-z.])exit[[:space:]]*\(' base profiler kernels model reports bench --include='*.c' | grep -vE ':[[:space:]]*(/?\*|//)|"[^"]*exit[^"]*"|/\*[^*]*exit'; then
  echo "^ exit() outside main"; failed=1
fi

# The test must be able to fail: a planted offender is found.
plant=$(mktemp -d) || exit 1
mkdir -p "$plant/base"
printf '#include "kernels/op.h"\n' > "$plant/base/x.c"
grep -rqE '^[[:space:]]*#[[:space:]]*include[[:space:]]*["<]kernels/' "$plant/base" || { echo "the search finds nothing"; failed=1; }
rm -rf "$plant"
exit $failed
