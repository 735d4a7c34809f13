#include "bench/gpu_file.h"
#include "base/file.h"
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const struct rm_embedded { const char *name, *text; } gpus_embedded[]; /* made by cmake/Embed.cmake */

static const struct { const char *key; bool share; } row[GPU_FIGURES] = {
    [GPU_BF16_FLOPS] = { "bf16_flops_per_s", false }, [GPU_FP16_FLOPS] = { "fp16_flops_per_s", false }, [GPU_TF32_FLOPS] = { "tf32_flops_per_s", false },
    [GPU_FP32_FLOPS] = { "fp32_flops_per_s", false }, [GPU_MEMORY_BYTES] = { "memory_bytes_per_s", false }, [GPU_KERNEL_S] = { "kernel_s", false },
    [GPU_COMPUTE_EFFICIENCY] = { "compute_efficiency", true }, [GPU_MEMORY_EFFICIENCY] = { "memory_efficiency", true },
};
static const char *const labels[] = { "published", "worked out", "measured", "assumed" };

const char *gpu_figure_key(gpu_figure f) { return row[f].key; }

/* ---- one line, cut in place */
static char *trim(char *s)
{
    while (isspace((unsigned char)*s)) s++;
    for (char *end = s + strlen(s); end > s && isspace((unsigned char)end[-1]);) *--end = '\0';
    return s;
}

static char *cut(char *s, char at)
{
    char *p = s ? strchr(s, at) : NULL;
    if (!p) return NULL;
    *p = '\0';
    return p + 1;
}

static bool known_label(const char *label)
{
    for (size_t i = 0; i < RM_COUNT(labels); i++)
        if (!strcmp(labels[i], label)) return true;
    return false;
}

static bool printable(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || (unsigned char)*s > '~') return false;
    return true;
}

static const char *set_value(gpu_value *to, bool share, char *value, char *label, char *source)
{
    char *end;
    const double v = strtod(value, &end);
    if (to->source[0]) return "it is given twice";
    if (end == value || *end || !isfinite(v) || v <= 0) return "its value is no number above 0";
    if (share && v > 1) return "an efficiency is at most 1";
    if (!label || !known_label(label)) return "its label must be published, worked out, measured or assumed";
    if (!source || !source[0] || strlen(source) >= sizeof to->source || !printable(source)) return "it must say its source, in at most 159 plain characters";
    to->v = v;
    snprintf(to->label, sizeof to->label, "%s", label);
    snprintf(to->source, sizeof to->source, "%s", source);
    return NULL;
}

static const char *set_name(gpu_file *g, const char *name)
{
    if (g->name[0]) return "it is given twice";
    if (!name[0] || strlen(name) >= sizeof g->name || !printable(name)) return "a name has 1 to 95 plain characters";
    snprintf(g->name, sizeof g->name, "%s", name);
    return NULL;
}

static const char *take_line(gpu_file *g, char *key, char *rest)
{
    char *label = cut(rest, ';'), *source = cut(label, ';');
    if (!rest) return "expected KEY = VALUE ; LABEL ; SOURCE";
    if (!strcmp(key, "name")) return label ? "a name has neither label nor source" : set_name(g, trim(rest));
    for (int i = 0; i < GPU_FIGURES; i++)
        if (!strcmp(row[i].key, key)) return set_value(&g->value[i], row[i].share, trim(rest), label ? trim(label) : NULL, source ? trim(source) : NULL);
    return "there is no such key";
}

static rm_status check(const gpu_file *g, const char *where)
{
    if (!g->name[0]) return rm_fail(RM_E_FORMAT, "%s: it has no name", where);
    for (int i = 0; i < GPU_FIGURES; i++)
        if (!g->value[i].source[0]) return rm_fail(RM_E_FORMAT, "%s: %s is missing", where, row[i].key);
    return RM_OK;
}

rm_status gpu_file_parse(const char *text, const char *where, gpu_file *out)
{
    gpu_file g = { .name = "" };
    char line[512];
    for (int number = 1; *text; number++) {
        const size_t n = strcspn(text, "\n");
        if (n >= sizeof line) return rm_fail(RM_E_FORMAT, "%s:%d: a line has at most %zu characters", where, number, sizeof line - 1);
        snprintf(line, sizeof line, "%.*s", (int)n, text);
        text += n + (text[n] == '\n');
        char *key = trim(line);
        if (!*key || *key == '#') continue;
        char *rest = cut(key, '=');
        const char *why = take_line(&g, trim(key), rest);
        if (why) return rm_fail(RM_E_FORMAT, "%s:%d: %.40s: %s", where, number, printable(key) ? key : "(not plain text)", why);
    }
    RM_TRY(check(&g, where));
    *out = g;
    return RM_OK;
}

rm_status gpu_file_load(const char *name, gpu_file *out)
{
    enum { MOST = 64 << 10 };
    char names[256] = "", *text;
    size_t bytes;
    for (size_t i = 0, used = 0; gpus_embedded[i].name; i++) {
        const size_t n = strcspn(gpus_embedded[i].name, ".");
        if (strlen(name) == n && !strncmp(gpus_embedded[i].name, name, n)) return gpu_file_parse(gpus_embedded[i].text, gpus_embedded[i].name, out);
        if (used < sizeof names) used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s", i ? ", " : "", (int)n, gpus_embedded[i].name);
    }
    if (rm_file_load(name, MOST, &text, &bytes) != RM_OK) return rm_fail(RM_E_ARG, "--project %s: neither a built-in GPU (%s) nor a file that can be read", name, names);
    const rm_status st = strlen(text) == bytes ? gpu_file_parse(text, name, out) : rm_fail(RM_E_FORMAT, "%s: it is no text", name);
    free(text);
    return st;
}

json_t *gpu_file_json(const gpu_file *g)
{
    json_t *figures = json_array();
    for (int i = 0; i < GPU_FIGURES; i++)
        json_array_append_new(figures, json_pack("{s:s, s:f, s:s, s:s}", "name", row[i].key, "value", g->value[i].v, "label", g->value[i].label, "source", g->value[i].source));
    return json_pack("{s:s, s:o}", "name", g->name, "figures", figures);
}
