/* JPEG through libjpeg-turbo: decode no more than the box needs, resize the rows as they come.
 *
 * Columns outside the box are cut off with jpeg_crop_scanline() (no inverse DCT, no colour conversion for them), rows above
 * it with jpeg_skip_scanlines(), rows below it are never touched. Fancy upsampling mixes neighbouring columns and rows, so
 * the cut keeps a margin; with it the pixels of the box equal those of a full decode.
 *
 * libjpeg reports errors by calling error_exit(), which must not return. The only setjmp() is in guarded(); what runs
 * under it owns nothing: all memory belongs to the decoder (or to the encoder's caller). */
#define _GNU_SOURCE
#include "model/input/jpeg.h"
#include "base/clock.h"
#include "model/input/axis.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

enum { MARGIN = 16, CHUNK_ROWS = 8, CACHED = 16, DEFAULT_SCANS = 100, MAX_PX = 16384 };
static const uint64_t default_pixels = 178956970; /* Pillow's: a quarter of a gigabyte of RGB */

typedef struct guard {
    struct jpeg_error_mgr manager; /* first: libjpeg hands back a pointer to it */
    jmp_buf  back;
    char     reason[JMSG_LENGTH_MAX + 64];
    char     warning[JMSG_LENGTH_MAX];
    bool     premature; /* the data ended before the image did */
    rm_status status;   /* of the failure in `reason` */
} guard;

struct rm_decoder {
    struct jpeg_decompress_struct c;
    struct jpeg_progress_mgr progress;
    guard    g;
    rm_decode_limits limits;
    rm_axis  horizontal[CACHED], vertical[CACHED]; /* by hash of the key */
    uint8_t *rows, *ring;
    const uint8_t **taps;
    size_t   cap_rows, cap_ring, cap_taps;
    uint64_t decode_ns, resize_ns;
};

/* ---- errors */

static rm_status refuse(guard *g, rm_status status, const char *reason)
{
    snprintf(g->reason, sizeof g->reason, "%s", reason);
    return g->status = status;
}

static void on_error(j_common_ptr c)
{
    guard *g = (guard *)c->err;
    g->status = g->manager.msg_code == JERR_OUT_OF_MEMORY ? RM_E_NOMEM : RM_E_FORMAT;
    if (g->reason[0] == '\0') g->manager.format_message(c, g->reason);
    longjmp(g->back, 1);
}

/* Negative levels are warnings about damaged data; libjpeg makes the best of it and so do we. */
static void on_message(j_common_ptr c, int level)
{
    guard *g = (guard *)c->err;
    if (level >= 0) return;
    if (g->manager.msg_code == JWRN_JPEG_EOF) g->premature = true;
    if (g->warning[0] == '\0') g->manager.format_message(c, g->warning);
}

static void on_output(j_common_ptr c) { (void)c; }

/* Every scan costs a pass over the whole image, however few bytes it has. */
static void on_progress(j_common_ptr c)
{
    j_decompress_ptr dc = (j_decompress_ptr)c;
    const int max = (int)(intptr_t)c->client_data;
    if (dc->input_scan_number <= max) return;
    snprintf(((guard *)c->err)->reason, JMSG_LENGTH_MAX, "more than %d progressive scans (a decompression bomb?)", max);
    on_error(c);
}

/* Only libjpeg's own calls leave body() early, and body() owns nothing. */
static rm_status guarded(guard *g, rm_status (*body)(void *), void *arg)
{
    g->reason[0] = g->warning[0] = '\0';
    g->premature = false;
    g->status = RM_OK;
    if (setjmp(g->back)) return g->status;
    return body(arg);
}

static struct jpeg_error_mgr *guard_init(guard *g)
{
    struct jpeg_error_mgr *m = jpeg_std_error(&g->manager);
    m->error_exit = on_error;
    m->emit_message = on_message;
    m->output_message = on_output;
    return m;
}

/* ---- the decoder */

rm_status rm_decoder_new(const rm_decode_limits *limits, rm_decoder **out)
{
    rm_decoder *d = calloc(1, sizeof *d);
    if (!d) return rm_fail(RM_E_NOMEM, "out of memory for a JPEG decoder");
    d->limits = limits ? *limits : (rm_decode_limits){ 0 };
    if (d->limits.max_pixels == 0) d->limits.max_pixels = default_pixels;
    if (d->limits.max_scans == 0) d->limits.max_scans = DEFAULT_SCANS;
    d->c.err = guard_init(&d->g);
    d->c.client_data = (void *)(intptr_t)d->limits.max_scans;
    d->progress.progress_monitor = on_progress;
    *out = d;
    return RM_OK;
}

