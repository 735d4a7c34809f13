/* bench gate facts: prints the facts of what --bench runs, or compares those of a file. */
#include "bench/gate_facts.h"
#include "bench/gate_place.h"
#include "base/log.h"
#include "bench/gate.h"
#include "bench/gate_out.h"
#include "bench/gate_process.h"
#include "bench/gate_verdict.h"
#include "bench/options.h"
#include "bench/rows.h"
#include "bench/session.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- of another program */

/* What programs say that do not know what they are asked for, those that are older than facts among them. */
static bool knows_no_facts(const bench_process *run)
{
    static const char *const words[] = { "no such verb", "unknown command", "unknown option", "only what trains" };
    if (run->exit_code == 0) return true; /* some other program */
    for (size_t i = 0; i < RM_COUNT(words) && run->exit_code == 2; i++)
        if (strstr(run->complaint, words[i])) return true;
    return false;
}

static rm_status read_facts(const char *program, const bench_process *run, json_t **out)
{
    json_t *document = json_loadb(run->out, run->out_bytes, 0, NULL);
    json_t *row = json_array_get(json_object_get(document, "results"), 0);
    rm_status st = RM_OK;
    if (run->exit_code != 0 || !json_object_get(row, "facts"))
        st = rm_fail(knows_no_facts(run) ? RM_E_UNSUPPORTED : RM_E_NUMERIC, "%s gives no facts: %s", program,
                     run->timed_out      ? "it did not end within --run-timeout"
                     : run->complaint[0] ? run->complaint
                     : run->exit_code    ? "it failed and said nothing"
                                         : "it printed none");
    else *out = json_incref(row);
    json_decref(document);
    return st;
}

rm_status bench_facts_run(const char *program, const char *args, double timeout_s, json_t **out)
{
    rm_strbuf s = { 0 };
    bench_process run = { 0 };
    bench_put_word(&s, program);
    rm_str_add(&s, " gate facts --bench ");
    bench_put_word(&s, args);
    rm_str_add(&s, " --quiet --json -");
    char *command = rm_str_take(&s);
    if (!command) return rm_fail(RM_E_NOMEM, "out of memory for the command of the facts");
    rm_status st = bench_process_run(command, timeout_s, &run);
    if (st == RM_OK) st = read_facts(program, &run, out);
    bench_process_free(&run);
    free(command);
    return st;
}

/* ---- one */

static void print_value(const char *name, const json_t *v)
{
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
    printf("%-18s %s\n", name, text ? text : "?");
    free(text);
}

static void print_facts(const json_t *row)
{
    const char *key;
    json_t *v;
    printf("%s: %s %s, %lld px, batch %lld, %lld ranks\n", bench_row_text(row, "bench"), bench_row_text(row, "device"), bench_row_text(row, "dtype"),
           bench_row_int(row, "px"), bench_row_int(row, "batch"), bench_row_int(row, "ranks"));
    json_object_foreach(json_object_get(row, "facts"), key, v) print_value(key, v);
}

static rm_status print_own(const bench_options *o)
{
    json_t *row = NULL;
    RM_TRY(bench_facts_of(o, o->gate_bench, &row));
    if (!row) return RM_OK; /* a rank that does not report */
    if (bench_table_wanted(o)) print_facts(row);
    return bench_emit_json(&bench_cmd_gate, o, NULL, json_pack("[o]", row));
}

/* ---- a file of cases: {"cases": [{"bench", "tolerate", "device", ..., "facts"}]} */

static json_t *case_row(const bench_options *o, const json_t *pinned, rp_verdict v, const char *reason, const json_t *differences)
{
    json_t *line = bench_reproduce(&bench_cmd_gate, o);
    bench_gate_side side[2] = { { 0 }, { 0 } };
    snprintf(side[0].label, sizeof side[0].label, "%.*s", (int)sizeof side[0].label - 1, o->facts);
    snprintf(side[1].label, sizeof side[1].label, "this program");
    const bench_verdict_frame f = { side, line ? json_string_value(line) : "", 0 };
    json_t *row = bench_verdict_row(&f, bench_row_text(pinned, "bench"), "T0", v, reason);
    if (row) json_object_set_new(row, "differences", json_deep_copy(differences));
    json_decref(line);
    return row;
}

