/* cuDNN's double: max-pool with the place of the maximum in its window, the first of equal ones, and its gradient. */
#include "tests/cuda/doubles/cudnn_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *pixel(const dbl_tensor *t, const void *at, int64_t n, int64_t h, int64_t w)
{
    return (char *)(uintptr_t)at + (size_t)(((n * t->h + h) * t->w + w) * t->c) * dbl_type_bytes(t->type);
}

static void forward_pixel(const dbl_graph *g, void *const in[2], void *const out[2], int64_t n, int64_t p, int64_t q, float *v, float *best)
{
    const dbl_tensor *x = &g->in[0], *y = &g->out[0];
    int8_t *index = (int8_t *)pixel(&g->out[1], out[1], n, p, q);
    for (int64_t c = 0; c < x->c; c++) best[c] = -INFINITY;
    memset(index, 0, (size_t)x->c);
    for (int64_t r = 0; r < g->window; r++)
        for (int64_t s = 0; s < g->window; s++) {
            const int64_t h = p * g->stride - g->pad + r, w = q * g->stride - g->pad + s;
            if (h < 0 || w < 0 || h >= x->h || w >= x->w) continue;
            dbl_read(x->type, pixel(x, in[0], n, h, w), x->c, v);
            for (int64_t c = 0; c < x->c; c++)
                if (v[c] > best[c] || (isnan(v[c]) && !isnan(best[c]))) {
                    best[c] = v[c];
                    index[c] = (int8_t)(r * g->window + s);
                }
        }
    dbl_write(y->type, best, y->c, pixel(y, out[0], n, p, q));
}

static void backward_pixel(const dbl_graph *g, void *const in[2], void *const out[2], int64_t n, int64_t h, int64_t w, float *v, float *sum)
{
    const dbl_tensor *dy = &g->in[0], *dx = &g->out[0];
    memset(sum, 0, (size_t)dx->c * sizeof *sum);
    for (int64_t r = 0; r < g->window; r++)
        for (int64_t s = 0; s < g->window; s++) {
            const int64_t y = h + g->pad - r, x = w + g->pad - s, p = y / g->stride, q = x / g->stride;
            if (y < 0 || x < 0 || y % g->stride || x % g->stride || p >= dy->h || q >= dy->w) continue;
            const int8_t *index = (const int8_t *)pixel(&g->in[1], in[1], n, p, q);
            dbl_read(dy->type, pixel(dy, in[0], n, p, q), dy->c, v);
            for (int64_t c = 0; c < dx->c; c++)
                if (index[c] == r * g->window + s) sum[c] += v[c];
        }
    dbl_write(dx->type, sum, dx->c, pixel(dx, out[0], n, h, w));
}

void dbl_pool(const dbl_graph *g, void *const in[2], void *const out[2])
{
    const dbl_tensor *over = &g->out[0];
#pragma omp parallel num_threads(dbl_threads())
    {
        float *v = calloc((size_t)over->c, 2 * sizeof *v);
        if (!v) abort();
#pragma omp for schedule(static)
        for (int64_t i = 0; i < over->n * over->h; i++)
            for (int64_t w = 0; w < over->w; w++)
                (g->op == DBL_POOL ? forward_pixel : backward_pixel)(g, in, out, i / over->h, i % over->h, w, v, v + over->c);
        free(v);
    }
}
