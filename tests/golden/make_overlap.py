#!/usr/bin/env python3
"""Random traces in PyTorch's shape, and what HolisticTraceAnalysis 0.5.0 says of them.

    make_overlap.py write DIR          writes the committed traces and their figures, DIR.json (needs HolisticTraceAnalysis)
    make_overlap.py compare BENCH N    compares `bench overlap --window hta` with it on N random jobs, in the current folder
    make_overlap.py files BENCH F...   compares on the files of one job
    make_overlap.py ours BENCH F...    likewise, and holds that its other figures can be had of our traces

Streams with kernels that overlap, NCCL, copies, sets, synchronisations, launches with and without kernels, annotations, steps, in any
order. Where times have fractions, device work takes at least a microsecond: shorter spans may be rounded to a length of -1, and
of those that begin in the same microsecond as others HolisticTraceAnalysis' unstable sort decides what they count."""
import argparse
import gzip
import json
import logging
import math
import os
import random
import subprocess
import sys
import warnings

NAMES = ["void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float> >(int)", "sm80_xmma_gemm_f32f32", "batch_norm_backward",
         "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long)", "ncclKernel_AllGather_RING_LL", "nccl:all_reduce", "ncclBroadcast",
         "Memcpy DtoD (Device -> Device)", "Memcpy HtoD (Pageable -> Device)", "Memset (Device)", "my_Memcpy_kernel", "SyncBatchNorm", "dma_copy",
         'void "quoted" kernel\\n', "kernel \u00e9", "my_Memset"]
SYNCS = ["Event Sync", "Context Sync", "Stream Wait Event", "Stream Sync"]


def category(name):
    return "gpu_memcpy" if name.startswith("Memcpy") else "gpu_memset" if name.startswith("Memset") else "kernel"


class Clock:
    def __init__(self, r):
        self.r, self.fractions = r, r.random() < 0.5
        self.base = r.choice([0, 10**6, 1_700_000_000_000_000])

    def between(self, a, b):
        return round(self.r.uniform(a, b), 3) if self.fractions else self.r.randint(math.ceil(a), math.floor(b))

    def sum(self, a, b):
        return round(a + b, 3) if self.fractions else a + b


def steps(r, clock, span):
    n = r.choice([0, 1, 2, 3, 5])
    for k in range(n):
        ts = clock.sum(clock.base, clock.between(k * span / n, (k + 0.1) * span / n))
        yield {"ph": "X", "cat": "user_annotation", "name": f"ProfilerStep#{k + 5}", "pid": 1, "tid": 1, "ts": ts, "dur": clock.between(1, span / n), "args": {"External id": k}}
        if r.random() < 0.3:
            yield {"ph": "X", "cat": "gpu_user_annotation", "name": f"ProfilerStep#{k + 5}", "pid": 0, "tid": 7, "ts": clock.sum(ts, 9), "dur": clock.between(1, span / n)}


def kernel(r, clock, ts, corr):
    name, stream = r.choice(NAMES), r.choice([7, 7, 7, 20, 24, 0])
    args = {"device": 0, "context": 1, "stream": stream, "correlation": corr, "grid": [1, 2, 3], "est. achieved occupancy %": 31}
    if r.random() < 0.02:
        del args["correlation"]
    if r.random() < 0.02:
        args["stream"] = str(stream)
    if r.random() < 0.01:
        args["stream"] = -1
    dur = clock.between(1.002, 3) if r.random() < 0.15 else clock.between(2, 80)
    yield {"ph": "X", "cat": category(name), "name": name, "pid": 0, "tid": stream, "ts": clock.sum(ts, clock.between(1, 60)), "dur": dur, "args": args}
    if r.random() < 0.05:
        yield {"ph": "X", "cat": "cuda_sync", "name": r.choice(SYNCS), "pid": 0, "tid": 7, "ts": ts, "dur": clock.between(2, 30),
               "args": {"stream": r.choice([-1, 7]), "correlation": r.choice([-1, corr])}}


