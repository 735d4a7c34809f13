/* The store: every run, every raw sample, and what machine it was measured on. SQLite, WAL (rollback journal on network
 * file systems), STRICT tables, schema version. Each result is committed as it finishes: a killed sweep resumes. Rank 0
 * alone writes. Columns and tables are documented in docs/store.md. */
#ifndef RM_STORE_H
#define RM_STORE_H
#include "base/status.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum { RM_STORE_SCHEMA = 1 };
typedef struct rm_store rm_store;

/* $RINGMARK_STORE or "ringmark.db". */
const char *rm_store_default_path(void);
/* Version of the SQLite in use: "3.40.1". */
const char *rm_store_library_version(void);
/* Creates the file when missing. A file that is no store, or of a newer schema, is RM_E_FORMAT. read_only: must exist. */
rm_status rm_store_open(const char *path, bool read_only, rm_store **out) RM_CHECKED;
void      rm_store_close(rm_store *s);

/* A run: one invocation of a command. config: what was asked for, whose canonical JSON (sorted, compact) is hashed with
 * the hard fingerprint of the environment into `identity`. environment: rm_runinfo_json(). */
rm_status rm_store_run_begin(rm_store *s, const char *command, const char *command_line, const json_t *config,
                             const json_t *environment, int64_t *out_run) RM_CHECKED;
rm_status rm_store_run_end(rm_store *s, int64_t run, int exit_code) RM_CHECKED;
/* The newest run of the same command, configuration and hard fingerprint, when it did not finish: killed, or stopped from
 * outside (exit code 5, 6, 130, 143), and no live process of this host still works on it. It becomes this process's run and
 * counts as unfinished again. 0 when there is none. */
rm_status rm_store_run_resume(rm_store *s, const char *command, const json_t *config, const json_t *environment, int64_t *out_run) RM_CHECKED;

/* A result of a run: `key` names it within the run ("n=2"), `row` is the JSON that --json prints, samples are raw.
 * Replaces an earlier result of the same key. One transaction. */
typedef struct rm_samples { const char *metric, *unit; const double *value; size_t n; const uint8_t *excluded; } rm_samples;
rm_status rm_store_result(rm_store *s, int64_t run, const char *key, const char *origin, bool correct, const json_t *row,
                          const rm_samples *samples, size_t n_samples) RM_CHECKED;

/* Reading. The callback returns non-zero to stop; what it is given lives during the call (json_incref() what you keep).
 * An unfinished run has finished == NULL and exit_code == -1. */
typedef struct rm_run_row { int64_t id; const char *command, *command_line, *started, *finished; int exit_code; json_t *config, *environment; const char *identity; } rm_run_row;
rm_status rm_store_each_run(rm_store *s, const char *command /* NULL: all */, int (*fn)(void *ctx, const rm_run_row *row), void *ctx) RM_CHECKED; /* newest first */
typedef struct rm_result_row { int64_t id, run; const char *key, *origin; bool correct; json_t *row; } rm_result_row;
rm_status rm_store_each_result(rm_store *s, int64_t run, int (*fn)(void *ctx, const rm_result_row *row), void *ctx) RM_CHECKED;
/* Raw samples of a result's metric in order, without those excluded when stored; *out_value is malloc'ed, the caller frees.
 * *out_n = 0 and *out_value = NULL when absent. NaN is kept (as NULL in the table). */
rm_status rm_store_samples(rm_store *s, int64_t result, const char *metric, double **out_value, size_t *out_n) RM_CHECKED;
/* Row of an existing result of (run, key) as a new reference, NULL when absent. */
rm_status rm_store_find(rm_store *s, int64_t run, const char *key, json_t **out_row) RM_CHECKED;
#endif
