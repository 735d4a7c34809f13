#include "reports/plot.h"
#include <stdarg.h>

void rp_say(rp_plot *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    rm_str_vaddf(&f->script, fmt, ap);
    va_end(ap);
}

static void list(rp_plot *f, int block, const char *fmt, va_list ap)
{
    rm_str_addf(&f->list, "%s'data' index %d ", f->list.n ? ", \\\n     " : "plot ", block);
    rm_str_vaddf(&f->list, fmt, ap);
}

void rp_series(rp_plot *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    list(f, f->blocks, fmt, ap);
    va_end(ap);
}

void rp_also(rp_plot *f, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    list(f, f->blocks - 1, fmt, ap);
    va_end(ap);
}

void rp_end_block(rp_plot *f)
{
    rm_str_add(&f->data, "\n\n");
    f->blocks++;
}

void rp_quoted(rp_plot *f, const char *text)
{
    rm_str_add(&f->script, "\"");
    rp_escape_gnuplot(&f->script, text);
    rm_str_add(&f->script, "\"");
}

void rp_end_panel(rp_plot *f)
{
    if (f->list.failed) f->script.failed = true;
    else if (f->list.n) rp_say(f, "%s\n", f->list.text);
    rm_str_free(&f->list);
}

void rp_plot_free(rp_plot *f)
{
    rm_str_free(&f->script);
    rm_str_free(&f->data);
    rm_str_free(&f->list);
    f->blocks = 0;
}

rm_status rp_draw(rp_plot *f, const char *out_dir, const char *name, int height, bool *drawn)
{
    rm_status st = RM_OK;
    bool any = f->blocks > 0;
    rp_end_panel(f);
    if (any) st = rp_gnuplot(out_dir, name, height, &f->script, &f->data);
    rp_plot_free(f);
    if (st == RM_OK) *drawn = any;
    return st;
}
