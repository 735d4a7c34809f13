/* The loader: worker threads fill the batches of a ring in place, image by image.
 *
 * Work is handed out as tickets (batch, position), in order, under one lock; several workers share a batch, so the first
 * batch is ready after one batch's work divided by all workers. Nothing that reaches the consumer depends on which worker
 * did what: order, boxes, replacements of bad images and the list of bad images are functions of (seed, epoch, position).
 *
 * A slot is FREE -> (opened: samples named) FILLING -> READY -> (rm_loader_next) HELD -> (rm_loader_release) FREE. Under
 * the lock: all states and counters. Without: a worker writes the pixels, flip, label and index of its own position. */
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "model/input/dataset.h"
#include "model/input/jpeg.h"
#include "profiler/runinfo.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_DEPTH = 4, MAX_REPLACEMENTS = 256, REASON = 256, LEAST_EVENTS = 4096, MOST_EVENTS = 1 << 20 };

typedef enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_HELD } slot_state;

/* The order of one epoch, kept while any slot may still look for replacements in it. */
typedef struct epoch_order { uint64_t epoch; uint32_t users, *order; } epoch_order;

typedef struct bad_image { int32_t position; uint32_t index; char *reason; struct bad_image *next; } bad_image;

typedef struct slot {
    rm_batch     batch;       /* first: the consumer hands back a pointer to it */
    slot_state   state;
    uint64_t     first;       /* position in the epoch of the batch's first image */
    int32_t      want, claimed, done;
    epoch_order *order;
    bool        *missing;     /* (batch) evaluation: position left out */
    bad_image   *bad;         /* in no particular order */
    rm_status    status;      /* of the lowest position that failed */
    int32_t      failed_at;
    char        *why;
} slot;

typedef struct bad_entry { uint32_t index; char *reason; } bad_entry;

typedef struct worker { rm_loader *loader; pthread_t thread; rm_decoder *decoder; uint8_t *file; size_t cap; rm_lane *lane; /* NULL: not traced */ } worker;

struct rm_loader {
    const rm_dataset *ds;
    rm_loader_config cfg;
    uint32_t n;               /* samples of the part */
    uint64_t per_epoch;       /* batches of this shard */
    uint64_t total;           /* batches in all, UINT64_MAX: endless */
    slot    *slot;
    epoch_order *orders;      /* depth + 1: each slot may be in another epoch */
    worker  *worker;
    int32_t  started, held;
    pthread_mutex_t lock;
    pthread_cond_t  space, ready;
    uint64_t next_open, next_out; /* batches since the start */
    bool     stop;
    bool    *known_bad;       /* (n), under the lock */
    bad_entry *bad; uint32_t n_bad, cap_bad;
    rm_status status; char *why; /* sticky, once the consumer has seen it */
    rm_loader_stats stats;
    bool     trace_paused;
    rm_name  traced_read, traced_decode, traced_full;
};

/* ---- arithmetic of shards */

static uint64_t global_batch(const rm_loader_config *cfg) { return (uint64_t)cfg->batch * (uint64_t)cfg->ranks; }

uint64_t rm_loader_batches_per_epoch(const rm_dataset *ds, const rm_loader_config *cfg)
{
    const uint64_t n = rm_dataset_count(ds, cfg->part), whole = n / global_batch(cfg), rest = n % global_batch(cfg);
    if (cfg->drop_last && cfg->group > 1) return whole - whole % (uint64_t)cfg->group;
    return whole + (!cfg->drop_last && rest > (uint64_t)cfg->rank * (uint64_t)cfg->batch);
}

/* ---- opening a batch: which samples (under the lock) */

static epoch_order *order_of(rm_loader *l, uint64_t epoch)
{
    epoch_order *unused = NULL;
    for (int32_t i = 0; i <= l->cfg.depth; i++) {
        epoch_order *o = &l->orders[i];
        if (o->order && o->epoch == epoch) return o;
        if (o->users == 0 && (!unused || !unused->order)) unused = o;
    }
    if (!unused->order) unused->order = malloc(l->n * sizeof *unused->order);
    if (!unused->order) return NULL;
    unused->epoch = epoch;
    rm_epoch_order(l->n, l->cfg.seed, epoch, l->cfg.shuffle, unused->order);
    return unused;
}

