/* Which launcher, and how to speak to it. */
#define _GNU_SOURCE
#include "bench/hostfile.h"
#include "bench/launch.h"
#include "kernels/comm/comm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef RM_MPIEXEC
#define RM_MPIEXEC ""
#endif

enum { NAMES = 6, ALWAYS = 8 };
/* A launcher's words; NULL where it has none. */
typedef struct dialect {
    const char *library;            /* beginning of the MPI library's name */
    const char *says[3];            /* one of these is in the answer to --version */
    const char *name[NAMES];        /* on PATH, in this order */
    const char *always[ALWAYS];
    const char *as_root, *oversubscribe, *hosts, *hostfile, *pass_env;   /* hosts: "a:2,b:2" follows; hostfile: the user's file as it is */
    bool slots_are_cores;           /* refuses more ranks than physical cores unless told to oversubscribe */
} dialect;

static const dialect dialects[] = {
    { .library = "Open MPI", .says = { "OpenRTE", "Open MPI", "PRRTE" }, .name = { "mpirun", "mpiexec", "mpirun.openmpi", "mpiexec.openmpi", "orterun" },
      .always = { "--bind-to", "none" }, .as_root = "--allow-run-as-root", .oversubscribe = "--oversubscribe", .hosts = "--host", .pass_env = "-x",
      .slots_are_cores = true },
    { .library = "Intel", .says = { "Intel(R) MPI" }, .name = { "mpiexec.hydra", "mpirun", "mpiexec" }, .always = { "-genv", "I_MPI_PIN", "off" },
      .hostfile = "-f" },
    { .library = "", .says = { "HYDRA" }, .name = { "mpiexec", "mpirun", "mpiexec.hydra", "mpiexec.mpich", "mpirun.mpich" }, .always = { "-bind-to", "none" },
      .hosts = "-hosts" },
};
static const dialect slurm = { .library = "", .name = { "srun" }, .always = { "--kill-on-bad-exit=1", "--cpu-bind=none", "--input=none" },
                               .oversubscribe = "--overcommit" };

rm_status bench_launch_add(bench_launch_command *c, const char *word)
{
    if (c->n + 1 >= BENCH_LAUNCH_WORDS) return rm_fail(RM_E_ARG, "the command line of the ranks has more than %d words", BENCH_LAUNCH_WORDS - 1);
    c->word[c->n] = strdup(word);
    if (!c->word[c->n]) return rm_fail(RM_E_NOMEM, "out of memory for the command line of the ranks");
    c->word[++c->n] = NULL;
    return RM_OK;
}

void bench_launch_command_free(bench_launch_command *c)
{
    for (int i = 0; i < c->n; i++) free(c->word[i]);
    c->n = 0;
}

/* The file that `name` is on PATH, or name itself where it has a slash; false when there is none to execute. */
static bool find_program(const char *name, char *out, size_t size)
{
    if (!name[0]) return false;
    if (strchr(name, '/')) return snprintf(out, size, "%s", name) < (int)size && access(out, X_OK) == 0;
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/usr/bin:/bin"; *p; p += strcspn(p, ":"), p += *p == ':') {
        const int n = (int)strcspn(p, ":");
        if (n && snprintf(out, size, "%.*s/%s", n, p, name) < (int)size && access(out, X_OK) == 0) return true;
    }
    return false;
}

/* Ask it: on one machine mpirun may be any library's, and the wrong one would start N programs that each run alone. */
static bool speaks(const char *program, const dialect *d)
{
    char command[4200], text[2048];
    if (strchr(program, '\'') || snprintf(command, sizeof command, "'%s' --version < /dev/null 2>&1", program) >= (int)sizeof command) return false;
    FILE *f = popen(command, "re");
    if (!f) return false;
    const size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = '\0';
    while (fgetc(f) != EOF) {} /* to its end, or it dies of SIGPIPE */
    pclose(f);
    for (size_t i = 0; i < RM_COUNT(d->says); i++)
        if (d->says[i] && strstr(text, d->says[i])) return true;
    return false;
}

static rm_status choose_program(const dialect *d, const char *library, char *out, size_t size)
{
    const char *asked = getenv("RINGMARK_MPIEXEC");
    if (asked && asked[0]) {
        if (find_program(asked, out, size)) return RM_OK;
        return rm_fail(RM_E_ARG, "RINGMARK_MPIEXEC=%s: no such program", asked);
    }
    if (find_program(RM_MPIEXEC, out, size) && speaks(out, d)) return RM_OK;
    for (size_t i = 0; i < NAMES && d->name[i]; i++)
        if (find_program(d->name[i], out, size) && speaks(out, d)) return RM_OK;
    return rm_fail(RM_E_UNSUPPORTED, "no mpirun of %s, which bench was built with, is on PATH; install it, or name it in RINGMARK_MPIEXEC", library);
}

