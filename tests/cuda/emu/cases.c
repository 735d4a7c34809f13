/* Every kernel that is an op, against ref, on the emulator: cuda_cases [--type f32|bf16|f16] [--family NAME] [--quick] [--quiet] [--first] [--record FOLDER]
 *
 * Each case runs under several orders of threads and blocks, and once with every operand moved off the 16-byte alignment. It fails
 * when a checker of the emulator finds anything, when a result is off by more than the op's tolerance (fp32: 1e-5 at most
 * of the norm), when two orders give different bits, or when more is read and written than kernels/cuda/kernels.h says.
 * A failing line begins "FAIL WHO | case | why". --quick leaves out the large shapes, --first ends with the first failure,
 * --record writes every launch to a file (emu_record()), under one order only. Exit 1 when anything failed. */
#include "kernels/check.h"
#include "kernels/cuda_work.h"
#include "tests/cuda/emu/device.h"
#include "tests/cuda/emu/emu.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* passes: activations moved, in tensors, as kernels.h says; 0: not said. Families name the file of the kernels. */
typedef struct row {
    const char *family, *text;
    double passes;
} row;
static const row rows[] = {
    { "bn", "bn n=1 c=1 h=1 w=2", 3 },
    { "bn", "bn n=1 c=8 h=1 w=2 relu=1", 3 },
    { "bn", "bn n=2 c=3 h=5 w=7 relu=1", 3 },
    { "bn", "bn n=3 c=16 h=5 w=5 relu=1 add=1", 4 },
    { "bn", "bn n=2 c=40 h=13 w=11 unbiased=0", 3 },
    { "bn", "bn n=1 c=37 h=17 w=19 relu=1 add=1", 4 },
    { "bn", "bn n=2 c=12 h=6 w=6 training=0 relu=1", 2 },
    { "bn", "bn n=2 c=24 h=3 w=3 training=0 relu=1 add=1", 3 },
    { "bn", "bn n=2 c=7 h=3 w=3 training=0", 2 },
    { "bn", "bn_bwd n=1 c=1 h=1 w=3", 5 },
    { "bn", "bn_bwd n=2 c=3 h=5 w=7 relu=1", 5 },
    { "bn", "bn_bwd n=2 c=16 h=5 w=5 relu=1", 5 },
    { "bn", "bn_bwd n=3 c=16 h=5 w=5 relu=1 add=1", 7 },
    { "bn", "bn_bwd n=2 c=40 h=13 w=11 relu=1 dy2=1", 7 },
    { "bn", "bn_bwd n=1 c=37 h=17 w=19 relu=1 add=1 dy2=1", 8 },
    { "bn", "bn_bwd n=2 c=24 h=4 w=5 add=1 dy2=1", 7 },
    { "bn", "bn_bwd n=2 c=12 h=6 w=6 training=0 relu=1", 4 },
    { "bn", "bn_bwd n=2 c=24 h=3 w=3 training=0 relu=1 add=1 dy2=1", 6 },
    { "bn", "bn_bwd n=2 c=7 h=3 w=3 training=0", 3 },
    { "pool", "avgpool n=1 c=1 h=1 w=1", 0 },
    { "pool", "avgpool n=3 c=5 h=7 w=7", 0 },
    { "pool", "avgpool n=2 c=264 h=7 w=7", 0 },
    { "pool", "avgpool_bwd n=1 c=1 h=1 w=1", 0 },
    { "pool", "avgpool_bwd n=3 c=5 h=7 w=7", 0 },
    { "pool", "avgpool_bwd n=2 c=264 h=7 w=7", 0 },
    { "pointwise", "relu n=1 c=1 h=1 w=5", 2 },
    { "pointwise", "relu n=2 c=13 h=11 w=7", 2 },
    { "pointwise", "relu n=2 c=24 h=9 w=9", 2 },
    { "pointwise", "relu_bwd n=2 c=13 h=11 w=7", 3 },
    { "pointwise", "relu_bwd n=2 c=16 h=9 w=9 dy2=1", 4 },
    { "pointwise", "add n=3 c=13 h=5 w=7", 3 },
    { "pointwise", "add n=2 c=16 h=5 w=5", 3 },
    { "loss", "softmax_xent n=1 c=2", 4.5 },
    { "loss", "softmax_xent n=3 c=10 smoothing=0.1", 4.1 },
    { "loss", "softmax_xent n=5 c=257 scale=128", 4.004 },
    { "loss", "softmax_xent n=4 c=1000 smoothing=0.1 scale=1024", 4.001 },
    { "move", "reorder n=1 c=1 h=1 w=1 xl=nchw yl=nhwc", 0 },
    { "move", "reorder n=2 c=3 h=5 w=7 xl=nchw yl=nhwc", 0 },
    { "move", "reorder n=2 c=40 h=9 w=11 xl=nhwc yl=nchw", 0 },
    { "move", "reorder n=3 c=33 h=8 w=8 xl=nchw yl=nhwc", 0 },
    { "move", "reorder n=3 c=17 h=8 w=8 xl=nhwc yl=nhwc to=f32", 0 },
    { "move", "reorder n=3 c=17 h=8 w=8 xl=nhwc yl=nhwc to=bf16", 0 },
    { "move", "reorder n=3 c=17 h=8 w=8 xl=nchw yl=nchw to=f16", 0 },
    { "move", "reorder n=2 c=65 h=3 w=31 xl=nchw yl=nhwc to=bf16", 0 },
    { "move", "reorder n=2 c=65 h=3 w=31 xl=nhwc yl=nchw to=f32", 0 },
    { "optim", "optim count=1", 0 },
    { "optim", "optim count=1009 segments=7 nesterov=1", 0 },
    { "optim", "optim count=20011 segments=5", 0 },
    { "optim", "optim count=20011 segments=5 rule=lars", 0 },
    { "optim", "optim count=1009 segments=11 rule=lars nesterov=1", 0 },
    { "optim", "optim count=40009 segments=3 rule=lars", 0 },
};
/* ResNet-50's shapes, one image, the first layers at a quarter of the size. */
static const row resnet[] = {
    { "bn", "bn n=1 c=64 h=56 w=56 relu=1", 3 },
    { "bn", "bn n=1 c=256 h=14 w=14 relu=1 add=1", 4 },
    { "bn", "bn n=1 c=512 h=7 w=7 relu=1", 3 },
    { "bn", "bn n=1 c=2048 h=7 w=7 relu=1 add=1", 4 },
    { "bn", "bn_bwd n=1 c=64 h=56 w=56 relu=1", 5 },
    { "bn", "bn_bwd n=1 c=256 h=14 w=14 relu=1 add=1 dy2=1", 8 },
    { "bn", "bn_bwd n=1 c=512 h=7 w=7 relu=1", 5 },
    { "bn", "bn_bwd n=1 c=2048 h=7 w=7 relu=1 add=1", 7 },
    { "pool", "avgpool n=2 c=2048 h=7 w=7", 0 },
    { "pool", "avgpool_bwd n=2 c=2048 h=7 w=7", 0 },
    { "move", "reorder n=64 c=3 h=7 w=7 xl=nchw yl=nhwc to=bf16", 0 },
    { "move", "reorder n=64 c=64 h=3 w=3 xl=nchw yl=nhwc to=bf16", 0 },
    { "optim", "optim count=100003 segments=161 rule=lars", 0 },
};
/* The image is uint8 whatever the type of the result is. */
static const char *const images[] = { "augment n=1 h=1 w=1", "augment n=3 h=5 w=7", "augment n=2 h=16 w=13" };

