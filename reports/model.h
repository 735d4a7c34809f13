/* What a store says, chosen for a report: the newest run of each kind and its results. Owns copies; the store may be closed
 * once it is loaded, except that raw samples are read on demand. */
#ifndef RM_REPORTS_MODEL_H
#define RM_REPORTS_MODEL_H
#include "profiler/store.h"

typedef struct rp_run {
    int64_t id;
    char *command, *command_line, *started, *finished; /* finished NULL: it did not end */
    char *identity;
    int exit_code;
    json_t *config, *environment;
} rp_run;

typedef struct rp_result {
    int64_t id;
    const rp_run *run;
    char *key, *origin;
    bool correct;
    json_t *row;
} rp_result;

typedef struct rp_data {
    const char *path;
    rm_store *store;
    rp_run *run;       /* newest first */
    size_t n_runs;
    rp_result *result; /* by run in the order above, then as stored */
    size_t n_results;
} rp_data;

rm_status rp_data_load(const char *path, rp_data *out) RM_CHECKED;
void      rp_data_free(rp_data *d);

/* Results of the newest run of a command that has any and for which `want` (NULL: always) holds; *out_n = 0 when none. */
const rp_result *rp_newest(const rp_data *d, const char *command, bool (*want)(const rp_result *), size_t *out_n);

/* Values of a row by path ("step_s.median"): NaN or NULL when absent or null. */
double      rp_real(const json_t *row, const char *path);
const char *rp_string(const json_t *row, const char *path);
const json_t *rp_at(const json_t *row, const char *path);
/* Why a value is null: the row's "<path>_reason"; NULL when it gives none. rp_reason() then takes the whole row's "reason". */
const char *rp_own_reason(const json_t *row, const char *path);
const char *rp_reason(const json_t *row, const char *path);
/* A fact of the environment, hard before soft, as text in `buf`; "unknown" when absent. */
const char *rp_fact(const json_t *environment, const char *name, char *buf, size_t size);
/* What a run was about: row before configuration before fallback. */
const char *rp_setting(const rp_result *r, const char *name, const char *fallback, char *buf, size_t size);
/* The command line that gives the result again. */
const char *rp_reproduce(const rp_result *r);
/* X(1) with collectives switched off, images/s; NaN when the row has none. */
double rp_baseline(const json_t *row);
bool rp_measured(const rp_result *r);
/* The origin as words ("not measured"). */
const char *rp_origin(const rp_result *r);
/* Any JSON value as one line of text. */
const char *rp_text_of(const json_t *v, char *buf, size_t size);

/* Numbers for people: about `digits` significant digits without exponent, "–" for NaN. Six digits or more: counts are shown whole. */
typedef struct rp_number { char text[40]; } rp_number;
rp_number rp_num(double v, int digits);

/* The text, or its beginning and "…" where it has more than `most` bytes; never cut within a letter. out: (most + 3) bytes. */
void rp_cut(char *out, size_t most, const char *text);
#endif
