/* What a trace is made of, for its two files: trace.c fills it, kineto.c writes it. */
#ifndef RM_TRACE_PRIVATE_H
#define RM_TRACE_PRIVATE_H
#include "profiler/trace.h"
#include <pthread.h>
#include <stdatomic.h>

/* n and dropped are written by the lane's writer alone; atomic so that others may look at them meanwhile. */
struct rm_lane {
    struct rm_lane *next;
    rm_event *event;
    size_t room;
    atomic_size_t n;
    atomic_uint_fast64_t dropped;
    rm_lane_kind kind;
    int number;                      /* from 1, in the order of creation: the file's tid and stream */
    char label[64];
};

/* What numbers are called; name 0: nobody said. */
typedef struct row { rm_name name; int32_t layer; } row;
typedef struct table { row *row; uint32_t n; } table;

struct rm_trace {
    pthread_mutex_t lock;            /* lanes and names */
    size_t events_per_lane;
    uint64_t begin_ns, begin_day_ns; /* when it was opened: rm_now_ns(), and the clock of the day at the same moment */
    rm_lane *lanes;
    int n_lane;
    char **name;                     /* name i + 1 */
    uint32_t n_name;
    table table[RM_TABLE_COUNT];
};
#endif
