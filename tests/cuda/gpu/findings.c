/* In place of the test doubles' findings (tests/cuda/doubles/doubles.h) in programs that run on a real GPU: nobody watches there. */
#include "tests/cuda/doubles/doubles.h"

unsigned dbl_findings(void) { return 0; }
void dbl_findings_clear(void) {}
