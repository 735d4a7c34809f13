/* bench data: writes the embedded data set, verifies a folder. */
#include "base/clock.h"
#include "base/log.h"
#include "bench/commands.h"
#include "model/input/input.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_DIR "data/fashion-mnist"
enum { TRAIN_IMAGES = 60000, VAL_IMAGES = 10000, BAD_SHOWN = 100 };

/* Where distributions put the four idx files; the first that has them. */
static const char *const sources[] = { "/usr/share/datasets/fashion-mnist", "/usr/share/dataset-fashion-mnist", "/usr/local/share/datasets/fashion-mnist" };

static json_t *counts(const rm_dataset *ds, const char *state)
{
    char fingerprint[17];
    snprintf(fingerprint, sizeof fingerprint, "%016llx", (unsigned long long)rm_dataset_fingerprint(ds));
    return json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "dir", rm_dataset_dir(ds), "state", state, "classes", (int)rm_dataset_classes(ds), "train",
                     (int)rm_dataset_count(ds, RM_TRAIN), "val", (int)rm_dataset_count(ds, RM_VAL), "fingerprint", fingerprint);
}

/* ---- make */

static const char *find_source(const bench_options *o)
{
    char path[4096];
    if (o->source[0]) return o->source;
    for (size_t i = 0; i < RM_COUNT(sources); i++) {
        snprintf(path, sizeof path, "%s/train-images-idx3-ubyte.gz", sources[i]);
        if (access(path, R_OK) == 0) return sources[i];
    }
    return NULL;
}

/* Tells what is there and hands the result on. */
static rm_status say(const bench_options *o, const char *dir, const char *state)
{
    rm_dataset *ds;
    RM_TRY(rm_dataset_open(dir, NULL, &ds));
    json_t *results = json_array();
    json_array_append_new(results, counts(ds, state));
    if (!o->json) printf("%s: %u training and %u validation images in %u classes (%s)\n", dir, rm_dataset_count(ds, RM_TRAIN),
                         rm_dataset_count(ds, RM_VAL), rm_dataset_classes(ds), state);
    rm_dataset_close(ds);
    return bench_emit_json(&bench_cmd_data, o, NULL, results);
}

/* A folder of the wanted size is what was asked for; any other is somebody's data and stays as it is. */
static rm_status already_there(const bench_options *o, const char *dir, uint32_t n_train, uint32_t n_val)
{
    rm_dataset *ds;
    if (rm_dataset_open(dir, NULL, &ds) != RM_OK)
        return rm_fail(RM_E_ARG, "%s exists but is not a whole data set; remove it or choose another folder", dir);
    const uint32_t train = rm_dataset_count(ds, RM_TRAIN), val = rm_dataset_count(ds, RM_VAL);
    rm_dataset_close(ds);
    if (train == n_train && val == n_val) return say(o, dir, "already there");
    return rm_fail(RM_E_ARG, "%s exists with %u training and %u validation images, not %u and %u; remove it or choose another folder", dir, train,
                   val, n_train, n_val);
}

static uint32_t wanted(int32_t limit, uint32_t all) { return limit > 0 && (uint32_t)limit < all ? (uint32_t)limit : all; }

static rm_status make(const bench_options *o)
{
    const char *dir = o->n_arg > 1 ? o->arg[1] : DEFAULT_DIR, *source = find_source(o);
    const uint32_t n_train = wanted(o->limit_train, TRAIN_IMAGES), n_val = wanted(o->limit_val, VAL_IMAGES);
    if (access(dir, F_OK) == 0 && rmdir(dir) != 0) return already_there(o, dir, n_train, n_val);
    if (!source)
        return rm_fail(RM_E_IO, "Fashion-MNIST is not installed (looked in %s); run scripts/setup, or apt install dataset-fashion-mnist, or name "
                                "the folder of its four idx .gz files with --source", sources[0]);
    rm_info("writing %u + %u images of Fashion-MNIST from %s to %s", n_train, n_val, source, dir);
    const uint64_t then = rm_now_ns();
    RM_TRY(rm_fashion_make(source, dir, n_train, n_val, o->threads));
    rm_verbose("written in %.1f s", rm_s(rm_now_ns() - then));
    return say(o, dir, "written");
}

/* ---- check */

typedef struct bad_list { json_t *list; const char *dir; uint64_t shown; bool print; } bad_list;

/* Names may hold any bytes; JSON strings may not. */
static void on_bad(void *ctx, const char *path, const char *reason)
{
    bad_list *b = ctx;
    json_t *shown = json_string(path);
    json_array_append_new(b->list, json_pack("{s:o, s:s}", "path", shown ? shown : json_null(), "reason", reason));
    if (!b->print) return;
    if (b->shown == 0) printf("%-48s  %s\n", "bad file", "reason");
    if (b->shown++ < BAD_SHOWN) printf("%-48s  %s\n", path, reason);
}

static rm_status check(const bench_options *o)
{
    const char *dir = o->n_arg > 1 ? o->arg[1] : DEFAULT_DIR;
    bad_list bad = { .list = json_array(), .dir = dir, .print = !o->json };
    rm_check_report r;
    const uint64_t then = rm_now_ns();
    rm_status status = rm_dataset_check(dir, o->threads, on_bad, &bad, &r);
    const double seconds = rm_s(rm_now_ns() - then);
    if (status != RM_OK) {
        json_decref(bad.list);
        return status;
    }
    if (!o->json) {
        if (bad.shown > BAD_SHOWN) printf("... and %llu more (--json lists all)\n", (unsigned long long)(bad.shown - BAD_SHOWN));
        printf("%s: %llu files, %llu good, %llu bad, %llu with damage the decoder passes over; %.0f files/s\n", dir, (unsigned long long)r.files,
               (unsigned long long)r.ok, (unsigned long long)r.bad, (unsigned long long)r.warned, (double)r.files / seconds);
    }
    json_t *results = json_array();
    json_array_append_new(results, json_pack("{s:s, s:I, s:I, s:I, s:I, s:f, s:o}", "dir", dir, "files", (json_int_t)r.files, "ok", (json_int_t)r.ok,
                                             "bad", (json_int_t)r.bad, "warned", (json_int_t)r.warned, "check_s", seconds, "bad_files", bad.list));
    RM_TRY(bench_emit_json(&bench_cmd_data, o, NULL, results));
    return r.bad == 0 ? RM_OK : rm_fail(RM_E_FORMAT, "%s: %llu of %llu files are bad; training skips them or stops, as --bad-images says", dir,
                                        (unsigned long long)r.bad, (unsigned long long)r.files);
}

static rm_status run(const bench_options *o)
{
    static const struct { const char *verb; rm_status (*run)(const bench_options *o); } verbs[] = { { "make", make }, { "check", check } };
    for (size_t i = 0; i < RM_COUNT(verbs); i++)
        if (strcmp(o->arg[0], verbs[i].verb) == 0) return verbs[i].run(o);
    return rm_fail(RM_E_ARG, "unknown verb %s; there are make and check", o->arg[0]);
}

static const char *const examples[] = { "bench data make", "bench data make /tmp/small --limit-train 1000 --limit-val 200", "bench data check /data/imagenet", NULL };

const bench_command bench_cmd_data = {
    .name = "data",
    .summary = "write the embedded data set; verify a folder of images",
    .usage = "bench data make [DIR] [--source DIR] | bench data check [DIR]",
    .examples = examples,
    .run = run,
};
