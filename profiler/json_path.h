/* Paths into JSON, a small part of JSONPath (RFC 9535): $, .name, ['name'], [n] (from the end where negative), [*], ..name. No filters, no
 * slices. Pure; any thread. */
#ifndef RM_JSON_PATH_H
#define RM_JSON_PATH_H
#include "base/status.h"
#include <jansson.h>

/* RM_E_ARG with the place of the first fault. */
rm_status rm_json_path_check(const char *path) RM_CHECKED;
/* Appends every value that `path` leads to in document order to the array `found`, which then holds references to them. None is no error
 * here. The document must be plain data: no cycles. */
rm_status rm_json_path_find(const json_t *root, const char *path, json_t *found) RM_CHECKED;
/* The one value there: RM_E_FORMAT where there is none (says how far the path led, and what is there) or more than one. Borrowed from
 * the document. */
rm_status rm_json_path_one(const json_t *root, const char *path, const json_t **out) RM_CHECKED;
/* The numbers there: of numbers and of arrays of numbers, in order; at least one. RM_E_FORMAT: no number, not finite, below 0, or a name
 * after .. that stands in several places. *out_value is malloc'ed; the caller frees. */
rm_status rm_json_path_numbers(const json_t *root, const char *path, double **out_value, size_t *out_n) RM_CHECKED;
#endif