int32_t bench_slurm_number(const char *variable)
{
    int32_t most = 0;
    for (const char *p = getenv(variable); p && *p; p += strcspn(p, ","), p += *p == ',') {
        const int32_t v = atoi(p); // NOLINT(cert-err34-c): "2(x3)" begins with the number
        if (v > most) most = v;
    }
    return most;
}

bool bench_slurm_several(void) { return getenv("SLURM_JOB_ID") && (bench_slurm_number("SLURM_NTASKS") > 1 || bench_slurm_number("SLURM_JOB_NUM_NODES") > 1); }

static bool inside_slurm(const bench_launch_config *cfg, char *srun, size_t size)
{
    return bench_slurm_several() && !(cfg->hostfile && cfg->hostfile[0]) && find_program("srun", srun, size);
}

static rm_status add_pair(bench_launch_command *c, const char *a, const char *b)
{
    RM_TRY(bench_launch_add(c, a));
    return bench_launch_add(c, b);
}

static rm_status add_hosts(const bench_launch_config *cfg, const dialect *d, bench_launch_command *c)
{
    bench_hosts h;
    if (d->hostfile) return add_pair(c, d->hostfile, cfg->hostfile);
    if (!d->hosts) return RM_OK;
    RM_TRY(bench_hosts_read(cfg->hostfile, &h));
    char *list = bench_hosts_list(&h);
    bench_hosts_free(&h);
    const rm_status st = list ? add_pair(c, d->hosts, list) : rm_fail(RM_E_NOMEM, "out of memory for the list of hosts");
    free(list);
    return st;
}

static rm_status add_name(bench_launch_command *c, const char *option, const char *entry)
{
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "="), entry);
    return add_pair(c, option, name);
}

/* To ranks on other machines: this launcher's remote shell leaves the environment behind. */
static rm_status add_environment(const bench_launch_config *cfg, const char *option, bench_launch_command *c)
{
    static const char *const wanted[] = { "RINGMARK_", "OMP_", "GOMP_", "KMP_", "ONEDNN_", "DNNL_", "UCX_", "NCCL_", "LD_LIBRARY_PATH=" };
    for (size_t i = 0; cfg->env && cfg->env[i]; i++) RM_TRY(add_name(c, option, cfg->env[i]));
    for (size_t i = 0; environ[i]; i++)
        for (size_t k = 0; k < RM_COUNT(wanted); k++)
            if (strncmp(environ[i], wanted[k], strlen(wanted[k])) == 0 && !bench_launch_replaced(environ[i], cfg->env)) RM_TRY(add_name(c, option, environ[i]));
    return RM_OK;
}

static rm_status add_options(const bench_launch_config *cfg, const dialect *d, bench_launch_command *c)
{
    char count[16];
    const bool hosts = cfg->hostfile && cfg->hostfile[0];
    snprintf(count, sizeof count, "%d", cfg->ranks);
    for (size_t i = 0; i < ALWAYS && d->always[i]; i++) RM_TRY(bench_launch_add(c, d->always[i]));
    if (d->as_root && geteuid() == 0) RM_TRY(bench_launch_add(c, d->as_root));
    /* On this machine we have counted ourselves, by hardware threads; in a host file the slots are the user's word. */
    if (d->oversubscribe && (cfg->oversubscribe || (d->slots_are_cores && !hosts))) RM_TRY(bench_launch_add(c, d->oversubscribe));
    if (hosts) RM_TRY(add_hosts(cfg, d, c));
    if (d->pass_env) RM_TRY(add_environment(cfg, d->pass_env, c));
    return add_pair(c, "-n", count);
}

rm_status bench_launch_find(const bench_launch_config *cfg, const char *library, bench_launch_command *out)
{
    char program[4096];
    const dialect *d = &slurm;
    if (cfg->ranks == 1) return RM_OK;
    if (!inside_slurm(cfg, program, sizeof program)) {
        for (d = dialects; strncmp(library, d->library, strlen(d->library)) != 0;) d++; /* the last one takes any */
        RM_TRY(choose_program(d, library, program, sizeof program));
    }
    out->shared_files = d == &slurm || (cfg->hostfile && cfg->hostfile[0]);
    RM_TRY(bench_launch_add(out, program));
    return add_options(cfg, d, out);
}