static const emu_order orders[] = {
    { EMU_FORWARD, false, 0 },
    { EMU_REVERSE, false, 0 },
    { EMU_SHUFFLED, true, 1 },
    { EMU_SHUFFLED, true, 2 },
};
static const rm_dtype types[] = { RM_F32, RM_BF16, RM_F16 };
enum { ALL_TYPES = -1 };
typedef struct options {
    int type;
    const char *family;
    bool quick, quiet, first;
    const char *record;
} options;
typedef struct tally {
    int run, failed;
} tally;

/* What was wrong, "" when nothing. */
typedef struct verdict {
    char who[32], why[512];
} verdict;
static void blame(verdict *v, const char *who, const char *why)
{
    if (v->who[0]) return;
    snprintf(v->who, sizeof v->who, "%s", who);
    snprintf(v->why, sizeof v->why, "%s", why);
}

static void judge_checkers(verdict *v)
{
    if (emu_found_any()) blame(v, emu_checker_name(emu_first_checker()), emu_first());
}

static void judge_values(verdict *v, const rm_op *op, const rm_check_result *r)
{
    char why[256];
    if (!r->passed) blame(v, "value", r->why);
    for (uint32_t i = 0; i < r->n; i++) {
        if (op->x.dtype != RM_F32 || op->y.dtype != RM_F32 || r->out[i].norm_error <= 1e-5) continue;
        snprintf(why, sizeof why, "%s is off by %.2g of its norm", rm_slot_name(r->out[i].slot), r->out[i].norm_error);
        blame(v, "value", why);
    }
}

static void judge_passes(verdict *v, double passes, double allowed)
{
    char why[128];
    if (allowed <= 0 || passes <= allowed + 1e-9) return;
    snprintf(why, sizeof why, "%.3f passes over the activation, kernels.h says %.3g", passes, allowed);
    blame(v, "passes", why);
}

/* What projections count (kernels/cuda_work.h) is what kernels.h says and the kernels do. */
static void judge_projection(verdict *v, const rm_op *op, double passes)
{
    const double a = (double)(rm_shape_count(op->x.shape) * rm_dtype_bytes(op->x.dtype)), projected = (double)rm_cuda_work_of(op).bytes / a;
    const bool activations = op->code == RM_OP_BN || op->code == RM_OP_BN_BWD || op->code == RM_OP_RELU || op->code == RM_OP_RELU_BWD || op->code == RM_OP_ADD;
    char why[128];
    if (!activations || passes <= 0 || projected == passes) return;
    snprintf(why, sizeof why, "a projection counts %.3g passes, kernels.h says %.3g", projected, passes);
    blame(v, "projection", why);
}

