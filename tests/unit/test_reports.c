/* Reports from a made-up store: every number in it is a fixture, chosen to reach each branch of the report, not a measurement.
 * With a folder as argument the program only builds that store and its reports there, to be looked at. */
#include "reports_util.h"
#include "reports/compare.h"
#include "reports/csv.h"
#include "reports/doc.h"
#include "reports/figures.h"
#include "reports/gnuplot.h"
#include "reports/model.h"
#include <fcntl.h>

/* ---- fixture ---------------------------------------------------------------------------------------------------- */

static json_t *scaling_row(int n, const char *origin, double ips, double step, double efficiency)
{
    json_t *row = json(
        "{\"modes\": {\"synthetic\": {}, \"data-only\": {}, \"real\": {}}, \"blocking_comm_s\": null, \"blocking_comm_s_reason\": \"replay is not built yet\","
        " \"loss_attribution_s\": {}}");
    json_t *more = json_pack("{s:i, s:s, s:s, s:i, s:s, s:f, s:f, s:f, s:{s:f, s:f, s:i}, s:f, s:f, s:o}", "ranks", n, "device", "cpu", "origin", origin,
                             "batch_per_device", 32, "input", "real", "images_per_s", ips, "images_per_s_low", ips * 0.985, "images_per_s_high", ips * 1.015,
                             "step_s", "median", step, "mad", step * 0.008, "samples", 60, "efficiency_weak", efficiency, "baseline", 152.0, "reproduce",
                             json_sprintf("bench scaling --gpus %d --batch 32", n));
    json_object_update(row, more);
    json_decref(more);
    json_t *modes = json_object_get(row, "modes");
    json_object_set_new(json_object_get(modes, "synthetic"), "images_per_s", json_real(ips * 1.04));
    json_object_set_new(json_object_get(modes, "data-only"), "images_per_s", json_real(2100));
    json_object_set_new(json_object_get(modes, "real"), "images_per_s", json_real(ips));
    json_object_set_new(row, "budget_s", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "compute", step * 0.84, "exposed_comm", step * (n > 1 ? 0.09 : 0),
                                                   "exposed_copy", 0.0, "input_stall", step * 0.02, "host", step * 0.03, "idle", step * (n > 1 ? 0.02 : 0.11)));
    if (n == 1) {
        json_object_set_new(row, "overlap_geom", json_null());
        json_object_set_new(row, "overlap_geom_reason", json_string("one rank has no collective"));
        json_object_del(row, "loss_attribution_s");
    } else {
        json_object_set_new(row, "overlap_geom", json_real(0.62));
        json_object_set_new(row, "exposed_comm_s", json_real(step * 0.09));
        json_object_set_new(row, "comm_cost_s", json_real(step * 0.12));
        json_object_set_new(row, "eta_eff", json_real(-0.08));
        json_object_set_new(row, "loss_attribution_s", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "loss", step - 0.216, "input", 0.002, "compute_slowdown", 0.08,
                                                               "exposed_transfer", 0.03, "straggler", 0.005, "unexplained", step - 0.216 - 0.117));
        json_object_set_new(row, "oversubscribed", json_true());
        json_object_set_new(row, "to_accuracy", json_pack("{s:f, s:f, s:f, s:f}", "time_to_accuracy_s", 140.0, "final_top1", 85.4, "target_top1", 85.0, "run_s", 150.0));
    }
    return row;
}

