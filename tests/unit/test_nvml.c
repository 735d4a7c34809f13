/* NVML, on a made-up library (tests/cuda/doubles/nvml.c): every number with its value or its reason, what runs are filed under, whether steps were
 * throttled, and why there is no usable GPU. */
#include "profiler/gpu_explain.h"
#include "profiler/gpu_watch.h"
#include "profiler/nvml.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void with(const char *library, const char *faults, const char *gpus)
{
    setenv("RM_NVML_LIBRARY", library, 1);
    setenv("RM_DOUBLES_FAULTS", faults, 1);
    setenv("RM_DOUBLES_GPUS", gpus, 1);
    unsetenv("RM_DOUBLES_GPU");
    unsetenv("CUDA_VISIBLE_DEVICES");
}

static rm_nvml *opened(const char *library, const char *faults, const char *gpus)
{
    rm_nvml *n = NULL;
    with(library, faults, gpus);
    if (rm_nvml_open(&n, NULL) != RM_OK) fail_msg("%s", rm_last_error());
    return n;
}

static const json_t *at(const json_t *o, const char *key)
{
    const json_t *v = json_object_get(o, key);
    if (!v) fail_msg("no key %s", key);
    return v;
}

static const json_t *gpu_at(const json_t *all, size_t i) { return json_array_get(at(all, "gpus"), i); }

/* ---- numbers */
static void every_number_is_in_the_unit_of_its_key(void **state)
{
    static const struct { const char *key; double v; } want[] = {
        { "sm_mhz", 1980 },        { "memory_mhz", 2617 },        { "sm_max_mhz", 1980 },     { "memory_max_mhz", 2617 },    { "sm_application_mhz", 1780 },
        { "power_limit_w", 650 },  { "power_default_limit_w", 700 }, { "power_w", 412.345 },  { "energy_j", 123456.789 },    { "temperature_c", 61 },
        { "pcie_generation", 5 },  { "pcie_width", 8 },           { "pcie_max_generation", 5 }, { "pcie_max_width", 16 },    { "memory_bytes", 84825604096.0 },
        { "memory_used_bytes", 600 << 20 }, { "nvlinks", 17 },    { "memory_application_mhz", 2617 },
    };
    rm_nvml *n = opened(RM_NVML_NOW, "", "2");
    json_t *all = rm_nvml_json(n);
    const json_t *g = gpu_at(all, 1);
    assert_int_equal(json_array_size(at(all, "gpus")), 2);
    for (size_t i = 0; i < RM_COUNT(want); i++)
        if (fabs(json_number_value(at(g, want[i].key)) - want[i].v) > 1e-6) fail_msg("%s: %.17g", want[i].key, json_number_value(at(g, want[i].key)));
    assert_true(json_is_true(at(g, "ecc")) && json_is_false(at(g, "mig")) && json_is_true(at(g, "persistence")));
    assert_string_equal(json_string_value(at(g, "compute_mode")), "default");
    assert_string_equal(json_string_value(at(g, "capability")), "9.0");
    assert_string_equal(json_string_value(at(g, "name")), "NVIDIA H100 80GB HBM3");
    assert_string_equal(json_string_value(at(g, "bus")), "00000000:02:00.0");
    assert_string_equal(json_string_value(at(all, "driver")), "580.65.06");
    assert_string_equal(json_string_value(at(all, "cuda_driver")), "13.0");
    assert_int_equal(json_array_size(at(g, "processes")), 0);
    assert_string_equal(json_string_value(json_array_get(at(g, "throttle_reasons"), 0)), "application clocks");
    assert_int_equal(rm_nvml_find(n, "0000:02:00.0"), 1);
    assert_int_equal(rm_nvml_find(n, "0000:03:00.0"), -1);
    assert_int_equal(rm_nvml_find(n, "rubbish"), -1);
    json_decref(all);
    rm_nvml_close(n);
}

