/* MLPerf logging: ":::MLLOG {json}" lines as mlperf_logging writes them. Rank 0 only; NULL logs nowhere. */
#ifndef RM_MLLOG_H
#define RM_MLLOG_H
#include "base/status.h"
#include <stdint.h>

typedef struct rm_mllog rm_mllog;
typedef enum rm_mllog_type { RM_ML_POINT, RM_ML_START, RM_ML_END } rm_mllog_type;
/* path "-": stdout; "": *out = NULL. */
rm_status rm_mllog_open(const char *path, rm_mllog **out) RM_CHECKED;
/* value: JSON text ("null", "0.5", "\"sgd\""); epoch < 0: none in the metadata. */
void      rm_mllog_event(rm_mllog *l, rm_mllog_type type, const char *key, const char *value, int64_t epoch);
void      rm_mllog_number(rm_mllog *l, rm_mllog_type type, const char *key, double value, int64_t epoch);
rm_status rm_mllog_close(rm_mllog *l) RM_CHECKED;  /* reports earlier write failures; NULL is fine */
#endif