static void put_scaling(rm_store *s, const char *processor, double speed)
{
    int64_t run = begin(s, "scaling", "bench scaling --gpus 1,2,4,8 --batch 32", "{\"gpus\": \"1,2,4,8\", \"batch\": 32}", processor);
    put(s, run, "n=1", "measured", true, scaling_row(1, "measured", 148 * speed, 0.216 / speed, 0.974), 0.216 / speed, 60);
    put(s, run, "n=2", "measured", true, scaling_row(2, "measured", 190 * speed, 0.337 / speed, 0.625), 0.337 / speed, 60);
    put(s, run, "n=4", "projected", true, scaling_row(4, "projected", 260 * speed, 0.49 / speed, 0.43), 0.49, 0);
    put(s, run, "gathered n=1", "measured", true, json("{\"modes\": {}, \"note\": \"intermediate\"}"), 1, 0);
    put(s, run, "n=8", "not_measured", true, json("{\"ranks\": 8, \"origin\": \"not_measured\", \"images_per_s\": null, \"reason\": \"this machine has 2 cores; run it on one with 8 or more\"}"), 1, 0);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_strong(rm_store *s)
{
    int64_t run = begin(s, "scaling", "bench scaling --strong --gpus 1,2 --batch 64", "{\"gpus\": \"1,2\", \"strong\": true}", "Fixture CPU");
    for (int n = 1; n <= 2; n++) {
        json_t *row = scaling_row(n, "measured", 150.0 + 30 * n, 0.42 - 0.06 * n, 1);
        json_object_del(row, "efficiency_weak");
        json_object_set_new(row, "efficiency_strong", json_real(n == 1 ? 1 : 0.583));
        put(s, run, n == 1 ? "n=1" : "n=2", "measured", true, row, 0.42 - 0.06 * n, 60);
    }
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_train(rm_store *s)
{
    int64_t run = begin(s, "train", "bench train --recipe tiny", "{\"recipe\": \"tiny\"}", "Fixture CPU");
    json_t *row = json("{\"recipe\": \"tiny\", \"device\": \"cpu\", \"dtype\": \"fp32\", \"ranks\": 1, \"epochs\": 8, \"seed\": 1, \"px\": 32, \"batch_per_device\": 64,"
                       " \"images_per_s\": 331.5, \"final_top1\": 86.9, \"final_top5\": 99.4, \"target_top1\": 85, \"time_to_accuracy_s\": 171.2, \"run_s\": 240,"
                       " \"bad_images\": 0, \"input_stall_s\": 1.25, \"epochs_log\": [], \"reproduce\": \"bench train --recipe tiny --seed 1\"}");
    for (int e = 1; e <= 8; e++)
        json_array_append_new(json_object_get(row, "epochs_log"),
                              json_pack("{s:i, s:f, s:f, s:f, s:f, s:f, s:f}", "epoch", e, "time_s", 30.0 * e, "train_loss", 2.2 * exp(-0.35 * e) + 0.3, "top1",
                                        88 - 40 * exp(-0.45 * e), "top5", 99.5 - 9 * exp(-0.6 * e), "images_per_s", 331.5, "lr", 0.1 * (1 - e / 8.0)));
    put(s, run, "train", "measured", true, row, 0.19, 300);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_layers(rm_store *s)
{
    static const char *const pass[] = { "fwd", "bwd_data", "bwd_weights" };
    int64_t run = begin(s, "layers", "bench layers --px 64", "{\"px\": 64}", "Fixture CPU");
    json_t *row = json("{\"px\": 64, \"batch\": 32, \"dtype\": \"fp32\", \"device\": \"cpu\", \"step_s\": 0.4, \"layers\": [], \"reproduce\": \"bench layers --px 64\"}");
    json_t *layers = json_object_get(row, "layers");
    for (int stage = 0; stage <= 4; stage++)
        for (int k = 1; k <= (stage ? 6 : 1); k++)
            for (int p = 0; p < 3; p++) {
                double t = 0.0012 * (1 + p) * (1 + k % 3) * (stage ? 1 : 3);
                json_t *name = stage ? json_sprintf("layer%d.%d.conv%d", stage, (k - 1) / 3, 1 + (k - 1) % 3) : json_string("conv1");
                json_array_append_new(layers, json_pack("{s:o, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "name", name, "pass", pass[p], "op", "conv",
                                                        "impl", "jit:avx2", "time_s", t, "share", t / 0.4, "gflops_per_s", 44.0 / (1 + p), "gb_per_s", 3.1,
                                                        "flops", 44e9 / (1 + p) * t, "bytes", 3.1e9 * t));
            }
    json_array_append_new(layers, json("{\"name\": \"fc\", \"pass\": \"fwd\", \"op\": \"fc\", \"impl\": \"gemm\", \"time_s\": 0.004, \"share\": 0.01}"));
    json_array_append_new(layers, json("{\"name\": \"sgd\", \"pass\": \"update\", \"op\": \"sgd\", \"impl\": \"fused\", \"time_s\": 0.021, \"share\": 0.0525}"));
    json_array_append_new(layers, json("{\"name\": \"loader\", \"pass\": \"fwd\", \"op\": \"reorder\", \"impl\": \"\", \"time_s\": 0.006, \"share\": 0.015}"));
    json_array_append_new(layers, json("{\"name\": \"step\", \"pass\": \"idle\", \"op\": \"\", \"impl\": \"\", \"time_s\": 0.011, \"share\": 0.0275}"));
    put(s, run, "layers", "measured", true, row, 0.4, 20);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void make_fixture(char path[512])
{
    rm_store *s = create("fixture.db", path);
    put_train(s);
    put_layers(s);
    int64_t run = begin(s, "kernels", HOSTILE, "{}", "Fixture CPU");
    put(s, run, "conv <1>", "measured", true, json("{\"case\": \"n=64|c=64\", \"time_s\": 0.00123456, \"ok\": true, \"time\": {\"median_s\": 0.5, \"samples_s\": [1], \"reproduce\": \"x\"}, \"impl\": null, \"impl_reason\": \"x\"}"), 1, 0);
    put(s, run, "conv 2", "measured", false, json("{\"case\": \"n=1\", \"time_s\": 0.001, \"ok\": false}"), 1, 0);
    put_strong(s);
    put_scaling(s, "Fixture CPU", 1);
    rm_store_close(s);
}

static void make_other(char path[512])
{
    rm_store *s = create("other.db", path);
    put_scaling(s, "Other CPU", 1.25);
    rm_store_close(s);
}

/* ---- fixture: data parallel ------------------------------------------------------------------------------------- */

/* A made-up step: backward makes 161 gradients of one size evenly, a bucket goes out when its last one is ready and the channel
 * is free. It gives the sweep rows that hang together, so that the pictures look like ones. */
enum { GRADIENTS = 161, MOST_BUCKETS = GRADIENTS };
typedef struct net { int ranks; const char *origin; double forward, backward, update, alpha, beta; } net; /* seconds; beta: of all gradients */

static int ends_of(const char *split, int end[MOST_BUCKETS])
{
    int n = 0, parts = 0;
    if (!strcmp(split, "per-layer")) parts = GRADIENTS;
    else if (!strcmp(split, "single")) parts = 1;
    else if (!strcmp(split, "bytes:25M") || !strcmp(split, "ddp")) parts = 4;
    else if (sscanf(split, "equal:%d", &parts) != 1) parts = 0;
    for (int k = 1; k <= parts; k++) end[n++] = GRADIENTS * k / parts - 1;
    for (const char *p = split; !parts && p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) end[n++] = atoi(p);
    return n;
}

static json_t *ranks_detail(const net *w, double step)
{
    json_t *detail = json_array();
    for (int k = 0; k < w->ranks; k++) {
        bool late = k == w->ranks - 1;
        json_array_append_new(detail, json_pack("{s:i, s:s, s:f, s:f, s:f}", "rank", k, "host", k < w->ranks / 2 ? "host<a>" : "host-b", "own_s", step * (late ? 0.97 : 0.9),
                                                "wait_s", step * (late ? 0.001 : 0.05), "late_share", late ? 0.84 : 0.16 / (w->ranks - 1)));
    }
    return detail;
}

static json_t *gantt(const net *w, const int *end, int n, double *isolated, double *exposed)
{
    json_t *buckets = json_array();
    double free_at = 0, back = w->forward + w->backward;
    *isolated = 0;
    for (int k = 0; k < n; k++) {
        int first = k ? end[k - 1] + 1 : 0;
        double ready = w->forward + w->backward * (end[k] + 1) / GRADIENTS, start = fmax(ready, free_at), t = w->alpha + w->beta * (end[k] + 1 - first) / GRADIENTS;
        free_at = start + t;
        *isolated += t;
        json_array_append_new(buckets, json_pack("{s:i, s:i, s:i, s:f, s:f, s:f}", "first", first, "last", end[k], "bytes", 635000 * (end[k] + 1 - first), "ready_s", ready, "start_s",
                                                 start, "end_s", free_at));
    }
    *exposed = fmax(0, free_at - back);
    return json_pack("{s:f, s:f, s:f, s:o}", "forward_end_s", w->forward, "backward_end_s", back, "step_s", fmax(back, free_at) + w->update, "buckets", buckets);
}

static double step_of(const net *w, const char *split)
{
    int end[MOST_BUCKETS], n = ends_of(split, end);
    double isolated, exposed;
    json_decref(gantt(w, end, n, &isolated, &exposed));
    return w->forward + w->backward + w->update + exposed + 0.01 * isolated;
}

static void put_split(rm_store *s, int64_t run, const net *w, const char *split, const char *best, const char *next)
{
    int end[MOST_BUCKETS], n = ends_of(split, end);
    double isolated, exposed, off = w->forward + w->backward + w->update;
    json_t *lanes = gantt(w, end, n, &isolated, &exposed);
    double step = off + exposed + 0.01 * isolated, more = step - step_of(w, best), noise = 0.016 * (w->forward + w->backward), ahead = step_of(w, next) - step_of(w, best);
    double bound = off + fmax(w->alpha, w->beta - w->backward);
    rm_strbuf shares = { 0 };
    for (int k = 0; k < n; k++) rm_str_addf(&shares, "%s%.2f", k ? "/" : "", 100.0 * (end[k] - (k ? end[k - 1] : -1)) / GRADIENTS);
    rm_str_add(&shares, " %");
    json_t *row = json_pack("{s:s, s:i, s:i, s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:i}", "split", split, "buckets", n, "bytes", 102228128, "shares", shares.text, "ranks",
                            w->ranks, "origin", w->origin, "device", "cpu", "dtype", "fp32", "wire", "fp32", "px", 64, "batch_per_device", 32, "comm_library", "Fixture MPI <1>", "threads", 1);
    json_t *times = json_pack("{s:i, s:{s:f, s:f, s:i}, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:{s:f}, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "rounds", 25, "step_s", "median", step, "mad",
                              noise, "samples", 25, "step_s_low", step - noise, "step_s_high", step + noise, "images_per_s", 32 * w->ranks / step, "off_step_s", off,
                              "barrier_step_s", off * 1.01, "backward_s", w->backward, "update_s", w->update, "isolated_s", "median", isolated, "comm_cost_s", step - off,
                              "comm_cost_s_low", step - off - noise, "comm_cost_s_high", step - off + noise, "comm_cost_barrier_s", step - off * 1.01, "eta_eff",
                              1 - (step - off) / isolated, "comm_s", isolated * 1.1, "exposed_comm_s", exposed);
    json_t *rest = json_pack("{s:f, s:f, s:n, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:f, s:b, s:b, s:o}", "overlap_geom", 1 - exposed / (isolated * 1.1), "exposed_comm_share",
                             exposed / step, "blocking_comm_s", "blocking_comm_s_reason", "no trace was kept", "xfer_s", isolated, "skew_share", 0.09, "slowdown", 0.03, "bound_s", bound,
                             "bound_gap_share", (step - bound) / isolated, "comm_cpu_share", 0.05, "regime", isolated <= w->backward ? "hidden-able" : "communication-bound",
                             "comm_to_backward", isolated / w->backward, "best", !strcmp(split, best), "distinguishable", (strcmp(split, best) ? more : ahead) > noise, "reproduce",
                             json_sprintf("bench split-sweep --gpus %d --splits '%s'", w->ranks, split));
    json_object_update(row, times);
    json_object_update(row, rest);
    json_object_set_new(row, "difference_to_best_s", json_pack("{s:f, s:f, s:f}", "median", more, "low", more - noise, "high", more + noise));
    json_object_set_new(row, "gantt", lanes);
    json_object_set_new(row, "ranks_detail", ranks_detail(w, step));
    if (!strcmp(split, best)) json_object_set_new(row, "next_best", json_string(next));
    json_decref(times);
    json_decref(rest);
    rm_str_free(&shares);
    put(s, run, split, w->origin, true, row, step, 25);
}

static const net two_hosts = { 2, "measured", 0.07, 0.14, 0.012, 0.0025, 0.07 }, ghosts = { 16, "emulated", 0.07, 0.14, 0.012, 0.0025, 0.21 };

static void put_sweep(rm_store *s, const net *w, const char *line, const char *config)
{
    static const char *const split[] = { "single", "107,160", "equal:2", "equal:4", "equal:8", "equal:40", "ddp", "per-layer",
                                         "7,15,23,31,39,47,55,63,71,79,87,95,103,111,119,127,135,143,151,160" };
    const char *best = split[0], *next = NULL;
    int64_t run = begin(s, "split-sweep", line, config, "Fixture CPU");
    for (size_t i = 1; i < RM_COUNT(split); i++)
        if (step_of(w, split[i]) < step_of(w, best)) best = split[i];
    for (size_t i = 0; i < RM_COUNT(split); i++)
        if (split[i] != best && (!next || step_of(w, split[i]) < step_of(w, next))) next = split[i];
    for (size_t i = 0; i < RM_COUNT(split); i++) put_split(s, run, w, split[i], best, next);
    put(s, run, "bytes:1", "not_measured", true, json("{\"split\": \"bytes:1\", \"ranks\": 2, \"origin\": \"not_measured\", \"step_s\": null, \"reason\": \"the sweep <ended> before it\"}"), 1, 0);
    put(s, run, "equal:3", w->origin, false, json("{\"split\": \"equal:3\", \"ranks\": 2, \"buckets\": 3, \"step_s\": {\"median\": 0.001}}"), 1, 0);
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void put_comm(rm_store *s, int ranks)
{
    static const char *const op[] = { "all-reduce", "broadcast" };
    int64_t run = begin(s, "comm", "bench comm --gpus 2", ranks == 2 ? "{\"gpus\": 2}" : "{\"gpus\": 4}", "Fixture CPU");
    for (size_t k = 0; k < RM_COUNT(op); k++) {
        double factor = k ? 1 : 2.0 * (ranks - 1) / ranks;
        json_t *cost = json_array();
        for (long bytes = 8; bytes <= 256L << 20; bytes *= 2) {
            double t = 12e-6 * ranks + (double)bytes * factor / (bytes > 32768 ? 1.1e9 : 2.5e9), seen = t * (bytes % 3 == 1 ? 1.04 : 0.97);
            char key[64];
            snprintf(key, sizeof key, "%s %ld", op[k], bytes);
            json_array_append_new(cost, json_pack("[I, I]", (json_int_t)bytes, (json_int_t)(t * 1e9)));
            put(s, run, key, "measured", bytes != 1024 || k, json_pack("{s:s, s:I, s:I, s:s, s:s, s:i, s:i, s:i, s:s, s:s, s:i, s:{s:f, s:f, s:i}, s:f, s:f, s:f, s:i}", "op", op[k],
                "bytes", (json_int_t)bytes, "count", (json_int_t)bytes / 4, "dtype", "fp32", "redop", k ? "none" : "sum", "root", k ? 0 : -1, "ranks", ranks, "hosts", 2, "origin",
                "measured", "comm_library", "Fixture MPI <1>", "iterations", 20, "time_s", "median", seen, "mad", seen * 0.03, "samples", 20, "latency_s", seen, "algbw_bytes_per_s",
                (double)bytes / seen, "busbw_bytes_per_s", factor * (double)bytes / seen, "wrong", bytes != 1024 || k ? 0 : 7), 1, 0);
        }
        put(s, run, k ? "fit broadcast" : "fit all-reduce", "measured", true, json_pack("{s:s, s:s, s:i, s:o, s:f, s:f, s:f}", "kind", "fit", "op", op[k], "ranks", ranks, "cost", cost,
            "alpha_s", 24e-6, "beta_s_per_byte", 1 / 1.1e9, "fit_error_share", 0.083), 1, 0);
    }
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

/* A sweep over devices with what the twins, the lanes and the attribution say; 8 and 16 emulated, 32 projected. */
static json_t *parallel_row(int n, const char *origin, double ideal)
{
    double input = n > 1 ? -0.02 * ideal : 0, slow = n > 1 ? 0.06 * ideal : 0, transfer = n > 1 ? 0.02 * n * ideal / (1 + 0.05 * n) : 0, straggler = n > 1 ? 0.03 * ideal : 0, other = 0.012 * ideal;
    double loss = n > 1 ? input + slow + transfer + straggler + other : 0, step = ideal + loss;
    net w = { n, origin, 0.3 * step, 0.5 * step, 0.05 * step, 0.0004, 0.4 * step };
    int end[MOST_BUCKETS], buckets = ends_of("107,160", end);
    double isolated, exposed;
    json_t *row = scaling_row(n, origin, 32 * n / step, step, ideal / step);
    json_object_update_new(row, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:s, s:i, s:s, s:s}", "baseline_images_per_s", 32 / ideal, "baseline_self_images_per_s", 31.8 / ideal,
                                          "comm_s", 0.4 * step, "comm_cost_s_low", 0.11 * step, "comm_cost_s_high", 0.13 * step, "comm_cost_barrier_s", 0.1 * step, "comm_cpu_share", 0.04,
                                          "split", "107,160", "buckets", buckets, "wire", "fp32", "injected", ""));
    json_object_del(row, "baseline");
    if (n == 1) return row;
    json_object_set_new(row, "gantt", gantt(&w, end, buckets, &isolated, &exposed));
    json_object_set_new(row, "isolated_s", json_pack("{s:f}", "median", isolated));
    json_object_set_new(row, "stragglers", ranks_detail(&w, step));
    json_object_update_new(json_array_get(json_object_get(row, "stragglers"), (size_t)n - 1), json_pack("{s:f, s:f, s:f, s:b}", "late_s", 0.07 * step, "late_s_low", 0.05 * step,
                                                                                                     "late_s_high", 0.09 * step, "straggler", 1));
    json_object_set_new(row, "jitter_s", json_real(0.0015));
    json_object_set_new(row, "slowdown", json_null());
    json_object_set_new(row, "slowdown_reason", json_string("ghost ranks compute nothing"));
    json_object_set_new(row, "loss_attribution_s", json_pack("{s:f, s:f, s:f, s:f, s:f, s:f}", "loss", loss, "input", input, "compute_slowdown", slow, "exposed_transfer", transfer,
                                                            "straggler", straggler, "unexplained", other));
    return row;
}

static void put_parallel(rm_store *s, const char *injected)
{
    static const struct { int n; const char *origin; } at[] = { { 1, "measured" }, { 2, "measured" }, { 4, "measured" }, { 8, "emulated" }, { 16, "emulated" }, { 32, "projected" } };
    int64_t run = begin(s, "scaling", "bench scaling --gpus 1,2,4,8,16,32", injected ? "{\"inject\": 1}" : "{}", "Fixture CPU");
    for (size_t i = 0; i < RM_COUNT(at); i++) {
        char key[16];
        json_t *row = parallel_row(at[i].n, at[i].origin, 0.216);
        snprintf(key, sizeof key, "n=%d", at[i].n);
        if (injected && at[i].n > 1) json_object_set_new(row, "injected", json_string(injected));
        put(s, run, key, at[i].origin, true, row, rp_real(row, "step_s.median"), strcmp(at[i].origin, "measured") ? 0 : 60);
    }
    assert_int_equal(rm_store_run_end(s, run, 0), RM_OK);
}

static void make_parallel(char path[512])
{
    rm_store *s = create("parallel.db", path);
    put_comm(s, 2);
    put_comm(s, 2); /* again: only the newer one counts */
    put_comm(s, 4);
    put_sweep(s, &ghosts, "bench split-sweep --ghost --gpus 16", "{\"gpus\": 16}");
    put_sweep(s, &two_hosts, "bench split-sweep --gpus 2", "{\"gpus\": 2}");
    put_sweep(s, &two_hosts, HOSTILE, "{\"gpus\": 2}");
    put_parallel(s, NULL);
    rm_store_close(s);
}

/* The most that a picture has to hold: 40 splits, 16 numbers of devices; and the least: one split. */
static void make_many(char path[512])
{
    rm_store *s = create("many.db", path);
    int64_t run = begin(s, "split-sweep", "bench split-sweep --splits equal:1..40", "{}", "Fixture CPU");
    for (int k = 1; k <= 40; k++) {
        char split[32];
        snprintf(split, sizeof split, "equal:%d", k);
        put_split(s, run, &two_hosts, split, "equal:27", "equal:28");
    }
    run = begin(s, "split-sweep", "bench split-sweep --splits single", "{\"splits\": \"single\"}", "Fixture CPU");
    put_split(s, run, &two_hosts, "single", "single", "single");
    run = begin(s, "scaling", "bench scaling --gpus 1..16", "{}", "Fixture CPU");
    for (int n = 1; n <= 16; n++) {
        char key[16];
        const char *origin = n <= 4 ? "measured" : n <= 12 ? "emulated" : "projected";
        snprintf(key, sizeof key, "n=%d", n);
        put(s, run, key, origin, true, parallel_row(n, origin, 0.216), 0.3, n <= 4 ? 60 : 0);
    }
    rm_store_close(s);
}

/* ---- tests ------------------------------------------------------------------------------------------------------ */

static void test_whole_report(void **state)
{
    char path[512], out[300];
    make_fixture(path);
    snprintf(out, sizeof out, "%s/deep/report", dir);
    rm_status st = render(path, NULL, out);
    if (have_gnuplot() && st != RM_OK) fail_msg("%s", rm_last_error());
    char *html = read_all(out, "index.html"), *md = read_all(out, "report.md");
    assert_true(html && md);
    well_formed(html);
    /* the answer first */
    assert_true(strstr(html, "148.0 images/s on 1 device") && strstr(html, "148.0 images/s on 1 device") < strstr(html, "<h2>"));
    has(html, "62.5 % weak-scaling efficiency on 2 (more ranks than devices), the most that was measured");
    has(html, "86.90 % top-1");
    lacks(html, "All-reduce splits"); /* no section without results */
    lacks(html, "Collectives by size");
    lacks(html, "Stragglers");
    lacks(html, "gathered"); /* what a sweep keeps to resume from is no result */
    lacks(html, "on 4, the most"); /* projections never reach the summary */
    for (int i = 0; i < 2; i++) {
        const char *text = i ? md : html;
        has(text, "projected");
        has(text, "not measured");
        has(text, "this machine has 2 cores");
        has(text, "one rank has no collective");
        has(text, "bench train --recipe tiny --seed 1");
        has(text, "The 20 slowest rows");
        has(text, "WRONG");
        has(text, "measured, oversubscribed");
        has(text, "Efficiency, strong");
        has(text, "58.3");
        has(text, "time");
        has(text, "Time to accuracy by number of devices");
        has(text, "Fixture CPU");
        has(text, "NVIDIA DeepLearningExamples");
    }
    has(html, "class=\"projected\"");
    /* nothing is fetched, and nothing runs but one script of ours */
    const char *script = strstr(html, "<script");
    assert_true(script && !strncmp(script, "<script>/*", 10) && !strstr(script + 1, "<script"));
    has(html, "script-src 'sha256-");
    lacks(html, "<link");
    lacks(html, "<img");
    lacks(html, "@import");
    lacks(html, " src=");
    free(html);
    free(md);
}

static void test_data_parallel(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/parallel", dir);
    make_parallel(path);
    rm_status st = render(path, NULL, out);
    if (have_gnuplot() && st != RM_OK) fail_msg("%s", rm_last_error());
    char *html = read_all(out, "index.html"), *md = read_all(out, "report.md");
    well_formed(html);
    lacks(html, "Other measurements"); /* nothing is left for the generic tables */
    has(html, "host&lt;a&gt;");
    has(html, "Fixture MPI &lt;1&gt;");
    lacks(html, "<script src");

    char *weak = section(md, "Weak scaling");
    has(weak, "X(1), communicator of one rank (images/s) |");
    has(weak, "| 4 | measured, oversubscribed | 148.1 | 87.1 | 147.2 | 87.6 |"); /* both baselines */
    has(weak, "comm\\_cost against the barrier twin");
    has(weak, "29.0 (26.6 to 31.4)");                 /* comm_cost with its interval */
    has(weak, "slowdown: ghost ranks compute nothing"); /* a null's reason */
    lacks(weak, "slowdown: ghost ranks compute nothing. slowdown");
    has(weak, "| 4 | measured, oversubscribed | 216.0 | \\-4.32 | 13.0 | 14.4 | 6.48 | 1.50 | 2.59 | 32.1 |"); /* the loss, term by term */
    has(weak, "| 2 | measured, oversubscribed | 1 | host-b | 234.3 | 0.242 | 84.0 | 16.9 (12.1 to 21.7) | straggler |"); /* the straggler */
    has(weak, "| 32 | projected, oversubscribed |");
    lacks(weak, "injected");
    free(weak);

    char *two = section(md, "All-reduce splits on 2 ranks"), *ghost = section(md, "All-reduce splits on 16 ranks, emulated");
    assert_ptr_equal(strstr(strstr(md, "## All-reduce splits on 2 ranks") + 1, "## All-reduce splits on 2 ranks"), NULL); /* a repetition is shown once */
    has(two, "Communication fits under backward");
    has(two, "0.857 times as long as backward (120 ms against 140 ms)");
    has(two, "Best is 7,15,…,160 (20 ends) with 229.6 ms a step, distinguishable from the next, equal:8 (4.92 ms, 95 % interval 1.56 to 8.28). Recommended: 7,15,…,160 (20 ends).");
    has(two, "One all-reduce of everything (single) takes longer by 65.6 ms");
    has(two, "| 1 | 7,15,…,160 (20 ends) | best | measured | 20 | 229.6 (226.3 to 233.0) | 0 | 4.97/4.97/4.97/… % |");
    has(two, "| 9 | per-layer | slower | measured | 161 |");
    has(two, "bytes:1: the sweep &lt;ended&gt; before it");
    has(two, "blocking\\_comm\\_s: no trace was kept");
    has(two, "WRONG");
    lacks(two, "emulated");
    has(two, "bench split-sweep --gpus 2 --splits '7,15,23,31,39,47,55,63,71,79,87,95,103,111,119,127,135,143,151,160'"); /* in full somewhere */
    has(ghost, "Communication does not fit under backward");
    has(ghost, "about 90.0 ms stay exposed under any split");
    has(ghost, "All of this is emulated, not measured.");
    lacks(ghost, "| measured |");
    free(two);
    free(ghost);

    char *comm = section(md, "Collectives by size");
    has(comm, "| size (B) | count (elements) | type | redop | root | time (us) | MAD (us) | algbw (GB/s) | busbw (GB/s) | \\#wrong |");
    has(comm, "| 1024 | 256 | fp32 | sum | \\-1 |");
    has(comm, "| 7 | 20 | measured, WRONG: not to be used |");
    has(comm, "Average bus bandwidth over these sizes");
    has(comm, "| all-reduce fp32, 4 ranks on 2 hosts, Fixture MPI &lt;1&gt; | measured | 26 | 24.0 | 931 | 1.10 | 8.30 |");
    free(comm);
    const char *lead = strstr(html, "The best all-reduce split on 2 ranks is 7,15,…,160 (20 ends)");
    assert_true(lead && lead < strstr(html, "<h2>"));
    free(html);
    free(md);
}

static void test_data_parallel_figures(void **state)
{
    static const struct { const char *file, *text[4]; } want[] = {
        { "loss.svg", { "ideal step", "input", "the loss alone (ms)", "N = 16" } },
        { "budget.svg", { "compute", "exposed comm.", "emulated", "projected" } },
        { "gantt.svg", { "N = 4, split 107,160, measured", "backward", "ready", "time since the step began (ms)" } },
        { "splits.svg", { "7,15,…,160 (20 ends)", "lower bound of any split", "all-reduce off (twin)", "560 →" } },
        { "splits-2.svg", { "slower than the best, emulated", "step time (ms)", "exposed", "communication in one step (ms)" } },
        { "splits-gantt.svg", { "best: 7,15,…,160 (20 ends), 20 buckets, measured", "slowest: per-layer, 161 buckets, measured", "update", "all-reduce" } },
        { "splits-gantt-2.svg", { "best: equal:8, 8 buckets, emulated", "slowest: per-layer, 161 buckets, emulated", "forward", "bucket" } },
        { "comm-time.svg", { "time (logarithmic)", "all-reduce fp32, 4 ranks on 2 hosts, Fixture MPI &lt;1>", "128 MiB", "10 ms" } },
        { "comm-bandwidth.svg", { "bus bandwidth (logarithmic)", "broadcast fp32, 2 ranks on 2 hosts, Fixture MPI &lt;1>", "1 GB/s", "8 B" } },
    };
    char path[512], out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s/parallel", dir);
    make_parallel(path);
    assert_int_equal(render(path, NULL, out), RM_OK);
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char *svg = read_all(out, want[i].file);
        if (!svg) fail_msg("no %s", want[i].file);
        well_formed(svg);
        for (int k = 0; k < 4; k++) has(svg, want[i].text[k]);
        free(svg);
    }
    char *svg = read_all(out, "splits.svg");
    lacks(svg, "emulated");
    free(svg);
    rm_store_close(create("empty.db", path)); /* an older report's figures go */
    assert_int_equal(render(path, NULL, out), RM_OK);
    for (size_t i = 0; i < RM_COUNT(want); i++)
        if (read_all(out, want[i].file)) fail_msg("%s is still there", want[i].file);
}

/* Nothing but a few keys; names that want to break out; more sweeps than there is room for. */
static void test_bare_and_hostile_sweeps(void **state)
{
    static const char *const bad = "'; print \"x\"; {/*0 a_b^c} `id` $(id) <b>\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac";
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/bare", dir);
    rm_store *s = create("bare.db", path);
    for (int k = 0; k < 6; k++) {
        char config[32];
        snprintf(config, sizeof config, "{\"batch\": %d}", k);
        int64_t run = begin(s, "split-sweep", "bench split-sweep", config, "Fixture CPU");
        put(s, run, "a", "measured", true, json_pack("{s:s, s:i, s:{s:f}, s:n, s:s}", "split", bad, "ranks", 2, "step_s", "median", 0.2, "gantt", "gantt_reason", bad), 0.2, 9);
        if (k) put(s, run, "b", "measured", true, json("{\"ranks\": 2, \"buckets\": 1, \"step_s\": {\"median\": 0.2}, \"distinguishable\": false}"), 0.2, 9);
    }
    int64_t run = begin(s, "comm", "bench comm", "{}", "Fixture CPU");
    put(s, run, "x", "emulated", true, json_pack("{s:s, s:i, s:i, s:{s:f}, s:f, s:s, s:s}", "op", bad, "bytes", 8, "ranks", 2, "time_s", "median", 1e-5, "busbw_bytes_per_s", 1e6,
                                                   "algbw_bytes_per_s_reason", "one <reason>", "iterations_reason", "one <reason>"), 1, 0);
    rm_store_close(s);
    rm_status st = render(path, NULL, out);
    if (have_gnuplot() && st != RM_OK) fail_msg("%s", rm_last_error());
    char *html = read_all(out, "index.html");
    well_formed(html);
    has(html, "&#39;; print &quot;x&quot;; {/*");
    has(html, "There are no lanes of a step to show: &#39;; print");
    has(html, "The regime is unknown");
    has(html, "2 older sweeps over splits with other settings");
    has(html, "not distinguishable from best");
    has(html, "algbw_bytes_per_s, iterations: one &lt;reason&gt;. "); /* for several values once */
    lacks(html, "nan");
    lacks(html, "<b>\xe2");
    free(html);
}

static void test_many_splits(void **state)
{
    char path[512], out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s/many", dir);
    make_many(path);
    if (render(path, NULL, out) != RM_OK) fail_msg("%s", rm_last_error());
    char *svg = read_all(out, "splits-2.svg"), *one = read_all(out, "splits.svg"), *md = read_all(out, "report.md");
    has(svg, "equal:1  ");
    has(svg, "equal:40  ");
    has(svg, "equal:27  1<");
    has(svg, "  40<");
    has(one, "single  1<");
    has(md, "Best is single with 295.2 ms a step, the only split that was run.");
    has(md, "Best is equal:27 with 228.5 ms a step, not distinguishable from the next, equal:28 (");
    has(md, ", nor from 16 more. Recommended: equal:12, which has the fewest buckets of those."); /* the advice within the noise */
    free(svg);
    free(one);
    free(md);
}

static void test_injected_is_no_headline(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/injected", dir);
    rm_store *s = create("injected.db", path);
    put_parallel(s, "straggler=20ms@rank1");
    rm_store_close(s);
    rm_status st = render(path, NULL, out);
    assert_true(st == RM_OK || st == RM_E_PARTIAL);
    char *html = read_all(out, "index.html");
    has(html, "A disturbance was injected on purpose (straggler=20ms@rank1)");
    has(html, "measured, oversubscribed, injected: straggler=20ms@rank1");
    has(html, "(only one number of devices was measured)"); /* N = 1, where nothing was injected */
    free(html);
}

static void test_short_names(void **state)
{
    static const struct { const char *split, *text; } row[] = {
        { "107,160", "107,160" },
        { "bytes:25M", "bytes:25M" },
        { "1,2,3,4,5,6,7,8,9", "1,2,3,4,5,6,7,8,9" },
        { "7,15,23,31,39,47,160", "7,15,23,31,39,47,160" },
        { "7,15,23,31,39,47,55,160", "7,15,…,160 (8 ends)" },
        { "a name of more than twenty letters", "a name of more than…" },
        { "nineteen letters..\xe2\x82\xac.", "nineteen letters..…" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) assert_string_equal(rp_short_split(row[i].split).text, row[i].text);
}

static void test_hostile_text_is_escaped(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/deep/report", dir);
    make_fixture(path);
    rm_status st = render(path, NULL, out);
    assert_true(st == RM_OK || st == RM_E_PARTIAL);
    char *html = read_all(out, "index.html"), *md = read_all(out, "report.md");
    has(html, "&lt;script&gt;alert(1)&lt;/script&gt;");
    lacks(html, "<script>alert");
    has(html, "conv &lt;1&gt;");
    has(md, "n=64\\|c=64"); /* a bar would end the cell */
    has(md, "&lt;script&gt;");
    free(html);
    free(md);
}

static void test_figures(void **state)
{
    char path[512], out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s/figures", dir);
    make_fixture(path);
    assert_int_equal(render(path, NULL, out), RM_OK);
    static const struct { const char *file, *text[3]; } want[] = {
        { "throughput.svg", { "training throughput (images/s)", "projected, not measured", "not measured" } },
        { "throughput-strong.svg", { "training throughput (images/s)", "ideal", "devices (N)" } },
        { "steps-strong.svg", { "step time, slowest rank (ms)", "N = 1", "N = 2" } },
        { "steps.svg", { "step time, slowest rank (ms)", "N = 1", "N = 2" } },
        { "loss.svg", { "ideal step", "the loss alone (ms)", "projected" } },
        { "loss-strong.svg", { "ideal step", "unexplained", "N = 2" } },
        { "budget.svg", { "time in one step (ms)", "exposed comm.", "projected" } },
        { "budget-strong.svg", { "time in one step (ms)", "input stall", "N = 2" } },
        { "layers.svg", { "time in one step (ms)", "layer4", "reorders" } },
        { "accuracy.svg", { "top-1 accuracy", "target 85 %", "(s)" } },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char *svg = read_all(out, want[i].file);
        assert_non_null(svg);
        well_formed(svg);
        for (int k = 0; k < 3; k++) has(svg, want[i].text[k]);
        free(svg);
    }
    char *html = read_all(out, "index.html");
    size_t figures = 0;
    for (const char *p = html; (p = strstr(p, "<svg")); p++) figures++;
    assert_int_equal(figures, RM_COUNT(want));
    lacks(html, "<title>gnuplot");
    lacks(html, "id=\"gnuplot"); /* names are made unique per figure */
    free(html);
}

/* Not installed: the report is complete but for the figures, and says so. */
static void test_without_gnuplot(void **state)
{
    char path[512], out[300], *old = strdup(getenv("PATH"));
    snprintf(out, sizeof out, "%s/bare", dir);
    make_fixture(path);
    setenv("PATH", "/nonexistent", 1);
    rm_status st = render(path, NULL, out);
    setenv("PATH", old, 1);
    free(old);
    assert_int_equal(st, RM_E_PARTIAL);
    has(rm_last_error(), "gnuplot is not installed");
    char *html = read_all(out, "index.html");
    has(html, "The figure is missing");
    lacks(html, "<svg");
    has(html, "148.0 images/s");
    free(html);
}

static void test_empty_store(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/empty", dir);
    rm_store_close(create("empty.db", path));
    assert_int_equal(render(path, NULL, out), RM_OK);
    char *html = read_all(out, "index.html");
    has(html, "The store holds no results yet");
    well_formed(html);
    free(html);
}

static void test_training_without_accuracy(void **state)
{
    char path[512], out[300];
    snprintf(out, sizeof out, "%s/synthetic", dir);
    rm_store *s = create("synthetic.db", path);
    int64_t run = begin(s, "train", "bench train --data synthetic", "{}", "Fixture CPU");
    put(s, run, "train", "measured", true, json("{\"recipe\": \"tiny\", \"images_per_s\": 99.5, \"final_top1\": null, \"final_top1_reason\": \"no validation part\","
                                                " \"epochs_log\": [{\"epoch\": 1, \"time_s\": 3, \"top1\": null}]}"), 0.1, 3);
    rm_store_close(s);
    assert_int_equal(render(path, NULL, out), RM_OK);
    char *html = read_all(out, "index.html");
    has(html, "99.50 images/s without an accuracy: no validation part");
    lacks(html, "<svg"); /* nothing to draw */
    free(html);
}

static void test_missing_store_and_bad_folder(void **state)
{
    char path[512], out[300];
    snprintf(path, sizeof path, "%s/nothing.db", dir);
    assert_int_equal(render(path, NULL, dir), RM_E_IO);
    has(rm_last_error(), "nothing.db");
    make_fixture(path);
    snprintf(out, sizeof out, "%s/fixture.db/report", dir); /* below a file */
    assert_int_equal(render(path, NULL, out), RM_E_IO);
}

static void test_compare(void **state)
{
    char a[512], b[512], out[300];
    snprintf(out, sizeof out, "%s/compare", dir);
    make_fixture(a);
    make_other(b);
    assert_int_equal(render(a, b, out), RM_OK);
    char *html = read_all(out, "index.html");
    well_formed(html);
    has(html, "unlike machines");
    has(html, "Other CPU");
    has(html, "not compared: A is projected");
    has(html, "Only in A: ");
    has(html, "train train");
    free(html);
}

static void test_unlike_is_not_compared(void **state)
{
    char a[512], b[512], out[300];
    snprintf(out, sizeof out, "%s/unlike", dir);
    rm_store *s = create("px32.db", a);
    put(s, begin(s, "step", "bench step", "{\"px\": 32}", "Same"), "step", "measured", true, json("{\"px\": 32}"), 0.1, 30);
    rm_store_close(s);
    s = create("px64.db", b);
    put(s, begin(s, "step", "bench step", "{\"px\": 64}", "Same"), "step", "measured", true, json("{\"px\": 64}"), 0.4, 30);
    rm_store_close(s);
    assert_int_equal(render(a, b, out), RM_OK);
    char *md = read_all(out, "report.md");
    has(md, "unlike, not compared: px: 32 / 64");
    lacks(md, "0.25"); /* no ratio */
    free(md);
}

static void test_ratio(void **state)
{
    double a[50], b[50];
    rp_ratio q, again;
    for (int i = 0; i < 50; i++) {
        rm_rng r = rm_rng_for(3, 0, (uint64_t)i);
        a[i] = 2 * (1 + 0.02 * rm_rng_normal(&r));
        b[i] = 1 * (1 + 0.02 * rm_rng_normal(&r));
    }
    assert_int_equal(rp_ratio_of(a, 50, b, 50, &q), RM_OK);
    assert_true(q.low < q.ratio && q.ratio < q.high && q.low < 2 && 2 < q.high && q.high - q.low < 0.1);
    assert_int_equal(rp_ratio_of(a, 50, b, 50, &again), RM_OK);
    assert_memory_equal(&q, &again, sizeof q);
    assert_int_equal(rp_ratio_of(a, 0, b, 50, &q), RM_OK);
    assert_true(isnan(q.ratio) && isnan(q.low));
}

static void test_numbers(void **state)
{
    static const struct { double v; int digits; const char *text; } row[] = {
        { 0, 3, "0" }, { 16600, 4, "16600" }, { 148, 4, "148.0" }, { 0.0123456, 3, "0.0123" }, { -2.5, 2, "-2.5" }, { 1, 9, "1" }, { NAN, 3, "–" }, { 0.99996, 4, "1.0000" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) assert_string_equal(rp_num(row[i].v, row[i].digits).text, row[i].text);
}

typedef struct seen { int n; char text[200]; } seen;
static rm_status see(void *ctx, char *const *f, int n)
{
    seen *s = ctx;
    s->n++;
    for (int i = 0; i < n; i++) snprintf(s->text + strlen(s->text), sizeof s->text - strlen(s->text), "[%s]", f[i]);
    return RM_OK;
}

static void test_csv(void **state)
{
    seen s = { 0 };
    assert_int_equal(rp_csv_each("a,b\n1,\"x, \"\"y\"\"\nz\"\r\n,last", "f.csv", see, &s), RM_OK);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.text, "[1][x, \"y\"\nz][][last]");
    assert_int_equal(rp_csv_each("a,b\n1\n", "f.csv", see, &s), RM_E_FORMAT);
    has(rm_last_error(), "f.csv:2");
    assert_int_equal(rp_csv_each("a,b\n1,\"open\n", "f.csv", see, &s), RM_E_FORMAT);
    has(rm_last_error(), "never closed");
    assert_int_equal(rp_csv_each("", "f.csv", see, &s), RM_OK);
}

static void test_gnuplot_escapes(void **state)
{
    rm_strbuf s = { 0 }, script = { 0 }, data = { 0 };
    char out[300];
    if (!have_gnuplot()) skip();
    snprintf(out, sizeof out, "%s", dir);
    rm_str_add(&script, "set title \"");
    rp_escape_gnuplot(&script, "a_b {x} ^2 @ & <t> \\n \"q\" `touch /tmp/never` %d");
    rm_str_add(&script, "\"\nplot x\n");
    assert_int_equal(rp_gnuplot(out, "escape", 0, &script, &data), RM_OK);
    char *svg = read_all(out, "escape.svg");
    has(svg, "a_b {x} ^2 @ &amp; &lt;t> \\n \"q\" 'touch /tmp/never' %d");
    free(svg);
    rm_str_free(&script);
    rm_str_add(&script, "plot nonsense(\n");
    assert_int_equal(rp_gnuplot(out, "broken", 0, &script, &data), RM_E_IO);
    has(rm_last_error(), "gnuplot failed");
    rm_str_free(&script);
    rm_str_free(&s);
}

static void test_stages(void **state)
{
    assert_string_equal(rp_stages[rp_stage_of("layer3.5.conv2", "fwd")], "layer3");
    assert_string_equal(rp_stages[rp_stage_of("conv1", "bwd_weights")], "stem");
    assert_string_equal(rp_stages[rp_stage_of("fc", "fwd")], "head");
    assert_string_equal(rp_stages[rp_stage_of("layer1.0.conv1", "update")], "other");
    assert_string_equal(rp_stages[rp_stage_of("unheard of", "fwd")], "other");
}

/* For eyes: the fixture, its report, and a comparison. */
static int show(const char *folder)
{
    char a[512], b[512], out[600];
    snprintf(dir, sizeof dir, "%s", folder);
    mkdir(dir, 0777);
    make_fixture(a);
    make_other(b);
    snprintf(out, sizeof out, "%s/report", dir);
    rm_status st = render(a, NULL, out);
    if (st == RM_OK) {
        char parallel[512];
        make_parallel(parallel);
        snprintf(out, sizeof out, "%s/parallel", dir);
        st = render(parallel, NULL, out);
    }
    if (st == RM_OK) {
        char many[512];
        make_many(many);
        snprintf(out, sizeof out, "%s/many", dir);
        st = render(many, NULL, out);
    }
    if (st == RM_OK) {
        snprintf(out, sizeof out, "%s/compare", dir);
        st = render(a, b, out);
    }
    if (st != RM_OK) fprintf(stderr, "%s\n", rm_last_error());
    return st != RM_OK;
}

int main(int argc, char **argv)
{
    if (argc > 1) return show(argv[1]);
    const struct CMUnitTest tests[] = {
        clean_test(test_whole_report), clean_test(test_hostile_text_is_escaped), clean_test(test_figures), clean_test(test_without_gnuplot),
        clean_test(test_empty_store),  clean_test(test_training_without_accuracy), clean_test(test_missing_store_and_bad_folder), clean_test(test_compare), clean_test(test_unlike_is_not_compared),
        clean_test(test_ratio),        clean_test(test_numbers),                clean_test(test_csv),     clean_test(test_gnuplot_escapes),
        clean_test(test_stages),       clean_test(test_data_parallel),          clean_test(test_data_parallel_figures), clean_test(test_bare_and_hostile_sweeps), clean_test(test_many_splits),
        clean_test(test_injected_is_no_headline), clean_test(test_short_names),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
