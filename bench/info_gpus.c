#include "bench/info_gpus.h"
#include "bench/rows.h"
#include "kernels/device.h"
#include "kernels/libraries.h"
#include "profiler/gpu_explain.h"
#include "profiler/nvml.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- what was looked for */
static void add(json_t *list, const char *name, bool found, const char *version, const char *reason)
{
    json_array_append_new(list, json_pack("{s:s, s:b, s:s?, s:s?}", "name", name, "found", found, "version", found && version[0] ? version : NULL, "reason", found ? NULL : reason));
}

static json_t *looked_for(const rm_nvml *n)
{
    char bus[16] = "", why[512], text[160] = "";
    rm_library library[RM_LIBRARIES];
    json_t *list = json_array();
    const bool on_bus = rm_gpu_on_bus("", bus), counted = n && rm_nvml_count(n) > 0;
    if (counted) snprintf(text, sizeof text, "%d", rm_nvml_count(n));
    else snprintf(text, sizeof text, "PCI %s", bus);
    add(list, "NVIDIA GPU", on_bus || counted, text, "none on the PCI bus of this machine");
    snprintf(why, sizeof why, "%s", rm_last_error());
    if (n) snprintf(text, sizeof text, "%s, runs CUDA up to %d.%d", rm_nvml_driver(n), rm_nvml_cuda(n) / 1000, rm_nvml_cuda(n) % 1000 / 10);
    add(list, "driver", n != NULL, text, why);
    rm_libraries(library);
    for (size_t i = 0; i < RM_LIBRARIES; i++) {
        const char *missing = rm_cuda_missing();
        snprintf(why, sizeof why, "not in this build%s%s%s", missing[0] ? " (" : "", missing, missing[0] ? ")" : "");
        add(list, library[i].name, library[i].version[0] != '\0', library[i].version, why);
    }
    return list;
}

/* ---- the object */
static json_t *without_nvml(void)
{
    static const char *const keys[] = { "driver", "cuda_driver", "nvml", "links" };
    json_t *o = json_object();
    for (size_t i = 0; i < RM_COUNT(keys); i++) {
        char reason[32];
        snprintf(reason, sizeof reason, "%s_reason", keys[i]);
        json_object_set_new(o, keys[i], json_null());
        json_object_set_new(o, reason, json_string("NVML does not answer"));
    }
    json_object_set_new(o, "gpus", json_array());
    return o;
}

static void set_usable(json_t *o)
{
    char why[640] = "";
    const rm_device_ops *const *d = rm_device_list();
    while (*d && strcmp((*d)->name, "cuda") != 0) d++;
    const bool usable = *d && (*d)->available() == RM_OK;
    if (!usable && rm_cuda_missing()[0]) {
        const rm_gpu_trouble t = { .cuda_words = "", .root = "" };
        (void)rm_nvml_explain(&t, why, sizeof why);
    } else if (!usable) snprintf(why, sizeof why, "%s", rm_last_error());
    json_object_set_new(o, "usable", json_boolean(usable));
    json_object_set_new(o, "reason", usable ? json_null() : json_string(why));
}

json_t *bench_info_gpus(void)
{
    rm_nvml *n = NULL;
    if (rm_nvml_open(&n, NULL) != RM_OK) n = NULL;
    json_t *looked = looked_for(n), *o = n ? rm_nvml_json(n) : without_nvml();
    json_object_set_new(o, "looked_for", looked);
    set_usable(o);
    rm_nvml_close(n);
    return o;
}

/* ---- for people */
/* A number with its unit, or "-". */
typedef struct { char text[48]; } cell;
static cell number(const json_t *g, const char *key, double scale, int digits)
{
    cell c = { "-" };
    const json_t *v = json_object_get(g, key);
    if (json_is_number(v)) snprintf(c.text, sizeof c.text, "%.*f", digits, scale * json_number_value(v));
    return c;
}

static const char *on_off(const json_t *g, const char *key)
{
    const json_t *v = json_object_get(g, key);
    return json_is_true(v) ? "on" : json_is_false(v) ? "off" : "-";
}

