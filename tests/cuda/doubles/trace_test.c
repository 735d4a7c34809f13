/* Traces of an engine whose device work CUPTI tells (model/engine_cupti.h), on the doubles: every kernel is part of the op that launched it, every
 * all-reduce of its bucket; steps that are not whole are left out; without CUPTI the device's marks do. The device computes nothing: it is the null
 * device under the name of cuda, and enqueues a kernel or two for each op. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "model/engine.h"
#include "profiler/overlap.h"
#include "tests/cuda/doubles/doubles.h"

enum { PX = 16, BATCH = 2, CLASSES = 10, BUCKETS = 3, MOST = 20000 };
static const char split[] = "53,107,160", all_reduce[] = "ncclDevKernel_AllReduce_Sum_f32_RING_LL";

static cudaStream_t stream[2];
static rm_device_ops device_ops;
static rm_comm_ops comm_ops;
static bool own_thread; /* of the communicator */
static int all_reduces; /* kernels for each */

static void ok(rm_status st)
{
    if (st != RM_OK) fail_msg("%s", rm_last_error());
}

/* ---- a device and a communicator that launch */
static bool nothing(void *ctx) { return true; }

static void launch(int s, const char *name)
{
    const dbl_work w = { .name = name, .kind = DBL_KERNEL, .run = nothing };
    assert_int_equal(dbl_enqueue(stream[s], &w), cudaSuccess);
}

static rm_status run(rm_device *d, rm_queue *q, rm_plan *plan, const rm_args *args)
{
    launch(0, rm_opcode_name(plan->op.code));
    if (plan->op.code == RM_OP_BN) launch(0, "second");
    return RM_OK;
}

static rm_status wait_for_all(rm_device *d, rm_queue *q)
{
    for (int i = 0; i < 2; i++) assert_int_equal(cudaStreamSynchronize(stream[i]), cudaSuccess);
    return rm_device_null.sync(d, q);
}

static void *launch_all_reduce(void *unused)
{
    for (int i = 0; i < all_reduces; i++) launch(1, all_reduce);
    return NULL;
}

static rm_status reduce_start(rm_comm *c, const rm_span *span, uint32_t n, const rm_mark *after, rm_request **out_request)
{
    pthread_t t;
    if (!own_thread) launch_all_reduce(NULL);
    else assert_int_equal(pthread_create(&t, NULL, launch_all_reduce, NULL) || pthread_join(t, NULL), 0);
    return rm_comm_self.reduce_start(c, span, n, after, out_request);
}

/* ---- an engine and its trace */
typedef struct fixture { rm_device *device; rm_comm *comm; rm_recipe recipe; rm_engine engine; rm_synthetic images; rm_source source; rm_trace *trace; } fixture;

static int set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    const rm_device_config dc = { .threads = 1 };
    const rm_comm_config cc = { .timeout_s = 60 };
    unsetenv("RM_DOUBLES_FAULTS");
    own_thread = false;
    all_reduces = 1;
    device_ops = rm_device_null;
    device_ops.name = "cuda";
    device_ops.run = run;
    device_ops.sync = wait_for_all;
    comm_ops = rm_comm_self;
    comm_ops.reduce_start = reduce_start;
    for (int i = 0; i < 2; i++) assert_int_equal(cudaStreamCreateWithFlags(&stream[i], cudaStreamNonBlocking), cudaSuccess);
    ok(rm_device_open_ops(&device_ops, &dc, &f->device));
    ok(rm_comm_open("self", &cc, f->device, &f->comm));
    f->comm->ops = &comm_ops;
    rm_recipe_defaults(&f->recipe);
    const rm_engine_config ec = { .recipe = &f->recipe, .dtype = RM_F32, .px = PX, .batch = BATCH, .classes = CLASSES, .timers = true, .split = split, .seed = 1 };
    ok(rm_engine_new(f->device, f->comm, &ec, &f->engine));
    ok(rm_synthetic_new(BATCH, PX, CLASSES, 1, &f->images));
    f->source = rm_source_synthetic(&f->images);
    ok(rm_trace_open(MOST, &f->trace));
    dbl_findings_clear();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    rm_engine_free(&f->engine);
    rm_synthetic_free(&f->images);
    rm_trace_close(f->trace);
    rm_comm_close(f->comm);
    rm_device_close(f->device);
    for (int i = 0; i < 2; i++) assert_int_equal(cudaStreamDestroy(stream[i]), cudaSuccess);
    free(f);
    assert_int_equal(dbl_findings(), 0);
    return 0;
}

static void steps(fixture *f, uint64_t from, uint64_t to)
{
    for (uint64_t i = from; i < to; i++) {
        rm_step s;
        ok(rm_engine_step(&f->engine, &f->source, i, 0, &s));
    }
}

