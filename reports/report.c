#include "reports/reports.h"
#include "profiler/runinfo.h"
#include "reports/compare.h"
#include "reports/file.h"
#include "reports/sections.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ------------------------------------------------------------------------------------------------------ */

static rm_status make_folder(const char *path)
{
    rm_strbuf s = { 0 };
    rm_str_add(&s, path);
    if (s.failed) return rm_fail(RM_E_NOMEM, "%s: out of memory", path);
    for (char *p = s.text + 1; s.n; p++) {
        if (*p && *p != '/') continue;
        char end = *p;
        *p = 0;
        if (mkdir(s.text, 0777) && errno != EEXIST) {
            rm_status st = rm_fail_errno("cannot make the folder %s for the report", s.text);
            rm_str_free(&s);
            return st;
        }
        if (!end) break;
        *p = end;
    }
    struct stat info;
    bool folder = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    rm_str_free(&s);
    return folder ? RM_OK : rm_fail(RM_E_IO, "%s: not a folder, so the report cannot go there; choose another with --out", path);
}

static rm_status print(const rp_doc *d, const char *dir)
{
    rm_strbuf html = { 0 }, markdown = { 0 };
    rm_status st;
    RM_TRY_GOTO(st, rp_html(d, dir, &html), out);
    RM_TRY_GOTO(st, rp_markdown(d, &markdown), out);
    RM_TRY_GOTO(st, rp_write_whole(dir, "index.html", &html), out);
    RM_TRY_GOTO(st, rp_write_whole(dir, "report.md", &markdown), out);
out:
    rm_str_free(&html);
    rm_str_free(&markdown);
    return st;
}

/* Figures of an earlier report that this one does not draw must not lie beside it. */
static void remove_old_figures(const char *dir)
{
    static const char *const name[] = { "throughput", "loss", "budget", "gantt", "steps", "splits", "splits-gantt", "comm-time", "comm-bandwidth", "layers", "layers-roofline", "accuracy",
                                        "profile-budget", "profile-timeline", "profile-roofline", "profile-sensitivity", "gate-pairs", "gate-history",
                                        "gate-power" };
    static const char *const which[] = { "", "-strong", "-2", "-3", "-4", "-5", "-6", "-7", "-8" };
    for (size_t i = 0; i < RM_COUNT(name) * RM_COUNT(which); i++) {
        rm_strbuf path = { 0 };
        rm_str_addf(&path, "%s/%s%s.svg", dir, name[i / RM_COUNT(which)], which[i % RM_COUNT(which)]);
        if (!path.failed) unlink(path.text);
        rm_str_free(&path);
    }
}

/* ---- reports ---------------------------------------------------------------------------------------------------- */

static rm_status one_store(rp_context *c)
{
    rp_section_summary(c);
    RM_TRY(rp_section_profile(c));
    RM_TRY(rp_section_scaling(c));
    RM_TRY(rp_section_splits(c));
    RM_TRY(rp_section_comm(c));
    RM_TRY(rp_section_training(c));
    RM_TRY(rp_section_layers(c));
    RM_TRY(rp_section_gate(c));
    rp_section_others(c);
    rp_section_environment(c);
    RM_TRY(rp_section_references(c));
    rp_section_runs(c);
    return RM_OK;
}

static rm_status set_title(rp_doc *d, const char *title)
{
    d->title = strdup(title);
    return d->title ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for the report");
}

rm_status rm_report_render(const rm_report_config *cfg)
{
    rp_data data[2] = { { 0 } };
    rp_doc doc = { 0 };
    rp_context c = { .doc = &doc, .data = &data[0], .out_dir = cfg->out_dir };
    rm_status st;
    RM_ASSERT(cfg->n_store == (cfg->compare ? 2 : 1));
    for (int i = 0; i < cfg->n_store; i++) RM_TRY_GOTO(st, rp_data_load(cfg->store[i], &data[i]), out);
    RM_TRY_GOTO(st, make_folder(cfg->out_dir), out);
    remove_old_figures(cfg->out_dir);
    RM_TRY_GOTO(st, set_title(&doc, cfg->compare ? "Ringmark: two systems" : "Ringmark: ResNet-50 data-parallel training"), out);
    RM_TRY_GOTO(st, cfg->compare ? rp_compare(&doc, &data[0], &data[1]) : one_store(&c), out);
    rp_text(&doc, "Rendered by Ringmark %s.", rm_version());
    RM_TRY_GOTO(st, print(&doc, cfg->out_dir), out);
    if (c.figures_missing) st = rm_fail(RM_E_PARTIAL, "%s/index.html is written without all its figures: %s", cfg->out_dir, c.why);
out:
    rp_doc_free(&doc);
    for (int i = 0; i < 2; i++) rp_data_free(&data[i]);
    return st;
}