static void another_gpu_is_described_by_its_file(void **state)
{
    rm_nvml *n = NULL;
    rm_gpu g;
    with(RM_NVML_NOW, "", "1");
    setenv("RM_DOUBLES_GPU", RM_SOURCE_DIR "/tests/cuda/devices/a100.json", 1);
    assert_int_equal(rm_nvml_open(&n, NULL), RM_OK);
    rm_nvml_gpu(n, 0, &g);
    assert_string_equal(g.name, "NVIDIA A100-SXM4-80GB");
    assert_int_equal(g.v[RM_GPU_CAPABILITY], 80);
    assert_int_equal(g.v[RM_GPU_SM_MHZ], 1410);
    rm_nvml_close(n);
}

/* Null and a reason for what is missing, whether the library lacks the function or answers so; the rest is there. */
static void an_old_driver_lacks_some_and_gives_the_rest(void **state)
{
    static const char *const library[] = { RM_NVML_OLD, RM_NVML_NOW };
    for (size_t i = 0; i < RM_COUNT(library); i++) {
        rm_nvml *n = opened(library[i], i ? "nvml-old" : "", "2");
        json_t *all = rm_nvml_json(n);
        const json_t *g = gpu_at(all, 0);
        assert_true(json_is_null(at(g, "mig")) && json_is_null(at(g, "energy_j")) && json_is_null(at(g, "processes")));
        assert_string_equal(json_string_value(at(g, "mig_reason")), "the driver has no such function");
        assert_string_equal(json_string_value(at(g, "processes_reason")), "the driver has no such function");
        assert_int_equal(json_integer_value(at(g, "pcie_width")), 8);
        assert_string_equal(json_string_value(at(all, "links")), "PCIe switches"); /* no P2P status: by the common ancestor */
        if (i) assert_true(json_is_null(at(g, "throttle_reasons")));
        else assert_int_equal(json_array_size(at(g, "throttle_reasons")), 1); /* under its older name */
        json_decref(all);
        rm_nvml_close(n);
    }
}

static void what_is_denied_is_null_and_says_so(void **state)
{
    rm_nvml *n = opened(RM_NVML_NOW, "nvml-denied", "1");
    json_t *all = rm_nvml_json(n);
    const json_t *g = gpu_at(all, 0);
    for (int k = 0; k < RM_GPU_NUMBERS; k++) {
        char reason[64];
        const char *key = k == RM_GPU_REASONS ? "throttle_reasons" : rm_gpu_number_key((rm_gpu_number)k);
        snprintf(reason, sizeof reason, "%s_reason", key);
        assert_true(json_is_null(at(g, key)));
        assert_string_equal(json_string_value(at(g, reason)), "no permission");
    }
    assert_true(json_is_null(at(g, "name")));
    json_decref(all);
    rm_nvml_close(n);
}

static void hostile_answers_do_no_harm(void **state)
{
    rm_nvml *n = opened(RM_NVML_NOW, "nvml-hostile", "4");
    rm_gpu g;
    json_t *all = rm_nvml_json(n), *again;
    assert_true(rm_nvml_count(n) > 0 && rm_nvml_count(n) <= RM_NVML_GPUS);
    rm_nvml_gpu(n, 0, &g);
    assert_int_equal(strlen(g.name), RM_NVML_TEXT - 1);
    for (const char *p = g.name; *p; p++) assert_true(*p >= ' ' && *p <= '~');
    assert_int_equal(rm_nvml_link(n, 0, 3), RM_LINK_UNKNOWN);
    assert_true(json_is_null(at(gpu_at(all, 0), "processes")));
    char *text = json_dumps(all, 0);
    assert_non_null(text);
    again = json_loads(text, 0, NULL);
    assert_true(json_equal(all, again));
    free(text);
    json_decref(again);
    json_decref(all);
    rm_nvml_close(n);
}

static void processes_are_listed_with_the_own_one(void **state)
{
    rm_nvml *n = opened(RM_NVML_NOW, "nvml-crowd", "1");
    json_t *all = rm_nvml_json(n);
    const json_t *p = at(gpu_at(all, 0), "processes");
    assert_int_equal(json_array_size(p), 2);
    assert_int_equal(json_integer_value(at(json_array_get(p, 0), "pid")), 4242);
    assert_int_equal(json_integer_value(at(json_array_get(p, 0), "memory_bytes")), 5ll << 30);
    assert_true(json_is_false(at(json_array_get(p, 0), "own")) && json_is_true(at(json_array_get(p, 1), "own")));
    assert_true(json_is_null(at(json_array_get(p, 1), "memory_bytes")));
    json_decref(all);
    rm_nvml_close(n);
}

