#include "bench/gate_usual.h"
#include "bench/bench.h"
#include "bench/session.h"
#include <stdio.h>
#include <string.h>

static bool runs(const char *args, const char *command)
{
    const size_t n = strcspn(args, " ");
    return strlen(command) == n && strncmp(args, command, n) == 0;
}

/* The value of --gpus in a line of words; "" where there is none. */
static void gpus_of(const char *args, char *out, size_t size)
{
    static const char *const name[] = { " --gpus", " --devices" };
    out[0] = '\0';
    for (size_t i = 0; i < RM_COUNT(name); i++) {
        const char *at = strstr(args, name[i]);
        if (!at || !strchr(" =", at[strlen(name[i])])) continue;
        at += strlen(name[i]);
        at += strspn(at, " ='\"");
        snprintf(out, size, "%.*s", (int)strcspn(at, " '\""), at);
    }
}

static rm_status of_list(const int32_t *list, int32_t n, const char *gpus, bench_usual *u)
{
    if (n > BENCH_USUAL_MOST)
        return rm_fail(RM_E_ARG, "--bench 'scaling --gpus %s' has %d step times: say which are compared, as with --metric \"step_s=$.samples['n=%d'].step_s\"",
                       gpus, n, list[n - 1]);
    for (int32_t i = 0; i < n; i++) snprintf(u->text[u->n++], sizeof u->text[0], "step_s_n%d=$.samples['n=%d'].step_s", list[i], list[i]);
    return RM_OK;
}

static rm_status steps_of(const char *args, bench_usual *u)
{
    char gpus[200];
    int32_t n = 0, list[BENCH_MAX_LIST];
    if (runs(args, "split-sweep"))
        return rm_fail(RM_E_ARG,
                       "--bench 'split-sweep' has a step time a split: say which is compared, as with --metric \"step_s=$.samples['001 ddp'].step_s\"");
    gpus_of(args, gpus, sizeof gpus);
    if (runs(args, "scaling") && gpus[0]) RM_TRY(bench_parse_list(gpus, "--gpus", list, &n));
    if (n > 1) return of_list(list, n, gpus, u);
    snprintf(u->text[u->n++], sizeof u->text[0], "step_s=$.samples..step_s");
    return RM_OK;
}

rm_status bench_gate_usual(const char *args, bench_usual *out)
{
    bench_usual u = { .n = 0 };
    RM_TRY(steps_of(args, &u));
    if (u.n < BENCH_USUAL_MOST) snprintf(u.text[u.n++], sizeof u.text[0], "cpu_s=@cpu_s");
    *out = u;
    return RM_OK;
}
