/* The truth of data-parallel training: what N ranks compute is what one would. The program is its own rank: "test_parallel rank MODE
 * DEVICE" is what the launcher starts. Small images, batch norms frozen (with statistics of a shard no equality could hold). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/log.h"
#include "bench/bench.h"
#include "bench/launch.h"
#include "model/engine.h"

enum { PX = 16, CLASSES = 10, STEPS = 2, EACH = 2 /* images of a rank */ };
#define NEED(x) do { if (!(x)) return rm_fail(RM_E_NUMERIC, "line %d: %s", __LINE__, #x); } while (0)

static void recipe(rm_recipe *r)
{
    rm_recipe_defaults(r);
    snprintf(r->name, sizeof r->name, "parallel");
    r->bn_frozen = true;
    r->momentum = 0.9;
    r->weight_decay = 1e-4;
    r->label_smoothing = 0.1;
}

/* ================================================================ images: one global batch a step, a rank sees its part */
typedef struct shard { rm_synthetic all; rm_batch mine; int rank; uint64_t step; int32_t n, global; } shard;

static rm_status shard_next(void *ctx, rm_batch **out, uint64_t *wait_ns)
{
    shard *s = ctx;
    const size_t at = (size_t)s->rank * (size_t)s->n;
    RM_TRY(rm_synthetic_new(s->global, PX, CLASSES, 100 + s->step++, &s->all));
    s->mine = (rm_batch){ .n = s->n, .image = s->all.batch.image + at * PX * PX * 3, .flip = s->all.batch.flip + at, .label = s->all.batch.label + at,
                          .index = s->all.batch.index + at };
    *out = &s->mine;
    *wait_ns = 0;
    return RM_OK;
}
static void shard_release(void *ctx, rm_batch *b) { rm_synthetic_free(&((shard *)ctx)->all); }

/* ================================================================ a training */
/* Plain weights (`v`, where asked for), and 64 bits of the arena as it lies. */
typedef struct weights { double *v, loss; uint64_t bits; } weights;

/* Small gammas at the ends of blocks keep a deep network with frozen batch norms well conditioned. */
static rm_status begin(rm_engine *e)
{
    double v[2048], zero[2048] = { 0 };
    RM_TRY(rm_params_init(&e->params, "he-fan-in", false, 3));
    for (size_t k = 0; k < RM_COUNT(v); k++) v[k] = 0.15;
    for (int32_t i = 0; i < e->graph.n_param; i++)
        if (e->graph.param[i].role == RM_ROLE_GAMMA && e->graph.layer[e->graph.param[i].layer].last_bn) RM_TRY(rm_params_set(&e->params, RM_ARENA_WEIGHT, i, v));
    for (size_t k = 0; k < RM_COUNT(v); k++) v[k] = 4;
    for (int32_t l = 0; l < e->graph.n_layer; l++)
        if (e->graph.layer[l].kind == RM_K_BN) RM_TRY(rm_params_set_stats(&e->params, l, zero, v));
    return RM_OK;
}

static rm_status read_plain(rm_engine *e, double **out)
{
    uint64_t at = 0;
    *out = malloc(rm_graph_params(&e->graph) * sizeof **out);
    if (!*out) return rm_fail(RM_E_NOMEM, "out of memory");
    for (int32_t i = 0; i < e->graph.n_param; at += e->graph.param[i++].count) RM_TRY(rm_params_get(&e->params, RM_ARENA_WEIGHT, i, *out + at));
    return RM_OK;
}

static uint64_t bits_of(const rm_engine *e)
{
    const uint64_t *w = rm_buf_host(e->params.weight);
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < e->params.bytes / 8; i++) h = (h ^ w[i]) * 0x100000001b3u;
    return h;
}

/* STEPS steps from where the weights are; e's communicator says who takes part. */
static rm_status steps(rm_engine *e, weights *out)
{
    shard s = { .rank = rm_comm_rank(e->comm), .n = e->cfg.batch, .global = e->cfg.batch * rm_comm_size(e->comm) };
    const rm_source src = { .next = shard_next, .release = shard_release, .ctx = &s };
    *out = (weights){ 0 };
    for (uint64_t i = 0; i < STEPS; i++) {
        rm_step step;
        RM_TRY(rm_engine_step(e, &src, i, 0.05, &step));
        RM_TRY(rm_comm_host_reduce(e->comm, &step.loss, 1, RM_F64, RM_SUM));
        out->loss += step.loss / rm_comm_size(e->comm);
    }
    out->bits = bits_of(e);
    return RM_OK;
}

