#include "profiler/kernel_name.h"
#include <stdbool.h>
#include <string.h>

typedef struct text {
    char *at;
    size_t n, size;
} text;

static void add(text *t, const char *s, size_t n)
{
    if (n > t->size - 1 - t->n) n = t->size - 1 - t->n;
    memcpy(t->at + t->n, s, n);
    t->n += n;
    t->at[t->n] = '\0';
}

/* <length><identifier>; 0 where there is none. */
static size_t identifier(const char *p, const char **out_text, size_t *out_n)
{
    size_t n = 0, digits = 0;
    while (p[digits] >= '0' && p[digits] <= '9' && n < 1u << 16) n = n * 10 + (size_t)(p[digits++] - '0');
    if (!digits || !n || strnlen(p + digits, n) < n) return 0;
    *out_text = p + digits;
    *out_n = n;
    return digits + n;
}

/* A component of a nested name, its template arguments not included; 0: the name ends here. */
static size_t component(const char *p, text *out)
{
    static const char unnamed[] = "_GLOBAL__N_";
    const char *name;
    size_t n, used;
    if (p[0] == 'L') { /* internal linkage */
        used = component(p + 1, out);
        return used ? used + 1 : 0;
    }
    if (p[0] == 'S' && p[1] == 't') {
        name = "std";
        n = 3;
        used = 2;
    } else if (!(used = identifier(p, &name, &n))) return 0;
    if (n >= sizeof unnamed - 1 && !strncmp(name, unnamed, sizeof unnamed - 1)) return used;
    if (out->n) add(out, "::", 2);
    add(out, name, n);
    return used;
}

/* Text for people already: up to its template arguments or parameters. */
static void add_plain(text *t, const char *s)
{
    static const char nothing[] = "void ";
    if (!strncmp(s, nothing, sizeof nothing - 1)) s += sizeof nothing - 1;
    add(t, s, *s ? 1 + strcspn(s + 1, "<(") : 0);
}

void rm_kernel_name(const char *symbol, char *out, size_t size)
{
    text t = { out, 0, size };
    const char *p = symbol;
    out[0] = '\0';
    if (!strncmp(p, "_Z", 2)) {
        p += 2;
        const bool nested = *p == 'N';
        if (nested)
            for (p++; *p && strchr("rVK", *p);) p++;
        for (size_t used = component(p, &t); used; used = nested ? component(p, &t) : 0) p += used;
    }
    if (!t.n) add_plain(&t, symbol);
}