static void links_in_words(void **state)
{
    static const struct { const char *gpus, *words; } want[] = { { "1", "alone" }, { "2", "NVLink between all" }, { "4", "NVLink between some, else PCIe switches" },
                                                                 { "8", "NVLink between some, else across NUMA nodes" } };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char words[96];
        rm_nvml *n = opened(RM_NVML_NOW, "", want[i].gpus);
        rm_nvml_links_words(n, words, sizeof words);
        assert_string_equal(words, want[i].words);
        rm_nvml_close(n);
    }
}

/* ---- reasons and facts */
static void reasons_in_words_and_which_of_them_count(void **state)
{
    static const struct { uint64_t bits; const char *text; bool throttled; } want[] = {
        { 0, "[]", false },
        { 0x3, "[\"idle\", \"application clocks\"]", false },
        { 0x4, "[\"power cap\"]", true },
        { 0x1e8, "[\"hardware slowdown\", \"software thermal\", \"hardware thermal\", \"power brake\", \"display clocks\"]", true },
        { 0x10, "[\"sync boost\"]", true },
        { 0x1000, "[\"reason 0x1000\"]", true },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        json_t *list = rm_gpu_reasons_json(want[i].bits);
        char *text = json_dumps(list, 0);
        assert_string_equal(text, want[i].text);
        assert_true(rm_gpu_throttled(want[i].bits) == want[i].throttled);
        free(text);
        json_decref(list);
    }
}

static const char *fact(const rm_gpu_facts *f, const char *name, int hard)
{
    for (int i = 0; i < f->n; i++)
        if (!strcmp(f->name[i], name)) {
            assert_int_equal(f->hard[i], hard);
            return f->text[i];
        }
    fail_msg("no fact %s", name);
    return "";
}

static void hard_facts_are_what_changes_speed_and_stays(void **state)
{
    static const struct { const char *name, *text; int hard; } want[] = {
        { "gpu_driver", "580.65.06", 1 }, { "gpu_links", "NVLink between all", 1 }, { "gpu_power_limit_w", "650", 1 }, { "gpu_sm_application_mhz", "1780", 1 },
        { "gpu_ecc", "on", 1 }, { "gpu_mig", "off", 1 }, { "gpu_temperature_c", "61", 0 }, { "gpu_serial", "1320000000042", 0 }, { "gpu_power_w", "412", 0 },
        { "gpu_uuid", "GPU-00000000-0000-0000-0000-000000000001", 0 }, { "gpu_compute_mode", "default", 0 },
    };
    rm_gpu_facts f;
    with(RM_NVML_NOW, "", "2");
    rm_gpu_facts_of("0000:02:00.0", &f);
    for (size_t i = 0; i < RM_COUNT(want); i++) assert_string_equal(fact(&f, want[i].name, want[i].hard), want[i].text);
    with("/nowhere/libnvidia-ml.so.1", "", "2");
    rm_gpu_facts_of("0000:02:00.0", &f);
    assert_string_equal(fact(&f, "gpu_driver", 1), "unknown");
    assert_string_equal(fact(&f, "gpu_power_limit_w", 1), "unknown");
    assert_non_null(strstr(fact(&f, "nvml", 0), "/nowhere/libnvidia-ml.so.1 is not there"));
    with(RM_NVML_NOW, "", "1");
    rm_gpu_facts_of("0000:02:00.0", &f);
    assert_string_equal(fact(&f, "nvml", 0), "NVML does not know this GPU");
}

