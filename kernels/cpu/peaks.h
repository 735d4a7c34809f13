/* Measuring the processor's peaks (kernels/peaks.h): loops compiled once an instruction set from peaks_body.inc, oneDNN's matrix product, and
 * the sizes of the caches. Every loop gives back something that only doing all of its work can give. */
#ifndef RM_KERNELS_CPU_PEAKS_H
#define RM_KERNELS_CPU_PEAKS_H
#include "kernels/peaks.h"

enum { CPU_PEAK_CHAINS = 12,          /* accumulators in flight: two pipes of latency 4 to 6 */
       CPU_PEAK_MOST = 1 << 22 };     /* turns of a call: sums stay exact in fp32 */

typedef struct cpu_peak_loops {
    int lanes;
    const char *how;                  /* "256-bit FMA" */
    /* `turns` (up to CPU_PEAK_MOST) of x = x a + b in every chain and lane, from x = the chain's number: with a = b = 1 the sum over all of
     * them is lanes (chains turns + 0 + 1 + ... + chains - 1). 2 lanes chains turns FLOP. */
    double (*fma)(size_t turns, float a, float b);
    /* Sum of n floats, n a multiple of 8 lanes, p aligned to 64 bytes: exact for up to 2^29 ones. */
    double (*read)(const float *p, size_t n);
    /* x = y + s z, likewise; by ordinary stores, or past the caches (NULL: there are no such stores). */
    void (*triad)(float *x, const float *y, const float *z, float s, size_t n);
    void (*triad_past)(float *x, const float *y, const float *z, float s, size_t n);
} cpu_peak_loops;
extern const cpu_peak_loops cpu_peak_loops_base, cpu_peak_loops_avx2, cpu_peak_loops_avx512;

/* acc += a0 b0 + a1 b1 in bf16 with fp32 sums, from acc = the chain's number: with all ones the sum over lanes and chains is
 * CPU_PEAK_DOT_LANES (2 chains turns + 0 + ... + chains - 1). 4 lanes chains turns FLOP. NULL: not this processor or compiler. */
enum { CPU_PEAK_DOT_LANES = 16 };
typedef double cpu_peak_dot(size_t turns, uint16_t one);
cpu_peak_dot *cpu_peak_dot_bf16(void);

/* Caches that the cores of this process have: of each kind the size of one and how many there are; 0 where there is none. */
typedef struct cpu_caches { size_t l2_bytes, l3_bytes; int n_l2, n_l3; } cpu_caches;
cpu_caches cpu_peak_caches(void);

/* The best of many runs. disturbed: other work had the cores for more than a hundredth of it, so that the machine can do more. */
typedef struct cpu_peak_best { double rate; bool disturbed; } cpu_peak_best;

/* Multiplies n x n matrices with oneDNN again and again for `budget_ns`, and gives the best rate in FLOP/s. RM_E_UNSUPPORTED with the reason where
 * oneDNN has no fast code for the type; RM_E_NUMERIC. */
rm_status cpu_peak_gemm(rm_device *cpu, rm_dtype dtype, int64_t n, uint64_t budget_ns, cpu_peak_best *out) RM_CHECKED;
/* Keeps the better of two: `amount` of work took ns, of which threads waited for delay_ns. */
void cpu_peak_keep(cpu_peak_best *best, double amount, uint64_t ns, uint64_t delay_ns);
/* Is it time to stop after `runs` runs since from_ns? After the budget, or twice of it where no best run was undisturbed; never before three. */
bool cpu_peak_enough(const cpu_peak_best *best, int runs, uint64_t from_ns, uint64_t budget_ns);

rm_status cpu_peaks(rm_device *d, rm_peaks *out) RM_CHECKED;
#endif