def host(r, clock, ts, corr, span):
    if r.random() < 0.92:
        yield {"ph": "X", "cat": r.choice(["cuda_runtime", "cuda_driver"]), "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "ts": ts, "dur": clock.between(0, 9),
               "args": {"External id": corr, "cbid": 211, "correlation": corr}}
    if r.random() < 0.5:
        yield {"ph": "s", "id": corr, "pid": 1, "tid": 1, "ts": ts, "cat": "ac2g", "name": "ac2g"}
    if r.random() < 0.3:
        yield {"ph": "X", "cat": "cpu_op", "name": "aten::add", "pid": 1, "tid": 1, "ts": ts, "dur": clock.between(0, 50),
               "args": {"External id": corr, "Input Dims": [[1, 2], []], "Concrete Inputs": ["", 'a"b\\c']}}
    if r.random() < 0.02:
        yield {"ph": "X", "cat": "Trace", "name": "PyTorch Profiler (0)", "pid": "Spans", "tid": "x", "ts": clock.base, "dur": span}
    if r.random() < 0.02:
        yield {"ph": "i", "name": "Record Window End", "pid": "", "tid": "", "s": "g", "ts": ts}


def trace(seed, rank, n):
    shared, r = random.Random(seed), random.Random(seed * 1000 + rank)
    clock = Clock(shared)
    clock.r = r
    span, corr, events = n * 20, 0, []
    events += steps(random.Random(seed) if seed % 2 else r, clock, span)
    for _ in range(n):
        corr += r.choice([1, 1, 1, 2, 100])
        ts = clock.sum(clock.base, clock.between(0, span))
        events += host(r, clock, ts, corr, span)
        events += kernel(r, clock, ts, corr)
    events.append({"ph": "M", "name": "process_name", "pid": 0, "tid": 0, "ts": clock.base, "args": {"name": "python"}})
    if r.random() < 0.3:
        events.append({"ph": "M", "name": "process_labels", "pid": 0, "tid": 0, "args": {"labels": "GPU"}})
    if r.random() < 0.7:
        r.shuffle(events)
    return {"schemaVersion": 1, "deviceProperties": [{"id": 0, "name": "a GPU"}], "distributedInfo": {"backend": "nccl", "rank": rank, "world_size": 2}, "traceEvents": events}


def write(path, data, indent=None):
    with (gzip.open(path, "wt") if path.endswith(".gz") else open(path, "w")) as f:
        json.dump(data, f, indent=indent)


