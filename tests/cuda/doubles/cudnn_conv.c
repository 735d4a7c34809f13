/* cuDNN's double: convolutions as products of matrices, in f32. A(m, k) B(k, n): what is a matrix is read from the tensors piece by piece.
 *
 *   forward   m = pixel of y, k = (window, c), n = channel of y          A gathers x, B are the weights
 *   data      m = pixel of x, k = (window, channel of y), n = c          A gathers dy, B are the weights
 *   weights   m = channel of y, k = pixel of y, n = (window, c)          A is dy, B gathers x
 * Sums over k are taken in order, in one accumulator, whatever the number of threads. */
#include "tests/cuda/doubles/cudnn_internal.h"
#include <stdlib.h>
#include <string.h>

enum { ROWS = 6, COLUMNS = 16, DEPTH = 256, TILE = 96 };
typedef float vec __attribute__((vector_size(32), aligned(4)));

/* ---- matrices as rows of segments that lie in memory */
typedef struct matrix {
    const char *at;
    cudnnDataType_t type;
    bool tf32;
    int64_t segment, ld;       /* elements that lie together; a row that is not gathered is ld elements further */
    enum { PLAIN, GATHER_FORWARD, GATHER_BACK, WEIGHTS_BACK } kind;
    int64_t height, width;     /* of the tensor that is gathered */
    int64_t rows_h, rows_w;    /* pixels that the rows are */
    int64_t window, stride, pad, channels;
} matrix;

/* Where the segment `s` of row `i` is; NULL: all zeros. */
static const char *segment_at(const matrix *a, int64_t i, int64_t s)
{
    const size_t bytes = dbl_type_bytes(a->type);
    if (a->kind == PLAIN) return a->at + (size_t)(i * a->ld + s * a->segment) * bytes;
    if (a->kind == WEIGHTS_BACK) /* row (window, ko) of the weights (ko, window, c) */
        return a->at + (size_t)((i % a->channels * a->window * a->window + i / a->channels) * a->segment) * bytes;
    const int64_t image = i / (a->rows_h * a->rows_w), row = i / a->rows_w % a->rows_h, column = i % a->rows_w, r = s / a->window, c = s % a->window;
    int64_t y, x;
    if (a->kind == GATHER_FORWARD) {
        y = row * a->stride - a->pad + r;
        x = column * a->stride - a->pad + c;
    } else {
        y = row + a->pad - r;
        x = column + a->pad - c;
        if (y < 0 || x < 0 || y % a->stride || x % a->stride) return NULL;
        y /= a->stride;
        x /= a->stride;
    }
    if (y < 0 || x < 0 || y >= a->height || x >= a->width) return NULL;
    return a->at + (size_t)(((image * a->height + y) * a->width + x) * a->segment) * bytes;
}

static void read_row(const matrix *a, int64_t i, int64_t from, int64_t n, float *out)
{
    for (int64_t done = 0; done < n;) {
        const int64_t j = from + done, s = j / a->segment, skip = j % a->segment, all = a->segment - skip, some = all < n - done ? all : n - done;
        const char *p = segment_at(a, i, s);
        if (p) dbl_read(a->type, p + (size_t)skip * dbl_type_bytes(a->type), some, out + done);
        else memset(out + done, 0, (size_t)some * sizeof *out);
        done += some;
    }
    if (a->tf32) dbl_round_tf32(out, n);
}

/* [panel][k][width] of the part k0.. x0.. of a matrix whose rows are the k (or the x). */
static void pack(const matrix *a, bool rows_are_k, int64_t k0, int64_t kn, int64_t x0, int64_t xn, int64_t width, float *out, float *line)
{
    const int64_t whole = (xn + width - 1) / width * width;
    if (rows_are_k)
        for (int64_t k = 0; k < kn; k++) {
            read_row(a, k0 + k, x0, xn, line);
            for (int64_t x = xn; x < whole; x++) line[x] = 0;
            for (int64_t x = 0; x < whole; x += width) memcpy(out + x * kn + k * width, line + x, (size_t)width * sizeof *out);
        }
    else
        for (int64_t x = 0; x < whole; x++) {
            float *to = out + x / width * width * kn + x % width;
            if (x < xn) read_row(a, x0 + x, k0, kn, line);
            else memset(line, 0, (size_t)kn * sizeof *line);
            for (int64_t k = 0; k < kn; k++) to[k * width] = line[k];
        }
}

/* ---- the product */
static inline __attribute__((always_inline)) void tile_product(int64_t kn, const float *a, const float *b, float *c, int64_t ld)
{
    vec sum[ROWS][2];
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++) sum[i][j] = *(vec *)(c + i * ld + j * 8);
    for (int64_t k = 0; k < kn; k++) {
        const vec b0 = *(const vec *)(b + k * COLUMNS), b1 = *(const vec *)(b + k * COLUMNS + 8);
        for (int i = 0; i < ROWS; i++) {
            const vec v = a[k * ROWS + i] - (vec){ 0 };
            sum[i][0] += v * b0;
            sum[i][1] += v * b1;
        }
    }
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < 2; j++) *(vec *)(c + i * ld + j * 8) = sum[i][j];
}

