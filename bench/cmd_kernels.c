/* bench kernels: the op harness over case files: is every op right, are its gradients, how fast is it. */
#include "base/file.h"
#include "base/log.h"
#include "bench/commands.h"
#include "kernels/check.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LINE = 400, REPEATS = 10 };
extern const struct rm_embedded { const char *name, *text; } cases_embedded[];

/* ---- the ops asked for */
typedef struct op_list { rm_op *op; size_t n, room; } op_list;

/* --dtype is for lines that name no type. Loss, optimiser and images keep their own. */
static bool takes_dtype(const char *line, const char *dtype)
{
    return dtype[0] && !strstr(line, "dtype=") && strncmp(line, "optim", 5) != 0 && strncmp(line, "softmax_xent", 12) != 0;
}

static rm_status add_line(op_list *list, const char *line, const char *dtype)
{
    char text[MAX_LINE + 32];
    rm_op op;
    snprintf(text, sizeof text, "%s%s%s", line, takes_dtype(line, dtype) ? " dtype=" : "", takes_dtype(line, dtype) ? dtype : "");
    RM_TRY(rm_op_parse(text, &op));
    if (list->n == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        rm_op *grown = realloc(list->op, room * sizeof *grown);
        if (!grown) return rm_fail(RM_E_NOMEM, "out of memory for %zu ops", room);
        list->op = grown;
        list->room = room;
    }
    list->op[list->n++] = op;
    return RM_OK;
}

/* Lines of op text; '#' begins a comment; blank lines are skipped. */
static rm_status add_text(op_list *list, const char *name, const char *text, const char *dtype)
{
    int number = 0;
    for (const char *p = text; *p; number++) {
        char line[MAX_LINE];
        size_t length = strcspn(p, "\n"), used = strcspn(p, "\n#");
        if (used >= sizeof line) return rm_fail(RM_E_FORMAT, "%s:%d: line is longer than %d characters", name, number + 1, MAX_LINE - 1);
        memcpy(line, p, used);
        line[used] = '\0';
        p += length + (p[length] == '\n');
        if (line[strspn(line, " \t\r")] == '\0') continue;
        rm_status st = add_line(list, line + strspn(line, " \t"), dtype);
        if (st != RM_OK) return rm_fail(st, "%s:%d: %s", name, number + 1, rm_last_error());
    }
    return RM_OK;
}

static rm_status read_whole(const char *path, char **out_text)
{
    char *text = NULL;
    size_t n = 0;
    RM_TRY(rm_file_load(path, 1 << 20, &text, &n));
    if (memchr(text, '\0', n)) {
        free(text);
        return rm_fail(RM_E_FORMAT, "%s: no text file", path);
    }
    *out_text = text;
    return RM_OK;
}

static const char *built_in(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; cases_embedded[i].name; i++)
        if (!strncmp(cases_embedded[i].name, name, n) && (!cases_embedded[i].name[n] || !strcmp(cases_embedded[i].name + n, ".case")))
            return cases_embedded[i].text;
    return NULL;
}