void rm_decoder_free(rm_decoder *d)
{
    if (!d) return;
    for (int i = 0; i < CACHED; i++) {
        rm_axis_free(&d->horizontal[i]);
        rm_axis_free(&d->vertical[i]);
    }
    free(d->rows);
    free(d->ring);
    free(d->taps);
    free(d);
}

void rm_decoder_times(rm_decoder *d, uint64_t *decode_ns, uint64_t *resize_ns)
{
    *decode_ns = d->decode_ns;
    *resize_ns = d->resize_ns;
    d->decode_ns = d->resize_ns = 0;
}

const char *rm_decoder_reason(const rm_decoder *d) { return d->g.reason; }

/* Zeroed, because vector loads run past the pixels (times zero weights). */
static rm_status scratch(guard *g, void **memory, size_t *cap, size_t bytes)
{
    if (bytes <= *cap) return RM_OK;
    const size_t size = (bytes + bytes / 2 + 63) / 64 * 64;
    void *fresh = aligned_alloc(64, size);
    if (!fresh) return refuse(g, RM_E_NOMEM, "out of memory for rows of pixels");
    free(*memory);
    *memory = memset(fresh, 0, size);
    *cap = size;
    return RM_OK;
}

/* Sizes of neighbouring images and boxes repeat (evaluation: a handful), so tables are kept a while. */
static rm_status axis_for(guard *g, rm_axis *cache, const rm_axis_key *k, bool horizontal, const rm_axis **out)
{
    const uint32_t hash = ((uint32_t)k->in * 31u + (uint32_t)k->out * 17u + (uint32_t)k->first * 7u + (uint32_t)k->n) * 2654435761u;
    rm_axis *a = &cache[hash >> 28];
    const bool same = a->key.in == k->in && a->key.out == k->out && a->key.first == k->first && a->key.n == k->n && a->key.flip == k->flip;
    if (!same && rm_axis_build(a, k, horizontal) != RM_OK) return refuse(g, RM_E_NOMEM, "out of memory for the weights of the resize");
    *out = a;
    return RM_OK;
}

/* ---- one image */

/* What to make of an image once its size is known. x and y: where in the image the axis' inputs begin. */
typedef struct target { rm_axis_key horizontal, vertical; int32_t x, y; } target;
typedef struct job {
    rm_decoder *d;
    const uint8_t *jpeg;
    size_t bytes;
    rm_status (*aim)(struct job *j, int32_t w, int32_t h, target *out); /* NULL: size or verify only */
    bool whole;       /* decode all rows, keep none */
    /* what aim() needs */
    const rm_crop_params *crop;
    uint64_t seed, epoch, index;
    rm_box   box;
    int32_t  px, resize;
    bool     flip;
    /* results */
    uint8_t *dst;
    int32_t  w, h;
} job;

typedef struct magic { const char *bytes; size_t n, offset; const char *what; } magic;
static const magic magics[] = {
    { "\x89PNG", 4, 0, "a PNG image, not a JPEG" },      { "GIF8", 4, 0, "a GIF image, not a JPEG" },
    { "BM", 2, 0, "a BMP image, not a JPEG" },           { "WEBP", 4, 8, "a WebP image, not a JPEG" },
    { "II*\0", 4, 0, "a TIFF image, not a JPEG" },       { "MM\0*", 4, 0, "a TIFF image, not a JPEG" },
    { "ftyp", 4, 4, "a HEIF, AVIF or MP4 file, not a JPEG" }, { "\0\0\0\x0CjP", 6, 0, "a JPEG 2000 image, not a JPEG" },
    { "\xFF\x0A", 2, 0, "a JPEG XL image, not a JPEG" }, { "<", 1, 0, "text (HTML or XML), not a JPEG" },
};

static bool is_text(const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] < 32 && p[i] != '\n' && p[i] != '\r' && p[i] != '\t') return false;
    return true;
}

