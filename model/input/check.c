/* Decodes every file of a folder and says which are bad. */
#include "base/log.h"
#include "model/input/dataset.h"
#include "model/input/jpeg.h"
#include "model/input/parallel.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct checking {
    rm_dataset *ds;
    void (*fn)(void *ctx, const char *path, const char *reason);
    void *ctx;
    pthread_mutex_t lock;   /* fn and report */
    rm_check_report report;
    rm_progress progress;
} checking;

typedef struct checker { rm_decoder *decoder; uint8_t *file; size_t cap; } checker;

static void checker_end(void *shared, void *own)
{
    checker *c = own;
    rm_decoder_free(c->decoder);
    free(c->file);
    free(c);
}

static rm_status checker_begin(void *shared, void **own)
{
    checker *c = calloc(1, sizeof *c);
    if (!c) return rm_fail(RM_E_NOMEM, "out of memory for a decoder");
    const rm_status status = rm_decoder_new(NULL, &c->decoder);
    if (status == RM_OK) *own = c;
    else free(c);
    return status;
}

static void tally(checking *k, const char *path, rm_status status, const char *reason, const char *warning)
{
    pthread_mutex_lock(&k->lock);
    if (status != RM_OK) {
        k->report.bad++;
        if (k->fn) k->fn(k->ctx, path, reason);
    } else {
        k->report.ok++;
        if (warning) k->report.warned++;
        if (warning) rm_verbose("%s/%s decodes, but its data are damaged: %s", k->ds->dir, path, warning);
    }
    rm_progress_update(&k->progress, k->report.ok + k->report.bad, NULL);
    pthread_mutex_unlock(&k->lock);
}

static rm_status check_one(void *shared, void *own, uint64_t i)
{
    checking *k = shared;
    checker *c = own;
    const uint32_t n_train = rm_dataset_count(k->ds, RM_TRAIN);
    const char *path = i < n_train ? rm_dataset_path(k->ds, RM_TRAIN, (uint32_t)i) : rm_dataset_path(k->ds, RM_VAL, (uint32_t)i - n_train);
    const char *warning = NULL, *reason;
    char text[256];
    size_t bytes;
    rm_status status = rm_file_read(k->ds->fd, path, &c->file, &c->cap, &bytes, text, sizeof text);
    reason = text;
    if (status == RM_OK) {
        status = rm_jpeg_verify(c->decoder, c->file, bytes, path, &warning);
        reason = rm_decoder_reason(c->decoder);
    }
    if (status == RM_E_NOMEM) return rm_fail(status, "%s/%s: %s", k->ds->dir, path, reason);
    tally(k, path, status, reason, warning);
    return RM_OK;
}

rm_status rm_dataset_check(const char *dir, int32_t threads, void (*fn)(void *ctx, const char *path, const char *reason), void *ctx,
                           rm_check_report *out)
{
    checking k = { .fn = fn, .ctx = ctx };
    const rm_loop loop = { .begin = checker_begin, .item = check_one, .end = checker_end, .shared = &k };
    RM_TRY(rm_dataset_open(dir, NULL, &k.ds));
    k.report.files = (uint64_t)rm_dataset_count(k.ds, RM_TRAIN) + rm_dataset_count(k.ds, RM_VAL);
    pthread_mutex_init(&k.lock, NULL);
    rm_progress_begin(&k.progress, "checking", "files", k.report.files);
    const rm_status status = rm_loop_run(&loop, k.report.files, threads);
    rm_progress_end(&k.progress);
    pthread_mutex_destroy(&k.lock);
    rm_dataset_close(k.ds);
    if (status == RM_OK) *out = k.report;
    return status;
}
