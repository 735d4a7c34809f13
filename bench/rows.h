/* Rows: reading the JSON rows that commands store and print. A key that is missing or of another type is no error, for rows of other
 * devices, modes and ranks have other keys. Pure; any thread. */
#ifndef RM_BENCH_ROWS_H
#define RM_BENCH_ROWS_H
#include <jansson.h>

double bench_row_real(const json_t *row, const char *key); /* NaN where there is no number */
long long bench_row_int(const json_t *row, const char *key); /* 0 where there is no integer */
const char *bench_row_text(const json_t *row, const char *key); /* the row's own; "" where there is none */
const char *bench_row_text_or(const json_t *row, const char *key, const char *otherwise); /* also where it is "" */
/* A JSON string of any bytes, for a row must come to be whatever a program printed: what is no UTF-8 is a '?'. New reference, NULL when memory ran out. */
json_t *bench_row_words(const char *text);
/* A row that says "measured" is of a device; where that is a test double, it says "emulated" from now on. */
void bench_row_settle_origin(json_t *row);
#endif
