#include "profiler/gpu_explain.h"
#include "profiler/nvml.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CUDA_STUB = 34, CUDA_OLD_DRIVER = 35, CUDA_NO_DEVICE = 100, LEAST_FREE_MIB = 512 };

typedef struct search {
    const rm_gpu_trouble *t;
    rm_nvml *nvml;      /* NULL: it did not start, for `code` */
    int code;
    bool on_bus;
    char bus[16];
    char *out;
    size_t size;
} search;

/* ---- what the system shows */
static bool first_word(const char *root, const char *dir, const char *file, char word[32])
{
    char path[512];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices/%.64s/%s", root, dir, file);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    const bool found = fscanf(f, "%31s", word) == 1;
    fclose(f);
    return found;
}

static bool is_gpu(const char *root, const char *dir)
{
    char vendor[32], class[32];
    return first_word(root, dir, "vendor", vendor) && !strcmp(vendor, "0x10de") && first_word(root, dir, "class", class) && !strncmp(class, "0x03", 4);
}

bool rm_gpu_on_bus(const char *root, char *out_bus)
{
    char path[512];
    snprintf(path, sizeof path, "%s/sys/bus/pci/devices", root);
    DIR *d = opendir(path);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        found = e->d_name[0] != '.' && is_gpu(root, e->d_name);
        if (found && out_bus) snprintf(out_bus, 16, "%.15s", e->d_name);
    }
    if (d) closedir(d);
    return found;
}

static bool exists(const char *root, const char *file)
{
    char path[512];
    struct stat s;
    snprintf(path, sizeof path, "%s%s", root, file);
    return stat(path, &s) == 0;
}

static bool denied(const char *root, int gpu)
{
    char path[512];
    snprintf(path, sizeof path, "%s/dev/nvidia%d", root, gpu);
    return access(path, F_OK) == 0 && access(path, R_OK | W_OK) != 0;
}

static void cuda_text(int version, char out[16]) { snprintf(out, 16, "%d.%d", version / 1000, version % 1000 / 10); }

/* "that supports CUDA 13.0", where it is known which. */
static const char *wanted(const rm_gpu_trouble *t, char out[48])
{
    char version[16];
    cuda_text(t->runtime, version);
    snprintf(out, 48, t->runtime ? " that supports CUDA %s or newer" : "", version);
    return out;
}

/* ---- causes, each true once it has said its line; the first that holds counts */
static bool say(search *s, const char *fmt, ...) RM_PRINTF(2, 3);
static bool say(search *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->out, s->size, fmt, ap);
    va_end(ap);
    return true;
}

static bool stub(search *s)
{
    return s->t->cuda_error == CUDA_STUB && say(s, "the program found the toolkit's stub of libcuda.so.1 and not the driver's library: take the folder stubs out of LD_LIBRARY_PATH");
}

static bool no_library(search *s)
{
    char words[48];
    if (s->nvml || s->code != -1) return false;
    if (exists(s->t->root, "/proc/driver/nvidia/version"))
        return say(s, "NVIDIA's kernel driver runs, but its libraries (libnvidia-ml.so.1) are not to be found: start the container with GPUs shown to it (docker run --gpus all, apptainer --nv), or set LD_LIBRARY_PATH");
    if (s->on_bus) return say(s, "an NVIDIA GPU is in this machine (PCI %s), but no driver: install one%s", s->bus, wanted(s->t, words));
    return say(s, "no NVIDIA GPU and no NVIDIA driver on this machine");
}

static bool no_start(search *s)
{
    if (s->nvml) return false;
    switch (s->code) {
    case 4: return say(s, "no permission to talk to NVIDIA's driver: this user may not open /dev/nvidiactl");
    case 9:
        if (!s->on_bus) return say(s, "NVIDIA's driver is installed, but no NVIDIA GPU is in this machine");
        return say(s, "an NVIDIA GPU is in this machine (PCI %s) and its driver is installed, but not loaded: modprobe nvidia, or reboot; dmesg says why it does not load", s->bus);
    case 18: return say(s, "NVIDIA's driver was updated and the old kernel module still runs: reboot, or reload the module nvidia");
    default: return say(s, "%s", rm_last_error());
    }
}