static rm_status once(rm_device *d, const rm_op *op, double passes, uint64_t *hash, verdict *v)
{
    rm_check_result r;
    rm_status st;
    emu_clear();
    emu_device_hash(d);
    st = rm_check_op(d, op, 7, &r);
    judge_checkers(v);
    if (v->who[0]) return RM_OK; /* a launch that was stopped leaves nothing worth comparing */
    if (st != RM_OK) return st;
    judge_values(v, op, &r);
    judge_passes(v, emu_device_passes(d), passes);
    *hash = emu_device_hash(d);
    return RM_OK;
}

static rm_status every_order(rm_device *d, const rm_op *op, double passes, size_t n_orders, verdict *v)
{
    uint64_t first = 0, hash = 0;
    for (size_t i = 0; i < n_orders && !v->who[0]; i++) {
        emu_set_order(orders[i]);
        RM_TRY(once(d, op, passes, &hash, v));
        if (i == 0) first = hash;
        if (!v->who[0] && hash != first) blame(v, "order", "two orders of threads give different bits");
    }
    return RM_OK;
}

static void run_case(rm_device *d, const char *text, double passes, bool large, const options *o, tally *t)
{
    verdict v = { "", "" };
    rm_op op;
    rm_status st = rm_op_parse(text, &op);
    if (st == RM_OK) st = rm_op_complete(&op);
    if (o->first && t->failed) return;
    if (st == RM_OK) judge_projection(&v, &op, passes);
    emu_device_misalign(d, 0);
    if (st == RM_OK) st = every_order(d, &op, passes, o->record ? 1 : large || o->quick ? 3 : RM_COUNT(orders), &v);
    emu_device_misalign(d, 8);
    if (st == RM_OK && !v.who[0] && !large) st = every_order(d, &op, passes, 1, &v);
    if (st != RM_OK) blame(&v, "error", rm_last_error());
    t->run++;
    t->failed += v.who[0] != 0;
    if (v.who[0]) printf("FAIL %s | %s | %s\n", v.who, text, v.why);
    else if (!o->quiet) printf("ok   %s\n", text);
}

static void run_types(rm_device *d, const row *r, bool large, const options *o, tally *t)
{
    char text[256];
    if (o->family && strcmp(o->family, r->family) != 0) return;
    for (size_t i = 0; i < RM_COUNT(types); i++) {
        bool optim = !strcmp(r->family, "optim"); /* always fp32 */
        if ((optim && i > 0) || (o->type != ALL_TYPES && !optim && types[i] != (rm_dtype)o->type)) continue;
        snprintf(text, sizeof text, "%s dtype=%s", r->text, rm_dtype_name(types[i]));
        run_case(d, text, r->passes, large, o, t);
    }
}

static void run_images(rm_device *d, const options *o, tally *t)
{
    char text[256];
    if (o->family && strcmp(o->family, "move") != 0) return;
    for (size_t i = 0; i < RM_COUNT(images); i++)
        for (size_t k = 0; k < RM_COUNT(types); k++) {
            if (o->type != ALL_TYPES && types[k] != (rm_dtype)o->type) continue;
            snprintf(text, sizeof text, "%s dtype=%s", images[i], rm_dtype_name(types[k]));
            run_case(d, text, 0, false, o, t);
        }
}

static bool parse(int argc, char **argv, options *o)
{
    rm_dtype type;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--quick")) o->quick = true;
        else if (!strcmp(argv[i], "--quiet")) o->quiet = true;
        else if (!strcmp(argv[i], "--first")) o->first = true;
        else if (!strcmp(argv[i], "--record") && i + 1 < argc) o->record = argv[++i];
        else if (!strcmp(argv[i], "--family") && i + 1 < argc) o->family = argv[++i];
        else if (!strcmp(argv[i], "--type") && i + 1 < argc && rm_dtype_parse(argv[i + 1], &type) == RM_OK) {
            o->type = (int)type;
            i++;
        } else return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    options o = { .type = ALL_TYPES };
    tally t = { 0, 0 };
    rm_device *d;
    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: %s [--type f32|bf16|f16] [--family NAME] [--quick] [--quiet] [--first] [--record FOLDER]\n", argv[0]);
        return 2;
    }
    if (o.record) emu_record(o.record);
    if (rm_device_open_ops(&emu_device, NULL, &d) != RM_OK) {
        fprintf(stderr, "%s\n", rm_last_error());
        return 2;
    }
    for (size_t i = 0; i < RM_COUNT(rows); i++) run_types(d, &rows[i], false, &o, &t);
    for (size_t i = 0; i < RM_COUNT(resnet) && !o.quick; i++) run_types(d, &resnet[i], true, &o, &t);
    run_images(d, &o, &t);
    if (t.failed == 0) rm_device_close(d);
    printf("%d cases, %d failed, %llu launches\n", t.run, t.failed, (unsigned long long)emu_launches());
    return t.failed || t.run == 0;
}
