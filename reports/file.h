/* Files of a report. */
#ifndef RM_REPORTS_FILE_H
#define RM_REPORTS_FILE_H
#include "base/strbuf.h"

/* Writes `dir/name`: beside it, synced, renamed, so that a reader sees the old file or the new one. */
rm_status rp_write_whole(const char *dir, const char *name, const rm_strbuf *text) RM_CHECKED;
#endif