static rm_status sniff(job *j)
{
    guard *g = &j->d->g;
    const uint8_t *p = j->jpeg;
    if (j->bytes == 0) return refuse(g, RM_E_FORMAT, "the file is empty");
    if (j->bytes >= 3 && p[0] == 0xFF && p[1] == 0xD8) return RM_OK;
    for (size_t i = 0; i < RM_COUNT(magics); i++)
        if (j->bytes >= magics[i].offset + magics[i].n && memcmp(p + magics[i].offset, magics[i].bytes, magics[i].n) == 0)
            return refuse(g, RM_E_FORMAT, magics[i].what);
    if (j->bytes < 3) return refuse(g, RM_E_FORMAT, "truncated: the file has fewer than 3 bytes");
    return refuse(g, RM_E_FORMAT, is_text(p, j->bytes < 64 ? j->bytes : 64) ? "text, not a JPEG" : "not a JPEG: it does not begin with FF D8");
}

/* Whether a file was cut short must not depend on the box that happens to be decoded, so the end marker is looked for.
 * Within compressed data FF is always followed by 00 or a restart marker, so the first FF D9 is the end. */
static bool has_end(const job *j)
{
    if (j->jpeg[j->bytes - 2] == 0xFF && j->jpeg[j->bytes - 1] == JPEG_EOI) return true;
    const struct jpeg_source_mgr *s = j->d->c.src;
    return s->bytes_in_buffer && memmem(s->next_input_byte, s->bytes_in_buffer, "\xFF\xD9", 2) != NULL;
}

static rm_status header(job *j)
{
    rm_decoder *d = j->d;
    j_decompress_ptr c = &d->c;
    char text[128];
    RM_TRY(sniff(j));
    jpeg_create_decompress(c); /* keeps err and client_data */
    c->progress = &d->progress;
    jpeg_mem_src(c, j->jpeg, j->bytes);
    jpeg_read_header(c, TRUE);
    if (!has_end(j)) return refuse(&d->g, RM_E_FORMAT, "truncated: the file has no end-of-image marker");
    if (c->num_components != 1 && c->num_components != 3 && c->num_components != 4) {
        snprintf(text, sizeof text, "%d colour components; only grey (1), colour (3) and CMYK (4) are understood", c->num_components);
        return refuse(&d->g, RM_E_FORMAT, text);
    }
    if ((uint64_t)c->image_width * c->image_height > d->limits.max_pixels) {
        snprintf(text, sizeof text, "%u x %u pixels are more than the limit of %llu (a decompression bomb?)", c->image_width,
                 c->image_height, (unsigned long long)d->limits.max_pixels);
        return refuse(&d->g, RM_E_FORMAT, text);
    }
    j->w = (int32_t)c->image_width;
    j->h = (int32_t)c->image_height;
    return RM_OK;
}

static void start(job *j)
{
    j_decompress_ptr c = &j->d->c;
    c->out_color_space = c->num_components == 4 ? JCS_CMYK : JCS_EXT_RGBX;
    c->dct_method = JDCT_ISLOW;
    c->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(c);
}