static rm_status open_engine(rm_device *d, rm_comm *c, const rm_recipe *r, int32_t batch, const char *split, rm_engine *e)
{
    const rm_engine_config ec = { .recipe = r, .dtype = strcmp(rm_device_name(d), "ref") ? RM_F32 : RM_F64, .px = PX, .batch = batch, .classes = CLASSES, .split = split,
                                  .seed = 3 };
    return rm_engine_new(d, c, &ec, e);
}

/* A training that begins at `start`, a copy of the arena. */
static rm_status train_split(rm_engine *e, const void *start, const char *split, rm_reduce_mode mode, weights *out)
{
    RM_TRY(rm_engine_set_split(e, split, RM_SPLIT_READY));
    e->mode = mode;
    memcpy(rm_buf_host(e->params.weight), start, e->params.bytes);
    memset(rm_buf_host(e->params.momentum), 0, e->params.bytes);
    return steps(e, out);
}

static rm_status copy_arena(const rm_engine *e, void **out)
{
    *out = malloc(e->params.bytes);
    if (!*out) return rm_fail(RM_E_NOMEM, "out of memory");
    memcpy(*out, rm_buf_host(e->params.weight), e->params.bytes);
    return RM_OK;
}

/* |a - b| over |a - start|: the error in units of what the training did; of all weights as one vector, and of the parameter where it is
 * worst. */
typedef struct distance { double all, worst; } distance;
static distance apart(const rm_graph *g, const double *a, const double *b, const double *start)
{
    double worst = 0, all_off = 0, all_moved = 0;
    uint64_t at = 0;
    for (int32_t i = 0; i < g->n_param; i++) {
        double off = 0, moved = 0;
        for (uint64_t k = 0; k < g->param[i].count; k++, at++) {
            off += (a[at] - b[at]) * (a[at] - b[at]);
            moved += (a[at] - start[at]) * (a[at] - start[at]);
        }
        const double e = sqrt(off) / sqrt(moved);
        if (!(e <= worst)) worst = e; /* NaN stays */
        all_off += off;
        all_moved += moved;
    }
    return (distance){ sqrt(all_off) / sqrt(all_moved), worst };
}

/* All ranks ended with the same bits. */
static rm_status same_on_all(rm_comm *c, const weights *w)
{
    char text[32];
    const rm_agree field = { "weights", text };
    snprintf(text, sizeof text, "%016llx", (unsigned long long)w->bits);
    return rm_comm_agree(c, &field, 1);
}

/* N ranks of b images are one rank of N b, whatever the split. */
static rm_status mode_one(rm_comm *c, rm_device *d, json_t *out)
{
    static const char *const splits[] = { "107,160", "single", "per-layer" };
    const int32_t each = strcmp(rm_device_name(d), "ref") ? EACH : 1; /* which is slow */
    rm_recipe r;
    rm_engine one, e;
    weights want = { 0 }, got = { 0 };
    double *start = NULL;
    void *arena;
    recipe(&r);
    if (c->rank == 0) {
        RM_TRY(open_engine(d, NULL, &r, each * c->size, "", &one));
        RM_TRY(begin(&one));
        RM_TRY(read_plain(&one, &start));
        RM_TRY(steps(&one, &want));
        RM_TRY(read_plain(&one, &want.v));
        rm_engine_free(&one);
    }
    RM_TRY(open_engine(d, c, &r, each, "", &e));
    RM_TRY(begin(&e));
    RM_TRY(copy_arena(&e, &arena));
    double worst = 0, loss = 0;
    for (size_t i = 0; i < (c->size > 2 ? 1 : RM_COUNT(splits)); i++) {
        RM_TRY(train_split(&e, arena, splits[i], RM_REDUCE_OVERLAPPED, &got));
        RM_TRY(same_on_all(c, &got));
        if (c->rank != 0) continue;
        RM_TRY(read_plain(&e, &got.v));
        worst = fmax(worst, apart(&e.graph, want.v, got.v, start).worst);
        loss = fmax(loss, fabs(got.loss - want.loss) / want.loss);
        free(got.v);
    }
    free(start);
    free(want.v);
    free(arena);
    rm_engine_free(&e);
    json_object_set_new(out, "weights", json_real(worst));
    json_object_set_new(out, "loss", json_real(loss));
    return RM_OK;
}

