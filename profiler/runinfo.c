#define _GNU_SOURCE /* CPU_ALLOC */
#include "profiler/runinfo.h"
#include "base/sha256.h"
#include "version.h" /* made by cmake/Version.cmake */
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

const char *rm_version(void) { return RM_VERSION_NUMBER " (git " RM_VERSION_GIT ")"; }

/* ---- small readers of /proc and /sys ---------------------------------------------------------------------------- */

/* The whole file as text, at most 256 KiB (the processor's file of a big machine repeats itself); NULL when unreadable. */
static char *read_text(const char *path)
{
    enum { MOST = 256 << 10 };
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    char *text = malloc(MOST + 1);
    if (text) text[fread(text, 1, MOST, f)] = 0;
    fclose(f);
    return text;
}

/* First line of a file without its end; "" when unreadable. */
static void first_line(const char *path, char *out, size_t size)
{
    out[0] = 0;
    FILE *f = fopen(path, "r");
    if (!f) return;
    if (!fgets(out, (int)size, f)) out[0] = 0;
    out[strcspn(out, "\n")] = 0;
    fclose(f);
}

/* Value of the first line "key<blanks>: value"; "" when there is none. */
static void field(const char *text, const char *key, char *out, size_t size)
{
    size_t n = strlen(key);
    out[0] = 0;
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, key, n)) continue;
        const char *p = line + n + strspn(line + n, " \t");
        if (*p != ':') continue;
        p++;
        p += strspn(p, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(p, "\n"), p);
        return;
    }
}

