/* bench input: the loader alone, nobody training; or the pixels of some samples, for anyone to check. */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "bench/commands.h"
#include "model/checkpoint.h"
#include "model/input/input.h"
#include "profiler/runinfo.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EMBEDDED "data/fashion-mnist"
enum { DEFAULT_PX = 224, DEFAULT_BATCH = 64, DEFAULT_STEPS = 50, DEFAULT_WARMUP = 4 };

static rm_status data_dir(const bench_options *o, const char **out)
{
    if (strcmp(o->data, "synthetic") == 0)
        return rm_fail(RM_E_ARG, "the speed of reading files is measured, so --data must be a folder; synthetic data need no input");
    if (!o->data[0] && access(EMBEDDED, F_OK) != 0)
        return rm_fail(RM_E_ARG, "no data: give --data DIR, or make the embedded set with bench data make");
    *out = o->data[0] ? o->data : EMBEDDED;
    return RM_OK;
}

static int32_t or_default(int32_t given, int32_t fallback) { return given > 0 ? given : fallback; }

/* ---- dump: pixels, boxes and paths of a range of samples */

typedef struct dump {
    const rm_dataset *ds;
    uint32_t first, n;
    int32_t  px;
    uint8_t *image;    /* (n, px, px, 3) */
    int32_t *box;      /* (n, 5) */
    json_t  *paths;
} dump;

static rm_status parse_range(const char *text, uint32_t count, uint32_t *first, uint32_t *n)
{
    char *end, *last;
    errno = 0;
    const unsigned long long a = strtoull(text, &end, 10);
    const bool range = strncmp(end, "..", 2) == 0;
    const unsigned long long b = range ? strtoull(end + 2, &last, 10) : a;
    if (end == text || text[0] < '0' || text[0] > '9' || (range && (last == end + 2 || end[2] < '0' || end[2] > '9')) || *(range ? last : end) != '\0' || errno)
        return rm_fail(RM_E_ARG, "--indices %s: expected a range such as 0..9 or one index", text);
    if (a > b || b >= count) return rm_fail(RM_E_ARG, "--indices %s: the training part has samples 0..%u", text, count - 1);
    *first = (uint32_t)a;
    *n = (uint32_t)(b - a + 1);
    return RM_OK;
}

static rm_status dump_one(const bench_options *o, rm_decoder *decoder, dump *d, uint32_t i)
{
    const char *path = rm_dataset_path(d->ds, RM_TRAIN, d->first + i);
    char *text = NULL;
    size_t bytes = 0;
    int32_t w, h;
    char full[8192];
    rm_status status;
    snprintf(full, sizeof full, "%s/%s", rm_dataset_dir(d->ds), path);
    RM_TRY(rm_file_load(full, SIZE_MAX, &text, &bytes));
    const uint8_t *jpeg = (uint8_t *)text;
    RM_TRY_GOTO(status, rm_jpeg_size(decoder, jpeg, bytes, full, &w, &h), done);
    const rm_box b = rm_random_box(w, h, &rm_crop_default, (uint64_t)o->seed, (uint64_t)o->epoch, d->first + i);
    memcpy(d->box + 5 * (size_t)i, (int32_t[5]){ b.x, b.y, b.w, b.h, b.flip }, 5 * sizeof(int32_t));
    RM_TRY_GOTO(status, rm_jpeg_crop(decoder, jpeg, bytes, full, b, d->px, true, d->image + (size_t)i * 3 * (size_t)d->px * (size_t)d->px), done);
    if (json_array_append_new(d->paths, json_string(path)) != 0)
        status = rm_fail(RM_E_FORMAT, "%s: the name is not UTF-8 and cannot be written as JSON; rename it or leave it out of --indices", full);
done:
    free(text);
    return status;
}

static rm_status dump_write(const bench_options *o, const dump *d)
{
    char *paths = json_dumps(d->paths, JSON_COMPACT);
    if (!paths) return rm_fail(RM_E_NOMEM, "out of memory for the paths of %u images", d->n);
    const uint64_t side = (uint64_t)d->px;
    const rm_st_tensor tensor[] = {
        { .name = "images", .dtype = "U8", .n_dim = 4, .dim = { d->n, d->px, d->px, 3 }, .data = d->image, .bytes = 3 * d->n * side * side },
        { .name = "boxes", .dtype = "I32", .n_dim = 2, .dim = { d->n, 5 }, .data = d->box, .bytes = 5 * sizeof(int32_t) * (uint64_t)d->n },
    };
    const rm_st_meta meta[] = { { "paths", paths } };
    const rm_status status = rm_st_write(o->dump, tensor, RM_COUNT(tensor), meta, RM_COUNT(meta));
    free(paths);
    return status;
}

