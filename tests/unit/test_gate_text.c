/* The gate's verdicts as text, against what they were agreed to look like: others parse these lines. */
#include "reports/gate_text.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const char rows_text[] =
    "[{\"metric\": \"step_s\", \"tier\": \"T2\", \"verdict\": \"REGRESSED\", \"effect\": 0.02, \"delta\": 0.0312, \"low\": 0.022, \"high\": 0.0401, \"pairs\": 10, \"discarded\": 1,"
    " \"detectable\": 0.029, \"needed\": 0, \"reason\": \"\", \"seconds\": 61.5, \"reproduce\": \"bench gate ab --seed 7\", \"base\": {\"label\": \"v1\"}, \"head\": {\"label\": \"a|b\"},"
    " \"layers\": []},"
    " {\"metric\": \"cpu<s>\", \"tier\": \"T1\", \"verdict\": \"INCONCLUSIVE\", \"effect\": 0.02, \"delta\": -0.001, \"low\": null, \"high\": null, \"pairs\": 4, \"discarded\": 0,"
    " \"detectable\": null, \"needed\": 40, \"reason\": \"budget: 60 s\\nwere spent, 100% & more\", \"seconds\": 61.5},"
    " {\"metric\": \"layers\", \"tier\": \"layers\", \"verdict\": \"PASS\", \"delta\": null, \"reason\": \"1 of 9\", \"layers\": [{\"name\": \"conv1\", \"pass\": \"fwd\", \"delta\": 0.1,"
    " \"p\": 0.002}]},"
    " {\"metric\": \"facts\", \"tier\": \"T0\", \"verdict\": \"TROUBLE\", \"reason\": \"loss\"}]";

static json_t *rows(void)
{
    json_error_t e;
    json_t *j = json_loads(rows_text, 0, &e);
    if (!j) fail_msg("%s", e.text);
    return j;
}

typedef void text_fn(rm_strbuf *s, const json_t *rows);
static void gives(text_fn *fn, const char *expected)
{
    rm_strbuf s = { 0 };
    json_t *j = rows();
    fn(&s, j);
    char *text = rm_str_take(&s);
    assert_string_equal(text, expected);
    free(text);
    json_decref(j);
}

static void plain_lines(void **state)
{
    gives(rp_gate_lines, "REGRESSED step_s T2 delta=+3.12% low=+2.2% high=+4.01% effect=2% pairs=10 discarded=1 detectable=2.9%\n"
                         "INCONCLUSIVE cpu<s> T1 delta=-0.1% low=none high=none effect=2% pairs=4 discarded=0 detectable=none needed=40: "
                         "budget: 60 s were spent, 100% & more\n"
                         "PASS layers layers: 1 of 9\n"
                         "  slower layer conv1 fwd delta=+10% p=0.002\n"
                         "TROUBLE facts T0: loss\n");
}

static void annotations(void **state)
{
    gives(rp_gate_github,
          "::error title=gate step_s::REGRESSED step_s T2 delta=+3.12%25 low=+2.2%25 high=+4.01%25 effect=2%25 pairs=10 discarded=1 detectable=2.9%25\n"
          "::warning title=gate cpu<s>::INCONCLUSIVE cpu<s> T1 delta=-0.1%25 low=none high=none effect=2%25 pairs=4 discarded=0 detectable=none needed=40: "
          "budget: 60 s were spent, 100%25 & more\n"
          "::notice title=gate layers::PASS layers layers: 1 of 9%0A  slower layer conv1 fwd delta=+10%25 p=0.002\n"
          "::error title=gate facts::TROUBLE facts T0: loss\n");
}

