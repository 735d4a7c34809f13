/* bench info: machine, devices, communicators, libraries, data and tools; what is usable, and what is not and why.
 * The JSON object is built first; the table prints it. */
#include "bench/commands.h"
#include "bench/info_gpus.h"
#include "bench/layer_table.h"
#include "bench/rows.h"
#include "kernels/comm/comm.h"
#include "model/input/input.h"
#include "profiler/runinfo.h"
#include "profiler/store.h"
#include <hwloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void set_text(json_t *o, const char *key, const char *text) { json_object_set_new(o, key, text && text[0] ? json_string(text) : json_null()); }

/* ---- machine */

static void topology(json_t *machine)
{
    static const struct {
        const char *key;
        hwloc_obj_type_t type;
    } row[] = {
        { "packages", HWLOC_OBJ_PACKAGE },
        { "cores", HWLOC_OBJ_CORE },
        { "hardware_threads", HWLOC_OBJ_PU },
        { "numa_nodes", HWLOC_OBJ_NUMANODE },
    };
    hwloc_topology_t t;
    if (hwloc_topology_init(&t) != 0) return;
    if (hwloc_topology_load(t) == 0)
        for (size_t i = 0; i < RM_COUNT(row); i++) json_object_set_new(machine, row[i].key, json_integer(hwloc_get_nbobjs_by_type(t, row[i].type)));
    hwloc_topology_destroy(t);
}

static json_t *machine_json(const json_t *environment)
{
    json_t *machine = json_object();
    const json_t *hard = json_object_get(environment, "hard"), *soft = json_object_get(environment, "soft");
    set_text(machine, "processor", bench_row_text(hard, "processor"));
    set_text(machine, "isa", bench_row_text(hard, "isa"));
    set_text(machine, "kernel", bench_row_text(soft, "kernel"));
    json_object_set_new(machine, "cores_available", json_integer(rm_cores_available()));
    json_object_set_new(machine, "memory_gib", json_integer(bench_row_int(hard, "memory_gib")));
    json_object_set_new(machine, "memory_available_bytes", json_integer((json_int_t)rm_memory_available()));
    topology(machine);
    return machine;
}

/* ---- devices and communicators */

static json_t *part_json(const char *name, const char *summary, rm_status status)
{
    json_t *part = json_object();
    set_text(part, "name", name);
    set_text(part, "summary", summary);
    json_object_set_new(part, "usable", json_boolean(status == RM_OK));
    set_text(part, "reason", status == RM_OK ? "" : rm_last_error());
    return part;
}

static json_t *dtypes_json(uint32_t bits)
{
    json_t *list = json_array();
    for (int i = 0; i < RM_DTYPE_COUNT; i++)
        if (bits & (1u << i)) json_array_append_new(list, json_string(rm_dtype_name((rm_dtype)i)));
    return list;
}

static void set_peaks(json_t *part, rm_device *device)
{
    rm_peaks peaks;
    if (rm_device_peaks(device, &peaks) == RM_OK) json_object_set_new(part, "peaks", bench_peaks_json(&peaks));
    else bench_set_null(part, "peaks", rm_last_error());
}

static json_t *device_json(const char *name, const char *summary, const bench_options *o)
{
    rm_device *device = NULL;
    const rm_device_config config = { .threads = o->threads };
    const rm_status status = rm_device_open(name, &config, &device);
    json_t *part = part_json(name, summary, status);
    if (status != RM_OK) return part;
    rm_device_info info;
    rm_device_get_info(device, &info);
    if (o->peaks) set_peaks(part, device);
    rm_device_close(device);
    set_text(part, "hardware", info.name);
    set_text(part, "library", info.library);
    set_text(part, "isa", info.isa);
    json_object_set_new(part, "threads", json_integer(info.threads));
    json_object_set_new(part, "memory_bytes", json_integer((json_int_t)info.memory_bytes));
    json_object_set_new(part, "dtypes", dtypes_json(info.dtypes));
    json_object_set_new(part, "native_dtypes", dtypes_json(info.native_dtypes));
    return part;
}

static json_t *devices_json(const bench_options *o)
{
    json_t *list = json_array();
    const bool all = strcmp(o->device, "auto") == 0;
    bool cuda = false;
    for (const rm_device_ops *const *d = rm_device_list(); *d; d++) {
        cuda = cuda || strcmp((*d)->name, "cuda") == 0;
        if (all || strcmp((*d)->name, o->device) == 0) json_array_append_new(list, device_json((*d)->name, (*d)->summary, o));
    }
    /* A build without CUDA still says what that means. */
    if (!cuda && (all || strcmp(o->device, "cuda") == 0)) json_array_append_new(list, device_json("cuda", "NVIDIA GPUs: cuDNN", o));
    return list;
}

