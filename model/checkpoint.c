/* Pairs of safetensors files that count as one checkpoint.
 *
 * "digest" covers the model file: metadata, names, types, shapes and data; the state file carries it too, which ties the
 * two. "state_digest" covers the state file likewise. Both are 64-bit hashes against damage and mix-ups, not against malice. */
#include "base/log.h"
#include "model/safetensors.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX       ".safetensors"
#define STATE_SUFFIX ".state.safetensors"
static const char key_digest[] = "digest", key_state[] = "state_digest";
enum { MAX_PATH = 4096, MAX_META = 64, DIGEST_TEXT = 17 };

/* ---- digest */
/* FNV-1a over 8-byte words with a fold: for a given tail each step is a bijection of h, so no single damaged word can
 * cancel out, and it runs at the speed of memory. */
static uint64_t mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 32);
}

static uint64_t hash_bytes(uint64_t h, const void *data, uint64_t bytes)
{
    const uint8_t *p = data;
    uint64_t word = 0, left = bytes;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = mix(h, word);
    }
    word = 0;
    if (left) memcpy(&word, p, (size_t)left);
    return mix(mix(h, word), bytes);
}

static uint64_t hash_text(uint64_t h, const char *text) { return hash_bytes(h, text, strlen(text)); }

static uint64_t hash_tensor(const rm_st_tensor *t)
{
    uint64_t h = hash_text(hash_text(0x5851F42D4C957F2Du, t->name), t->dtype);
    h = hash_bytes(h, t->dim, (uint64_t)t->n_dim * sizeof t->dim[0]);
    return hash_bytes(h, t->data, t->bytes);
}

/* Metadata and tensors are sets: the sum of their hashes does not depend on the order in which a writer puts them. */
static uint64_t hash_meta(const rm_st_meta *meta, uint32_t n, const char *except)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        if (strcmp(meta[i].key, except)) sum += hash_text(hash_text(0x14057B7EF767814Fu, meta[i].key), meta[i].value);
    return sum;
}

static void digest_text(uint64_t sum, char text[DIGEST_TEXT]) { snprintf(text, DIGEST_TEXT, "%016llx", (unsigned long long)mix(sum, 1)); }

/* Digest of an open file, but for the metadata entry that holds it. */
static void digest_file(const rm_st_file *f, const char *except, char text[DIGEST_TEXT])
{
    uint32_t n_meta;
    const rm_st_meta *meta = st_meta(f, &n_meta);
    uint64_t sum = hash_meta(meta, n_meta, except);
    for (uint32_t i = 0; i < rm_st_count(f); i++) sum += hash_tensor(rm_st_at(f, i));
    digest_text(sum, text);
}

static void digest_parts(const rm_st_tensor *t, uint32_t n, const rm_st_meta *meta, uint32_t n_meta, char text[DIGEST_TEXT])
{
    uint64_t sum = hash_meta(meta, n_meta, "");
    for (uint32_t i = 0; i < n; i++) sum += hash_tensor(&t[i]);
    digest_text(sum, text);
}

/* ---- names */
void rm_ckpt_path(char *out, size_t size, const char *dir, const char *name, uint64_t step)
{
    snprintf(out, size, "%s/%s-%08llu", dir, name, (unsigned long long)step);
}

static bool ends_in(const char *text, const char *suffix)
{
    size_t n = strlen(text), m = strlen(suffix);
    return n >= m && !strcmp(text + n - m, suffix);
}

/* "X", "X.safetensors" and "X.state.safetensors" name the same pair. */
static rm_status pair_paths(const char *base, char model[MAX_PATH], char state[MAX_PATH])
{
    size_t n = strlen(base);
    if (ends_in(base, STATE_SUFFIX)) n -= strlen(STATE_SUFFIX);
    else if (ends_in(base, SUFFIX)) n -= strlen(SUFFIX);
    if (n + sizeof STATE_SUFFIX > MAX_PATH) return rm_fail(RM_E_ARG, "%.60s...: the path is too long", base);
    snprintf(model, MAX_PATH, "%.*s%s", (int)n, base, SUFFIX);
    snprintf(state, MAX_PATH, "%.*s%s", (int)n, base, STATE_SUFFIX);
    return RM_OK;
}

/* ---- writing: both files are whole on disk before either takes its name */
static rm_status put_half(st_out *o, const char *path, const rm_st_tensor *t, uint32_t n, const rm_st_meta *meta, uint32_t n_meta)
{
    RM_TRY(st_out_open(path, o));
    RM_TRY(st_put_file(o, t, n, meta, n_meta));
    return st_out_finish(o);
}

