#include "model/mllog.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct rm_mllog { FILE *f; };

rm_status rm_mllog_open(const char *path, rm_mllog **out)
{
    *out = NULL;
    if (!path || !path[0]) return RM_OK;
    rm_mllog *l = malloc(sizeof *l);
    if (!l) return rm_fail(RM_E_NOMEM, "out of memory opening %s", path);
    l->f = strcmp(path, "-") ? fopen(path, "a") : stdout;
    if (!l->f) {
        free(l);
        return rm_fail_errno("cannot write MLPerf log %s", path);
    }
    *out = l;
    return RM_OK;
}

void rm_mllog_event(rm_mllog *l, rm_mllog_type type, const char *key, const char *value, int64_t epoch)
{
    static const char *const types[] = { [RM_ML_POINT] = "POINT_IN_TIME", [RM_ML_START] = "INTERVAL_START", [RM_ML_END] = "INTERVAL_END" };
    if (!l) return;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    fprintf(l->f, ":::MLLOG {\"namespace\": \"\", \"time_ms\": %lld, \"event_type\": \"%s\", \"key\": \"%s\", \"value\": %s, \"metadata\": {\"file\": \"model/train.c\", \"lineno\": 0",
            (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000, types[type], key, value);
    if (epoch >= 0) fprintf(l->f, ", \"epoch_num\": %lld", (long long)epoch);
    fputs("}}\n", l->f);
    fflush(l->f);
}

void rm_mllog_number(rm_mllog *l, rm_mllog_type type, const char *key, double value, int64_t epoch)
{
    char text[40];
    snprintf(text, sizeof text, "%.10g", value);
    rm_mllog_event(l, type, key, text, epoch);
}

rm_status rm_mllog_close(rm_mllog *l)
{
    if (!l) return RM_OK;
    int bad = ferror(l->f);
    if (l->f != stdout) bad |= fclose(l->f) != 0;
    free(l);
    return bad ? rm_fail_errno("writing the MLPerf log failed") : RM_OK;
}
