/* Frozen plans: the implementations that a device chose by timing, kept in a file, so that every later run on this machine
 * computes with the same code and gives the same bits, and starts at once. A new machine, library or number of threads is
 * another file. Text: a first line that names what it is for, then "key<TAB>implementation" a line.
 * Threads: as the device. Several processes may save at once: each write is whole. */
#ifndef RM_PLANS_H
#define RM_PLANS_H
#include "kernels/device.h"
#include <stdio.h>

/* Where the plans of this device are kept: $RINGMARK_PLANS (a folder; "none": nowhere, out[0] = 0), else
 * $XDG_CACHE_HOME/ringmark, else ~/.cache/ringmark. */
void      rm_plans_path(const rm_device *d, char *out, size_t size);
/* The same for anything else that is kept for what `identity` names (one line): another suffix. */
void      rm_plans_file(const char *identity, const char *suffix, char *out, size_t size);
/* Forces every choice of the file on the device. A missing file, or one for something else, changes nothing; a damaged line
 * is left out. Never an error: the worst case is that the device chooses again. */
void      rm_plans_load(rm_device *d, const char *path);
/* Adds the device's choices to the file when it has more than were loaded. Failing to write is a warning, once. */
void      rm_plans_save(const rm_device *d, const char *path);
/* Makes the folders to `path` and the file whole or not at all, from what `fill` writes (false: it failed). False with a warning, once. */
bool      rm_plans_replace(const char *path, bool (*fill)(FILE *f, const void *context), const void *context);
#endif