def reference(files):
    """A dict a file; None where HolisticTraceAnalysis does not get through, as where nothing is left of a rank."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    from hta.analyzers.breakdown_analysis import BreakdownAnalysis
    from hta.analyzers.communication_analysis import CommunicationAnalysis
    from hta.common.trace import Trace
    t = Trace(trace_files={i: os.path.abspath(f) for i, f in enumerate(files)}, trace_dir="/")
    t.load_traces(use_multiprocessing=False)
    try:
        rows = BreakdownAnalysis.get_temporal_breakdown(t, visualize=False).to_dict("records")
        overlap = CommunicationAnalysis.get_comm_comp_overlap(t, visualize=False).to_dict("records")
    except (IndexError, KeyError, ValueError):
        return None
    for row, o in zip(rows, overlap):
        p = o["comp_comm_overlap_pctg"]
        row["comp_comm_overlap_pctg"] = None if math.isnan(p) else p
    return [{k: v if v is None else float(v) for k, v in row.items() if k != "rank"} for row in rows]


def differences(want, row):
    """What HolisticTraceAnalysis prints against a row of ours: microseconds exactly, percentages to their two decimals."""
    times = {"idle_time(us)": "idle_s", "compute_time(us)": "compute_s", "non_compute_time(us)": "non_compute_s", "kernel_time(us)": "window_s"}
    shares = {"idle_time_pctg": "idle_s", "compute_time_pctg": "compute_s", "non_compute_time_pctg": "non_compute_s"}
    for key, own in times.items():
        if abs(row[own] * 1e6 - want[key]) > 1e-3:
            yield f"{own} {row[own] * 1e6} us, not {want[key]}"
    for key, own in shares.items():
        if abs(100 * row[own] / row["window_s"] - want[key]) > 0.00501:
            yield f"{own} {100 * row[own] / row['window_s']} %, not {want[key]}"
    have, expected = row["overlap_geom"], want["comp_comm_overlap_pctg"]
    if (have is None) != (expected is None) or (have is not None and abs(100 * have - expected) > 0.00501):
        yield f"overlap_geom {have}, not {expected} %"


def compare(bench, files):
    """None where HolisticTraceAnalysis has no figures, else the list of differences."""
    want = reference(files)
    if want is None:
        return None
    out = subprocess.run([bench, "overlap", *files, "--window", "hta", "--json", "-q"], capture_output=True, text=True, check=False)
    if out.returncode:
        return [f"exit code {out.returncode}: {out.stderr.strip()}"]
    rows = {r["file"]: r for r in json.loads(out.stdout)["results"]}
    return [f"{f}: {d}" for f, w in zip(files, want) for d in differences(w, rows[f])]


def ours(bench, files):
    """Our own traces: equal figures, and the analyses that need launches get through."""
    found = compare(bench, files)
    from hta.trace_analysis import TraceAnalysis
    t = TraceAnalysis(trace_files={i: os.path.abspath(f) for i, f in enumerate(files)}, trace_dir="/")
    types, kernels = t.get_gpu_kernel_breakdown(visualize=False)
    idle, _ = t.get_idle_time_breakdown(ranks=list(range(len(files))), visualize=False)
    launches = t.get_cuda_kernel_launch_stats(ranks=list(range(len(files))), visualize=False)
    print(types, idle, *(f.describe() for f in launches.values()), sep="\n")
    for what, ok in (("figures", found == []), ("kernel types", {"COMPUTATION", "COMMUNICATION", "MEMORY"} <= set(types["kernel_type"])), ("kernels", len(kernels) > 0),
                     ("idle times", len(idle) > 0), ("a launch for each kernel", all(len(f) > 100 for f in launches.values()) and len(launches) == len(files))):
        if not ok:
            print(f"ours: {what}: {found}")
            return 1
    return 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["write", "compare", "files", "ours"])
    p.add_argument("words", nargs="+")
    a = p.parse_args()
    if a.what == "write":
        files = [os.path.join(a.words[0], f"rank{r}.json.gz") for r in (0, 1)]
        for r, f in enumerate(files):
            write(f, trace(41, r, 60))
        with open(a.words[0].rstrip("/") + ".json", "w") as f:
            json.dump(reference(files), f, indent=1)
        return 0
    if a.what == "ours":
        return ours(a.words[0], a.words[1:])
    if a.what == "files":
        print("\n".join(compare(a.words[0], a.words[1:]) or ["equal"]))
        return 0
    equal = none = failed = 0
    for seed in range(int(a.words[1])):
        r = random.Random(seed)
        files = [f"job{seed}-{rank}.json" + r.choice(["", ".gz"]) for rank in range(r.choice([1, 2]))]
        for rank, f in enumerate(files):
            write(f, trace(seed, rank, r.choice([10, 40, 200])), r.choice([None, 1]))
        found = compare(a.words[0], files)
        equal, none, failed = equal + (found == []), none + (found is None), failed + bool(found)
        for d in found or []:
            print(d)
    print(f"{equal} jobs equal, {failed} not; of {none} HolisticTraceAnalysis has no figures")
    return 1 if failed or not equal else 0


if __name__ == "__main__":
    sys.exit(main())