static rm_kernel_times times(const fixture *f)
{
    rm_kernel_times t;
    rm_engine_get_kernel_times(&f->engine, &t);
    return t;
}

typedef struct seen { struct { rm_event event; const char *name, *lane; } at[MOST]; size_t n; } seen;

static void see(void *ctx, const rm_trace_item *item)
{
    seen *s = ctx;
    assert_true(s->n < MOST);
    s->at[s->n].event = *item->event;
    s->at[s->n].name = item->name;
    s->at[s->n++].lane = item->lane;
}

static seen *look(const fixture *f)
{
    seen *s = calloc(1, sizeof *s);
    rm_trace_each(f->trace, see, s);
    return s;
}

static size_t count(const seen *s, rm_cat cat, uint32_t step)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += s->at[i].event.phase == 'X' && s->at[i].event.cat == cat && s->at[i].event.step == step;
    return n;
}

/* ---- tests */
/* The kernels of a step, in the order of its stream, are those of its nodes in theirs. */
static void check_kernels(const fixture *f, const seen *s, uint32_t step)
{
    const rm_node *node;
    const int32_t n = rm_net_nodes(f->engine.net, &node);
    int32_t at = -1;
    for (size_t i = 0; i < s->n; i++) {
        const rm_event *e = &s->at[i].event;
        if (e->cat != RM_CAT_KERNEL || e->step != step || e->phase != 'X') continue;
        at += strcmp(s->at[i].name, "second") != 0;
        assert_in_range(at, 0, n - 1);
        assert_int_equal(e->arg, node[at].layer);
        assert_int_equal(e->of.pass, node[at].pass);
        if (strcmp(s->at[i].name, "second")) assert_string_equal(s->at[i].name, rm_opcode_name(node[at].op.code));
        assert_int_equal(strncmp(s->at[i].lane, "stream ", 7), 0);
    }
    assert_int_equal(at, n - 1);
}

static void check_all_reduces(const fixture *f, const seen *s, uint32_t step)
{
    int16_t bucket = 0;
    for (size_t i = 0; i < s->n; i++) {
        const rm_event *e = &s->at[i].event;
        if (e->cat != RM_CAT_COMM || e->step != step) continue;
        assert_int_equal(e->of.bucket, bucket);
        assert_int_equal(e->arg, f->engine.buckets.at[bucket].bytes);
        assert_int_equal(e->of.first, f->engine.buckets.at[bucket].first);
        assert_int_equal(e->of.last, f->engine.buckets.at[bucket].last);
        assert_string_equal(s->at[i].name, all_reduce);
        bucket++;
    }
    assert_int_equal(bucket, BUCKETS);
}

/* Each piece of work has one launch, before it and in its step. */
static void check_launches(const seen *s, uint32_t step)
{
    const rm_event *whole = NULL;
    for (size_t i = 0; i < s->n; i++)
        if (s->at[i].event.cat == RM_CAT_STEP && s->at[i].event.step == step) whole = &s->at[i].event;
    assert_non_null(whole);
    for (size_t i = 0; i < s->n; i++) {
        const rm_event *w = &s->at[i].event, *l = NULL;
        if (w->step != step || w->phase != 'X' || w->cat > RM_CAT_COPY) continue;
        for (size_t k = 0; k < s->n && !l; k++)
            if (s->at[k].event.cat == RM_CAT_LAUNCH && s->at[k].event.corr == w->corr) l = &s->at[k].event;
        assert_non_null(l);
        assert_true(l->start_ns <= w->start_ns && l->step == step);
        assert_true(w->start_ns + 5000 >= whole->start_ns && w->start_ns + w->dur_ns <= whole->start_ns + whole->dur_ns + 5000);
    }
}

/* Between two steps: of none. */
static void evaluate(const fixture *f)
{
    launch(0, "evaluation");
    assert_int_equal(wait_for_all(f->device, NULL), RM_OK);
}

static void every_kernel_has_its_part(void **state)
{
    fixture *f = *state;
    steps(f, 0, 1);
    ok(rm_engine_set_trace(&f->engine, f->trace));
    steps(f, 1, 2);
    evaluate(f);
    steps(f, 2, 3);
    f->engine.trace_paused = true;
    steps(f, 3, 4);
    f->engine.trace_paused = false;
    evaluate(f);
    steps(f, 4, 5);
    const rm_kernel_times t = times(f);
    seen *s = look(f);
    static const uint32_t traced[] = { 1, 2, 4 };
    for (size_t i = 0; i < RM_COUNT(traced); i++) {
        check_kernels(f, s, traced[i]);
        check_all_reduces(f, s, traced[i]);
        check_launches(s, traced[i]);
    }
    assert_int_equal(count(s, RM_CAT_KERNEL, 3) + count(s, RM_CAT_COMM, 3) + count(s, RM_CAT_STEP, 3), 0);
    for (size_t i = 0; i < s->n; i++) assert_string_not_equal(s->at[i].name, "evaluation");
    assert_true(t.cupti);
    assert_int_equal(t.steps, 3);
    assert_int_equal(t.unattributed + t.by_order + t.left_out, 0);
    assert_int_equal(t.kernels, 3 * (count(s, RM_CAT_KERNEL, 1) + BUCKETS));
    free(s);
}