static rm_status dump_fill(const bench_options *o, dump *d)
{
    rm_decoder *decoder;
    d->image = malloc((size_t)d->n * 3 * (size_t)d->px * (size_t)d->px);
    d->box = malloc((size_t)d->n * 5 * sizeof *d->box);
    d->paths = json_array();
    if (!d->image || !d->box || !d->paths) return rm_fail(RM_E_NOMEM, "out of memory for %u images of %d pixels", d->n, d->px);
    RM_TRY(rm_decoder_new(NULL, &decoder));
    rm_status status = RM_OK;
    for (uint32_t i = 0; i < d->n && status == RM_OK; i++) status = dump_one(o, decoder, d, i);
    rm_decoder_free(decoder);
    return status;
}

static rm_status run_dump(const bench_options *o, const rm_dataset *ds)
{
    dump d = { .ds = ds, .px = or_default(o->px, DEFAULT_PX) };
    RM_TRY(parse_range(o->indices[0] ? o->indices : "0..9", rm_dataset_count(ds, RM_TRAIN), &d.first, &d.n));
    rm_status status = dump_fill(o, &d);
    if (status == RM_OK) status = dump_write(o, &d);
    if (status == RM_OK) {
        rm_info("%u images and their boxes written to %s", d.n, o->dump);
        json_t *results = json_array();
        json_array_append_new(results, json_pack("{s:s, s:i, s:i, s:i, s:O}", "file", o->dump, "first", (int)d.first, "images", (int)d.n, "px", d.px,
                                                 "paths", d.paths));
        status = bench_emit_json(&bench_cmd_input, o, NULL, results);
    }
    json_decref(d.paths);
    free(d.image);
    free(d.box);
    return status;
}

/* ---- speed */

typedef struct speed {
    int32_t  workers;
    uint64_t images;
    double   wall_s, cpu_s, first_batch_s, decode_s, resize_s, read_s, consumer_wait_s, producer_wait_s;
    uint64_t bad;
} speed;

static rm_loader_config config_of(const bench_options *o)
{
    static const struct { const char *name; rm_bad_policy policy; } row[] = { { "fail", RM_BAD_FAIL }, { "skip", RM_BAD_SKIP }, { "substitute", RM_BAD_SUBSTITUTE } };
    rm_loader_config c = {
        .part = RM_TRAIN, .batch = or_default(o->batch, DEFAULT_BATCH), .px = or_default(o->px, DEFAULT_PX),
        .workers = o->workers > 0 ? o->workers : o->threads > 0 ? o->threads : rm_cores_available(),
        .seed = (uint64_t)o->seed, .ranks = 1, .shuffle = true, .drop_last = true, .start_epoch = (uint64_t)o->epoch,
        .crop = rm_crop_default, .max_bad_share = o->max_bad,
    };
    c.max_batches = (uint64_t)or_default(o->steps, DEFAULT_STEPS) + (uint64_t)(o->warmup >= 0 ? o->warmup : DEFAULT_WARMUP);
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (strcmp(o->bad_images, row[i].name) == 0) c.bad = row[i].policy;
    return c;
}

static rm_status pull(rm_loader *l, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        rm_batch *b;
        uint64_t wait_ns;
        if (bench_signal()) return rm_fail(RM_E_INTERRUPTED, "interrupted");
        RM_TRY(rm_loader_next(l, &b, &wait_ns));
        if (!b) RM_BUG("the loader ended early");
        rm_loader_release(l, b);
    }
    return RM_OK;
}

static rm_status measure(rm_loader *l, const rm_loader_config *c, uint64_t steps, speed *out)
{
    rm_loader_stats before, after;
    speed s = { .workers = c->workers };
    const uint64_t opened = rm_now_ns();
    RM_TRY(pull(l, 1));
    s.first_batch_s = rm_s(rm_now_ns() - opened);
    RM_TRY(pull(l, c->max_batches - steps - 1));
    rm_loader_get_stats(l, &before);
    const uint64_t then = rm_now_ns(), cpu = rm_process_cpu_ns();
    RM_TRY(pull(l, steps));
    s.wall_s = rm_s(rm_now_ns() - then);
    s.cpu_s = rm_s(rm_process_cpu_ns() - cpu);
    rm_loader_get_stats(l, &after);
    s.images = after.images - before.images;
    s.decode_s = rm_s(after.decode_ns - before.decode_ns);
    s.resize_s = rm_s(after.resize_ns - before.resize_ns);
    s.read_s = rm_s(after.read_ns - before.read_ns);
    s.consumer_wait_s = rm_s(after.consumer_wait_ns - before.consumer_wait_ns);
    s.producer_wait_s = rm_s(after.producer_wait_ns - before.producer_wait_ns);
    s.bad = after.bad;
    *out = s;
    return RM_OK;
}