/* Bits: a split twice, overlapped or not. Rounding: one split and another, fp32 and bf16 on the wire. */
static rm_status mode_bits(rm_comm *c, rm_device *d, json_t *out)
{
    static const struct { const char *split; rm_reduce_mode again; } rows[] = {
        { "single", RM_REDUCE_AFTER }, { "107,160", RM_REDUCE_OVERLAPPED }, { "per-layer", RM_REDUCE_AFTER },
    };
    enum { ROWS = sizeof rows / sizeof rows[0] };
    const rm_comm_config half = { .timeout_s = 60, .wire = RM_BF16 };
    rm_recipe r;
    rm_engine e;
    weights w[ROWS + 1] = { 0 }, again;
    double *start, splits = 0;
    void *arena;
    recipe(&r);
    RM_TRY(open_engine(d, c, &r, EACH, "", &e));
    RM_TRY(begin(&e));
    RM_TRY(copy_arena(&e, &arena));
    RM_TRY(read_plain(&e, &start));
    for (size_t i = 0; i < ROWS; i++) {
        RM_TRY(train_split(&e, arena, rows[i].split, rows[i].again, &again));
        RM_TRY(train_split(&e, arena, rows[i].split, RM_REDUCE_OVERLAPPED, &w[i]));
        NEED(w[i].bits == again.bits);
        RM_TRY(same_on_all(c, &w[i]));
        RM_TRY(read_plain(&e, &w[i].v));
        splits = fmax(splits, apart(&e.graph, w[0].v, w[i].v, start).worst);
    }
    RM_TRY(rm_comm_open("auto", &half, d, &e.comm));
    RM_TRY(train_split(&e, arena, "107,160", RM_REDUCE_OVERLAPPED, &w[ROWS]));
    RM_TRY(same_on_all(c, &w[ROWS]));
    RM_TRY(read_plain(&e, &w[ROWS].v));
    json_object_set_new(out, "splits", json_real(splits));
    json_object_set_new(out, "bf16", json_real(apart(&e.graph, w[0].v, w[ROWS].v, start).all));
    for (size_t i = 0; i <= ROWS; i++) free(w[i].v);
    free(start);
    free(arena);
    rm_comm *h = e.comm;
    rm_engine_free(&e);
    rm_comm_close(h);
    return RM_OK;
}

/* ---- trouble in one gradient of one rank: a device that spoils it, or hangs there */
static struct { rm_device_ops ops; size_t offset; bool armed, hangs; } spoilt;

static rm_status spoiling_run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    RM_TRY(rm_device_cpu.run(d, q, plan, args));
    const rm_ref dw = args->t[RM_DW], w = args->t[RM_W];
    if (!spoilt.armed || !dw.buf || w.buf || dw.offset != spoilt.offset) return RM_OK;
    if (spoilt.hangs) raise(SIGSTOP);
    ((float *)rm_buf_host(dw.buf))[dw.offset / 4 + 3] = NAN;
    return RM_OK;
}

/* Steps 0 to 2 with the trouble in step 1. */
static rm_status troubled(rm_comm *c, rm_device *d, const char *layer, int32_t *failed_at)
{
    rm_recipe r;
    rm_engine e;
    recipe(&r);
    RM_TRY(open_engine(d, c, &r, EACH, "107,160", &e));
    RM_TRY(begin(&e));
    shard s = { .rank = c->rank, .n = EACH, .global = EACH * c->size };
    const rm_source src = { .next = shard_next, .release = shard_release, .ctx = &s };
    for (int32_t i = 0; i < e.graph.n_param; i++)
        if (!strcmp(e.graph.param[i].name, layer)) spoilt.offset = e.params.slice[i].offset;
    rm_status st = RM_OK;
    for (*failed_at = 0; *failed_at < 3 && st == RM_OK; ++*failed_at) {
        rm_step step;
        spoilt.armed = c->rank == c->size - 1 && *failed_at == 1;
        st = rm_engine_step(&e, &src, (uint64_t)*failed_at, 0.05, &step);
    }
    --*failed_at;
    rm_engine_free(&e);
    return st;
}