static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; (p = strstr(p, word)); p += n)
        if ((p == list || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

/* ---- what this process may use ---------------------------------------------------------------------------------- */

static int cores_by_affinity(void)
{
    for (int most = 1024; most <= 1 << 20; most *= 2) { /* EINVAL: the kernel's mask is wider */
        cpu_set_t *set = CPU_ALLOC((size_t)most);
        if (!set) break;
        size_t size = CPU_ALLOC_SIZE((size_t)most);
        int n = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 0;
        CPU_FREE(set);
        if (n > 0) return n;
    }
    return get_nprocs();
}

int rm_cores_available(void)
{
    int n = cores_by_affinity();
    char *groups = read_text("/proc/self/cgroup");
    double quota = groups ? rm_cgroup_cores(groups, "/sys/fs/cgroup") : INFINITY;
    free(groups);
    if (quota < n) n = (int)quota;
    return n > 0 ? n : 1;
}

static uint64_t meminfo_bytes(const char *key)
{
    char value[64];
    char *text = read_text("/proc/meminfo");
    field(text, key, value, sizeof value);
    free(text);
    return strtoull(value, NULL, 10) * 1024;
}

uint64_t rm_memory_available(void)
{
    uint64_t bytes = meminfo_bytes("MemAvailable");
    char *groups = read_text("/proc/self/cgroup");
    uint64_t left = groups ? rm_cgroup_memory_left(groups, "/sys/fs/cgroup") : UINT64_MAX;
    free(groups);
    return left < bytes ? left : bytes;
}

/* ---- hard facts ------------------------------------------------------------------------------------------------- */

static int put(json_t *o, const char *name, const char *value)
{
    json_t *v = json_string(value);
    if (!v) v = json_string("(not UTF-8)");
    return json_object_set_new(o, name, v); /* takes v over, also when it fails */
}

/* The widest vector extension: it chooses the code paths of the libraries, so it belongs to the fingerprint. */
static const char *isa_class(const char *flags)
{
    static const struct { const char *flag, *name; } row[] = {
        { "amx_bf16", "amx_bf16" },       { "avx512_bf16", "avx512_bf16" }, { "avx512_vnni", "avx512_vnni" },
        { "avx512f", "avx512" },          { "avx_vnni", "avx2_vnni" },      { "avx2", "avx2" },
        { "avx", "avx" },                 { "sse4_2", "sse4.2" },           { "sve2", "sve2" },
        { "sve", "sve" },                 { "asimd", "neon" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (has_word(flags, row[i].flag)) return row[i].name;
    return "baseline";
}

static int put_processor(json_t *hard, const char *cpuinfo, const struct utsname *u)
{
    char model[256], part[64], flags[8192];
    field(cpuinfo, "model name", model, sizeof model);
    if (!model[0]) { /* ARM names numbers */
        char implementer[64];
        field(cpuinfo, "CPU implementer", implementer, sizeof implementer);
        field(cpuinfo, "CPU part", part, sizeof part);
        if (implementer[0]) snprintf(model, sizeof model, "implementer %s part %s", implementer, part);
    }
    field(cpuinfo, "flags", flags, sizeof flags);
    if (!flags[0]) field(cpuinfo, "Features", flags, sizeof flags);
    /* Cloud machines hide the name behind the maker's; family and model still tell generations apart. */
    char family[16], number[16];
    field(cpuinfo, "cpu family", family, sizeof family);
    field(cpuinfo, "model", number, sizeof number);
    if (family[0]) snprintf(model + strlen(model), sizeof model - strlen(model), " (family %s, model %s)", family, number);
    return put(hard, "processor", model[0] ? model : "unknown") | put(hard, "isa", isa_class(flags)) |
           put(hard, "architecture", u->machine);
}

static json_t *hard_facts(const char *cpuinfo, const struct utsname *u)
{
    json_t *hard = json_object();
    if (!hard) return NULL;
    /* Rounded: firmware and kernels reserve a little more or less of the same memory. */
    json_int_t gib = (json_int_t)llround((double)meminfo_bytes("MemTotal") / 0x1p30);
    int bad = put_processor(hard, cpuinfo, u);
    bad |= json_object_set_new(hard, "cores_available", json_integer(rm_cores_available()));
    bad |= json_object_set_new(hard, "memory_gib", json_integer(gib));
#ifdef __clang__
    bad |= put(hard, "compiler", __VERSION__);
#else
    bad |= put(hard, "compiler", "gcc " __VERSION__);
#endif
    bad |= put(hard, "flags", RM_BUILD_FLAGS);
    if (!bad) return hard;
    json_decref(hard);
    return NULL;
}

/* ---- soft facts ------------------------------------------------------------------------------------------------- */

/* What changes how fast the same program runs. Nothing else of the environment is recorded: it may hold secrets. */
static const char *const allowed_prefix[] = { "OMP_", "GOMP_", "KMP_", "ONEDNN_", "DNNL_", "NCCL_", "CUDA_VISIBLE_DEVICES=", "CUDA_DEVICE_",
                                              "OMPI_MCA_btl", "OMPI_MCA_pml", "OMPI_MCA_coll", "OMPI_MCA_mpi_", "I_MPI_FABRICS=", "I_MPI_PIN", "MPIR_CVAR_",
                                              "UCX_TLS=", "UCX_NET_DEVICES=", "FI_PROVIDER=", "MALLOC_", "LD_PRELOAD=" };

static json_t *allowed_variables(void)
{
    json_t *o = json_object();
    for (char **e = environ; o && e && *e; e++) {
        const char *eq = strchr(*e, '=');
        for (size_t i = 0; eq && i < RM_COUNT(allowed_prefix); i++) {
            if (strncmp(*e, allowed_prefix[i], strlen(allowed_prefix[i]))) continue;
            char name[128];
            snprintf(name, sizeof name, "%.*s", (int)(eq - *e), *e);
            put(o, name, eq + 1);
            break;
        }
    }
    return o;
}

static const char *container_hint(void)
{
    static const struct { const char *file, *name; } row[] = {
        { "/.dockerenv", "docker" }, { "/run/.containerenv", "podman" }, { "/.singularity.d", "apptainer" },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++)
        if (access(row[i].file, F_OK) == 0) return row[i].name;
    return getenv("KUBERNETES_SERVICE_HOST") ? "kubernetes" : "none seen";
}

static int put_file(json_t *o, const char *name, const char *path)
{
    char line[256];
    first_line(path, line, sizeof line);
    return put(o, name, line[0] ? line : "not shown by this system");
}

static int put_machine_state(json_t *soft, const char *cpuinfo)
{
    char text[256], flags[8192];
    double load[1] = { 0 };
    int n_load = getloadavg(load, 1);
    int bad = json_object_set_new(soft, "load_1min", n_load == 1 ? json_real(load[0]) : json_null());
    field(cpuinfo, "cpu MHz", text, sizeof text);
    bad |= put(soft, "processor_mhz", text[0] ? text : "not shown by this system");
    bad |= put_file(soft, "governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    bad |= put_file(soft, "smt", "/sys/devices/system/cpu/smt/control");
    bad |= put_file(soft, "huge_pages", "/sys/kernel/mm/transparent_hugepage/enabled");
    field(cpuinfo, "flags", flags, sizeof flags);
    bad |= put(soft, "virtual_machine", has_word(flags, "hypervisor") ? "yes" : "none seen");
    bad |= put(soft, "container", container_hint());
    return bad | json_object_set_new(soft, "memory_available_bytes", json_integer((json_int_t)rm_memory_available()));
}

static json_t *soft_facts(const char *cpuinfo, const struct utsname *u)
{
    json_t *soft = json_object();
    if (!soft) return NULL;
    char when[32] = "";
    time_t now = time(NULL);
    struct tm utc;
    if (gmtime_r(&now, &utc)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    int bad = put(soft, "ringmark", RM_VERSION_NUMBER) | put(soft, "git", RM_VERSION_GIT) | put(soft, "time", when) |
              put(soft, "host", u->nodename) | put(soft, "kernel", u->release);
    bad |= put_machine_state(soft, cpuinfo);
    bad |= json_object_set_new(soft, "variables", allowed_variables());
    if (!bad) return soft;
    json_decref(soft);
    return NULL;
}

/* ---- together --------------------------------------------------------------------------------------------------- */

static bool set_digest(json_t *o, const json_t *hard)
{
    char *text = json_dumps(hard, JSON_COMPACT | JSON_SORT_KEYS), hex[65];
    if (!text) return false;
    rm_sha256 h;
    rm_sha256_begin(&h);
    rm_sha256_add(&h, text, strlen(text));
    rm_sha256_end(&h, hex);
    free(text);
    return put(o, "hard_sha", hex) == 0;
}

json_t *rm_runinfo_json(const rm_fact *fact, size_t n)
{
    struct utsname u = { 0 };
    uname(&u);
    char *cpuinfo = read_text("/proc/cpuinfo");
    json_t *o = json_object(), *hard = hard_facts(cpuinfo, &u), *soft = soft_facts(cpuinfo, &u);
    free(cpuinfo);
    bool ok = o && hard && soft;
    for (size_t i = 0; ok && i < n; i++) ok = put(fact[i].hard ? hard : soft, fact[i].name, fact[i].value ? fact[i].value : "unknown") == 0;
    ok = ok && set_digest(o, hard) && json_object_set(o, "hard", hard) == 0 && json_object_set(o, "soft", soft) == 0;
    json_decref(soft);
    json_decref(hard);
    if (ok) return o;
    json_decref(o);
    return NULL;
}