static rm_status check_case(const bench_options *o, const char *program, const json_t *pinned, json_t *rows)
{
    json_t *now = NULL, *differences = json_array();
    char reason[700] = "";
    rp_verdict v = RP_TROUBLE;
    rm_status st = bench_facts_run(program, bench_row_text(pinned, "bench"), o->run_timeout_s, &now);
    if (st == RM_E_UNSUPPORTED || st == RM_E_NUMERIC) snprintf(reason, sizeof reason, "%.*s", (int)sizeof reason - 1, rm_last_error());
    else if (st == RM_OK) {
        st = bench_facts_compare(pinned, now, bench_row_text(pinned, "tolerate"), differences, &v);
        bench_facts_words(differences, reason, sizeof reason);
    }
    if (st == RM_OK || st == RM_E_UNSUPPORTED || st == RM_E_NUMERIC) {
        json_t *row = case_row(o, pinned, v, reason, differences);
        st = row && json_array_append_new(rows, row) == 0 ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for a verdict");
    }
    json_decref(now);
    json_decref(differences);
    return st;
}

static rm_status check_cases(const bench_options *o, const json_t *file)
{
    char program[4096];
    json_t *rows = json_array();
    size_t i;
    const json_t *pinned;
    rm_status st = bench_own_program(program, sizeof program);
    json_array_foreach(json_object_get(file, "cases"), i, pinned) if (st == RM_OK) st = bench_tolerances_check(bench_row_text(pinned, "tolerate"));
    json_array_foreach(json_object_get(file, "cases"), i, pinned) if (st == RM_OK) st = check_case(o, program, pinned, rows);
    if (st == RM_OK) st = bench_gate_print(o, NULL, rows);
    if (st == RM_OK) st = bench_gate_status(rows);
    json_decref(rows);
    return st;
}

/* Takes over the facts as they are now, those of them that were pinned: which machines agree on the others is not known. */
static rm_status update_case(const bench_options *o, const char *program, json_t *pinned)
{
    json_t *now = NULL, *v;
    const char *fact;
    RM_TRY(bench_facts_run(program, bench_row_text(pinned, "bench"), o->run_timeout_s, &now));
    json_t *old = json_object_get(pinned, "facts"), *facts = json_object();
    json_object_foreach(json_object_get(now, "facts"), fact, v) if (json_object_size(old) == 0 || json_object_get(old, fact)) json_object_set(facts, fact, v);
    json_object_set_new(pinned, "facts", facts);
    json_decref(now);
    return RM_OK;
}

static rm_status update_cases(const bench_options *o, json_t *file)
{
    char program[4096];
    size_t i;
    json_t *pinned;
    RM_TRY(bench_own_program(program, sizeof program));
    json_array_foreach(json_object_get(file, "cases"), i, pinned) RM_TRY(update_case(o, program, pinned));
    if (json_dump_file(file, o->facts, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) != 0) return rm_fail(RM_E_IO, "cannot write the facts to %s", o->facts);
    rm_info("%s has the facts as they are now; say in the commit why they changed", o->facts);
    return RM_OK;
}

static rm_status with_file(const bench_options *o)
{
    json_error_t e;
    json_t *file = json_load_file(o->facts, 0, &e);
    if (!file) return rm_fail(RM_E_FORMAT, "%s: no facts: %s (line %d)", o->facts, e.text, e.line);
    rm_status st;
    if (json_array_size(json_object_get(file, "cases")) == 0)
        st = rm_fail(RM_E_FORMAT, "%s has no cases: {\"cases\": [{\"bench\": \"train --device null\", \"facts\": {}}]}", o->facts);
    else st = o->update ? update_cases(o, file) : check_cases(o, file);
    json_decref(file);
    return st;
}

rm_status bench_gate_facts(const bench_options *o)
{
    if (o->n_arg > 1) return rm_fail(RM_E_ARG, "bench gate facts takes no words");
    if (!o->facts[0] == !o->gate_bench[0])
        return rm_fail(RM_E_ARG, "bench gate facts takes either --bench ARGS, whose facts it prints, or --facts FILE, whose facts it compares");
    if (o->update && !o->facts[0]) return rm_fail(RM_E_ARG, "--update belongs to --facts FILE");
    return o->facts[0] ? with_file(o) : print_own(o);
}