static rm_status mode_nan(rm_comm *c, rm_device *d, json_t *out)
{
    int32_t failed_at;
    NEED(troubled(c, d, "layer3.2.conv2.weight", &failed_at) == RM_E_NUMERIC);
    NEED(failed_at == 1);
    NEED(strstr(rm_last_error(), "step 1: the gradient of layer3.2.conv2.weight is not finite"));
    return rm_comm_barrier(c); /* nobody left before the others had found it too */
}

static rm_status mode_hang(rm_comm *c, rm_device *d, json_t *out)
{
    int32_t failed_at;
    spoilt.hangs = true;
    return troubled(c, d, "layer4.2.conv2.weight", &failed_at);
}

/* ---- evaluation is not here: tests/cli/maths.sh */
static const struct { const char *name; rm_status (*run)(rm_comm *c, rm_device *d, json_t *out); } modes[] = {
    { "one", mode_one }, { "bits", mode_bits }, { "nan", mode_nan }, { "hang", mode_hang },
};

static int be_rank(int argc, char **argv)
{
    const bool whole = !strcmp(argv[2], "one") || !strcmp(argv[2], "bits");
    const rm_comm_config cfg = { .timeout_s = !strcmp(argv[2], "hang") ? 5 : 60 };
    const rm_device_config dc = { .threads = 1, .deterministic = true };
    rm_comm *c = NULL;
    rm_device *d = NULL;
    json_t *out = json_object();
    bench_signal_install();
    rm_log_setup(RM_NORMAL, rm_world_from_env().rank);
    spoilt.ops = rm_device_cpu;
    spoilt.ops.run = spoiling_run;
    rm_status st = whole ? rm_device_open(argv[3], &dc, &d) : rm_device_open_ops(&spoilt.ops, &dc, &d);
    if (st == RM_OK) st = rm_comm_open("auto", &cfg, d, &c);
    for (size_t i = 0; st == RM_OK && i < RM_COUNT(modes); i++)
        if (!strcmp(argv[2], modes[i].name)) {
            st = modes[i].run(c, d, out);
            break;
        }
    if (st == RM_OK && rm_comm_rank(c) == 0 && argc == 6) st = bench_launch_leave_result(argv[5], out);
    if (st != RM_OK) rm_error("bench test: %s", rm_last_error());
    json_decref(out);
    rm_comm_close(c);
    if (st == RM_OK) rm_device_close(d);
    const int code = rm_exit_code(st, bench_signal());
    rm_comm_leave(code);
    return code;
}

/* ================================================================ the tests */
static json_t *ranks(int n, const char *mode, const char *device)
{
    const char *const argv[] = { "rank", mode, device, NULL };
    const bench_launch_config cfg = { .ranks = n, .argv = argv, .oversubscribe = true, .timeout_s = 240 };
    json_t *out = NULL;
    const rm_status st = bench_launch(&cfg, &out);
    if (st != RM_OK) fail_msg("%s on %d ranks of %s: %s: %s", mode, n, device, rm_status_name(st), rm_last_error());
    assert_non_null(out);
    return out;
}

static void at_most(json_t *out, const char *key, double limit)
{
    const double v = json_number_value(json_object_get(out, key));
    print_message("%s: %.2e\n", key, v);
    if (!(v <= limit)) fail_msg("%s: %g is more than %g", key, v, limit);
}

static void expect_one(int n, const char *device, double weights_off, double loss_off)
{
    json_t *out = ranks(n, "one", device);
    at_most(out, "weights", weights_off);
    at_most(out, "loss", loss_off);
    json_decref(out);
}

static void ranks_are_one_in_double(void **state)
{
    expect_one(2, "ref", 1e-10, 1e-12);
    expect_one(4, "ref", 1e-10, 1e-12);
}

static void ranks_are_one_in_single(void **state)
{
    expect_one(2, "cpu", 1e-3, 1e-6);
    expect_one(4, "cpu", 1e-3, 1e-6);
}

static void splits_and_overlap_change_no_bit(void **state)
{
    for (int n = 2; n <= 4; n += 2) {
        json_t *out = ranks(n, "bits", "cpu");
        at_most(out, "splits", 1e-3);
        at_most(out, "bf16", 0.01);
        if (json_number_value(json_object_get(out, "bf16")) == 0) fail_msg("bf16 on the wire rounded nothing");
        json_decref(out);
    }
}

static void nan_is_found_on_every_rank(void **state) { json_decref(ranks(2, "nan", "cpu")); }

