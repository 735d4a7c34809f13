/* Was a GPU throttled while it worked? Read before and after a window, as the counters are (profiler/counters.h), never inside one: a reading
 * asks the driver four questions. What happens and ends within a window is not seen.
 * Threads: one at a time per object. */
#ifndef RM_GPU_WATCH_H
#define RM_GPU_WATCH_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_gpu_watch rm_gpu_watch;
/* -1: not to be had. reasons: bits of rm_gpu_reasons_json(). */
typedef struct rm_gpu_reading { int64_t reasons, sm_mhz, power_mw, temperature_c; } rm_gpu_reading;

/* The GPU with this PCI address. Where there is nothing to ask, rm_gpu_watch_why() says why and every reading is -1: only RM_E_NOMEM fails. */
rm_status   rm_gpu_watch_open(const char *bus, rm_gpu_watch **out) RM_CHECKED;
void        rm_gpu_watch_close(rm_gpu_watch *w);                       /* NULL is fine */
/* NULL: reasons are read. Else why they are not. */
const char *rm_gpu_watch_why(const rm_gpu_watch *w);
void        rm_gpu_watch_read(rm_gpu_watch *w, rm_gpu_reading *out);   /* NULL w: -1 everywhere */
/* The last reading where it is at most most_ns old, else a new one: a window that follows another begins with the reading that ended that one. */
void        rm_gpu_watch_recent(rm_gpu_watch *w, uint64_t most_ns, rm_gpu_reading *out);
/* What two readings say of the time between: reasons of either, the lower clock, the later power, the higher temperature. */
rm_gpu_reading rm_gpu_between(const rm_gpu_reading *before, const rm_gpu_reading *after);
#endif