/* Rows of C are padded to COLUMNS, and there are rows to a multiple of ROWS. */
#if defined(__x86_64__)
__attribute__((target_clones("arch=x86-64-v3", "default")))
#endif
static void panels(int64_t mn, int64_t nn, int64_t kn, const float *a, const float *b, float *c, int64_t ld)
{
    for (int64_t n = 0; n < nn; n += COLUMNS)
        for (int64_t m = 0; m < mn; m += ROWS) tile_product(kn, a + m * kn, b + n * kn, c + m * ld + n, ld);
}

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static float *take(int64_t n)
{
    float *p = aligned_alloc(64, (size_t)up(n * 4, 64));
    if (!p) abort();
    return p;
}

typedef struct product {
    matrix a, b;
    bool a_rows_are_k, b_rows_are_k;
    int64_t m, n, k;
} product;

/* c: up(m, TILE) rows of up(n, COLUMNS), zero. */
static void multiply(const product *p, float *c)
{
    const int64_t ld = up(p->n, COLUMNS), most = ld > DEPTH ? ld : DEPTH;
    float *b = take(DEPTH * ld);
#pragma omp parallel num_threads(dbl_threads())
    {
        float *a = take(TILE * DEPTH), *line = take(most + TILE + DEPTH);
        for (int64_t k = 0; k < p->k; k += DEPTH) {
            const int64_t kn = p->k - k < DEPTH ? p->k - k : DEPTH;
#pragma omp for schedule(static)
            for (int64_t n = 0; n < p->n; n += 4 * COLUMNS) {
                const int64_t nn = p->n - n < 4 * COLUMNS ? p->n - n : 4 * COLUMNS;
                pack(&p->b, p->b_rows_are_k, k, kn, n, nn, COLUMNS, b + n * kn, line);
            }
#pragma omp for schedule(static)
            for (int64_t m = 0; m < p->m; m += TILE) {
                const int64_t mn = p->m - m < TILE ? p->m - m : TILE;
                pack(&p->a, p->a_rows_are_k, k, kn, m, mn, ROWS, a, line);
                panels(mn, p->n, kn, a, b, c + m * ld, ld);
            }
        }
        free(line);
        free(a);
    }
    free(b);
}

static void store(const dbl_graph *g, int64_t rows, int64_t columns, float *c, void *out)
{
    const cudnnDataType_t type = g->out[0].type;
    const int64_t ld = up(columns, COLUMNS);
    float *old = g->beta != 0 ? take(columns) : NULL;
    for (int64_t i = 0; i < rows; i++) {
        char *to = (char *)out + (size_t)(i * columns) * dbl_type_bytes(type);
        float *v = c + i * ld;
        if (old) dbl_read(type, to, columns, old);
        if (old || g->alpha != 1)
            for (int64_t k = 0; k < columns; k++) v[k] = (float)(g->alpha * v[k] + (old ? g->beta * old[k] : 0));
        dbl_write(type, v, columns, to);
    }
    free(old);
}

static matrix gather(const dbl_graph *g, const dbl_tensor *t, const void *at, const dbl_tensor *rows, bool back)
{
    return (matrix){ .at = at, .type = t->type, .tf32 = g->tf32, .segment = t->c, .kind = back ? GATHER_BACK : GATHER_FORWARD, .height = t->h, .width = t->w,
                     .rows_h = rows->h, .rows_w = rows->w, .window = g->window, .stride = g->stride, .pad = g->pad };
}
static matrix plain(const dbl_graph *g, cudnnDataType_t type, const void *at, int64_t columns)
{
    return (matrix){ .at = at, .type = type, .tf32 = g->tf32, .segment = columns, .ld = columns, .kind = PLAIN };
}

static product product_of(const dbl_graph *g, void *const in[2])
{
    const dbl_tensor *a = &g->in[0], *b = &g->in[1], *c = &g->out[0];
    const int64_t taps = g->window * g->window;
    if (g->op == DBL_FORWARD) /* x, w, y */
        return (product){ gather(g, a, in[0], c, false), plain(g, b->type, in[1], taps * a->c), false, false, c->n * c->h * c->w, c->c, taps * a->c };
    if (g->op == DBL_WEIGHTS) /* x, dy, dw */
        return (product){ plain(g, b->type, in[1], b->c), gather(g, a, in[0], b, false), true, true, b->c, taps * a->c, b->n * b->h * b->w };
    matrix w = plain(g, b->type, in[1], c->c); /* dy, w, dx */
    w.kind = WEIGHTS_BACK;
    w.window = g->window;
    w.channels = a->c;
    return (product){ gather(g, a, in[0], c, true), w, false, true, c->n * c->h * c->w, c->c, taps * a->c };
}

void dbl_conv(const dbl_graph *g, void *const in[2], void *const out[2])
{
    const product p = product_of(g, in);
    const int64_t floats = up(p.m, TILE) * up(p.n, COLUMNS);
    float *c = take(floats);
    memset(c, 0, (size_t)floats * sizeof *c);
    multiply(&p, c);
    store(g, p.m, p.n, c, out[0]);
    free(c);
}
