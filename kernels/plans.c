#define _GNU_SOURCE
#include "kernels/plans.h"
#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE = 1024 };

static uint64_t fnv1a(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (const char *p = text; *p; p++) h = (h ^ (uint8_t)*p) * 0x100000001b3u;
    return h;
}

static void identity(const rm_device *d, char *out, size_t size)
{
    rm_device_info i;
    rm_device_get_info(d, &i);
    snprintf(out, size, "# ringmark plans 1: %s | %s | %s | %s | %d threads", i.device, i.name, i.library, i.isa, i.threads);
}

void rm_plans_file(const char *id, const char *suffix, char *out, size_t size)
{
    const char *own = getenv("RINGMARK_PLANS"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    out[0] = 0;
    unsigned long long h = fnv1a(id);
    if (own && own[0]) {
        if (strcmp(own, "none")) snprintf(out, size, "%s/%016llx.%s", own, h, suffix);
    } else if (cache && cache[0]) snprintf(out, size, "%s/ringmark/%016llx.%s", cache, h, suffix);
    else if (home && home[0]) snprintf(out, size, "%s/.cache/ringmark/%016llx.%s", home, h, suffix);
}

void rm_plans_path(const rm_device *d, char *out, size_t size)
{
    char id[LINE];
    identity(d, id, sizeof id);
    rm_plans_file(id, "plans", out, size);
}

static bool read_line(FILE *f, char *line, size_t size)
{
    if (!fgets(line, (int)size, f)) return false;
    line[strcspn(line, "\n")] = 0;
    return true;
}

static size_t count_choices(const rm_device *d)
{
    size_t n = 0;
    const char *key, *impl;
    while (d->ops->choice_at(d, n, &key, &impl)) n++;
    return n;
}

void rm_plans_load(rm_device *d, const char *path)
{
    char line[LINE], id[LINE];
    if (d->ops->keep) d->ops->keep(d, false);
    FILE *f = d->ops->choice_force && path[0] ? fopen(path, "r") : NULL;
    if (!f) return;
    identity(d, id, sizeof id);
    if (read_line(f, line, sizeof line) && !strcmp(line, id))
        while (read_line(f, line, sizeof line)) {
            char *tab = strchr(line, '\t');
            if (!tab || tab == line || !tab[1]) continue;
            *tab = 0;
            if (d->ops->choice_force(d, line, tab + 1) != RM_OK) break;
        }
    fclose(f);
}

/* Number of choices in a file that is for this device, 0 when there is none. */
static size_t kept(const rm_device *d, const char *path)
{
    char line[LINE], id[LINE];
    size_t n = 0;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    identity(d, id, sizeof id);
    if (read_line(f, line, sizeof line) && !strcmp(line, id))
        while (read_line(f, line, sizeof line)) n++;
    fclose(f);
    return n;
}

static void make_parents(const char *path)
{
    char dir[LINE];
    snprintf(dir, sizeof dir, "%s", path);
    for (char *p = dir + 1; *p; p++)
        if (*p == '/') {
            *p = 0;
            mkdir(dir, 0777); /* what matters shows when the file is opened */
            *p = '/';
        }
}

bool rm_plans_replace(const char *path, bool (*fill)(FILE *f, const void *context), const void *context)
{
    char tmp[LINE + 32];
    const bool fits = snprintf(tmp, sizeof tmp, "%s.%d.tmp", path, (int)getpid()) < (int)sizeof tmp && strlen(path) < LINE;
    if (fits) make_parents(path);
    FILE *f = fits ? fopen(tmp, "w") : NULL;
    if (!fits) errno = ENAMETOOLONG;
    bool ok = f && fill(f, context) && fflush(f) == 0 && !ferror(f);
    if (f) ok = fclose(f) == 0 && ok;
    if (ok && rename(tmp, path) == 0) return true;
    rm_warn_once("plans", "plans not kept in %s: %s; later runs choose again and may differ in the last bits (RINGMARK_PLANS=DIR chooses another folder)", path,
                 strerror(errno));
    if (fits) unlink(tmp);
    return false;
}

static bool write_all(FILE *f, const void *device)
{
    const rm_device *d = device;
    char id[LINE];
    const char *key, *impl;
    identity(d, id, sizeof id);
    fprintf(f, "%s\n", id);
    for (size_t i = 0; d->ops->choice_at(d, i, &key, &impl); i++) fprintf(f, "%s\t%s\n", key, impl);
    return true;
}

void rm_plans_save(const rm_device *d, const char *path)
{
    if (d->ops->keep) d->ops->keep((rm_device *)(uintptr_t)d, true);
    if (d->ops->choice_at && path[0] && count_choices(d) > kept(d, path)) rm_plans_replace(path, write_all, d);
}