rm_status rm_ckpt_write(const char *base, const rm_st_tensor *model, uint32_t n_model, const rm_st_tensor *state, uint32_t n_state,
                        const rm_st_meta *meta, uint32_t n_meta)
{
    char path[2][MAX_PATH], digest[DIGEST_TEXT], state_digest[DIGEST_TEXT];
    rm_st_meta all[MAX_META];
    st_out out[2] = { { .fd = -1 }, { .fd = -1 } };
    rm_status st = RM_OK;
    if (n_meta + 2 > MAX_META) return rm_fail(RM_E_ARG, "%s: %u metadata entries are too many", base, n_meta);
    RM_TRY(pair_paths(base, path[0], path[1]));
    if (n_meta) memcpy(all, meta, n_meta * sizeof *meta);
    digest_parts(model, n_model, all, n_meta, digest);
    all[n_meta] = (rm_st_meta){ key_digest, digest };
    digest_parts(state, n_state, all, n_meta + 1, state_digest);
    all[n_meta + 1] = (rm_st_meta){ key_state, state_digest };
    RM_TRY_GOTO(st, put_half(&out[0], path[0], model, n_model, all, n_meta + 1), out);
    RM_TRY_GOTO(st, put_half(&out[1], path[1], state, n_state, all, n_meta + 2), out);
    st = st_out_commit(out, 2);
out:
    st_out_abort(&out[0]);
    st_out_abort(&out[1]);
    return st;
}

/* ---- reading */
static rm_status verify(const rm_st_file *f, const char *key, bool required)
{
    char have[DIGEST_TEXT];
    const char *want = rm_st_metadata(f, key);
    if (!want && !required) return RM_OK;
    if (!want) return rm_fail(RM_E_FORMAT, "%s: no %s in its metadata: not part of a training checkpoint", rm_st_path(f), key);
    digest_file(f, key, have);
    if (!strcmp(want, have)) return RM_OK;
    return rm_fail(RM_E_FORMAT, "%s: the contents do not match their digest (%s, expected %.32s); the file is damaged", rm_st_path(f), have, want);
}

static rm_status open_state(const rm_st_file *model, const char *path, rm_st_file **out_state)
{
    rm_st_file *state = NULL;
    rm_status st = RM_OK;
    const char *ours = rm_st_metadata(model, key_digest);
    if (!ours) return rm_fail(RM_E_FORMAT, "%s: no digest in its metadata: it holds a model, not a training state to resume from", rm_st_path(model));
    RM_TRY(rm_st_open(path, &state));
    RM_TRY_GOTO(st, verify(state, key_state, true), bad);
    const char *theirs = rm_st_metadata(state, key_digest);
    if (!theirs || strcmp(ours, theirs)) {
        st = rm_fail(RM_E_FORMAT, "%s and %s are of different checkpoints (digests %.32s and %.32s)", rm_st_path(model), path, ours, theirs ? theirs : "none");
        goto bad;
    }
    *out_state = state;
    return RM_OK;
bad:
    rm_st_close(state);
    return st;
}

rm_status rm_ckpt_open(const char *base_or_path, rm_st_file **out_model, rm_st_file **out_state)
{
    char model_path[MAX_PATH], state_path[MAX_PATH];
    rm_st_file *model = NULL;
    rm_status st = RM_OK;
    RM_TRY(pair_paths(base_or_path, model_path, state_path));
    /* A foreign file may have any name. */
    if (!out_state && access(model_path, F_OK) && !access(base_or_path, F_OK)) snprintf(model_path, sizeof model_path, "%s", base_or_path);
    RM_TRY(rm_st_open(model_path, &model));
    RM_TRY_GOTO(st, verify(model, key_digest, false), bad);
    if (out_state) RM_TRY_GOTO(st, open_state(model, state_path, out_state), bad);
    *out_model = model;
    return RM_OK;
bad:
    rm_st_close(model);
    return st;
}

/* ---- folders */
typedef struct { uint64_t step; bool model, state; } entry;
typedef struct { entry *e; size_t n, room; } entries;

/* NAME-DIGITS as rm_ckpt_path() writes it, followed by `rest`. */
static bool parse_name(const char *file, const char *name, uint64_t *step, const char **rest)
{
    size_t n = strlen(name);
    char digits[24];
    if (strncmp(file, name, n) || file[n] != '-' || !isdigit((unsigned char)file[n + 1])) return false;
    char *end;
    errno = 0;
    *step = strtoull(file + n + 1, &end, 10);
    *rest = end;
    snprintf(digits, sizeof digits, "%08llu", (unsigned long long)*step);
    return !errno && (size_t)(end - file) == n + 1 + strlen(digits) && !strncmp(file + n + 1, digits, strlen(digits));
}

static rm_status entries_add(entries *l, uint64_t step, bool model, const char *dir)
{
    for (size_t i = 0; i < l->n; i++) {
        if (l->e[i].step != step) continue;
        *(model ? &l->e[i].model : &l->e[i].state) = true;
        return RM_OK;
    }
    if (l->n == l->room) {
        size_t room = l->room ? 2 * l->room : 16;
        entry *more = realloc(l->e, room * sizeof *more);
        if (!more) return rm_fail(RM_E_NOMEM, "%s: out of memory listing checkpoints", dir);
        l->e = more;
        l->room = room;
    }
    l->e[l->n++] = (entry){ step, model, !model };
    return RM_OK;
}

