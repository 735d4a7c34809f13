/* bench report: a store as a page, two stores side by side. */
#include "base/log.h"
#include "bench/commands.h"
#include "profiler/runinfo.h"
#include "profiler/store.h"
#include "reports/reports.h"
#include <string.h>

static const char *const examples[] = {
    "bench report",
    "bench report results.db --out results",
    "bench report --compare before.db after.db",
    NULL,
};

static rm_status config_of(const bench_options *o, const char *store[2], rm_report_config *out)
{
    store[0] = o->n_arg > 0 ? o->arg[0] : o->store && o->store[0] ? o->store : rm_store_default_path();
    store[1] = o->n_arg > 1 ? o->arg[1] : NULL;
    if (o->compare && o->n_arg != 2) return rm_fail(RM_E_ARG, "--compare takes two stores, as in: bench report --compare A.db B.db");
    if (!o->compare && o->n_arg > 1) return rm_fail(RM_E_ARG, "two stores are compared with --compare; a report takes one");
    *out = (rm_report_config){ .store = store, .n_store = o->compare ? 2 : 1, .out_dir = o->out && o->out[0] ? o->out : "report", .compare = o->compare };
    return RM_OK;
}

static rm_status emit(const bench_options *o, const rm_report_config *cfg)
{
    json_t *stores = json_array(), *environment = rm_runinfo_json(NULL, 0);
    for (int i = 0; i < cfg->n_store; i++) json_array_append_new(stores, json_string(cfg->store[i]));
    json_t *results = json_pack("[{s:s, s:o}]", "out", cfg->out_dir, "stores", stores);
    rm_status st = results && environment ? bench_emit_json(&bench_cmd_report, o, environment, results) : rm_fail(RM_E_NOMEM, "out of memory for the JSON");
    json_decref(environment);
    return st;
}

static rm_status run(const bench_options *o)
{
    const char *store[2];
    rm_report_config cfg;
    RM_TRY(config_of(o, store, &cfg));
    rm_status st = rm_report_render(&cfg);
    if (st != RM_OK && st != RM_E_PARTIAL) return st;
    rm_info("report: %s/index.html and %s/report.md", cfg.out_dir, cfg.out_dir);
    if (o->json) {
        rm_status emitted = emit(o, &cfg);
        if (emitted != RM_OK) return emitted;
    }
    return st;
}

const bench_command bench_cmd_report = {
    .name = "report",
    .summary = "render a store, or two side by side, as HTML, Markdown and figures",
    .usage = "[STORE] [--out DIR] | --compare A.db B.db [--out DIR]",
    .examples = examples,
    .run = run,
};