/* A rank that hangs in backward: the others say in which bucket, which gradients are in it and who did not come. */
static void a_rank_that_hangs_is_named(void **state)
{
    static const char *const says[] = { "rank 0 on ", "waited 5.0 s for the all-reduce", "rank 1 on ", "did not arrive", "bucket 1 of 2, gradients 0..107" };
    const char *const argv[] = { "rank", "hang", "cpu", NULL };
    const bench_launch_config cfg = { .ranks = 2, .argv = argv, .oversubscribe = true, .timeout_s = 240 };
    json_t *out = NULL;
    assert_int_equal(bench_launch(&cfg, &out), RM_E_PEER);
    for (size_t i = 0; i < RM_COUNT(says); i++)
        if (!strstr(rm_last_error(), says[i])) fail_msg("\"%s\" lacks \"%s\"", rm_last_error(), says[i]);
}

/* ---- the order in which backward really produces gradients: what is promised is there and final, what is not is untouched */
typedef struct watch { rm_engine *e; float *seen; int32_t promised; } watch;

static void span_of(const watch *w, int32_t position, const float **at, size_t *n)
{
    const rm_slice *s = &w->e->params.slice[w->e->graph.by_ready[position]];
    *at = (const float *)rm_buf_host(w->e->params.grad) + s->offset / 4;
    *n = s->bytes / 4;
}

static rm_status look(void *ctx, const rm_node *node)
{
    watch *w = ctx;
    const float *at;
    size_t n;
    for (; w->promised < node->ready; w->promised++) {
        span_of(w, w->promised, &at, &n);
        for (size_t i = 0; i < n; i++) NEED(isfinite(at[i]));
        memcpy(w->seen + (at - (const float *)rm_buf_host(w->e->params.grad)), at, n * 4);
    }
    for (int32_t p = w->promised; p < w->e->graph.n_param; p++) {
        span_of(w, p, &at, &n);
        NEED(isnan(at[0]) && isnan(at[n / 2]) && isnan(at[n - 1]));
    }
    return RM_OK;
}

static void gradients_come_in_the_promised_order(void **state)
{
    const rm_device_config dc = { .threads = 1, .deterministic = true };
    rm_device *d;
    rm_recipe r;
    rm_engine e;
    rm_batch *b;
    uint64_t ns;
    shard s = { .n = EACH, .global = EACH };
    recipe(&r);
    r.bn_frozen = false;
    assert_int_equal(rm_device_open("cpu", &dc, &d), RM_OK);
    assert_int_equal(open_engine(d, NULL, &r, EACH, "", &e), RM_OK);
    assert_int_equal(begin(&e), RM_OK);
    watch w = { .e = &e, .seen = malloc(e.params.bytes) };
    assert_non_null(w.seen);
    assert_int_equal(shard_next(&s, &b, &ns), RM_OK);
    assert_int_equal(rm_net_set_images_u8(e.net, b->image, b->flip, b->n), RM_OK);
    assert_int_equal(rm_net_set_labels(e.net, b->label, b->n), RM_OK);
    assert_int_equal(rm_net_prologue(e.net), RM_OK);
    assert_int_equal(rm_net_forward(e.net), RM_OK);
    memset(rm_buf_host(e.params.grad), 0xff, e.params.bytes);
    if (rm_net_backward(e.net, true, look, &w) != RM_OK) fail_msg("%s", rm_last_error());
    assert_int_equal(rm_net_finish(e.net), RM_OK);
    assert_int_equal(w.promised, e.graph.n_param);
    for (int32_t p = 0; p < e.graph.n_param; p++) {
        const float *at;
        size_t n;
        span_of(&w, p, &at, &n);
        assert_memory_equal(at, w.seen + (at - (const float *)rm_buf_host(e.params.grad)), n * 4);
    }
    free(w.seen);
    shard_release(&s, b);
    rm_engine_free(&e);
    rm_device_close(d);
}

int main(int argc, char **argv)
{
    if (argc >= 4 && !strcmp(argv[1], "rank")) return be_rank(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_come_in_the_promised_order), cmocka_unit_test(nan_is_found_on_every_rank), cmocka_unit_test(a_rank_that_hangs_is_named),
        cmocka_unit_test(splits_and_overlap_change_no_bit),
        cmocka_unit_test(ranks_are_one_in_single),              cmocka_unit_test(ranks_are_one_in_double),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