static void junit(void **state)
{
    gives(
        rp_gate_junit,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n"
        "  <testsuite name=\"gate\" tests=\"4\" failures=\"1\" errors=\"1\" skipped=\"1\">\n"
        "    <testcase classname=\"gate.T2\" name=\"step_s\" time=\"61.500\">\n"
        "      <failure message=\"REGRESSED step_s T2 delta=+3.12% low=+2.2% high=+4.01% effect=2% pairs=10 discarded=1 detectable=2.9%\" type=\"REGRESSED\"/>\n"
        "      <system-out>REGRESSED step_s T2 delta=+3.12% low=+2.2% high=+4.01% effect=2% pairs=10 discarded=1 detectable=2.9%\n"
        "reproduce: bench gate ab --seed 7</system-out>\n    </testcase>\n"
        "    <testcase classname=\"gate.T1\" name=\"cpu&lt;s&gt;\" time=\"61.500\">\n"
        "      <skipped message=\"INCONCLUSIVE cpu&lt;s&gt; T1 delta=-0.1% low=none high=none effect=2% pairs=4 discarded=0 detectable=none needed=40: "
        "budget: 60 s were spent, 100% &amp; more\"/>\n"
        "      <system-out>INCONCLUSIVE cpu&lt;s&gt; T1 delta=-0.1% low=none high=none effect=2% pairs=4 discarded=0 detectable=none needed=40: "
        "budget: 60 s were spent, 100% &amp; more\nreproduce: </system-out>\n    </testcase>\n"
        "    <testcase classname=\"gate.layers\" name=\"layers\" time=\"0.000\">\n"
        "      <system-out>PASS layers layers: 1 of 9   slower layer conv1 fwd delta=+10% p=0.002\nreproduce: </system-out>\n    </testcase>\n"
        "    <testcase classname=\"gate.T0\" name=\"facts\" time=\"0.000\">\n"
        "      <error message=\"TROUBLE facts T0: loss\" type=\"TROUBLE\"/>\n"
        "      <system-out>TROUBLE facts T0: loss\nreproduce: </system-out>\n    </testcase>\n"
        "  </testsuite>\n</testsuites>\n");
}

static void markdown(void **state)
{
    gives(rp_gate_markdown, "### Performance gate: TROUBLE\n\nA is v1; B is a\\|b. More is worse.\n\n"
                            "| verdict | metric | tier | change | bounds | effect | pairs | detectable | reason |\n|---|---|---|---|---|---|---|---|---|\n"
                            "| **REGRESSED** | step_s | T2 | +3.12% | +2.2% to +4.01% | 2% | 10 | 2.9% |  |\n"
                            "| **INCONCLUSIVE** | cpu&lt;s> | T1 | -0.1% | none to none | 2% | 4 | none | budget: 60 s were spent, 100% & more |\n"
                            "| **PASS** | layers | layers | | | | | | 1 of 9 |\n"
                            "| **TROUBLE** | facts | T0 | | | | | | loss |\n"
                            "\n| slower layer | pass | change | p |\n|---|---|---|---|\n| conv1 | fwd | +10% | 0.002 |\n"
                            "\n    bench gate ab --seed 7\n");
}

static void the_worst_counts(void **state)
{
    static const struct {
        const char *rows;
        rp_verdict all;
    } row[] = {
        { "[]", RP_TROUBLE },
        { "[{\"verdict\": \"PASS\"}, {\"verdict\": \"IMPROVED\"}]", RP_PASS },
        { "[{\"verdict\": \"PASS\"}, {\"verdict\": \"NO_BASELINE\"}]", RP_NO_BASELINE },
        { "[{\"verdict\": \"NO_BASELINE\"}, {\"verdict\": \"INCONCLUSIVE\"}]", RP_INCONCLUSIVE },
        { "[{\"verdict\": \"REGRESSED\"}, {\"verdict\": \"INCONCLUSIVE\"}]", RP_REGRESSED },
        { "[{\"verdict\": \"REGRESSED\"}, {\"verdict\": \"TROUBLE\"}]", RP_TROUBLE },
        { "[{\"verdict\": \"PASS\"}, {\"verdict\": \"FINE\"}]", RP_TROUBLE },
        { "[{\"verdict\": \"PASS\"}, {}]", RP_TROUBLE },
    };
    for (size_t i = 0; i < RM_COUNT(row); i++) {
        json_t *j = json_loads(row[i].rows, 0, NULL);
        if (rp_verdict_of_all(j) != row[i].all) fail_msg("%s: %s", row[i].rows, rp_verdict_key(rp_verdict_of_all(j)));
        json_decref(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_lines), cmocka_unit_test(annotations), cmocka_unit_test(junit), cmocka_unit_test(markdown), cmocka_unit_test(the_worst_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