/* Pillow reads every CMYK JPEG as Adobe writes it, inverted, and converts with this arithmetic (Convert.c, cmyk2rgb()). */
static void cmyk_to_rgbx(uint8_t *p, uint32_t pixels)
{
    for (uint32_t i = 0; i < pixels; i++, p += 4) {
        const int nk = p[3];
        for (int c = 0; c < 3; c++) {
            const int product = (255 - p[c]) * nk + 128;
            const int v = nk - (((product >> 8) + product) >> 8);
            p[c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static void read_rows(job *j, JSAMPROW *row, uint32_t want)
{
    j_decompress_ptr c = &j->d->c;
    for (uint32_t have = 0; have < want; ) have += jpeg_read_scanlines(c, row + have, want - have);
    if (c->out_color_space == JCS_CMYK)
        for (uint32_t i = 0; i < want; i++) cmyk_to_rgbx(row[i], c->output_width);
}

/* The columns [x, x + n) and a margin; *out_x: where they begin in the rows that come. */
static void cut_columns(job *j, int32_t x, int32_t n, int32_t *out_x)
{
    const int32_t lo = x < MARGIN ? 0 : x - MARGIN, hi = j->w - x - n < MARGIN ? j->w : x + n + MARGIN;
    JDIMENSION offset = (JDIMENSION)lo, width = (JDIMENSION)(hi - lo);
    if (lo == 0 && hi == j->w) offset = 0;
    else jpeg_crop_scanline(&j->d->c, &offset, &width);
    *out_x = x - (int32_t)offset;
}

/* Both orders of the passes keep a ring of the rows the vertical one still needs; decoded and resized in turns. */
typedef struct passes {
    const rm_axis *h, *v;
    size_t  x_bytes;            /* where the first column begins in a decoded row */
    size_t  row_bytes;          /* room for a decoded row and what vector loads read behind it */
    size_t  out_bytes, line_bytes; /* an output row; the same with room for vector stores */
    int32_t ring_rows;          /* a power of two, at least v->taps + CHUNK_ROWS */
    int32_t have;               /* rows decoded so far */
} passes;

static void lap(uint64_t *total_ns, uint64_t *then_ns)
{
    const uint64_t now = rm_now_ns();
    *total_ns += now - *then_ns;
    *then_ns = now;
}

static uint8_t *ring_row(const job *j, const passes *p, int32_t i, size_t stride)
{
    return j->d->ring + (size_t)(i & (p->ring_rows - 1)) * stride;
}

static int32_t next_chunk(const passes *p)
{
    const int32_t left = p->v->hi - p->v->lo - p->have;
    return left < CHUNK_ROWS ? left : CHUNK_ROWS;
}

static void vertical(job *j, const passes *p, int32_t y, size_t stride, size_t offset, size_t bytes, uint8_t *dst)
{
    const rm_axis *v = p->v;
    for (int32_t t = 0; t < v->count[y]; t++) j->d->taps[t] = ring_row(j, p, v->start[y] + t, stride) + offset;
    rm_resize_current()->vertical(j->d->taps, v->weight + (size_t)y * (size_t)v->stride, v->count[y], bytes, dst);
}

/* decoded rows -> horizontal -> ring -> vertical -> dst */
static rm_status horizontal_first(job *j, passes *p)
{
    rm_decoder *d = j->d;
    JSAMPROW row[CHUNK_ROWS];
    RM_TRY(scratch(&d->g, (void **)&d->rows, &d->cap_rows, CHUNK_ROWS * p->row_bytes));
    RM_TRY(scratch(&d->g, (void **)&d->ring, &d->cap_ring, (size_t)p->ring_rows * p->line_bytes));
    for (int i = 0; i < CHUNK_ROWS; i++) row[i] = d->rows + (size_t)i * p->row_bytes;
    uint64_t then = rm_now_ns();
    for (int32_t y = 0; y < p->v->key.n; y++) {
        while (p->have < p->v->start[y] + p->v->count[y]) {
            const int32_t chunk = next_chunk(p);
            lap(&d->resize_ns, &then);
            read_rows(j, row, (uint32_t)chunk);
            lap(&d->decode_ns, &then);
            for (int32_t i = 0; i < chunk; i++, p->have++)
                rm_resize_current()->horizontal(p->h, row[i] + p->x_bytes, ring_row(j, p, p->have, p->line_bytes));
        }
        vertical(j, p, y, p->line_bytes, 0, p->out_bytes, j->dst + (size_t)y * p->out_bytes);
    }
    lap(&d->resize_ns, &then);
    return RM_OK;
}

/* decoded rows = ring -> vertical -> one row -> horizontal -> dst */
static rm_status vertical_first(job *j, passes *p)
{
    rm_decoder *d = j->d;
    JSAMPROW row[CHUNK_ROWS];
    RM_TRY(scratch(&d->g, (void **)&d->rows, &d->cap_rows, p->row_bytes + p->line_bytes));
    RM_TRY(scratch(&d->g, (void **)&d->ring, &d->cap_ring, (size_t)p->ring_rows * p->row_bytes));
    uint8_t *mixed = d->rows, *line = d->rows + p->row_bytes;
    uint64_t then = rm_now_ns();
    for (int32_t y = 0; y < p->v->key.n; y++) {
        lap(&d->resize_ns, &then);
        while (p->have < p->v->start[y] + p->v->count[y]) {
            const int32_t chunk = next_chunk(p);
            for (int32_t i = 0; i < chunk; i++) row[i] = ring_row(j, p, p->have++, p->row_bytes);
            read_rows(j, row, (uint32_t)chunk);
        }
        lap(&d->decode_ns, &then);
        vertical(j, p, y, p->row_bytes, p->x_bytes, 4 * (size_t)(p->h->hi - p->h->lo), mixed);
        rm_resize_current()->horizontal(p->h, mixed, line);
        memcpy(j->dst + (size_t)y * p->out_bytes, line, p->out_bytes);
    }
    lap(&d->resize_ns, &then);
    return RM_OK;
}

/* Pillow's order since version 13; before, it was always horizontal first. The rounding in between shows which it was. */
static bool vertical_comes_first(const target *t)
{
    const int32_t fewer_rows = t->vertical.in - t->vertical.out, fewer_columns = t->horizontal.in - t->horizontal.out;
    return fewer_rows > 0 && fewer_rows > 2 * (int64_t)fewer_columns;
}

static rm_status decode_target(job *j, const target *t)
{
    rm_decoder *d = j->d;
    passes p = { .ring_rows = CHUNK_ROWS };
    int32_t x;
    uint64_t then = rm_now_ns();
    RM_TRY(axis_for(&d->g, d->horizontal, &t->horizontal, true, &p.h));
    RM_TRY(axis_for(&d->g, d->vertical, &t->vertical, false, &p.v));
    lap(&d->resize_ns, &then);
    start(j);
    cut_columns(j, t->x + p.h->lo, p.h->hi - p.h->lo, &x);
    if (t->y + p.v->lo > 0) jpeg_skip_scanlines(&d->c, (JDIMENSION)(t->y + p.v->lo));
    lap(&d->decode_ns, &then);
    p.x_bytes = 4 * (size_t)x;
    p.row_bytes = ((size_t)d->c.output_width + (size_t)p.h->stride + MARGIN) * 4;
    p.out_bytes = 3 * (size_t)p.h->key.n;
    p.line_bytes = (p.out_bytes + 64 + 63) / 64 * 64;
    while (p.ring_rows < p.v->taps + CHUNK_ROWS) p.ring_rows *= 2;
    RM_TRY(scratch(&d->g, (void **)&d->taps, &d->cap_taps, (size_t)p.v->taps * sizeof *d->taps));
    return vertical_comes_first(t) ? vertical_first(j, &p) : horizontal_first(j, &p);
}

static rm_status decode_whole(job *j)
{
    rm_decoder *d = j->d;
    JSAMPROW row[CHUNK_ROWS];
    start(j);
    const size_t stride = (size_t)d->c.output_width * 4;
    RM_TRY(scratch(&d->g, (void **)&d->rows, &d->cap_rows, stride * CHUNK_ROWS));
    for (int i = 0; i < CHUNK_ROWS; i++) row[i] = d->rows + (size_t)i * stride;
    for (uint32_t left = (uint32_t)j->h; left; ) {
        const uint32_t chunk = left < CHUNK_ROWS ? left : CHUNK_ROWS;
        read_rows(j, row, chunk);
        left -= chunk;
    }
    return RM_OK;
}

static rm_status job_body(void *arg)
{
    job *j = arg;
    target t;
    const uint64_t then = rm_now_ns();
    RM_TRY(header(j));
    j->d->decode_ns += rm_now_ns() - then;
    if (j->whole) return decode_whole(j);
    if (!j->aim) return RM_OK;
    RM_TRY(j->aim(j, j->w, j->h, &t));
    return decode_target(j, &t);
}

/* A fresh libjpeg object for every image: a used one keeps the tables of the image before, and a file without tables of its
 * own would decode differently depending on who came first. It costs a microsecond. */
static rm_status run(job *j, const char *where)
{
    rm_decoder *d = j->d;
    rm_status status = guarded(&d->g, job_body, j);
    jpeg_destroy_decompress(&d->c); /* also right where it was never created */
    if (status == RM_OK && d->g.premature) status = refuse(&d->g, RM_E_FORMAT, "truncated: the data ends before the image does");
    return status == RM_OK ? RM_OK : rm_fail(status, "%s: %s", where, d->g.reason);
}

/* ---- what can be asked of an image */

rm_status rm_jpeg_size(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, int32_t *w, int32_t *h)
{
    job j = { .d = d, .jpeg = jpeg, .bytes = bytes };
    RM_TRY(run(&j, where));
    *w = j.w;
    *h = j.h;
    return RM_OK;
}

static rm_status aim_box(job *j, int32_t w, int32_t h, target *out)
{
    const rm_box b = j->box;
    char text[128];
    if (b.x < 0 || b.y < 0 || b.w < 1 || b.h < 1 || b.w > w - b.x || b.h > h - b.y) {
        snprintf(text, sizeof text, "the box %d,%d %d x %d does not lie within the image of %d x %d", b.x, b.y, b.w, b.h, w, h);
        return refuse(&j->d->g, RM_E_ARG, text);
    }
    out->horizontal = (rm_axis_key){ .in = b.w, .out = j->px, .n = j->px, .flip = j->flip };
    out->vertical = (rm_axis_key){ .in = b.h, .out = j->px, .n = j->px };
    out->x = b.x;
    out->y = b.y;
    return RM_OK;
}

static rm_status check_px(const char *where, int32_t px)
{
    return px >= 1 && px <= MAX_PX ? RM_OK : rm_fail(RM_E_ARG, "%s: cannot resize to %d pixels; 1 to %d are possible", where, px, MAX_PX);
}

rm_status rm_jpeg_crop(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, rm_box box, int32_t px, bool do_flip, uint8_t *dst)
{
    RM_TRY(check_px(where, px));
    job j = { .d = d, .jpeg = jpeg, .bytes = bytes, .aim = aim_box, .box = box, .px = px, .flip = do_flip && box.flip, .dst = dst };
    return run(&j, where);
}

static rm_status aim_random(job *j, int32_t w, int32_t h, target *out)
{
    j->box = rm_random_box(w, h, j->crop, j->seed, j->epoch, j->index);
    return aim_box(j, w, h, out);
}

rm_status rm_jpeg_random(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, const rm_crop_params *crop,
                         uint64_t seed, uint64_t epoch, uint64_t index, int32_t px, uint8_t *dst, rm_box *out_box)
{
    RM_TRY(check_px(where, px));
    job j = { .d = d, .jpeg = jpeg, .bytes = bytes, .aim = aim_random, .crop = crop, .seed = seed, .epoch = epoch, .index = index,
              .px = px, .dst = dst };
    RM_TRY(run(&j, where));
    *out_box = j.box;
    return RM_OK;
}

/* Python's round(x / 2): halves go to the even neighbour. */
static int32_t half_to_even(int32_t x) { return x / 2 + (x % 2 && x / 2 % 2); }

/* torchvision: the long side is int(size * long / short), the crop begins at int(round((side - px) / 2)). */
static rm_status aim_center(job *j, int32_t w, int32_t h, target *out)
{
    const int32_t shorter = w < h ? w : h, longer = w < h ? h : w;
    const int32_t scaled = (int32_t)((double)((int64_t)j->resize * longer) / shorter);
    const int32_t new_w = w <= h ? j->resize : scaled, new_h = w <= h ? scaled : j->resize;
    out->horizontal = (rm_axis_key){ .in = w, .out = new_w, .first = half_to_even(new_w - j->px), .n = j->px };
    out->vertical = (rm_axis_key){ .in = h, .out = new_h, .first = half_to_even(new_h - j->px), .n = j->px };
    out->x = out->y = 0;
    return RM_OK;
}

rm_status rm_jpeg_center(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, int32_t resize, int32_t px, uint8_t *dst)
{
    RM_TRY(check_px(where, px));
    RM_TRY(check_px(where, resize));
    if (resize < px) return rm_fail(RM_E_ARG, "%s: a centre crop of %d does not fit into a shorter side of %d", where, px, resize);
    job j = { .d = d, .jpeg = jpeg, .bytes = bytes, .aim = aim_center, .px = px, .resize = resize, .dst = dst };
    return run(&j, where);
}

rm_status rm_jpeg_verify(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, const char **out_warning)
{
    job j = { .d = d, .jpeg = jpeg, .bytes = bytes, .whole = true };
    RM_TRY(run(&j, where));
    *out_warning = d->g.warning[0] ? d->g.warning : NULL;
    return RM_OK;
}

/* ---- the encoder, for the embedded data set */

typedef struct encoding { guard g; struct jpeg_compress_struct c; const uint8_t *rgb; int32_t w, h, quality; unsigned char *jpeg; unsigned long bytes; } encoding;

static rm_status encode_body(void *arg)
{
    encoding *e = arg;
    j_compress_ptr c = &e->c;
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &e->jpeg, &e->bytes);
    c->image_width = (JDIMENSION)e->w;
    c->image_height = (JDIMENSION)e->h;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, e->quality, TRUE);
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(e->rgb + (size_t)c->next_scanline * (size_t)e->w * 3);
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
    return RM_OK;
}

rm_status rm_jpeg_encode(const uint8_t *rgb, int32_t w, int32_t h, int32_t quality, uint8_t **out_jpeg, size_t *out_bytes)
{
    encoding e = { .rgb = rgb, .w = w, .h = h, .quality = quality };
    e.c.err = guard_init(&e.g);
    const rm_status status = guarded(&e.g, encode_body, &e);
    jpeg_destroy_compress(&e.c);
    if (status != RM_OK) {
        free(e.jpeg);
        return rm_fail(status, "cannot write a JPEG of %d x %d: %s", w, h, e.g.reason);
    }
    *out_jpeg = e.jpeg;
    *out_bytes = e.bytes;
    return RM_OK;
}