static void slot_fail(slot *s, int32_t position, rm_status status, const char *why)
{
    if (s->status != RM_OK && s->failed_at <= position) return;
    free(s->why);
    s->why = strdup(why);
    s->status = status;
    s->failed_at = position;
}

static void open_batch(rm_loader *l, slot *s)
{
    const uint64_t absolute = l->cfg.start_batch + l->next_open++, batch = (uint64_t)l->cfg.batch;
    rm_batch *b = &s->batch;
    b->epoch = l->cfg.start_epoch + absolute / l->per_epoch;
    b->number = absolute % l->per_epoch;
    b->decode_ns = b->resize_ns = b->read_ns = 0;
    s->first = b->number * global_batch(&l->cfg) + (uint64_t)l->cfg.rank * batch;
    s->want = (int32_t)(l->n - s->first < batch ? l->n - s->first : batch);
    b->n = s->want;
    s->claimed = s->done = 0;
    s->status = RM_OK;
    memset(s->missing, 0, (size_t)l->cfg.batch * sizeof *s->missing);
    s->state = SLOT_FILLING;
    s->order = order_of(l, b->epoch);
    if (s->order) {
        s->order->users++;
        memcpy(b->index, s->order->order + s->first, (size_t)s->want * sizeof *b->index);
        return;
    }
    slot_fail(s, 0, RM_E_NOMEM, "out of memory for the order of an epoch");
    s->claimed = s->done = s->want;
    s->state = SLOT_READY;
    pthread_cond_signal(&l->ready);
}

/* The batch to work on, NULL when all slots are full. Batches are opened in order, so the newest is the one to fill. */
static slot *claim(rm_loader *l, int32_t *position)
{
    slot *s = l->next_open ? &l->slot[(l->next_open - 1) % (uint64_t)l->cfg.depth] : NULL;
    while (!s || s->state != SLOT_FILLING || s->claimed == s->want) {
        slot *next = &l->slot[l->next_open % (uint64_t)l->cfg.depth];
        if (l->next_open == l->total || next->state != SLOT_FREE) return NULL;
        open_batch(l, next);
        s = next;
    }
    *position = s->claimed++;
    return s;
}

/* ---- one image */

typedef struct attempt { rm_status status; char reason[REASON]; uint64_t read_ns, begin_ns, got_ns; /* begun; read */ rm_box box; } attempt;

static void load(worker *w, const slot *s, uint32_t index, uint8_t *dst, attempt *a)
{
    const rm_loader *l = w->loader;
    const rm_loader_config *cfg = &l->cfg;
    const char *path = rm_dataset_path(l->ds, cfg->part, index);
    size_t bytes;
    const uint64_t then = rm_now_ns();
    a->status = rm_file_read(l->ds->fd, path, &w->file, &w->cap, &bytes, a->reason, sizeof a->reason);
    a->begin_ns = then;
    a->got_ns = rm_now_ns();
    a->read_ns += a->got_ns - then;
    if (a->status != RM_OK) return;
    a->box.flip = 0;
    a->status = cfg->part == RM_TRAIN
        ? rm_jpeg_random(w->decoder, w->file, bytes, path, &cfg->crop, cfg->seed, s->batch.epoch, index, cfg->px, dst, &a->box)
        : rm_jpeg_center(w->decoder, w->file, bytes, path, cfg->resize, cfg->px, dst);
    if (a->status != RM_OK) snprintf(a->reason, sizeof a->reason, "%s", rm_decoder_reason(w->decoder));
}

/* The n-th stand-in for a bad image. Training with skip: the same place of the n-th batch after it; substitute: any other. */
static uint32_t replacement(const rm_loader *l, const slot *s, uint32_t original, uint64_t place, uint32_t n)
{
    if (l->cfg.bad == RM_BAD_SKIP) {
        const uint64_t at = place + n * global_batch(&l->cfg);
        return s->order->order[(at + at / l->n) % l->n]; /* a round later one place on, lest it goes in circles */
    }
    rm_rng rng = rm_rng_for(l->cfg.seed ^ 0x5355425354495455u, s->batch.epoch, ((uint64_t)n << 32) | original);
    return rm_rng_below(&rng, l->n);
}