static void print_gpu(const json_t *g)
{
    printf("  GPU %lld  %s, compute capability %s, PCI %s\n", bench_row_int(g, "index"), bench_row_text_or(g, "name", "(no name)"), bench_row_text_or(g, "capability", "-"),
           bench_row_text_or(g, "bus", "-"));
    printf("         memory %s GiB, %s in use; SM clock %s MHz (application %s, most %s), memory clock %s; %s C\n", number(g, "memory_bytes", 0x1p-30, 1).text,
           number(g, "memory_used_bytes", 0x1p-30, 1).text, number(g, "sm_mhz", 1, 0).text, number(g, "sm_application_mhz", 1, 0).text, number(g, "sm_max_mhz", 1, 0).text,
           number(g, "memory_mhz", 1, 0).text, number(g, "temperature_c", 1, 0).text);
    printf("         power %s W, limit %s (as sold %s); PCIe generation %s x%s (most %s x%s); %s NVLinks; ECC %s, MIG %s, persistence %s\n", number(g, "power_w", 1, 0).text,
           number(g, "power_limit_w", 1, 0).text, number(g, "power_default_limit_w", 1, 0).text, number(g, "pcie_generation", 1, 0).text, number(g, "pcie_width", 1, 0).text,
           number(g, "pcie_max_generation", 1, 0).text, number(g, "pcie_max_width", 1, 0).text, number(g, "nvlinks", 1, 0).text, on_off(g, "ecc"), on_off(g, "mig"), on_off(g, "persistence"));
}

/* "NVLink to 1; one host bridge to 2, 3": each kind of link once. */
static void print_links(const json_t *g)
{
    const json_t *linked = json_object_get(g, "linked");
    const long long own = bench_row_int(g, "index");
    const char *lead = "         joined by ";
    for (int l = 0; l <= RM_LINK_UNKNOWN; l++) {
        const char *words = rm_gpu_link_words((rm_gpu_link)l), *before = " to ";
        size_t i;
        const json_t *v;
        bool any = false;
        json_array_foreach(linked, i, v)
        {
            if ((long long)i == own || strcmp(json_string_value(v), words) != 0) continue;
            if (!any) printf("%s%s", lead, words);
            printf("%s%zu", before, i);
            any = true;
            before = ", ";
        }
        if (any) lead = "; ";
    }
    if (lead[0] == ';') putchar('\n');
}

/* What makes figures worse than they need be. */
static void print_warnings(const json_t *g)
{
    size_t i;
    long long others = 0;
    double bytes = 0;
    const json_t *p, *words;
    json_array_foreach(json_object_get(g, "processes"), i, p)
    {
        if (json_is_true(json_object_get(p, "own"))) continue;
        others++;
        if (json_is_number(json_object_get(p, "memory_bytes"))) bytes += json_number_value(json_object_get(p, "memory_bytes"));
    }
    if (others) printf("         WARNING: %lld other process%s on it (%.1f GiB): figures taken now are disturbed\n", others, others == 1 ? "" : "es", bytes * 0x1p-30);
    json_array_foreach(json_object_get(g, "throttle_reasons"), i, words)
        if (strcmp(json_string_value(words), "idle") != 0 && strcmp(json_string_value(words), "application clocks") != 0)
            printf("         WARNING: its clocks are lowered now: %s\n", json_string_value(words));
    if (bench_row_real(g, "power_limit_w") < bench_row_real(g, "power_default_limit_w")) puts("         WARNING: its power limit is below the one it is sold with");
    if (bench_row_real(g, "pcie_width") < bench_row_real(g, "pcie_max_width")) puts("         WARNING: its PCIe link is narrower than it could be");
    if (strcmp(bench_row_text_or(g, "compute_mode", "default"), "default") != 0) printf("         compute mode: %s\n", bench_row_text(g, "compute_mode"));
}

static void print_looked_for(const json_t *list)
{
    size_t i;
    const json_t *part;
    json_array_foreach(list, i, part)
    {
        const bool found = json_is_true(json_object_get(part, "found"));
        printf("  %-12s %-8s %s\n", bench_row_text(part, "name"), found ? "found" : "missing", bench_row_text(part, found ? "version" : "reason"));
    }
}

void bench_info_gpus_print(const json_t *gpus)
{
    size_t i;
    const json_t *g;
    printf("\nGPUs\n");
    print_looked_for(json_object_get(gpus, "looked_for"));
    if (json_is_true(json_object_get(gpus, "usable"))) printf("  usable: --device auto takes cuda\n");
    else printf("  not usable: %s\n  --device auto takes cpu here\n", bench_row_text(gpus, "reason"));
    if (json_array_size(json_object_get(gpus, "gpus")) > 1) printf("  joined: %s\n", bench_row_text(gpus, "links"));
    json_array_foreach(json_object_get(gpus, "gpus"), i, g)
    {
        print_gpu(g);
        print_links(g);
        print_warnings(g);
    }
}
