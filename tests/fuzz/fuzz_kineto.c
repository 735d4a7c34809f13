/* libFuzzer target: traces, plain or gzip. The first byte sets how the buffer cuts the text, which must not change what is read; and the
 * figures of what was read add up. */
#define _GNU_SOURCE
#include "profiler/overlap.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_figures(rm_kineto *k, rm_overlap_window window)
{
    rm_overlap v;
    if (rm_overlap_of(k, &(rm_overlap_options){ .window = window, .drop_last_step = k->several_steps, .round = true }, &v) != RM_OK) return;
    if (v.compute_ns + v.non_compute_ns + v.idle_ns != v.window_ns) abort();
    const rm_budget *b = &v.budget;
    if (b->compute_ns + b->exposed_comm_ns + b->exposed_copy_ns + b->host_ns + b->idle_ns != (uint64_t)v.window_ns) abort();
    if (window != RM_OVERLAP_HTA && (v.overlap_ns > v.comm_ns || v.overlap_ns > v.compute_ns || v.compute_ns + v.idle_ns > v.window_ns)) abort();
}

static void check(const char *path, bool as_hta, size_t buffer_bytes)
{
    rm_kineto k, again;
    const rm_status st = rm_kineto_read(path, &(rm_kineto_options){ .as_hta = as_hta, .buffer_bytes = buffer_bytes }, &k);
    if (st != RM_OK && st != RM_E_PARTIAL) return;
    if (!k.n) abort();
    if (st == RM_OK) {
        if (rm_kineto_read(path, &(rm_kineto_options){ .as_hta = as_hta }, &again) != RM_OK || again.n != k.n || memcmp(again.span, k.span, k.n * sizeof *k.span) != 0) abort();
        rm_kineto_free(&again);
    }
    check_figures(&k, as_hta ? RM_OVERLAP_HTA : k.n_step ? RM_OVERLAP_STEPS : RM_OVERLAP_ALL);
    rm_kineto_free(&k);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    if (size < 1) return 0;
    const int fd = memfd_create("trace", 0);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    check(path, data[0] & 1, 32 + data[0] / 2);
    close(fd);
    return 0;
}
