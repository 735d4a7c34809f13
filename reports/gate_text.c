#include "reports/gate_text.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- rows */

static const char *const keys[RP_VERDICTS] = {
    [RP_TROUBLE] = "TROUBLE",         [RP_REGRESSED] = "REGRESSED", [RP_INCONCLUSIVE] = "INCONCLUSIVE", [RP_SUSPECT] = "SUSPECT",
    [RP_NO_BASELINE] = "NO_BASELINE", [RP_PASS] = "PASS",           [RP_IMPROVED] = "IMPROVED",
};

const char *rp_verdict_key(rp_verdict v)
{
    RM_ASSERT((unsigned)v < RP_VERDICTS);
    return keys[v];
}

static const char *text_of(const json_t *row, const char *key)
{
    const char *text = json_string_value(json_object_get(row, key));
    return text ? text : "";
}

static double real_of(const json_t *row, const char *key)
{
    const json_t *v = json_object_get(row, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static long long int_of(const json_t *row, const char *key) { return (long long)json_integer_value(json_object_get(row, key)); }

rp_verdict rp_verdict_of(const json_t *row)
{
    for (int v = 0; v < RP_VERDICTS; v++)
        if (strcmp(keys[v], text_of(row, "verdict")) == 0) return (rp_verdict)v;
    return RP_TROUBLE;
}

bool rp_verdict_gates(const json_t *row) { return !json_is_false(json_object_get(row, "gates")); }

rp_verdict rp_verdict_of_all(const json_t *rows)
{
    rp_verdict all = RP_IMPROVED;
    size_t i, n = 0;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (!rp_verdict_gates(row)) continue;
        all = rp_verdict_worse(all, rp_verdict_of(row));
        n++;
    }
    return n ? all : RP_TROUBLE;
}

static void percent(char *out, size_t size, double share, bool sign)
{
    if (!isfinite(share)) snprintf(out, size, "none");
    else snprintf(out, size, sign ? "%+.3g%%" : "%.3g%%", 100 * share);
}

static bool was_timed(const json_t *row) { return isfinite(real_of(row, "delta")); }

/* A line of text may become one of a file that another program reads by lines. */
static void flat(rm_strbuf *s, const char *text)
{
    for (; *text; text++) rm_str_add_n(s, (unsigned char)*text < ' ' ? " " : text, 1);
}

/* ---- plain */

static void figures(rm_strbuf *s, const json_t *row)
{
    static const struct {
        const char *key;
        bool sign;
    } share[] = { { "delta", true }, { "low", true }, { "high", true }, { "effect", false } };
    char text[40];
    for (size_t i = 0; i < RM_COUNT(share); i++) {
        percent(text, sizeof text, real_of(row, share[i].key), share[i].sign);
        rm_str_addf(s, " %s=%s", share[i].key, text);
    }
    percent(text, sizeof text, real_of(row, "detectable"), false);
    rm_str_addf(s, " pairs=%lld discarded=%lld detectable=%s", int_of(row, "pairs"), int_of(row, "discarded"), text);
}

static void layer_lines(rm_strbuf *s, const json_t *row)
{
    size_t i;
    const json_t *l;
    char text[40];
    json_array_foreach(json_object_get(row, "layers"), i, l)
    {
        percent(text, sizeof text, real_of(l, "delta"), true);
        rm_str_add(s, "  slower layer ");
        flat(s, text_of(l, "name"));
        rm_str_addf(s, " %s delta=%s p=%.3g\n", text_of(l, "pass"), text, real_of(l, "p"));
    }
}

void rp_gate_lines(rm_strbuf *s, const json_t *rows)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        rm_str_addf(s, "%s ", keys[rp_verdict_of(row)]);
        flat(s, text_of(row, "metric"));
        rm_str_addf(s, " %s", text_of(row, "tier"));
        if (was_timed(row)) figures(s, row);
        if (int_of(row, "needed") > 0) rm_str_addf(s, " needed=%lld", int_of(row, "needed"));
        if (text_of(row, "reason")[0]) {
            rm_str_add(s, ": ");
            flat(s, text_of(row, "reason"));
        }
        rm_str_add(s, "\n");
        layer_lines(s, row);
    }
}