static bool old_driver(search *s)
{
    char runtime[16], driver[16];
    const int can = rm_nvml_cuda(s->nvml);
    if (!can || !s->t->runtime || can / 1000 >= s->t->runtime / 1000) return false;
    cuda_text(s->t->runtime, runtime);
    cuda_text(can, driver);
    return say(s, "the driver %s runs CUDA up to %s, and this program was built with CUDA %s: update the driver, or build with the older toolkit", rm_nvml_driver(s->nvml), driver,
               runtime);
}

/* The runtime's "insufficient driver" also means that it found no libcuda.so.1. */
static bool no_libcuda(search *s)
{
    return s->t->cuda_error == CUDA_OLD_DRIVER &&
           say(s, "the driver %s runs, but CUDA finds no libcuda.so.1 of its version: in a container NVIDIA_DRIVER_CAPABILITIES must name compute; else set LD_LIBRARY_PATH, or install the driver's libcuda",
               rm_nvml_driver(s->nvml));
}

static bool none_driven(search *s)
{
    if (rm_nvml_count(s->nvml)) return false;
    return say(s, "the driver %s runs, but shows this process no GPU%s", rm_nvml_driver(s->nvml), s->on_bus ? " of those in this machine: check /dev/nvidia*, the container's or the job's devices" : "");
}

static bool hidden(search *s)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && s->t->cuda_error == CUDA_NO_DEVICE && say(s, "CUDA_VISIBLE_DEVICES=\"%.60s\" hides the %d GPUs of this machine: unset it, or name one of them", visible, rm_nvml_count(s->nvml));
}

static bool taken(search *s, int i, const rm_gpu *g)
{
    const char *why;
    const int64_t mode = g->v[RM_GPU_COMPUTE_MODE];
    if (mode == 2) return say(s, "GPU %d (%s) is in compute mode prohibited: nvidia-smi -c DEFAULT", i, g->name);
    if ((mode != 1 && mode != 3) || rm_nvml_processes(s->nvml, i, NULL, 0, &why) < 1) return false;
    return say(s, "GPU %d (%s) is in compute mode %s and another process has it: wait for that one, or nvidia-smi -c DEFAULT", i, g->name, rm_gpu_compute_mode(mode));
}

static bool full(search *s, int i, const rm_gpu *g)
{
    const int64_t total = g->v[RM_GPU_MEMORY_BYTES], used = g->v[RM_GPU_MEMORY_USED_BYTES];
    if (total < 0 || used < 0 || (total - used) >> 20 >= LEAST_FREE_MIB) return false;
    return say(s, "GPU %d (%s) has %lld MiB of its %lld MiB of memory left: other processes have the rest (nvidia-smi shows them)", i, g->name, (long long)(total - used) >> 20,
               (long long)total >> 20);
}

static bool one_gpu(search *s)
{
    for (int i = 0; i < rm_nvml_count(s->nvml); i++) {
        rm_gpu g;
        rm_nvml_gpu(s->nvml, i, &g);
        if (denied(s->t->root, i)) return say(s, "GPU %d (%s): this user may not open /dev/nvidia%d", i, g.name, i);
        if (g.v[RM_GPU_MIG] == 1 && rm_nvml_mig_instances(s->nvml, i) == 0)
            return say(s, "GPU %d (%s) is in MIG mode and not cut into instances: make one (nvidia-smi mig -cgi ... -C), or switch MIG off", i, g.name);
        if (taken(s, i, &g) || full(s, i, &g)) return true;
    }
    return false;
}

static bool runtime_missing(search *s) { return !s->t->runtime && say(s, "there is a GPU, but this build has no CUDA"); }
static bool words_of_cuda(search *s) { return say(s, "%s", s->t->cuda_words && s->t->cuda_words[0] ? s->t->cuda_words : "no cause was found"); }

bool rm_nvml_explain(const rm_gpu_trouble *t, char *out, size_t size)
{
    static bool (*const cause[])(search *) = { stub, no_library, no_start, none_driven, runtime_missing, old_driver, no_libcuda, hidden, one_gpu, words_of_cuda };
    search s = { .t = t, .out = out, .size = size };
    s.on_bus = rm_gpu_on_bus(t->root, s.bus);
    if (rm_nvml_open(&s.nvml, &s.code) != RM_OK) s.nvml = NULL;
    for (size_t i = 0; i < RM_COUNT(cause); i++)
        if (cause[i](&s)) break;
    const bool there = s.on_bus || (s.nvml && rm_nvml_count(s.nvml));
    rm_nvml_close(s.nvml);
    return there;
}
