/* Two stores side by side: like with like, and what is unlike said so. */
#ifndef RM_REPORTS_COMPARE_H
#define RM_REPORTS_COMPARE_H
#include "reports/doc.h"
#include "reports/model.h"

/* Adds the comparison of the newest results of both stores to the document. */
rm_status rp_compare(rp_doc *d, const rp_data *a, const rp_data *b) RM_CHECKED;

/* median(a) / median(b) of two sets of raw samples with its 95 % bootstrap interval (percentiles of 1000 resamples, the same
 * every time). NaN when either is empty. Covers the spread of steps within the runs, not from run to run. */
typedef struct rp_ratio { double ratio, low, high; } rp_ratio;
rm_status rp_ratio_of(const double *a, size_t n_a, const double *b, size_t n_b, rp_ratio *out) RM_CHECKED;
/* "px: 32 / 64; dtype: fp32 / bf16": what two results were asked to do differently; "" when nothing. */
void rp_unlike_conditions(const rp_result *a, const rp_result *b, rm_strbuf *out);
/* Likewise for the hard facts of two environments. */
void rp_unlike_machines(const json_t *a, const json_t *b, rm_strbuf *out);
#endif