/* ---- Markdown */

static void cell(rm_strbuf *s, const char *text)
{
    for (; *text; text++) {
        if (*text == '|') rm_str_add(s, "\\|");
        else if (*text == '<') rm_str_add(s, "&lt;");
        else rm_str_add_n(s, (unsigned char)*text < ' ' ? " " : text, 1);
    }
}

static void markdown_row(rm_strbuf *s, const json_t *row)
{
    char delta[40], low[40], high[40], effect[40], detectable[40];
    percent(delta, sizeof delta, real_of(row, "delta"), true);
    percent(low, sizeof low, real_of(row, "low"), true);
    percent(high, sizeof high, real_of(row, "high"), true);
    percent(effect, sizeof effect, real_of(row, "effect"), false);
    percent(detectable, sizeof detectable, real_of(row, "detectable"), false);
    rm_str_addf(s, "| **%s** | ", keys[rp_verdict_of(row)]);
    cell(s, text_of(row, "metric"));
    rm_str_addf(s, " | %s | ", text_of(row, "tier"));
    if (was_timed(row)) rm_str_addf(s, "%s | %s to %s | %s | %lld | %s | ", delta, low, high, effect, int_of(row, "pairs"), detectable);
    else rm_str_add(s, "| | | | | ");
    cell(s, text_of(row, "reason"));
    rm_str_add(s, " |\n");
}

static void markdown_layers(rm_strbuf *s, const json_t *rows)
{
    size_t i, k;
    const json_t *row, *l;
    char text[40];
    json_array_foreach(rows, i, row) json_array_foreach(json_object_get(row, "layers"), k, l)
    {
        if (k == 0) rm_str_add(s, "\n| slower layer | pass | change | p |\n|---|---|---|---|\n");
        percent(text, sizeof text, real_of(l, "delta"), true);
        rm_str_add(s, "| ");
        cell(s, text_of(l, "name"));
        rm_str_addf(s, " | %s | %s | %.3g |\n", text_of(l, "pass"), text, real_of(l, "p"));
    }
}

void rp_gate_markdown(rm_strbuf *s, const json_t *rows)
{
    size_t i;
    const json_t *row, *first = json_array_get(rows, 0);
    rm_str_addf(s, "### Performance gate: %s\n\n", keys[rp_verdict_of_all(rows)]);
    if (first) {
        rm_str_add(s, "A is ");
        cell(s, text_of(json_object_get(first, "base"), "label"));
        rm_str_add(s, "; B is ");
        cell(s, text_of(json_object_get(first, "head"), "label"));
        rm_str_add(s, ". More is worse.\n\n");
    }
    rm_str_add(s, "| verdict | metric | tier | change | bounds | effect | pairs | detectable | reason |\n|---|---|---|---|---|---|---|---|---|\n");
    json_array_foreach(rows, i, row) markdown_row(s, row);
    markdown_layers(s, rows);
    if (first && text_of(first, "reproduce")[0]) rm_str_addf(s, "\n    %s\n", text_of(first, "reproduce"));
}

/* ---- JUnit */

/* XML 1.0 has no way to write most control characters. */
static void xml(rm_strbuf *s, const char *text)
{
    for (; *text; text++) {
        if (*text == '<') rm_str_add(s, "&lt;");
        else if (*text == '>') rm_str_add(s, "&gt;");
        else if (*text == '&') rm_str_add(s, "&amp;");
        else if (*text == '"') rm_str_add(s, "&quot;");
        else rm_str_add_n(s, (unsigned char)*text < ' ' ? " " : text, 1);
    }
}