static rm_status add_case(op_list *list, const char *name, const char *dtype)
{
    const char *text = built_in(name);
    if (text) return add_text(list, name, text, dtype);
    char names[256] = "", *file = NULL;
    for (size_t i = 0, used = 0; cases_embedded[i].name && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", i ? ", " : "", (int)strcspn(cases_embedded[i].name, "."), cases_embedded[i].name);
    if (read_whole(name, &file) != RM_OK)
        return rm_fail(RM_E_ARG, "%s; built-in cases are %s", rm_last_error(), names);
    rm_status st = add_text(list, name, file, dtype);
    free(file);
    return st;
}

static rm_status gather(const bench_options *o, op_list *list)
{
    bool texts = o->n_arg > 0 || o->case_text[0];
    if (o->dtype[0]) {
        rm_dtype known;
        RM_TRY(rm_dtype_parse(o->dtype, &known));
    }
    if (o->case_text[0]) RM_TRY(add_line(list, o->case_text, o->dtype));
    for (int32_t i = 0; i < o->n_arg; i++) RM_TRY(add_line(list, o->arg[i], o->dtype));
    if (o->case_file[0] || !texts) RM_TRY(add_case(list, o->case_file[0] ? o->case_file : "small", o->dtype));
    return list->n ? RM_OK : rm_fail(RM_E_ARG, "%s has no ops", o->case_file);
}

/* ---- one op */
typedef struct modes { bool check, grad, perf; int repeat; uint64_t seed; } modes;

typedef struct outcome {
    char text[256];
    rm_status check, grad, perf;         /* RM_E_UNSUPPORTED: the device lacks it */
    rm_check_result checked, derived;
    rm_time_result timed;
    bool has_check, has_grad, has_perf;
    char reason[256];
} outcome;

/* What a device lacks is an outcome; everything else stops. */
static rm_status settle(rm_status st, outcome *r, bool *has)
{
    *has = st == RM_OK;
    if (st != RM_E_UNSUPPORTED) return st;
    snprintf(r->reason, sizeof r->reason, "%s", rm_last_error());
    return RM_OK;
}

static rm_status try_op(rm_device *d, const rm_op *op, const modes *m, outcome *r)
{
    memset(r, 0, sizeof *r);
    rm_op_print(op, r->text, sizeof r->text);
    if (m->check) RM_TRY(settle(rm_check_op(d, op, m->seed, &r->checked), r, &r->has_check));
    if (m->grad && rm_check_has_grad(op->code)) RM_TRY(settle(rm_check_grad(NULL, op, m->seed, &r->derived), r, &r->has_grad));
    if (m->perf) {
        rm_op timed = *op;
        RM_TRY(settle(rm_time_op(d, &timed, m->repeat, &r->timed), r, &r->has_perf));
    }
    return RM_OK;
}

static bool wrong(const outcome *r) { return (r->has_check && !r->checked.passed) || (r->has_grad && !r->derived.passed); }
static bool absent(const outcome *r) { return r->reason[0] != '\0'; }

/* ---- printing */
static void print_head(const modes *m)
{
    printf("%-72s %-28s", "op", "impl");
    if (m->perf) printf(" %10s %9s %8s", "time ms", "GFLOP/s", "GB/s");
    printf("%s%s\n", m->check ? "  check" : "", m->grad ? "  gradient" : "");
}

static void print_verdict(bool has, const rm_check_result *c, int width)
{
    if (!has) printf("  %-*s", width, "-");
    else printf("  %-*s", width, c->passed ? "ok" : "WRONG");
}

static void print_row(const modes *m, const outcome *r)
{
    const char *impl = r->has_perf ? r->timed.impl : r->has_check ? r->checked.impl : r->has_grad ? r->derived.impl : "-";
    printf("%-72s %-28s", r->text, impl);
    if (r->has_perf) printf(" %10.4f %9.1f %8.2f", r->timed.median_s * 1e3, r->timed.flop_per_s * 1e-9, r->timed.byte_per_s * 1e-9);
    else if (m->perf) printf(" %10s %9s %8s", "-", "-", "-");
    if (m->check) print_verdict(r->has_check, &r->checked, 5);
    if (m->grad) print_verdict(r->has_grad, &r->derived, 8);
    putchar('\n');
    if (absent(r)) printf("    unsupported: %s\n", r->reason);
    if (r->has_check && !r->checked.passed) printf("    %s\n    again: %s\n", r->checked.why, r->checked.reproduce);
    if (r->has_grad && !r->derived.passed) printf("    gradient: %s\n    again: %s\n", r->derived.why, r->derived.reproduce);
}

/* ---- JSON */
static json_t *check_json(const rm_check_result *c)
{
    json_t *outputs = json_array();
    for (uint32_t i = 0; i < c->n; i++) {
        const rm_check_output *x = &c->out[i];
        json_array_append_new(outputs, json_pack("{s:s, s:o, s:o, s:o, s:o, s:b}", "tensor", rm_slot_name(x->slot),
                              "norm_error", bench_number(x->norm_error), "norm_tolerance", bench_number(x->norm_tolerance),
                              "max_error", bench_number(x->max_error), "max_tolerance", bench_number(x->max_tolerance), "passed", x->passed));
    }
    return json_pack("{s:b, s:s, s:o, s:s}", "passed", c->passed, "why", c->why, "outputs", outputs, "reproduce", c->reproduce);
}

static json_t *time_json(const rm_time_result *t)
{
    json_t *samples = json_array();
    for (uint32_t i = 0; i < t->n; i++) json_array_append_new(samples, bench_number(t->sample_s[i]));
    return json_pack("{s:o, s:o, s:o, s:o, s:s}", "median_s", bench_number(t->median_s), "samples_s", samples,
                     "gflop_per_s", bench_number(t->flop_per_s * 1e-9), "gb_per_s", bench_number(t->byte_per_s * 1e-9), "reproduce", t->reproduce);
}

static json_t *row_json(const outcome *r)
{
    json_t *row = json_pack("{s:s, s:s, s:s}", "op", r->text, "status", absent(r) ? "unsupported" : wrong(r) ? "wrong" : "ok",
                            "reason", r->reason);
    const char *impl = r->has_perf ? r->timed.impl : r->has_check ? r->checked.impl : "";
    if (!row) return NULL;
    json_object_set_new(row, "impl", json_string(impl));
    json_object_set_new(row, "time", r->has_perf ? time_json(&r->timed) : json_null());
    json_object_set_new(row, "check", r->has_check ? check_json(&r->checked) : json_null());
    json_object_set_new(row, "gradient", r->has_grad ? check_json(&r->derived) : json_null());
    return row;
}

/* ---- all */
typedef struct tally { size_t wrong, absent; char first[256]; } tally;

static rm_status run_all(rm_device *d, const op_list *list, const modes *m, bool table, json_t *results, tally *t)
{
    outcome *r = malloc(sizeof *r);
    if (!r) return rm_fail(RM_E_NOMEM, "out of memory for a result");
    rm_status st = RM_OK;
    if (table) print_head(m);
    for (size_t i = 0; i < list->n && st == RM_OK; i++) {
        if (bench_signal()) { st = rm_fail(RM_E_INTERRUPTED, "interrupted after %zu of %zu ops", i, list->n); break; }
        st = try_op(d, &list->op[i], m, r);
        if (st != RM_OK) break;
        if (table) { print_row(m, r); fflush(stdout); }
        if (json_array_append_new(results, row_json(r)) != 0) st = rm_fail(RM_E_NOMEM, "out of memory for the results");
        if (wrong(r) && t->wrong++ == 0) snprintf(t->first, sizeof t->first, "%s", r->text);
        t->absent += absent(r);
    }
    free(r);
    return st;
}

static modes modes_of(const bench_options *o)
{
    bool given = o->check || o->grad || o->perf, nothing = !o->case_file[0] && !o->case_text[0] && o->n_arg == 0;
    return (modes){ .check = o->check || (!given && nothing), .grad = o->grad, .perf = o->perf || !(o->check || o->grad),
                    .repeat = o->repeat ? o->repeat : REPEATS, .seed = (uint64_t)o->seed };
}

static rm_status run_kernels(const bench_options *o)
{
    op_list list = { .n = 0 };
    rm_device *d = NULL;
    tally t = { .wrong = 0 };
    const modes m = modes_of(o);
    const rm_device_config config = { .threads = o->threads, .deterministic = true };
    json_t *results = json_array();
    rm_status st = gather(o, &list);
    if (st == RM_OK && m.repeat > RM_TIME_SAMPLES) st = rm_fail(RM_E_ARG, "--repeat %d: at most %d", m.repeat, RM_TIME_SAMPLES);
    if (st == RM_OK) st = rm_device_open(o->device[0] ? o->device : "auto", &config, &d);
    if (st == RM_OK) st = run_all(d, &list, &m, !o->json || (o->json_file && strcmp(o->json_file, "-") != 0), results, &t);
    if (st == RM_OK || st == RM_E_INTERRUPTED) {
        json_t *environment = bench_environment(o);
        rm_status emitted = bench_emit_json(&bench_cmd_kernels, o, environment, json_incref(results));
        json_decref(environment);
        if (st == RM_OK) st = emitted;
    }
    if (st == RM_OK && t.absent) rm_info("%zu of %zu ops are not supported by device %s", t.absent, list.n, rm_device_name(d));
    if (st == RM_OK && t.wrong) st = rm_fail(RM_E_NUMERIC, "%zu of %zu ops are wrong on device %s, first: %s", t.wrong, list.n, rm_device_name(d), t.first);
    json_decref(results);
    rm_device_close(d);
    free(list.op);
    return st;
}

static const char *const examples[] = {
    "bench kernels", "bench kernels --case resnet50-64px --dtype bf16", "bench kernels --case small --check --grad --device ref",
    "bench kernels --device cpu --check \"conv n=2 c=17 h=7 w=6 o=9 k=3 s=1 p=1 dtype=f32\"", NULL,
};
const bench_command bench_cmd_kernels = {
    .name = "kernels", .summary = "Check single operations against the ref device, differentiate them, time them.",
    .usage = "bench kernels [--case FILE|NAME] [--check] [--grad] [--perf] [OP-TEXT...]", .examples = examples, .run = run_kernels,
};