static int newest_first(const void *a, const void *b)
{
    uint64_t x = ((const entry *)a)->step, y = ((const entry *)b)->step;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Half and whole pairs of `name` in `dir`, newest first; with `sweep`, temporaries left by killed writers are removed. */
static rm_status list_dir(const char *dir, const char *name, bool sweep, entries *out)
{
    entries l = { 0 };
    rm_status st = RM_OK;
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) {
        *out = l;
        return RM_OK;
    }
    if (!d) return rm_fail_errno("%s: cannot be read", dir);
    for (const struct dirent *f; st == RM_OK && (f = readdir(d));) {
        uint64_t step;
        const char *rest;
        if (!parse_name(f->d_name, name, &step, &rest)) continue;
        if (!strcmp(rest, SUFFIX)) st = entries_add(&l, step, true, dir);
        else if (!strcmp(rest, STATE_SUFFIX)) st = entries_add(&l, step, false, dir);
        else if (sweep && strstr(rest, SUFFIX ".") && ends_in(rest, ".tmp")) unlinkat(dirfd(d), f->d_name, 0);
    }
    closedir(d);
    if (st != RM_OK) {
        free(l.e);
        return st;
    }
    if (l.n) qsort(l.e, l.n, sizeof *l.e, newest_first);
    *out = l;
    return RM_OK;
}

/* Whether the pair can be resumed from; says why not. RM_E_NOMEM and the like are passed on. */
static rm_status usable(const char *base, const entry *e, bool *out)
{
    rm_st_file *model = NULL, *state = NULL;
    *out = false;
    if (!e->model || !e->state) {
        rm_warn("%s: skipped: only one half of the checkpoint is there", base);
        return RM_OK;
    }
    rm_status st = rm_ckpt_open(base, &model, &state);
    if (st == RM_E_NOMEM) return st;
    if (st != RM_OK) {
        rm_warn("%s: skipped: %s", base, rm_last_error());
        return RM_OK;
    }
    rm_st_close(model);
    rm_st_close(state);
    *out = true;
    return RM_OK;
}

rm_status rm_ckpt_latest(const char *dir, const char *name, char *out, size_t size, uint64_t *out_step)
{
    entries l;
    rm_status st = RM_OK;
    bool found = false;
    char base[MAX_PATH];
    RM_TRY(list_dir(dir, name, false, &l));
    for (size_t i = 0; i < l.n && st == RM_OK && !found; i++) {
        rm_ckpt_path(base, sizeof base, dir, name, l.e[i].step);
        st = usable(base, &l.e[i], &found);
        if (st != RM_OK || !found) continue;
        if (strlen(base) >= size) st = rm_fail(RM_E_ARG, "%.60s...: the path is too long", base);
        else {
            snprintf(out, size, "%s", base);
            *out_step = l.e[i].step;
        }
    }
    if (st == RM_OK && !found) {
        if (size) out[0] = 0;
        *out_step = 0;
    }
    free(l.e);
    return st;
}

/* As usable(), from the headers alone and in silence: prune runs after every save. */
static bool seems_usable(const char *base, const entry *e)
{
    char path[2][MAX_PATH];
    rm_st_file *f[2] = { NULL, NULL };
    bool good = e->model && e->state && pair_paths(base, path[0], path[1]) == RM_OK;
    for (int i = 0; i < 2 && good; i++) good = rm_st_open(path[i], &f[i]) == RM_OK && rm_st_metadata(f[i], key_digest);
    good = good && !strcmp(rm_st_metadata(f[0], key_digest), rm_st_metadata(f[1], key_digest));
    for (int i = 0; i < 2; i++) rm_st_close(f[i]);
    return good;
}

static rm_status remove_pair(const char *base)
{
    char path[2][MAX_PATH];
    RM_TRY(pair_paths(base, path[0], path[1]));
    for (int i = 1; i >= 0; i--) /* the state first: a lone model file is still good for evaluation */
        if (unlink(path[i]) && errno != ENOENT) return rm_fail_errno("%s: cannot be removed", path[i]);
    return RM_OK;
}

rm_status rm_ckpt_prune(const char *dir, const char *name, int keep)
{
    entries l;
    rm_status st = RM_OK;
    int kept = 0;
    char base[MAX_PATH];
    RM_TRY(list_dir(dir, name, true, &l));
    for (size_t i = 0; i < l.n && st == RM_OK; i++) {
        rm_ckpt_path(base, sizeof base, dir, name, l.e[i].step);
        if (kept >= keep) st = remove_pair(base);
        else kept += seems_usable(base, &l.e[i]); /* a broken pair does not count: it must not push out the last good one */
    }
    free(l.e);
    return st;
}