/* As NCCL does for a communicator that does not block. */
static void all_reduces_of_another_thread(void **state)
{
    fixture *f = *state;
    own_thread = true;
    ok(rm_engine_set_trace(&f->engine, f->trace));
    steps(f, 0, 1);
    all_reduces = 2; /* now their number says nothing */
    steps(f, 1, 2);
    const rm_kernel_times t = times(f);
    seen *s = look(f);
    check_all_reduces(f, s, 0);
    assert_int_equal(count(s, RM_CAT_COMM, 1), 2 * BUCKETS);
    for (size_t i = 0; i < s->n; i++)
        if (s->at[i].event.cat == RM_CAT_COMM && s->at[i].event.step == 1) assert_int_equal(s->at[i].event.of.bucket, -1);
    check_kernels(f, s, 1);
    assert_int_equal(t.by_order, BUCKETS);
    assert_int_equal(t.unattributed, 2 * BUCKETS);
    free(s);
}

static void steps_that_are_not_whole_are_left_out(void **state)
{
    fixture *f = *state;
    static const char *const faults[] = { "cupti-drop:5", "cupti-zero:5" };
    for (uint32_t i = 0; i < RM_COUNT(faults); i++) {
        setenv("RM_DOUBLES_FAULTS", faults[i], 1);
        ok(rm_engine_set_trace(&f->engine, f->trace));
        steps(f, 10 * i, 10 * i + 2);
        const rm_kernel_times t = times(f);
        seen *s = look(f);
        assert_int_equal(t.left_out, 1);
        assert_int_equal(t.steps, 1);
        assert_int_equal(t.dropped, i == 0);
        assert_int_equal(t.untimed, i == 1);
        for (int c = 0; c < RM_CAT_COUNT; c++) assert_int_equal(count(s, (rm_cat)c, 10 * i), 0);
        check_kernels(f, s, 10 * i + 1);
        assert_int_equal(count(s, RM_CAT_STEP, 10 * i + 1), 1);
        free(s);
    }
    unsetenv("RM_DOUBLES_FAULTS");
}

static void without_cupti_the_marks_do(void **state)
{
    fixture *f = *state;
    setenv("RM_DOUBLES_FAULTS", "cupti-39", 1);
    ok(rm_engine_set_trace(&f->engine, f->trace));
    steps(f, 0, 1);
    const rm_kernel_times t = times(f);
    const rm_node *node;
    seen *s = look(f);
    assert_false(t.cupti);
    assert_non_null(strstr(t.why, "another profiler"));
    assert_int_equal(count(s, RM_CAT_KERNEL, 0), rm_net_nodes(f->engine.net, &node)); /* one an op */
    assert_int_equal(count(s, RM_CAT_STEP, 0), 1);
    for (size_t i = 0; i < s->n; i++)
        if (s->at[i].event.cat == RM_CAT_KERNEL && s->at[i].event.phase == 'X') assert_string_equal(s->at[i].lane, "compute");
    free(s);
}

/* The file is what others read: overlap is there, whatever the kernels are called. */
static void the_file_is_read_again(void **state)
{
    fixture *f = *state;
    const rm_trace_about about = { .world = 1, .backend = "nccl", .device = "GPU", .host = "here", .version = "test" };
    const rm_kineto_options options = { 0 };
    rm_kineto k;
    rm_overlap o;
    char path[64];
    snprintf(path, sizeof path, "/tmp/trace_test.%ld.json", (long)getpid());
    ok(rm_engine_set_trace(&f->engine, f->trace));
    steps(f, 0, 3);
    ok(rm_engine_set_trace(&f->engine, NULL));
    ok(rm_trace_write(f->trace, &about, path));
    ok(rm_kineto_read(path, &options, &k));
    unlink(path);
    assert_int_equal(k.n_step, 3);
    assert_int_equal(k.n_stream, 2);
    ok(rm_overlap_of(&k, &(rm_overlap_options){ .window = RM_OVERLAP_STEPS }, &o));
    assert_true(o.compute_ns > 0 && o.comm_ns > 0);
    rm_kineto_free(&k);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_kernel_has_its_part), TEST(all_reduces_of_another_thread), TEST(steps_that_are_not_whole_are_left_out), TEST(without_cupti_the_marks_do),
        TEST(the_file_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
