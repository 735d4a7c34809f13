/* Running a command's body on one rank or several. */
#include "bench/launch.h"
#include "bench/session.h"
#include "kernels/cores.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_WORDS = 400 };
static const char cores_variable[] = "RINGMARK_CORES_EACH";

bool bench_is_rank(const bench_options *o) { return o->rank_result[0] || rm_world_from_env().size > 1; }

bool bench_table_wanted(const bench_options *o) { return !o->json || (o->json_file && o->json_file[0] && strcmp(o->json_file, "-")); }

rm_status bench_cores_per_device(const bench_options *o, int32_t n_max, int32_t *out_cores)
{
    int32_t each = rm_cores_each(n_max, o->threads), most = rm_devices_max(each);
    if (n_max > most && !o->oversubscribe)
        return rm_fail(RM_E_ARG, "%d devices of %d cores do not fit on this machine, which has %d: ask for fewer, or give --oversubscribe", n_max, each, most);
    *out_cores = each;
    return RM_OK;
}

rm_status bench_pin_rank(void)
{
    const char *each = getenv(cores_variable);
    rm_cores *cores = malloc(sizeof *cores);
    if (!cores) return rm_fail(RM_E_NOMEM, "out of memory");
    rm_status st = RM_OK;
    if (each && atoi(each) > 0) {
        st = rm_cores_take(atoi(each), rm_world_from_env().local_rank, cores);
        if (st == RM_OK) st = rm_cores_pin(cores);
    }
    free(cores);
    return st;
}

/* The words of this process's command line after the program's name. `text` owns them. */
static rm_status own_words(char *text, size_t size, const char **word)
{
    FILE *f = fopen("/proc/self/cmdline", "r");
    if (!f) return rm_fail_errno("cannot read the own command line");
    size_t n = fread(text, 1, size - 1, f), k = 0;
    fclose(f);
    text[n] = 0;
    for (size_t at = strlen(text) + 1; at < n && k < MAX_WORDS - 1; at += strlen(text + at) + 1) word[k++] = text + at;
    word[k] = NULL;
    if (n == size - 1 || k == MAX_WORDS - 1) return rm_fail(RM_E_ARG, "the command line is too long to start ranks with");
    return RM_OK;
}

static rm_status start_ranks(const bench_options *o, int32_t n, int32_t cores, json_t **out)
{
    enum { SIZE = 128 * 1024 };
    char setting[64], *text = malloc(SIZE);
    const char *word[MAX_WORDS], *env[] = { setting, isatty(STDERR_FILENO) ? "RINGMARK_PROGRESS=1" : NULL, NULL };
    if (!text) return rm_fail(RM_E_NOMEM, "out of memory starting ranks");
    snprintf(setting, sizeof setting, "%s=%d", cores_variable, cores);
    rm_status st = own_words(text, SIZE, word);
    bench_launch_config cfg = { .ranks = n, .argv = word, .env = env, .hostfile = o->hostfile, .oversubscribe = o->oversubscribe, .verbose = o->verbose };
    if (st == RM_OK) st = bench_launch(&cfg, out);
    free(text);
    return st;
}

rm_status bench_run_ranks(const bench_options *o, int32_t n, int32_t cores, bool inside, bench_rank_body *body, json_t **out)
{
    *out = NULL;
    if (!bench_is_rank(o) && !(n == 1 && inside)) return start_ranks(o, n, cores, out);
    json_t *result = NULL;
    rm_status st = body(o, &result);
    if (result && o->rank_result[0]) {
        const rm_status left = bench_launch_leave_result(o->rank_result, result);
        if (st == RM_OK) st = left;
        json_decref(result);
        result = NULL;
    }
    *out = result;
    return st;
}