/* ---- watching */
static void throttled_windows_are_seen_and_no_others(void **state)
{
    rm_gpu_watch *w;
    rm_gpu_reading r[6];
    with(RM_NVML_NOW, "throttle:4-5", "1");
    assert_int_equal(rm_gpu_watch_open("0000:01:00.0", &w), RM_OK); /* asks once, so that readings are questions 2, 3, ... */
    assert_null(rm_gpu_watch_why(w));
    for (int i = 0; i < 6; i++) rm_gpu_watch_read(w, &r[i]);
    for (int i = 0; i + 1 < 6; i++) {
        const rm_gpu_reading b = rm_gpu_between(&r[i], &r[i + 1]);
        const bool want = i >= 1 && i <= 3; /* r[2] and r[3] are throttled */
        assert_true(rm_gpu_throttled((uint64_t)b.reasons) == want);
        assert_int_equal(b.sm_mhz, want ? 1200 : 1980);
        assert_int_equal(b.temperature_c, want ? 88 : 61);
        assert_int_equal(b.power_mw, 412345);
    }
    rm_gpu_watch_close(w);
}

static void watching_nothing_says_why(void **state)
{
    static const struct { const char *library, *faults, *bus, *why; } want[] = {
        { "/nowhere/x.so", "", "0000:01:00.0", "/nowhere/x.so is not there" }, { RM_NVML_NOW, "nvml-denied", "0000:01:00.0", "throttle reasons: no permission" },
        { RM_NVML_NOW, "", "0000:77:00.0", "NVML does not know the GPU 0000:77:00.0" }, { RM_NVML_NOW, "nvml-old", "0000:01:00.0", "throttle reasons: the driver has no such function" },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        rm_gpu_watch *w;
        rm_gpu_reading r;
        with(want[i].library, want[i].faults, "1");
        assert_int_equal(rm_gpu_watch_open(want[i].bus, &w), RM_OK);
        assert_non_null(strstr(rm_gpu_watch_why(w), want[i].why));
        rm_gpu_watch_read(w, &r);
        assert_int_equal(r.reasons, -1);
        rm_gpu_watch_close(w);
    }
    rm_gpu_reading r;
    rm_gpu_watch_read(NULL, &r);
    assert_true(r.reasons == -1 && r.sm_mhz == -1);
    const rm_gpu_reading known = { 4, 1000, 5, 6 };
    const rm_gpu_reading b = rm_gpu_between(&r, &known), c = rm_gpu_between(&known, &r);
    assert_true(b.reasons == 4 && c.reasons == 4 && b.sm_mhz == 1000 && c.sm_mhz == 1000 && c.power_mw == -1 && c.temperature_c == 6);
}