static json_t *comms_json(void)
{
    json_t *list = json_array();
    for (const rm_comm_ops *const *c = rm_comm_list(); *c; c++) {
        const rm_status status = (*c)->available();
        json_t *part = part_json((*c)->name, (*c)->summary, status);
        set_text(part, "library", status == RM_OK ? (*c)->library() : "");
        json_array_append_new(list, part);
    }
    return list;
}

/* ---- libraries, data, tools */

static json_t *libraries_json(const json_t *devices, const json_t *comms)
{
    json_t *list = json_object();
    const json_t *part;
    size_t i;
    const unsigned hwloc = hwloc_get_api_version();
    char version[32];
    json_array_foreach(devices, i, part) if (strcmp(bench_row_text(part, "name"), "cpu") == 0) set_text(list, "compute", bench_row_text(part, "library"));
    json_array_foreach(comms, i, part) if (strcmp(bench_row_text(part, "name"), "mpi") == 0) set_text(list, "mpi", bench_row_text(part, "library"));
    snprintf(version, sizeof version, "hwloc API %u.%u.%u", hwloc >> 16, hwloc >> 8 & 255, hwloc & 255);
    set_text(list, "topology", version);
    set_text(list, "json", "Jansson " JANSSON_VERSION);
    snprintf(version, sizeof version, "SQLite %s", rm_store_library_version());
    set_text(list, "store", version);
    set_text(list, "jpeg_vectors", rm_input_isa());
    return list;
}

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static json_t *file_json(const char *name, const char *path, bool present, const char *how)
{
    json_t *part = json_object();
    set_text(part, "name", name);
    set_text(part, "path", path);
    json_object_set_new(part, "present", json_boolean(present));
    set_text(part, "reason", present ? "" : how);
    return part;
}

static void gnuplot_version(char *out, size_t size)
{
    out[0] = '\0';
    FILE *p = popen("gnuplot --version 2>/dev/null", "r");
    if (!p) return;
    if (!fgets(out, (int)size, p)) out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    pclose(p);
}

static json_t *files_json(const bench_options *o)
{
    char gnuplot[64];
    gnuplot_version(gnuplot, sizeof gnuplot);
    json_t *list = json_array();
    const bool data = is_folder("data/fashion-mnist/train") && is_folder("data/fashion-mnist/val");
    json_array_append_new(list, file_json("data set", "data/fashion-mnist", data, "not made yet: bench data make"));
    json_array_append_new(list, file_json("its source", "/usr/share/datasets/fashion-mnist", is_folder("/usr/share/datasets/fashion-mnist"),
                                          "install the package dataset-fashion-mnist, or bench data make --source DIR"));
    json_array_append_new(list, file_json("store", o->store, access(o->store, F_OK) == 0, "no run yet"));
    json_array_append_new(list, file_json("gnuplot", gnuplot, gnuplot[0] != '\0', "no figures in reports: install gnuplot-nox"));
    return list;
}

/* ---- the table */

static void print_machine(const json_t *m)
{
    printf("Machine\n  %-10s %s\n", "processor", bench_row_text(m, "processor"));
    printf("  %-10s %lld usable (packages %lld, cores %lld, hardware threads %lld, NUMA nodes %lld)\n", "cores", bench_row_int(m, "cores_available"),
           bench_row_int(m, "packages"), bench_row_int(m, "cores"), bench_row_int(m, "hardware_threads"), bench_row_int(m, "numa_nodes"));
    printf("  %-10s %lld GiB, %.1f GiB available\n", "memory", bench_row_int(m, "memory_gib"), (double)bench_row_int(m, "memory_available_bytes") / 0x1p30);
    printf("  %-10s %s\n  %-10s %s\n", "vectors", bench_row_text(m, "isa"), "kernel", bench_row_text(m, "kernel"));
}

static bool contains(const json_t *list, const char *text)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v) if (strcmp(json_string_value(v), text) == 0) return true;
    return false;
}

static void print_dtypes(const json_t *part)
{
    size_t i;
    const json_t *v, *native = json_object_get(part, "native_dtypes");
    json_array_foreach(json_object_get(part, "dtypes"), i, v) printf(" %s%s", json_string_value(v), contains(native, json_string_value(v)) ? "" : "*");
}

