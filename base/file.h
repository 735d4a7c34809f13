/* Reading a file whole. */
#ifndef RM_FILE_H
#define RM_FILE_H
#include "base/status.h"
#include <stddef.h>

/* *out_text: malloc'ed, the caller frees; after its *out_bytes bytes there is a '\0', which does not count. Pipes are fine.
 * RM_E_FORMAT: larger than most_bytes (SIZE_MAX: any size). RM_E_NOMEM; RM_E_IO with the system's reason. All name the file. */
rm_status rm_file_load(const char *path, size_t most_bytes, char **out_text, size_t *out_bytes) RM_CHECKED;
#endif
