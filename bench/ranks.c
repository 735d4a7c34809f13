/* Running a command's body on one rank or several. */
#include "bench/hostfile.h"
#include "bench/launch.h"
#include "bench/session.h"
#include "kernels/comm/mpi_settings.h"
#include "kernels/cores.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_WORDS = 400 };
static const char cores_variable[] = "RINGMARK_CORES_EACH";

bool bench_is_rank(const bench_options *o) { return o->rank_result[0] || rm_world_from_env().size > 1; }

bool bench_table_wanted(const bench_options *o) { return !o->json || (o->json_file && o->json_file[0] && strcmp(o->json_file, "-")); }

/* Where ranks may run when not on this machine alone. */
typedef struct places { int32_t devices, most_on_one, cores_each; } places; /* 0: not given */

/* True with *out filled when --hostfile or Slurm says where; false: this machine. */
static rm_status find_places(const bench_options *o, bool *out_elsewhere, places *out)
{
    *out = (places) { 0 };
    *out_elsewhere = false;
    if (o->hostfile && o->hostfile[0]) {
        bench_hosts h;
        RM_TRY(bench_hosts_read(o->hostfile, &h));
        *out = (places) { .devices = h.slots, .most_on_one = h.most };
        bench_hosts_free(&h);
        *out_elsewhere = true;
    } else if (bench_slurm_several()) {
        *out = (places) { bench_slurm_number("SLURM_NTASKS"), bench_slurm_number("SLURM_TASKS_PER_NODE"), bench_slurm_number("SLURM_CPUS_PER_TASK") };
        *out_elsewhere = true;
    }
    return RM_OK;
}

rm_status bench_devices(const bench_options *o, int32_t cores, int32_t *out_n, char *where, size_t size)
{
    places p;
    bool elsewhere;
    int32_t here;
    RM_TRY(find_places(o, &elsewhere, &p));
    RM_TRY(rm_device_count(o->device && o->device[0] ? o->device : "auto", &here));
    *out_n = !elsewhere ? here ? here : rm_devices_max(cores) : p.devices ? p.devices : INT32_MAX;
    if (!elsewhere && here) snprintf(where, size, "this machine has %d GPU%s", here, here == 1 ? "" : "s");
    else if (!elsewhere) snprintf(where, size, "this machine has %d device%s of %d cores", *out_n, *out_n == 1 ? "" : "s", cores);
    else if (o->hostfile && o->hostfile[0]) snprintf(where, size, "%s has %d slots", o->hostfile, *out_n);
    else snprintf(where, size, "this Slurm job has %d tasks", *out_n);
    return RM_OK;
}

/* Of hosts that are like this one. */
static int32_t cores_elsewhere(const bench_options *o, const places *p)
{
    if (o->threads > 0) return o->threads;
    return p->cores_each ? p->cores_each : rm_cores_each(p->most_on_one ? p->most_on_one : 1, 0);
}

/* Ranks make them too; made here they are in the environment that is kept with the result. */
static void make_settings(const bench_options *o, int32_t n_max, int32_t most_here)
{
    char made[512];
    const rm_world ranks = { .size = n_max, .local_size = n_max < most_here ? n_max : most_here };
    if (n_max < 2 && !o->ghost) return;
    if (o->oversubscribe) setenv("RINGMARK_SHARED_CORES", "1", 0);
    mpi_settings_apply(rm_comm_mpi.library(), ranks, made, sizeof made);
}

rm_status bench_cores_per_device(const bench_options *o, int32_t n_max, int32_t *out_cores)
{
    const char *given = getenv(cores_variable);
    places p;
    bool elsewhere;
    int32_t devices;
    char where[400];
    *out_cores = given ? atoi(given) : 0; // NOLINT(cert-err34-c): ours
    if (bench_is_rank(o)) return RM_OK; /* who started it has counted, and the hosts are not ours to read about */
    RM_TRY(find_places(o, &elsewhere, &p));
    const int32_t each = elsewhere ? cores_elsewhere(o, &p) : rm_cores_each(n_max, o->threads);
    RM_TRY(bench_devices(o, each, &devices, where, sizeof where));
    if (n_max > devices && !o->oversubscribe)
        return rm_fail(RM_E_ARG, "%d devices do not fit: %s; ask for fewer, or give --oversubscribe", n_max, where);
    make_settings(o, n_max, p.most_on_one ? p.most_on_one : n_max);
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

rm_status bench_whole(rm_status st, json_t **result)
{
    if (st == RM_OK) return st;
    json_decref(*result);
    *result = NULL;
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
    } else if (o->rank_result[0] && st != RM_OK && st != RM_E_INTERRUPTED && st != RM_E_PARTIAL) {
        bench_launch_leave_failure(o->rank_result, rm_exit_code(st, bench_signal()), rm_world_from_env().rank);
    }
    *out = result;
    return st;
}
