#include "kernels/cuda/cudnn_cache.h"
#include "base/log.h"
#include "base/sha256.h"
#include "kernels/plans.h"
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1, MOST_MIB = 256 };

struct rm_cudnn_cache {
    char *path, *identity;
    json_t *plans;
    bool put;
};

static void digest(const char *key, const char *text, char hex[65])
{
    rm_sha256 s;
    rm_sha256_begin(&s);
    rm_sha256_add(&s, key, strlen(key));
    rm_sha256_add(&s, "\n", 1);
    rm_sha256_add(&s, text, strlen(text));
    rm_sha256_end(&s, hex);
}

/* The plan's text, NULL where the entry is damaged. */
static const char *text_of(const char *key, const json_t *entry)
{
    char hex[65];
    const char *text = json_string_value(json_object_get(entry, "plan")), *sum = json_string_value(json_object_get(entry, "sha256"));
    if (!text || !sum) return NULL;
    digest(key, text, hex);
    return strcmp(sum, hex) ? NULL : text;
}

static bool all_whole(json_t *plans, char *why, size_t why_size)
{
    for (void *it = json_object_iter(plans); it; it = json_object_iter_next(plans, it)) {
        if (text_of(json_object_iter_key(it), json_object_iter_value(it))) continue;
        snprintf(why, why_size, "the plan of \"%.200s\" is damaged", json_object_iter_key(it));
        return false;
    }
    return true;
}

/* ---- files */
/* The plans of a file: a new reference, or NULL with the reason, "" for a file that is not there. */
static json_t *read_file(const char *path, const char *identity, char *why, size_t why_size)
{
    json_error_t e;
    json_t *plans = NULL;
    why[0] = 0;
    FILE *f = fopen(path, "rb");
    if (!f) {
        if (errno != ENOENT) snprintf(why, why_size, "%s", strerror(errno));
        return NULL;
    }
    bool small = fseek(f, 0, SEEK_END) == 0 && ftell(f) <= (long)MOST_MIB << 20;
    rewind(f);
    json_t *j = small ? json_loadf(f, JSON_REJECT_DUPLICATES, &e) : NULL;
    fclose(f);
    const char *whose = json_string_value(json_object_get(j, "for"));
    if (!small) snprintf(why, why_size, "larger than %d MiB", MOST_MIB);
    else if (!j) snprintf(why, why_size, "line %d: %s", e.line, e.text);
    else if (!whose || json_integer_value(json_object_get(j, "ringmark_cudnn_plans")) != FORMAT)
        snprintf(why, why_size, "no plans of this version of Ringmark");
    else if (strcmp(whose, identity)) snprintf(why, why_size, "it is for \"%.200s\", this is \"%s\"", whose, identity);
    else if (!json_is_object(json_object_get(j, "plans"))) snprintf(why, why_size, "\"plans\" is missing");
    else if (all_whole(json_object_get(j, "plans"), why, why_size)) plans = json_incref(json_object_get(j, "plans"));
    json_decref(j);
    return plans;
}

rm_status rm_cudnn_cache_open(const char *path, const char *identity, rm_cudnn_cache **out_cache)
{
    char why[768];
    rm_cudnn_cache *c = calloc(1, sizeof *c);
    if (!c) return rm_fail(RM_E_NOMEM, "cudnn: no memory for the kept plans");
    c->path = strdup(path);
    c->identity = strdup(identity);
    c->plans = read_file(path, identity, why, sizeof why);
    if (!c->plans) c->plans = json_object();
    if (!c->path || !c->identity || !c->plans) {
        rm_cudnn_cache_close(c);
        return rm_fail(RM_E_NOMEM, "cudnn: no memory for the kept plans");
    }
    if (why[0]) rm_warn_once("cudnn-cache", "plans in %s are not used, they are chosen anew: %s", path, why);
    *out_cache = c;
    return RM_OK;
}

const char *rm_cudnn_cache_get(const rm_cudnn_cache *c, const char *key) { return text_of(key, json_object_get(c->plans, key)); }

rm_status rm_cudnn_cache_put(rm_cudnn_cache *c, const char *key, const char *text)
{
    char hex[65];
    digest(key, text, hex);
    json_t *e = json_pack("{s:s, s:s}", "plan", text, "sha256", hex);
    if (!e || json_object_set_new(c->plans, key, e)) return rm_fail(RM_E_NOMEM, "cudnn: the plan of %s cannot be kept", key);
    c->put = true;
    return RM_OK;
}

size_t rm_cudnn_cache_count(const rm_cudnn_cache *c) { return json_object_size(c->plans); }

static bool write_all(FILE *f, const void *cache)
{
    const rm_cudnn_cache *c = cache;
    json_t *j = json_pack("{s:i, s:s, s:O}", "ringmark_cudnn_plans", FORMAT, "for", c->identity, "plans", c->plans);
    bool ok = j && json_dumpf(j, f, JSON_INDENT(1) | JSON_SORT_KEYS) == 0;
    json_decref(j);
    return ok;
}

void rm_cudnn_cache_save(rm_cudnn_cache *c)
{
    char why[768];
    if (!c->put || !c->path[0]) return;
    json_t *others = read_file(c->path, c->identity, why, sizeof why);
    if (others) json_object_update_missing(c->plans, others);
    json_decref(others);
    if (rm_plans_replace(c->path, write_all, c)) c->put = false;
}

void rm_cudnn_cache_close(rm_cudnn_cache *c)
{
    if (!c) return;
    json_decref(c->plans);
    free(c->identity);
    free(c->path);
    free(c);
}