static void print_parts(const char *title, const json_t *list)
{
    size_t i;
    const json_t *part;
    printf("\n%s\n", title);
    json_array_foreach(list, i, part)
    {
        const bool usable = json_is_true(json_object_get(part, "usable"));
        const char *library = bench_row_text(part, "library");
        printf("  %-5s %-8s %s", bench_row_text(part, "name"), usable ? "ready" : "missing", bench_row_text(part, "summary"));
        if (!usable) printf(": %s", bench_row_text(part, "reason"));
        if (usable && library[0] && strcmp(library, "none") != 0) printf(" (%s)", library);
        if (json_array_size(json_object_get(part, "dtypes"))) {
            const bool gpu = strcmp(bench_row_text(part, "name"), "cuda") == 0; /* its threads are the host's, which enqueues */
            if (gpu) printf("\n  %14s %s, %s;", "", bench_row_text(part, "hardware"), bench_row_text(part, "isa"));
            else printf("\n  %14s %lld threads, %s;", "", bench_row_int(part, "threads"), bench_row_text(part, "hardware"));
            print_dtypes(part);
        }
        putchar('\n');
    }
}

/* Each with how it was measured, or why there is none. */
static void print_peaks(const json_t *devices)
{
    size_t i, k;
    const json_t *part, *p;
    json_array_foreach(devices, i, part)
    {
        if (!json_array_size(json_object_get(part, "peaks"))) continue;
        printf("\nPeaks of %s\n", bench_row_text(part, "name"));
        json_array_foreach(json_object_get(part, "peaks"), k, p)
        {
            const double v = bench_row_real(p, "value");
            if (isfinite(v)) printf("  %-14s %9.1f G%-6s %s%s\n", bench_row_text(p, "name"), v * 1e-9, bench_row_text(p, "unit"), bench_row_text(p, "how"),
                                    json_is_true(json_object_get(p, "disturbed")) ? " (too low: other work had the cores)" : "");
            else printf("  %-14s %9s %-7s %s\n", bench_row_text(p, "name"), "none", "", bench_row_text(p, "why"));
        }
    }
}

static void print_all(const json_t *r)
{
    size_t i;
    const char *key;
    json_t *v;
    printf("bench %s\n\n", bench_row_text(r, "version"));
    print_machine(json_object_get(r, "machine"));
    print_parts("Devices (* = emulated, slower than fp32)", json_object_get(r, "devices"));
    print_peaks(json_object_get(r, "devices"));
    bench_info_gpus_print(json_object_get(r, "gpus"));
    print_parts("Communicators", json_object_get(r, "communicators"));
    printf("\nLibraries\n");
    json_object_foreach(json_object_get(r, "libraries"), key, v) if (json_is_string(v)) printf("  %-14s %s\n", key, json_string_value(v));
    printf("\nFiles and tools\n");
    json_array_foreach(json_object_get(r, "files"), i, v)
    {
        const bool present = json_is_true(json_object_get(v, "present"));
        printf("  %-10s %-8s %s%s%s\n", bench_row_text(v, "name"), present ? "ready" : "missing", bench_row_text(v, "path"),
               present || !bench_row_text(v, "path")[0] ? "" : ": ", bench_row_text(v, "reason"));
    }
}

static rm_status run_info(const bench_options *o)
{
    json_t *environment = bench_environment(o);
    json_t *r = json_object(), *devices = devices_json(o), *comms = comms_json();
    set_text(r, "version", rm_version());
    json_object_set_new(r, "machine", machine_json(environment));
    json_object_set_new(r, "libraries", libraries_json(devices, comms));
    json_object_set_new(r, "devices", devices);
    json_object_set_new(r, "communicators", comms);
    json_object_set_new(r, "gpus", bench_info_gpus());
    json_object_set_new(r, "files", files_json(o));
    rm_status status = RM_OK;
    if (json_object_size(r) != 7) status = rm_fail(RM_E_NOMEM, "out of memory for the description of this machine");
    else if (!o->json || strcmp(o->json_file, "-") != 0) print_all(r);
    json_t *results = json_array();
    json_array_append_new(results, r);
    const rm_status emitted = bench_emit_json(&bench_cmd_info, o, environment, results);
    json_decref(environment);
    return status != RM_OK ? status : emitted;
}

static const char *const examples[] = { "bench info", "bench info --device cpu --peaks", "bench info --device cpu --json", NULL };
const bench_command bench_cmd_info = {
    .name = "info",
    .summary = "machine, devices, libraries and versions: what is usable, and what is missing and why",
    .usage = "bench info [options]",
    .examples = examples,
    .run = run_info,
};
