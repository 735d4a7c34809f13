/* The gate's verdicts as text: one plain line each, Markdown, JUnit XML, annotations for GitHub Actions. All read the rows that are stored and that --json
 * prints (docs/gate.md), and nothing else. Pure but for memory; any thread. */
#ifndef RM_REPORTS_GATE_TEXT_H
#define RM_REPORTS_GATE_TEXT_H
#include "base/strbuf.h"
#include "reports/gate_rule.h"
#include <jansson.h>

/* As rows have it: without blanks. */
const char *rp_verdict_key(rp_verdict v);               /* "REGRESSED", "NO_BASELINE" */
/* TROUBLE for what is no verdict: a row that cannot be read is never a pass. */
rp_verdict  rp_verdict_of(const json_t *row);
/* Is it a part of the whole's verdict? All are but those that say "gates": false. */
bool        rp_verdict_gates(const json_t *row);
/* The whole's: the worst of an array of rows that gate; TROUBLE for none at all, for nothing was measured. */
rp_verdict  rp_verdict_of_all(const json_t *rows);

/* "REGRESSED step_s T2 delta=+3.12% low=+2.2% high=+4.01% effect=2% pairs=10 discarded=0 detectable=2.9%", then " needed=" where more pairs would help,
 * and ": " with the reason. Keys stay, new ones come at the end before the reason. One line a row, and one for each layer that is named. */
void rp_gate_lines(rm_strbuf *s, const json_t *rows);
void rp_gate_markdown(rm_strbuf *s, const json_t *rows);
void rp_gate_junit(rm_strbuf *s, const json_t *rows);
/* ::error, ::warning and ::notice lines. */
void rp_gate_github(rm_strbuf *s, const json_t *rows);
#endif
