/* What was found. A program with findings ends with 99. */
#include "tests/cuda/doubles/doubles.h"
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { STATUS = 99, SHOWN = 40 };
static atomic_uint found;
static atomic_uint took;
static atomic_int alive;

static __attribute__((destructor)) void at_end(void)
{
    if (!atomic_load(&found)) return;
    fflush(NULL);
    _exit(STATUS);
}

void dbl_finding(const char *fmt, ...)
{
    char text[1024];
    va_list args;
    const unsigned n = atomic_fetch_add(&found, 1) + 1;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n <= SHOWN) fprintf(stderr, "doubles: FINDING: %s\n", text);
    if (n == SHOWN) fprintf(stderr, "doubles: more findings are counted and not shown\n");
}

unsigned dbl_findings(void) { return atomic_load(&found); }
void     dbl_findings_clear(void) { atomic_store(&found, 0); }

int  dbl_alive(void) { return atomic_load(&alive); }
void dbl_born(int one)
{
    if (one > 0) dbl_takes();
    atomic_fetch_add(&alive, one);
}

unsigned dbl_took(void) { return atomic_load(&took); }
void     dbl_takes(void) { atomic_fetch_add(&took, 1); }