typedef enum outcome { PASSED, FAILED, ERRONEOUS, SKIPPED, OUTCOMES } outcome;
static const char *const outcome_tag[OUTCOMES] = { [FAILED] = "failure", [ERRONEOUS] = "error", [SKIPPED] = "skipped" };
static const outcome outcomes[RP_VERDICTS] = {
    [RP_TROUBLE] = ERRONEOUS, [RP_REGRESSED] = FAILED, [RP_INCONCLUSIVE] = SKIPPED, [RP_SUSPECT] = SKIPPED, [RP_NO_BASELINE] = SKIPPED,
};

/* The row's plain lines without the last line end; to be freed. */
static rm_strbuf lines_of(const json_t *row)
{
    rm_strbuf line = { 0 };
    json_t *one = json_pack("[O]", row);
    rp_gate_lines(&line, one);
    json_decref(one);
    if (line.n) line.text[line.n - 1] = '\0';
    return line;
}

static void junit_case(rm_strbuf *s, const json_t *row)
{
    const rp_verdict v = rp_verdict_of(row);
    rm_strbuf line = lines_of(row);
    rm_str_addf(s, "    <testcase classname=\"gate.%s\" name=\"", text_of(row, "tier"));
    xml(s, text_of(row, "metric"));
    rm_str_addf(s, "\" time=\"%.3f\">\n", isfinite(real_of(row, "seconds")) ? real_of(row, "seconds") : 0);
    if (outcomes[v] != PASSED) {
        rm_str_addf(s, "      <%s message=\"", outcome_tag[outcomes[v]]);
        xml(s, line.text ? line.text : "");
        if (outcomes[v] == SKIPPED) rm_str_add(s, "\"/>\n"); /* has no type */
        else rm_str_addf(s, "\" type=\"%s\"/>\n", keys[v]);
    }
    rm_str_add(s, "      <system-out>");
    xml(s, line.text ? line.text : "");
    rm_str_add(s, "\nreproduce: ");
    xml(s, text_of(row, "reproduce"));
    rm_str_add(s, "</system-out>\n    </testcase>\n");
    s->failed = s->failed || line.failed;
    rm_str_free(&line);
}

void rp_gate_junit(rm_strbuf *s, const json_t *rows)
{
    int n[OUTCOMES] = { 0 };
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) n[outcomes[rp_verdict_of(row)]]++;
    rm_str_addf(
        s, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"gate\" tests=\"%zu\" failures=\"%d\" errors=\"%d\" skipped=\"%d\">\n",
        json_array_size(rows), n[FAILED], n[ERRONEOUS], n[SKIPPED]);
    json_array_foreach(rows, i, row) junit_case(s, row);
    rm_str_add(s, "  </testsuite>\n</testsuites>\n");
}

/* ---- GitHub Actions: workflow commands; a value ends at a line end, a property also at a colon or comma */

static void command_text(rm_strbuf *s, const char *text, const char *also)
{
    for (; *text; text++) {
        const bool escaped = *text == '%' || *text == '\r' || *text == '\n' || strchr(also, *text);
        if (escaped) rm_str_addf(s, "%%%02X", (unsigned char)*text);
        else rm_str_add_n(s, text, 1);
    }
}

static const char *const levels[OUTCOMES] = { [PASSED] = "notice", [FAILED] = "error", [ERRONEOUS] = "error", [SKIPPED] = "warning" };

void rp_gate_github(rm_strbuf *s, const json_t *rows)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        rm_strbuf line = lines_of(row);
        rm_str_addf(s, "::%s title=gate ", levels[outcomes[rp_verdict_of(row)]]);
        command_text(s, text_of(row, "metric"), ":,");
        rm_str_add(s, "::");
        command_text(s, line.text ? line.text : "", "");
        rm_str_add(s, "\n");
        s->failed = s->failed || line.failed;
        rm_str_free(&line);
    }
}