static bool is_fatal(rm_status s) { return s == RM_E_NOMEM || s == RM_E_ARG; }

static bad_image *note(bad_image *list, int32_t position, uint32_t index, const char *reason)
{
    bad_image *b = calloc(1, sizeof *b);
    char *copy = strdup(reason);
    if (!b || !copy) {
        free(b);
        free(copy);
        return list; /* the list is for people; the batch does not depend on it */
    }
    *b = (bad_image){ position, index, copy, list };
    return b;
}

typedef struct outcome { attempt a; bad_image *bad; bool missing; } outcome;

/* Fills one position, if need be with another sample. Returns what the slot has to know. */
static void build(worker *w, slot *s, int32_t position, outcome *o)
{
    const rm_loader *l = w->loader;
    const size_t image_bytes = 3 * (size_t)l->cfg.px * (size_t)l->cfg.px;
    const uint32_t original = s->batch.index[position];
    const bool replace = l->cfg.bad == RM_BAD_SUBSTITUTE || (l->cfg.bad == RM_BAD_SKIP && l->cfg.part == RM_TRAIN);
    uint32_t index = original;
    *o = (outcome){ 0 };
    for (uint32_t n = 1; ; n++) {
        load(w, s, index, s->batch.image + (size_t)position * image_bytes, &o->a);
        if (o->a.status == RM_OK || is_fatal(o->a.status)) break;
        o->bad = note(o->bad, position, index, o->a.reason);
        if (!replace || n > MAX_REPLACEMENTS) break;
        index = replacement(l, s, original, s->first + (uint64_t)position, n);
    }
    s->batch.index[position] = index;
    s->batch.label[position] = (int32_t)rm_dataset_label(l->ds, l->cfg.part, index);
    s->batch.flip[position] = (uint8_t)o->a.box.flip;
    if (o->a.status == RM_OK || is_fatal(o->a.status) || l->cfg.bad != RM_BAD_SKIP || replace) return;
    o->missing = true;
    o->a.status = RM_OK;
}

/* ---- finishing a batch (under the lock) */

/* Evaluation leaves bad images out: what is left moves together, in order. */
static void compact(const rm_loader *l, slot *s)
{
    const size_t image_bytes = 3 * (size_t)l->cfg.px * (size_t)l->cfg.px;
    rm_batch *b = &s->batch;
    int32_t to = 0;
    for (int32_t from = 0; from < s->want; from++) {
        if (s->missing[from]) continue;
        if (to != from) {
            memcpy(b->image + (size_t)to * image_bytes, b->image + (size_t)from * image_bytes, image_bytes);
            b->flip[to] = b->flip[from];
            b->label[to] = b->label[from];
            b->index[to] = b->index[from];
        }
        to++;
    }
    b->n = to;
}

static rm_lane *lane_of(const worker *w) { return w->loader->trace_paused ? NULL : w->lane; }

/* The last try of a sample. Under the lock, lest a trace that was just taken away is written to. done_ns 0: it began untraced. */
static void trace_image(const worker *w, const attempt *a, uint64_t done_ns, uint32_t index)
{
    rm_lane *lane = done_ns ? lane_of(w) : NULL;
    rm_trace_span(lane, RM_CAT_INPUT, w->loader->traced_read, a->begin_ns, a->got_ns, RM_NO_STEP, 0, index);
    rm_trace_span(lane, RM_CAT_INPUT, w->loader->traced_decode, a->got_ns, done_ns, RM_NO_STEP, 0, index);
}

