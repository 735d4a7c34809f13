#include "bench/gate_mask.h"
#include "base/log.h"
#include "profiler/nvml.h"
#include <glob.h>
#include <stdio.h>
#include <string.h>

enum { MASK_EXIT = 1, MASK_TIMEOUT = 2, MASK_THROTTLE = 4, MASK_ECC = 8 };
static const struct {
    const char *word;
    unsigned bit;
} words[] = { { "exit", MASK_EXIT }, { "timeout", MASK_TIMEOUT }, { "throttle", MASK_THROTTLE }, { "ecc", MASK_ECC }, { "none", 0 } };

/* ---- opening */

static rm_status add_word(const char *word, size_t n, unsigned *bits)
{
    for (size_t i = 0; i < RM_COUNT(words); i++)
        if (strlen(words[i].word) == n && strncmp(words[i].word, word, n) == 0) {
            *bits |= words[i].bit;
            return RM_OK;
        }
    return rm_fail(RM_E_ARG, "--discard %.*s: there is exit, timeout, throttle and ecc, or none", (int)n, word);
}

static void warn_of_blind(const bench_masks *m)
{
    bench_machine_reading now;
    bench_masks_read(m, &now);
    if ((m->bits & MASK_THROTTLE) && now.throttles < 0 && now.gpus_throttled < 0)
        rm_warn_once("gate throttle", "--discard throttle: this machine does not say when its processor or a GPU is throttled");
    if ((m->bits & MASK_ECC) && now.memory_errors < 0) rm_warn_once("gate ecc", "--discard ecc: this machine does not count memory errors");
}

rm_status bench_masks_open(const char *text, bench_masks *out)
{
    bench_masks m = { .sys = "/sys" };
    for (const char *p = text;; p++) {
        const size_t n = strcspn(p, ",");
        RM_TRY(add_word(p, n, &m.bits));
        p += n;
        if (!*p) break;
    }
    if ((m.bits & MASK_THROTTLE) && rm_nvml_open(&m.gpus, NULL) != RM_OK) m.gpus = NULL; /* a machine without GPUs */
    warn_of_blind(&m);
    *out = m;
    return RM_OK;
}

void bench_masks_close(bench_masks *m)
{
    rm_nvml_close(m->gpus);
    m->gpus = NULL;
}

/* ---- reading */

/* The sum of the numbers in all files that `pattern` under /sys means; -1: there are none. */
static int64_t sum_of(const char *sys, const char *pattern)
{
    char where[400];
    glob_t g;
    int64_t sum = -1;
    snprintf(where, sizeof where, "%s/%s", sys, pattern);
    if (glob(where, 0, NULL, &g) != 0) return -1;
    for (size_t i = 0; i < g.gl_pathc; i++) {
        FILE *f = fopen(g.gl_pathv[i], "r");
        long long v;
        if (f && fscanf(f, "%lld", &v) == 1) sum = (sum < 0 ? 0 : sum) + v;
        if (f) fclose(f);
    }
    globfree(&g);
    return sum;
}

static int64_t gpus_throttled(rm_nvml *n)
{
    int64_t sum = -1;
    for (int i = 0; n && i < rm_nvml_count(n); i++) {
        const int64_t reasons = rm_nvml_number(n, i, RM_GPU_REASONS, NULL);
        if (reasons >= 0) sum = (sum < 0 ? 0 : sum) + rm_gpu_throttled((uint64_t)reasons);
    }
    return sum;
}

void bench_masks_read(const bench_masks *m, bench_machine_reading *out)
{
    *out = (bench_machine_reading) { -1, -1, -1 };
    if (m->bits & MASK_THROTTLE) {
        out->throttles = sum_of(m->sys, "devices/system/cpu/cpu*/thermal_throttle/core_throttle_count");
        out->gpus_throttled = gpus_throttled(m->gpus);
    }
    if (m->bits & MASK_ECC) out->memory_errors = sum_of(m->sys, "devices/system/edac/mc/mc*/[cu]e_count");
}

/* ---- judging */

static bool failed(const bench_process *r) { return r->exit_code != 0 && !r->timed_out; }

const char *bench_masks_why(const bench_masks *m, const bench_process run[2], const bench_machine_reading *before, const bench_machine_reading *after)
{
    if ((m->bits & MASK_EXIT) && (failed(&run[0]) || failed(&run[1]))) return "exit";
    if ((m->bits & MASK_TIMEOUT) && (run[0].timed_out || run[1].timed_out)) return "timeout";
    if ((m->bits & MASK_THROTTLE) && (after->throttles > before->throttles || before->gpus_throttled > 0 || after->gpus_throttled > 0)) return "throttle";
    if ((m->bits & MASK_ECC) && after->memory_errors > before->memory_errors) return "ecc";
    return NULL;
}

rm_status bench_masks_trouble(const bench_masks *m, const bench_process run[2], const char *const command[2])
{
    for (int i = 0; i < 2; i++) {
        const bench_process *r = &run[i];
        if (r->timed_out && !(m->bits & MASK_TIMEOUT)) return rm_fail(RM_E_NUMERIC, "side %c did not end within --run-timeout: %s", "AB"[i], command[i]);
        if (failed(r) && !(m->bits & MASK_EXIT))
            return rm_fail(RM_E_NUMERIC, "side %c ended with exit code %d (%s): %s", "AB"[i], r -> exit_code,
                           r -> complaint[0] ? r -> complaint : "it said nothing", command[i]);
    }
    return RM_OK;
}

bool bench_masks_too_many(int discarded, int kept) { return discarded > 1 && 5 * discarded > discarded + kept; }

bool bench_masks_hopeless(int discarded, int kept, int most) { return kept == 0 ? discarded >= 3 : discarded > 1 && 4 * discarded > most; }
