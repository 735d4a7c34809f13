#include "bench/gate_out.h"
#include "base/log.h"
#include "bench/gate.h"
#include "bench/rows.h"
#include "bench/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void text_fn(rm_strbuf *s, const json_t *rows);

static rm_status put(FILE *f, const char *where, rm_strbuf *s)
{
    char *text = rm_str_take(s);
    rm_status st = RM_OK;
    if (!text) st = rm_fail(RM_E_NOMEM, "out of memory for what goes to %s", where);
    else if (fputs(text, f) == EOF || fflush(f) != 0) st = rm_fail_errno("cannot write %s", where);
    free(text);
    return st;
}

static rm_status put_file(const char *path, const char *mode, text_fn *fn, const json_t *rows)
{
    rm_strbuf s = { 0 };
    fn(&s, rows);
    FILE *f = fopen(path, mode);
    if (!f) {
        rm_str_free(&s);
        return rm_fail_errno("cannot open %s", path);
    }
    const rm_status st = put(f, path, &s);
    if (fclose(f) != 0 && st == RM_OK) return rm_fail_errno("cannot write %s", path);
    return st;
}

static FILE *talk(const bench_options *o) { return bench_table_wanted(o) && !o->aside ? stdout : stderr; }

static rm_status put_lines(const bench_options *o, const json_t *rows)
{
    rm_strbuf s = { 0 };
    const char *reproduce = bench_row_text(json_array_get(rows, 0), "reproduce");
    rp_gate_lines(&s, rows);
    if (reproduce[0]) rm_str_addf(&s, "reproduce: %s\n", reproduce);
    return put(talk(o), o->aside ? "stderr" : "stdout", &s);
}

/* GitHub reads its commands from stdout and stderr alike; stdout may be JSON. */
static rm_status put_github(const bench_options *o, const json_t *rows)
{
    rm_strbuf s = { 0 };
    const char *summary = getenv("GITHUB_STEP_SUMMARY");
    rp_gate_github(&s, rows);
    RM_TRY(put(talk(o), "the annotations", &s));
    return summary && summary[0] ? put_file(summary, "a", rp_gate_markdown, rows) : RM_OK;
}

void bench_failure_note(bench_failure *f, rm_status st)
{
    if (st == RM_OK) return;
    if (f->status != RM_OK) rm_warn("%s", rm_last_error());
    else snprintf(f->why, sizeof f->why, "%s", rm_last_error());
    if (f->status == RM_OK) f->status = st;
}

rm_status bench_failure_status(const bench_failure *f) { return f->status == RM_OK ? RM_OK : rm_fail(f->status, "%s", f->why); }

rm_status bench_gate_print(const bench_options *o, json_t *environment, const json_t *rows)
{
    bench_failure f = { .status = RM_OK };
    if (bench_table_wanted(o)) bench_failure_note(&f, put_lines(o, rows));
    if (o->github) bench_failure_note(&f, put_github(o, rows));
    if (o->junit[0]) bench_failure_note(&f, put_file(o->junit, "w", rp_gate_junit, rows));
    if (o->markdown[0]) bench_failure_note(&f, put_file(o->markdown, "w", rp_gate_markdown, rows));
    bench_failure_note(&f, bench_emit_json(&bench_cmd_gate, o, environment, json_deep_copy(rows)));
    return bench_failure_status(&f);
}

rm_status bench_gate_status(const json_t *rows)
{
    const rp_verdict all = rp_verdict_of_all(rows);
    const rm_status st = rp_verdict_status(all);
    size_t i;
    const json_t *row;
    if (st == RM_OK) return RM_OK;
    json_array_foreach(rows, i, row)
    {
        if (rp_verdict_of(row) != all || !rp_verdict_gates(row)) continue;
        const char *reason = bench_row_text(row, "reason");
        return rm_fail(st, "%s: %s%s%s", rp_verdict_name(all), bench_row_text(row, "metric"), reason[0] ? ", " : "", reason);
    }
    return rm_fail(st, "%s: nothing was measured", rp_verdict_name(all));
}
