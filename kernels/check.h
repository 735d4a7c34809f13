/* The op harness: any op on any device, checked against ref, differentiated, timed.
 *
 * Data are seeded and well-conditioned: values are exact in the op's type, so that only the op's own rounding is seen;
 * gradients vanish where ReLU could flip within rounding; max-pool windows have no ties. Every result carries the line
 * that gives it again. One thread at a time; every call is sync. */
#ifndef RM_CHECK_H
#define RM_CHECK_H
#include "kernels/device.h"

enum { RM_CHECK_OUTPUTS = 6, RM_TIME_SAMPLES = 200 };

/* One output tensor. norm_error = |got - ref| / |ref| (2-norm), max_error = max|got - ref| / max|ref|. */
typedef struct rm_check_output {
    rm_slot slot;
    double  norm_error, max_error, norm_tolerance, max_tolerance;
    bool    finite, zero, passed;    /* zero: not a single non-zero value came out, which is suspicious and fails */
} rm_check_output;

typedef struct rm_check_result {
    char     text[256], reproduce[384], impl[64];
    bool     passed;
    uint32_t n;
    rm_check_output out[RM_CHECK_OUTPUTS];
    char     why[256];               /* "" when passed: the first output that failed, in words */
} rm_check_result;

typedef struct rm_time_result {
    char     text[256], reproduce[384], impl[64];
    uint32_t n;
    double   sample_s[RM_TIME_SAMPLES], median_s;
    double   flop_per_s, byte_per_s;  /* of the median, by the plan's counts */
} rm_time_result;

/* Runs `op` on `d` and in double precision on ref and compares every output. A wrong answer is a result
 * (passed = false), not an error. RM_E_UNSUPPORTED when the device lacks the op; OPTIM without segments gets a seeded table. */
rm_status rm_check_op(rm_device *d, const rm_op *op, uint64_t seed, rm_check_result *out) RM_CHECKED;

/* Whether an op has a derivative to check: the *_BWD ops and SOFTMAX_XENT. */
bool      rm_check_has_grad(rm_opcode code);
/* Compares a backward op on ref (or on `ref_like`, a device that computes in double; NULL: ref) with central differences
 * of the forward op, d/dt <r, f(x + t v)> at step 1e-5 along random v, to 1e-7 of |gradient|. RM_E_UNSUPPORTED without
 * derivative. */
rm_status rm_check_grad(rm_device *ref_like, const rm_op *op, uint64_t seed, rm_check_result *out) RM_CHECKED;

/* Times `op` on `d` by marks around each run, after two warm-up runs. repeats 1..RM_TIME_SAMPLES. */
rm_status rm_time_op(rm_device *d, const rm_op *op, int repeats, rm_time_result *out) RM_CHECKED;
#endif