/* ---- why there is no usable GPU */
static void make(const char *root, const char *file, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, file);
    for (char *p = path + strlen(root) + 1; *p; p++)
        if (*p == '/') *p = '\0', mkdir(path, 0755), *p = '/';
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void the_cause_is_named_and_what_to_do(void **state)
{
    enum { BUS = 1, MODULE = 2 };
    static const struct { int machine; const char *library, *faults; int error, runtime; const char *words; bool there; } want[] = {
        { 0, "/nowhere/x.so", "", 35, 13000, "no NVIDIA GPU and no NVIDIA driver on this machine", false },
        { BUS, "/nowhere/x.so", "", 35, 13000, "(PCI 0000:41:00.0), but no driver: install one that supports CUDA 13.0 or newer", true },
        { BUS | MODULE, "/nowhere/x.so", "", 35, 13000, "docker run --gpus all", true },
        { BUS, RM_NVML_NOW, "nvml-init:9", 35, 13000, "modprobe nvidia", true },
        { 0, RM_NVML_NOW, "nvml-init:9", 100, 13000, "no NVIDIA GPU is in this machine", false },
        { BUS, RM_NVML_NOW, "nvml-init:18", 35, 13000, "reboot, or reload the module", true },
        { BUS, RM_NVML_NOW, "nvml-init:4", 100, 13000, "/dev/nvidiactl", true },
        { BUS, RM_NVML_NOW, "nvml-init:15", 100, 13000, "fallen off the bus", true },
        { BUS, RM_NVML_NOW, "nvml-none", 100, 13000, "shows this process no GPU of those in this machine", true },
        { 0, RM_NVML_NOW, "nvml-cuda:12040", 35, 13000, "the driver 580.65.06 runs CUDA up to 12.4, and this program was built with CUDA 13.0", true },
        { 0, RM_NVML_NOW, "", 35, 13000, "no libcuda.so.1 of its version", true },
        { 0, RM_NVML_NOW, "nvml-cuda:13010", 35, 13000, "no libcuda.so.1 of its version", true },
        { 0, RM_NVML_NOW, "", 0, 0, "this build has no CUDA", true },
        { 0, RM_NVML_NOW, "nvml-prohibited", 46, 13000, "compute mode prohibited", true },
        { 0, RM_NVML_NOW, "nvml-exclusive", 46, 13000, "compute mode exclusive process and another process has it", true },
        { 0, RM_NVML_NOW, "nvml-mig", 100, 13000, "MIG mode and not cut into instances", true },
        { 0, RM_NVML_NOW, "nvml-full", 2, 13000, "GPU 0 (NVIDIA H100 80GB HBM3) has 100 MiB of its 80896 MiB", true },
        { 0, RM_NVML_NOW, "", 34, 13000, "stub of libcuda.so.1", true },
        { 0, RM_NVML_NOW, "", 999, 13000, "words of CUDA", true },
    };
    for (size_t i = 0; i < RM_COUNT(want); i++) {
        char root[] = "nvml_root_XXXXXX", out[400], command[64];
        assert_non_null(mkdtemp(root));
        make(root, "/sys/bus/pci/devices/0000:01:00.0/vendor", "0x1234\n"); /* somebody else's display */
        make(root, "/sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n");
        make(root, "/sys/bus/pci/devices/0000:42:00.1/vendor", "0x10de\n"); /* the GPU's audio, and a network card of the same maker */
        make(root, "/sys/bus/pci/devices/0000:42:00.1/class", "0x040300\n");
        if (want[i].machine & BUS) {
            make(root, "/sys/bus/pci/devices/0000:41:00.0/vendor", "0x10de\n");
            make(root, "/sys/bus/pci/devices/0000:41:00.0/class", "0x030200\n");
        }
        if (want[i].machine & MODULE) make(root, "/proc/driver/nvidia/version", "NVRM version: ...\n");
        with(want[i].library, want[i].faults, "2");
        const rm_gpu_trouble t = { want[i].error, "words of CUDA", want[i].runtime, root };
        const bool there = rm_nvml_explain(&t, out, sizeof out);
        if (!strstr(out, want[i].words)) fail_msg("row %zu: %s", i, out);
        if (there != want[i].there) fail_msg("row %zu: there %d", i, there);
        assert_null(strchr(out, '\n'));
        snprintf(command, sizeof command, "rm -rf %s", root);
        assert_int_equal(system(command), 0);
    }
}

static void hidden_gpus_are_named_as_hidden(void **state)
{
    char out[400];
    with(RM_NVML_NOW, "", "2");
    setenv("CUDA_VISIBLE_DEVICES", "", 1);
    const rm_gpu_trouble t = { 100, "no CUDA-capable device is detected", 13000, "/nowhere" };
    assert_true(rm_nvml_explain(&t, out, sizeof out));
    assert_non_null(strstr(out, "CUDA_VISIBLE_DEVICES=\"\" hides the 2 GPUs"));
    unsetenv("CUDA_VISIBLE_DEVICES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_number_is_in_the_unit_of_its_key), cmocka_unit_test(another_gpu_is_described_by_its_file),
        cmocka_unit_test(an_old_driver_lacks_some_and_gives_the_rest), cmocka_unit_test(what_is_denied_is_null_and_says_so),
        cmocka_unit_test(hostile_answers_do_no_harm), cmocka_unit_test(processes_are_listed_with_the_own_one), cmocka_unit_test(links_in_words),
        cmocka_unit_test(reasons_in_words_and_which_of_them_count), cmocka_unit_test(hard_facts_are_what_changes_speed_and_stays),
        cmocka_unit_test(throttled_windows_are_seen_and_no_others), cmocka_unit_test(watching_nothing_says_why),
        cmocka_unit_test(the_cause_is_named_and_what_to_do), cmocka_unit_test(hidden_gpus_are_named_as_hidden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
