/* Is the machine calm? What other tenants of a core take from it (arithmetic units, caches, its clock) shows in no counter of a virtual machine, but in how
 * long a fixed piece of work takes. Threads: one at a time per object. */
#ifndef RM_CALM_H
#define RM_CALM_H
#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

typedef struct rm_calm rm_calm;
/* Nanoseconds of the piece of work on a core. */
typedef uint64_t rm_calm_probe(void *ctx, int cpu);

/* Looks at up to RM_CALM_CORES of the cores that the calling thread may use, some times, to learn what is usual: a tenth of a second. probe NULL:
 * the built-in one, a quarter of a millisecond of integer arithmetic. RM_E_NOMEM. */
enum { RM_CALM_CORES = 16 };
rm_status rm_calm_open(rm_calm_probe *probe, void *ctx, rm_calm **out) RM_CHECKED;
void      rm_calm_close(rm_calm *c); /* NULL is fine */
/* Is every core about as fast as it usually is? Usual is the first quartile of the last looks; above RM_CALM_RATIO times that is not calm. The
 * cores that the thread may use are the same afterwards. */
#define RM_CALM_RATIO 1.06
bool      rm_calm_now(rm_calm *c);
/* Looks again and again until it is, `most_s` at most, or until stop() is not 0. Returns seconds waited; *calm: was it, in the end? */
double    rm_calm_wait(rm_calm *c, double most_s, int (*stop)(void), bool *calm);
#endif
