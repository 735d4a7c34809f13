/* The JSON envelope of every command, and the facts about device and libraries that go into it. */
#include "bench/bench.h"
#include "bench/rows.h"
#include "bench/session.h"
#include "bench/verified.h"
#include "kernels/comm/comm.h"
#include "profiler/nvml.h"
#include "profiler/runinfo.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

json_t *bench_number(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* ---- environment */

static void device_facts(const bench_options *o, rm_device_info *info)
{
    rm_dtype dtype;
    const rm_device_config config = { .threads = o->threads };
    if (rm_device_describe(o->device && o->device[0] ? o->device : "auto", &config, info) != RM_OK) return; /* opening it would keep ranks from it */
    if (bench_dtype(o, info, &dtype) == RM_OK) bench_verified_known(info, dtype);
}

json_t *bench_environment(const bench_options *o)
{
    rm_device_info info = { .device = "" };
    rm_gpu_facts gpu = { .n = 0 };
    device_facts(o, &info);
    const char *mpi = rm_comm_mpi.available() == RM_OK ? rm_comm_mpi.library() : "";
    rm_fact facts[6 + RM_GPU_FACTS] = {
        { "device", info.device, 1 },  { "device_name", info.name, 1 }, { "device_library", info.library, 1 },
        { "device_isa", info.isa, 1 }, { "comm_library", mpi, 1 }, { "device_caveat", info.caveat, 0 },
    };
    size_t n = 6 - !info.caveat[0];
    if (info.bus[0]) rm_gpu_facts_of(info.bus, &gpu);
    for (int i = 0; i < gpu.n; i++) facts[n++] = (rm_fact){ gpu.name[i], gpu.text[i], gpu.hard[i] };
    return rm_runinfo_json(facts, n);
}

/* ---- writing */

static rm_status dump(const json_t *root, FILE *f, const char *where)
{
    errno = 0;
    if (json_dumpf(root, f, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) == 0 && fputc('\n', f) != EOF && fflush(f) == 0) return RM_OK;
    if (errno == 0) errno = EIO;
    return rm_fail_errno("cannot write the JSON to %s", where);
}

/* Devices and pipes are written to as they are; a regular file is replaced whole or not at all. */
static bool replaceable(const char *path)
{
    struct stat s;
    return stat(path, &s) != 0 || S_ISREG(s.st_mode);
}

static rm_status dump_in_place(const json_t *root, const char *path)
{
    FILE *f = fopen(path, "w");
    if (!f) return rm_fail_errno("cannot open %s for the JSON", path);
    const rm_status status = dump(root, f, path);
    if (fclose(f) != 0 && status == RM_OK) return rm_fail_errno("cannot write the JSON to %s", path);
    return status;
}

static rm_status dump_atomically(const json_t *root, const char *path)
{
    const size_t size = strlen(path) + 32;
    char *temporary = malloc(size);
    if (!temporary) return rm_fail(RM_E_NOMEM, "out of memory for the name of %s", path);
    snprintf(temporary, size, "%s.%ld.tmp", path, (long)getpid());
    FILE *f = fopen(temporary, "w");
    rm_status status = f ? dump(root, f, path) : rm_fail_errno("cannot create %s for the JSON", path);
    if (f && status == RM_OK && fsync(fileno(f)) != 0) status = rm_fail_errno("cannot write the JSON to %s", path);
    if (f && fclose(f) != 0 && status == RM_OK) status = rm_fail_errno("cannot write the JSON to %s", path);
    if (status == RM_OK && rename(temporary, path) != 0) status = rm_fail_errno("cannot put the JSON in place at %s", path);
    if (f && status != RM_OK) unlink(temporary);
    free(temporary);
    return status;
}

static json_t *envelope(const bench_command *command, const bench_options *o, json_t *environment, json_t *results)
{
    json_t *root = json_object();
    json_object_set_new(root, "schema", json_string("ringmark/1"));
    json_object_set_new(root, "command", json_string(command->name));
    json_object_set_new(root, "config", bench_options_echo(command, o));
    if (environment) json_object_set(root, "environment", environment);
    else json_object_set_new(root, "environment", bench_environment(o));
    json_object_set_new(root, "results", results);
    return root;
}

rm_status bench_emit_json(const bench_command *command, const bench_options *o, json_t *environment, json_t *results)
{
    if (!o->json) {
        json_decref(results);
        return RM_OK;
    }
    size_t i;
    json_t *row;
    json_array_foreach(results, i, row) bench_row_settle_origin(row);
    json_t *root = envelope(command, o, environment, results);
    const char *path = o->json_file;
    rm_status status;
    if (json_object_size(root) != 5) status = rm_fail(RM_E_NOMEM, "out of memory for the JSON");
    else if (!path || !path[0] || strcmp(path, "-") == 0) status = dump(root, stdout, "stdout");
    else status = replaceable(path) ? dump_atomically(root, path) : dump_in_place(root, path);
    json_decref(root);
    return status;
}
