/* From CUPTI's buffers to a step: what profiler/cupti.c collects. Internal; no vendor types, so that tests can fill buffers by hand. */
#ifndef RM_CUPTI_RECORDS_H
#define RM_CUPTI_RECORDS_H
#include "profiler/cupti.h"

/* Two readings of both clocks, one before and one after what is converted: CUPTI's (CLOCK_MONOTONIC_RAW) and rm_now_ns(), which the
 * system's time keeping makes faster and slower. */
typedef struct rm_clock_pair { uint64_t raw_ns, now_ns; } rm_clock_pair;
typedef struct rm_cupti_clock { rm_clock_pair before, after; } rm_cupti_clock;
uint64_t rm_cupti_now(const rm_cupti_clock *c, uint64_t raw_ns);

/* A record as it came; `host`: the correlation of the runtime's call where the driver's call in it has another, else 0. */
typedef struct rm_cupti_raw { rm_cupti_record record; uint32_t host; } rm_cupti_raw;
typedef struct rm_cupti_pushed { uint32_t correlation; rm_cupti_of of; } rm_cupti_pushed;
typedef struct rm_cupti_text { const void *key; char *symbol, *shown; } rm_cupti_text;

typedef struct rm_cupti_log {
    rm_cupti_raw    *raw;    size_t n_raw, room_raw;
    rm_cupti_pushed *pushed; size_t n_pushed, room_pushed;
    rm_cupti_record *step;   size_t room_step;
    rm_cupti_text   *text;   uint32_t n_text; size_t room_text;
    uint64_t untimed, cut;
} rm_cupti_log;

/* Adds the records of a buffer; kinds that are not ours are passed over. */
rm_status rm_cupti_log_read(rm_cupti_log *log, uint8_t *buffer, size_t bytes) RM_CHECKED;
/* Everything that was added since the last time becomes a step, in `log`'s memory; `dropped` is the caller's. */
rm_status rm_cupti_log_step(rm_cupti_log *log, const rm_cupti_clock *clock, rm_cupti_step *out) RM_CHECKED;
void      rm_cupti_log_free(rm_cupti_log *log);
#endif
