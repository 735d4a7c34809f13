#include "profiler/gpu_watch.h"
#include "base/clock.h"
#include "profiler/nvml.h"
#include <stdio.h>
#include <stdlib.h>

struct rm_gpu_watch {
    rm_nvml *nvml; /* NULL: there is nothing to ask */
    int gpu;
    char why[160];
    rm_gpu_reading last;
    uint64_t last_ns; /* 0: there was none */
};

static void find_out_why(rm_gpu_watch *w, const char *bus)
{
    const char *why = "";
    w->gpu = rm_nvml_find(w->nvml, bus);
    if (w->gpu < 0) snprintf(w->why, sizeof w->why, "NVML does not know the GPU %.40s", bus);
    else if (rm_nvml_number(w->nvml, w->gpu, RM_GPU_REASONS, &why) < 0) snprintf(w->why, sizeof w->why, "throttle reasons: %s", why);
    if (w->gpu >= 0) return;
    rm_nvml_close(w->nvml);
    w->nvml = NULL;
}

rm_status rm_gpu_watch_open(const char *bus, rm_gpu_watch **out)
{
    rm_gpu_watch *w = calloc(1, sizeof *w);
    if (!w) return rm_fail(RM_E_NOMEM, "out of memory for watching the GPU");
    if (rm_nvml_open(&w->nvml, NULL) == RM_OK) find_out_why(w, bus);
    else snprintf(w->why, sizeof w->why, "%.150s", rm_last_error());
    *out = w;
    return RM_OK;
}

void rm_gpu_watch_close(rm_gpu_watch *w)
{
    if (!w) return;
    rm_nvml_close(w->nvml);
    free(w);
}

const char *rm_gpu_watch_why(const rm_gpu_watch *w) { return !w ? "nobody watches the GPU" : w->why[0] ? w->why : NULL; }

void rm_gpu_watch_read(rm_gpu_watch *w, rm_gpu_reading *out)
{
    *out = (rm_gpu_reading){ -1, -1, -1, -1 };
    if (!w || !w->nvml) return;
    out->reasons = rm_nvml_number(w->nvml, w->gpu, RM_GPU_REASONS, NULL);
    out->sm_mhz = rm_nvml_number(w->nvml, w->gpu, RM_GPU_SM_MHZ, NULL);
    out->power_mw = rm_nvml_number(w->nvml, w->gpu, RM_GPU_POWER_MW, NULL);
    out->temperature_c = rm_nvml_number(w->nvml, w->gpu, RM_GPU_TEMPERATURE_C, NULL);
    w->last = *out;
    w->last_ns = rm_now_ns();
}

void rm_gpu_watch_recent(rm_gpu_watch *w, uint64_t most_ns, rm_gpu_reading *out)
{
    if (w && w->last_ns && rm_now_ns() - w->last_ns <= most_ns) *out = w->last;
    else rm_gpu_watch_read(w, out);
}

static int64_t either(int64_t a, int64_t b) { return a < 0 ? b : b < 0 ? a : a | b; }
static int64_t lower(int64_t a, int64_t b) { return a < 0 || (b >= 0 && b < a) ? b : a; }

rm_gpu_reading rm_gpu_between(const rm_gpu_reading *before, const rm_gpu_reading *after)
{
    return (rm_gpu_reading){
        .reasons = either(before->reasons, after->reasons),
        .sm_mhz = lower(before->sm_mhz, after->sm_mhz),
        .power_mw = after->power_mw,
        .temperature_c = before->temperature_c > after->temperature_c ? before->temperature_c : after->temperature_c,
    };
}
