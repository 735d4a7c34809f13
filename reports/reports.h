/* Reports: read stores, write what people read. Never sees kernels or model. */
#ifndef RM_REPORTS_H
#define RM_REPORTS_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>

typedef struct rm_report_config {
    const char *const *store; int n_store;  /* one: report; two: system against system */
    const char *out_dir;                    /* report/ : index.html (self-contained), report.md, figures as .svg */
    bool compare;
} rm_report_config;
/* gnuplot missing: figures are left out with a note and RM_E_PARTIAL. Writes are atomic. A store without runs is a
 * report that says so. */
rm_status rm_report_render(const rm_report_config *cfg) RM_CHECKED;
#endif