static void settle(worker *w, slot *s, int32_t position, outcome *o)
{
    rm_loader *l = w->loader;
    uint64_t decode_ns, resize_ns;
    rm_decoder_times(w->decoder, &decode_ns, &resize_ns);
    s->batch.decode_ns += decode_ns;
    s->batch.resize_ns += resize_ns;
    s->batch.read_ns += o->a.read_ns;
    s->missing[position] = o->missing;
    while (o->bad) {
        bad_image *next = o->bad->next;
        o->bad->next = s->bad;
        s->bad = o->bad;
        o->bad = next;
    }
    if (o->a.status != RM_OK) {
        char why[REASON + 4096];
        snprintf(why, sizeof why, "%s/%s: %s", l->ds->dir, rm_dataset_path(l->ds, l->cfg.part, s->batch.index[position]), o->a.reason);
        slot_fail(s, position, o->a.status == RM_E_IO ? RM_E_FORMAT : o->a.status, why);
    }
    if (++s->done < s->want) return;
    compact(l, s);
    s->order->users--;
    s->state = SLOT_READY;
    pthread_cond_signal(&l->ready);
}

static void sleep_ns(uint64_t ns)
{
    const struct timespec t = { .tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u) };
    if (ns) nanosleep(&t, NULL);
}

static void *work(void *arg)
{
    worker *w = arg;
    rm_loader *l = w->loader;
    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        int32_t position;
        slot *s = claim(l, &position);
        if (!s) {
            const uint64_t then = rm_now_ns();
            pthread_cond_wait(&l->space, &l->lock);
            const uint64_t now = rm_now_ns();
            l->stats.producer_wait_ns += now - then;
            rm_trace_span(lane_of(w), RM_CAT_INPUT, l->traced_full, then, now, RM_NO_STEP, 0, -1);
            continue;
        }
        const bool traced = lane_of(w) != NULL;
        pthread_mutex_unlock(&l->lock);
        outcome o;
        if (position == 0) sleep_ns(l->cfg.inject_ns);
        build(w, s, position, &o);
        const uint64_t done_ns = traced ? rm_now_ns() : 0;
        pthread_mutex_lock(&l->lock);
        trace_image(w, &o.a, done_ns, s->batch.index[position]);
        settle(w, s, position, &o);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* ---- bad images, in the order of the batches (under the lock) */

static int by_position(const void *a, const void *b)
{
    const bad_image *x = *(bad_image *const *)a, *y = *(bad_image *const *)b;
    if (x->position != y->position) return x->position < y->position ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool remember(rm_loader *l, bad_image *b)
{
    if (l->n_bad == l->cap_bad) {
        const uint32_t cap = 2 * l->cap_bad + 16;
        bad_entry *fresh = realloc(l->bad, cap * sizeof *fresh);
        if (!fresh) return false;
        l->bad = fresh;
        l->cap_bad = cap;
    }
    l->bad[l->n_bad++] = (bad_entry){ b->index, b->reason };
    b->reason = NULL;
    return true;
}

static void free_bad(bad_image *b)
{
    while (b) {
        bad_image *next = b->next;
        free(b->reason);
        free(b);
        b = next;
    }
}

/* Moves the slot's bad images to the list, each sample once. */
static void collect_bad(rm_loader *l, slot *s)
{
    size_t n = 0;
    for (bad_image *b = s->bad; b; b = b->next) n++;
    bad_image **sorted = n ? malloc(n * sizeof(bad_image *)) : NULL;
    if (sorted) {
        n = 0;
        for (bad_image *b = s->bad; b; b = b->next) sorted[n++] = b;
        qsort(sorted, n, sizeof(bad_image *), by_position);
        for (size_t i = 0; i < n; i++)
            if (!l->known_bad[sorted[i]->index] && remember(l, sorted[i])) l->known_bad[l->bad[l->n_bad - 1].index] = true;
        free(sorted);
    }
    free_bad(s->bad);
    s->bad = NULL;
    l->stats.bad = l->n_bad;
}

/* In a small folder one bad image is more than one percent and still no reason to stop; a share of 0 allows none. */
static bool too_many_bad(const rm_loader *l)
{
    const double allowed = l->cfg.max_bad_share * l->n;
    return l->n_bad > (l->cfg.max_bad_share > 0 && allowed < 1 ? 1 : allowed);
}

static rm_status judge(rm_loader *l, slot *s)
{
    const uint32_t before = l->n_bad;
    collect_bad(l, s);
    if (s->status != RM_OK) return rm_fail(s->status, "%s", s->why ? s->why : "out of memory");
    if (l->n_bad == before || !too_many_bad(l)) return RM_OK;
    const bad_entry *last = &l->bad[l->n_bad - 1];
    return rm_fail(RM_E_FORMAT, "%s: %u of %u images in %s are bad, more than the allowed share of %g (the last: %s: %s); bench data check lists them",
                   l->ds->dir, l->n_bad, l->n, rm_part_name[l->cfg.part], l->cfg.max_bad_share,
                   rm_dataset_path(l->ds, l->cfg.part, last->index), last->reason);
}

/* ---- the consumer */

static void free_slot(rm_loader *l, slot *s)
{
    s->state = SLOT_FREE;
    pthread_cond_broadcast(&l->space);
}

/* The next slot in order once it is ready; NULL at the end (under the lock). */
static slot *await(rm_loader *l)
{
    slot *s = &l->slot[l->next_out % (uint64_t)l->cfg.depth];
    if (l->next_out == l->total) return NULL;
    while (s->state != SLOT_READY) pthread_cond_wait(&l->ready, &l->lock);
    l->next_out++;
    return s;
}

static rm_status take(rm_loader *l, slot **out)
{
    slot *s;
    if (l->status != RM_OK) return rm_fail(l->status, "%s", l->why ? l->why : "out of memory");
    while ((s = await(l))) {
        const rm_status status = judge(l, s);
        if (status != RM_OK) {
            l->status = status;
            l->why = strdup(rm_last_error());
            free_slot(l, s);
            return status;
        }
        if (s->batch.n > 0) break;
        free_slot(l, s); /* evaluation, and every image of it was bad */
    }
    if (s) {
        s->state = SLOT_HELD;
        l->held++;
        l->stats.batches++;
        l->stats.images += (uint64_t)s->batch.n;
        l->stats.decode_ns += s->batch.decode_ns;
        l->stats.resize_ns += s->batch.resize_ns;
        l->stats.read_ns += s->batch.read_ns;
    }
    *out = s;
    return RM_OK;
}

rm_status rm_loader_next(rm_loader *l, rm_batch **out, uint64_t *wait_ns)
{
    slot *s = NULL;
    const uint64_t then = rm_now_ns();
    pthread_mutex_lock(&l->lock);
    if (l->held == l->cfg.depth) RM_BUG("rm_loader_next: the caller holds every batch of the ring");
    const rm_status status = take(l, &s);
    const uint64_t waited = rm_now_ns() - then;
    l->stats.consumer_wait_ns += waited;
    pthread_mutex_unlock(&l->lock);
    if (status != RM_OK) return status;
    *out = s ? &s->batch : NULL;
    *wait_ns = waited;
    return RM_OK;
}

void rm_loader_release(rm_loader *l, rm_batch *b)
{
    slot *s = (slot *)b;
    pthread_mutex_lock(&l->lock);
    if (s->state != SLOT_HELD) RM_BUG("rm_loader_release: this batch is not held");
    l->held--;
    free_slot(l, s);
    pthread_mutex_unlock(&l->lock);
}

void rm_loader_get_stats(rm_loader *l, rm_loader_stats *out)
{
    pthread_mutex_lock(&l->lock);
    *out = l->stats;
    pthread_mutex_unlock(&l->lock);
}

int32_t rm_loader_ready(rm_loader *l)
{
    int32_t n = 0;
    pthread_mutex_lock(&l->lock);
    for (int32_t i = 0; i < l->cfg.depth; i++) n += l->slot[i].state == SLOT_READY;
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* ---- tracing */

/* Two spans an image, twice: workers share the images as it happens. */
static size_t events_of(const rm_loader *l, uint64_t batches)
{
    const uint64_t most = batches < MOST_EVENTS ? batches * (uint64_t)l->cfg.batch * 4 / (uint64_t)l->cfg.workers : MOST_EVENTS;
    return (size_t)(most < LEAST_EVENTS ? LEAST_EVENTS : most > MOST_EVENTS ? MOST_EVENTS : most);
}

static rm_status open_lanes(const rm_loader *l, rm_trace *t, uint64_t batches, rm_lane **lane)
{
    for (int32_t i = 0; t && i < l->cfg.workers; i++) {
        char label[32];
        snprintf(label, sizeof label, "input worker %d", i);
        RM_TRY(rm_trace_lane_again(t, RM_LANE_THREAD, label, events_of(l, batches), &lane[i]));
    }
    return RM_OK;
}

rm_status rm_loader_set_trace(rm_loader *l, rm_trace *t, uint64_t batches)
{
    rm_lane **lane = calloc((size_t)l->cfg.workers, sizeof(rm_lane *));
    if (!lane) return rm_fail(RM_E_NOMEM, "out of memory for a trace");
    const rm_status st = open_lanes(l, t, batches, lane);
    const rm_name read = t ? rm_trace_name(t, "read") : 0, decode = t ? rm_trace_name(t, "decode and resize") : 0, full = t ? rm_trace_name(t, "wait for room in the ring") : 0;
    pthread_mutex_lock(&l->lock);
    l->traced_read = read;
    l->traced_decode = decode;
    l->traced_full = full;
    l->trace_paused = false;
    for (int32_t i = 0; st == RM_OK && i < l->cfg.workers; i++) l->worker[i].lane = lane[i];
    pthread_mutex_unlock(&l->lock);
    free(lane);
    return st;
}

void rm_loader_pause_trace(rm_loader *l, bool paused)
{
    pthread_mutex_lock(&l->lock);
    l->trace_paused = paused;
    pthread_mutex_unlock(&l->lock);
}

uint32_t rm_loader_bad(rm_loader *l, uint32_t i, const char **path, const char **reason)
{
    pthread_mutex_lock(&l->lock);
    const uint32_t n = l->n_bad;
    if (i < n) {
        *path = rm_dataset_path(l->ds, l->cfg.part, l->bad[i].index);
        *reason = l->bad[i].reason;
    }
    pthread_mutex_unlock(&l->lock);
    return n;
}

/* ---- opening and closing */

static rm_status check_config(const rm_dataset *ds, const rm_loader_config *c)
{
    const uint32_t n = rm_dataset_count(ds, c->part);
    if (c->batch < 1) return rm_fail(RM_E_ARG, "a batch of %d images is impossible; use 1 or more", c->batch);
    if (c->px < 1 || c->px > 16384) return rm_fail(RM_E_ARG, "images of %d pixels are impossible; use 1 to 16384", c->px);
    if (c->ranks < 1 || c->rank < 0 || c->rank >= c->ranks) return rm_fail(RM_E_ARG, "rank %d of %d is impossible", c->rank, c->ranks);
    if (c->part == RM_VAL && c->resize < c->px)
        return rm_fail(RM_E_ARG, "a centre crop of %d does not fit into a shorter side of %d", c->px, c->resize);
    if (c->drop_last && n < global_batch(c))
        return rm_fail(RM_E_ARG, "%s/%s has %u images, fewer than one batch of %llu (%d ranks x %d); use a smaller --batch",
                       ds->dir, rm_part_name[c->part], n, (unsigned long long)global_batch(c), c->ranks, c->batch);
    return RM_OK;
}

static rm_loader_config with_defaults(const rm_loader_config *cfg)
{
    rm_loader_config c = *cfg;
    if (c.depth < 1) c.depth = DEFAULT_DEPTH;
    if (c.depth < 2) c.depth = 2; /* one to read, one to fill */
    if (c.workers < 1) c.workers = rm_cores_available();
    return c;
}

/* The rest of this epoch's pass, or as many as asked for. */
static uint64_t total_batches(const rm_loader *l)
{
    if (l->per_epoch == 0) return 0;
    if (l->cfg.max_batches) return l->cfg.max_batches;
    if (l->cfg.part == RM_TRAIN) return UINT64_MAX;
    return l->cfg.start_batch < l->per_epoch ? l->per_epoch - l->cfg.start_batch : 0;
}

static rm_status slot_init(const rm_loader *l, slot *s)
{
    const size_t batch = (size_t)l->cfg.batch;
    const size_t bytes = (batch * 3 * (size_t)l->cfg.px * (size_t)l->cfg.px + 4095) / 4096 * 4096;
    s->batch.image = aligned_alloc(4096, bytes);
    s->batch.flip = malloc(batch * sizeof *s->batch.flip);
    s->batch.label = malloc(batch * sizeof *s->batch.label);
    s->batch.index = malloc(batch * sizeof *s->batch.index);
    s->missing = malloc(batch * sizeof *s->missing);
    if (s->batch.image && s->batch.flip && s->batch.label && s->batch.index && s->missing) return RM_OK;
    return rm_fail(RM_E_NOMEM, "out of memory for %d batches of %zu bytes; use a smaller --batch", l->cfg.depth, bytes);
}

static rm_status allocate(rm_loader *l)
{
    l->slot = calloc((size_t)l->cfg.depth, sizeof *l->slot);
    l->orders = calloc((size_t)l->cfg.depth + 1, sizeof *l->orders);
    l->worker = calloc((size_t)l->cfg.workers, sizeof *l->worker);
    l->known_bad = calloc(l->n ? l->n : 1, sizeof *l->known_bad);
    if (!l->slot || !l->orders || !l->worker || !l->known_bad) return rm_fail(RM_E_NOMEM, "out of memory for the loader");
    for (int32_t i = 0; i < l->cfg.depth; i++) RM_TRY(slot_init(l, &l->slot[i]));
    for (int32_t i = 0; i < l->cfg.workers; i++) {
        l->worker[i].loader = l;
        RM_TRY(rm_decoder_new(NULL, &l->worker[i].decoder));
    }
    return RM_OK;
}

/* Signals are for the main thread. */
static rm_status start_workers(rm_loader *l)
{
    sigset_t all, before;
    int failed = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int32_t i = 0; i < l->cfg.workers && !failed; i++) {
        failed = pthread_create(&l->worker[i].thread, NULL, work, &l->worker[i]);
        if (!failed) l->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed) return RM_OK;
    return rm_fail(RM_E_NOMEM, "cannot start %d decoding threads (%s); use fewer --workers", l->cfg.workers, strerror(failed));
}

rm_status rm_loader_open(const rm_dataset *ds, const rm_loader_config *cfg, rm_loader **out)
{
    rm_status status;
    RM_TRY(check_config(ds, cfg));
    rm_loader *l = calloc(1, sizeof *l);
    if (!l) return rm_fail(RM_E_NOMEM, "out of memory for the loader");
    l->ds = ds;
    l->cfg = with_defaults(cfg);
    l->n = rm_dataset_count(ds, cfg->part);
    l->per_epoch = rm_loader_batches_per_epoch(ds, cfg);
    l->total = total_batches(l);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->space, NULL);
    pthread_cond_init(&l->ready, NULL);
    RM_TRY_GOTO(status, allocate(l), fail);
    RM_TRY_GOTO(status, start_workers(l), fail);
    *out = l;
    return RM_OK;
fail:
    rm_loader_close(l);
    return status;
}

static void slot_free(slot *s)
{
    free(s->batch.image);
    free(s->batch.flip);
    free(s->batch.label);
    free(s->batch.index);
    free(s->missing);
    free(s->why);
    free_bad(s->bad);
}

void rm_loader_close(rm_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->space);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->started; i++) pthread_join(l->worker[i].thread, NULL);
    for (int32_t i = 0; l->worker && i < l->cfg.workers; i++) {
        rm_decoder_free(l->worker[i].decoder);
        free(l->worker[i].file);
    }
    for (int32_t i = 0; l->slot && i < l->cfg.depth; i++) slot_free(&l->slot[i]);
    for (int32_t i = 0; l->orders && i <= l->cfg.depth; i++) free(l->orders[i].order);
    for (uint32_t i = 0; i < l->n_bad; i++) free(l->bad[i].reason);
    free(l->slot);
    free(l->orders);
    free(l->worker);
    free(l->known_bad);
    free(l->bad);
    free(l->why);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->space);
    pthread_mutex_destroy(&l->lock);
    free(l);
}
