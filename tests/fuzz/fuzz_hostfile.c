/* libFuzzer target: host files. What is accepted adds up, and its list, read as a file of its own, gives the same hosts again. */
#include "bench/hostfile.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const bench_hosts *h)
{
    bench_hosts again;
    int32_t slots = 0, most = 0;
    char *list = bench_hosts_list(h);
    if (!list) return;
    for (char *p = list; *p; p++)
        if (*p == ',') *p = '\n';
    if (bench_hosts_parse(list, strlen(list), "list", &again) != RM_OK || again.n != h->n || memcmp(again.host, h->host, (size_t)h->n * sizeof *h->host) != 0) abort();
    for (int32_t i = 0; i < h->n; i++) {
        slots += h->host[i].slots;
        most = h->host[i].slots > most ? h->host[i].slots : most;
    }
    if (slots != h->slots || most != h->most || most < 1) abort();
    bench_hosts_free(&again);
    free(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bench_hosts h;
    char *text = malloc(size ? size : 1); /* no terminator: the parser may not need one */
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    if (bench_hosts_parse(text, size, "fuzz", &h) == RM_OK) {
        check(&h);
        bench_hosts_free(&h);
    }
    free(text);
    return 0;
}
