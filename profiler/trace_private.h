/* What a trace is made of, for its two files: trace.c fills it, kineto.c writes it. */
#ifndef RM_TRACE_PRIVATE_H
#define RM_TRACE_PRIVATE_H
#include "profiler/trace.h"
#include <pthread.h>
#include <stdio.h>

struct rm_lane {
    struct rm_lane *next;
    rm_event *event; size_t n, room;
    uint64_t dropped;
    rm_lane_kind kind;
    int number;
    char label[64];
};

struct rm_trace {
    pthread_mutex_t lock;
    size_t events_per_lane;
    rm_lane *lanes; int n_lane;
    char **name; uint32_t n_name;
};
#endif
