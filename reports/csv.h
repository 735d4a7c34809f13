/* Comma-separated values (RFC 4180): quoted fields may hold commas, line ends and doubled quotes. */
#ifndef RM_REPORTS_CSV_H
#define RM_REPORTS_CSV_H
#include "base/status.h"

enum { RP_CSV_FIELDS = 16 };
/* Calls fn for each record after the first (the names) with `n` NUL-terminated fields. A record whose number of fields differs
 * from the names', or a quote that is never closed, is RM_E_FORMAT naming `where` and the line. fn's status is passed on. */
rm_status rp_csv_each(const char *text, const char *where, rm_status (*fn)(void *ctx, char *const *field, int n), void *ctx) RM_CHECKED;
#endif