static void print_speed(const speed *s, const rm_loader_config *c, const char *dir)
{
    const double rate = (double)s->images / s->wall_s, ms = 1e3 / (double)s->images;
    printf("%s: %llu images of %d x %d in batches of %d, %d workers, %s\n", dir, (unsigned long long)s->images, c->px, c->px, c->batch, s->workers, rm_input_isa());
    printf("%-34s %10.1f\n", "images/s", rate);
    printf("%-34s %10.1f\n", "images/s a worker", rate / s->workers);
    printf("%-34s %10.1f\n", "images per core-second", (double)s->images / s->cpu_s);
    printf("%-34s %10.3f\n", "ms an image: read", s->read_s * ms);
    printf("%-34s %10.3f\n", "ms an image: decode", s->decode_s * ms);
    printf("%-34s %10.3f\n", "ms an image: resize", s->resize_s * ms);
    printf("%-34s %10.3f\n", "s consumer waited for batches", s->consumer_wait_s);
    printf("%-34s %10.3f\n", "s workers waited for space", s->producer_wait_s);
    printf("%-34s %10.3f\n", "s until the first batch", s->first_batch_s);
    printf("%-34s %10llu\n", "bad images", (unsigned long long)s->bad);
}

static json_t *speed_json(const speed *s, const rm_loader_config *c)
{
    const struct { const char *key; double value; } number[] = {
        { "images_per_s", (double)s->images / s->wall_s },
        { "images_per_s_per_worker", (double)s->images / s->wall_s / s->workers },
        { "images_per_cpu_s", (double)s->images / s->cpu_s },
        { "wall_s", s->wall_s },
        { "read_s_per_image", s->read_s / (double)s->images },
        { "decode_s_per_image", s->decode_s / (double)s->images },
        { "resize_s_per_image", s->resize_s / (double)s->images },
        { "consumer_wait_s", s->consumer_wait_s },
        { "producer_wait_s", s->producer_wait_s },
        { "first_batch_s", s->first_batch_s },
    };
    json_t *row = json_pack("{s:i, s:i, s:i, s:s, s:I, s:I}", "workers", s->workers, "batch", c->batch, "px", c->px, "isa", rm_input_isa(), "images",
                            (json_int_t)s->images, "bad_images", (json_int_t)s->bad);
    for (size_t i = 0; row && i < RM_COUNT(number); i++) json_object_set_new(row, number[i].key, bench_number(number[i].value));
    return row;
}

static void list_bad(rm_loader *l, json_t *row)
{
    const char *path, *reason;
    json_t *list = json_array();
    for (uint32_t i = 0; i < rm_loader_bad(l, i, &path, &reason); i++) {
        json_t *shown = json_string(path);
        rm_warn("bad image %s: %s", path, reason);
        json_array_append_new(list, json_pack("{s:o, s:s}", "path", shown ? shown : json_null(), "reason", reason));
    }
    json_object_set_new(row, "bad_files", list);
}

static rm_status run_speed(const bench_options *o, const rm_dataset *ds)
{
    rm_loader_config c = config_of(o);
    const uint64_t steps = (uint64_t)or_default(o->steps, DEFAULT_STEPS);
    rm_loader *l;
    speed s;
    if (c.max_batches == steps) c.max_batches++; /* the first batch fills the pipe and is reported apart */
    RM_TRY(rm_loader_open(ds, &c, &l));
    rm_status status = measure(l, &c, steps, &s);
    if (status == RM_OK) {
        json_t *results = json_array(), *row = speed_json(&s, &c);
        if (!o->json) print_speed(&s, &c, rm_dataset_dir(ds));
        list_bad(l, row);
        json_array_append_new(results, row);
        status = bench_emit_json(&bench_cmd_input, o, NULL, results);
    }
    rm_loader_close(l);
    return status;
}

static rm_status run(const bench_options *o)
{
    const char *dir = NULL;
    rm_dataset *ds;
    RM_TRY(data_dir(o, &dir));
    if (o->indices[0] && !o->dump[0]) return rm_fail(RM_E_ARG, "--indices needs --dump FILE, where the pixels go");
    RM_TRY(rm_dataset_open(dir, NULL, &ds));
    const rm_status status = o->dump[0] ? run_dump(o, ds) : run_speed(o, ds);
    rm_dataset_close(ds);
    return status;
}

static const char *const examples[] = { "bench input --data data/fashion-mnist --px 32 --steps 100",
                                        "bench input --data DIR --indices 0..9 --epoch 3 --px 224 --dump pixels.safetensors", NULL };

const bench_command bench_cmd_input = {
    .name = "input",
    .summary = "measure the loader alone; dump the pixels of some samples",
    .usage = "bench input --data DIR [--px N] [--batch N] [--steps N] [--workers N]",
    .examples = examples,
    .run = run,
};
