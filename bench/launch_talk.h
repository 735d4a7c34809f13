/* What ranks and their launcher say, sorted: lines for the user are passed on, the launcher's own account of an ending is read
 * and dropped, and the ranks' last lines ("bench train: ...") are kept, so that the user sees one line and not one a rank. */
#ifndef RM_BENCH_LAUNCH_TALK_H
#define RM_BENCH_LAUNCH_TALK_H
#include "base/strbuf.h"
#include <stdbool.h>
#include <stdio.h>

enum { BENCH_FACTS_RANKS = 1024 };
typedef struct bench_facts {
    char cause[1024];        /* of the first rank that said why it ends, "" */
    int  cause_rank;         /* which; -1 when several say the same */
    char killed[256];        /* "rank 1 on node7 was killed by signal 9 (Killed)", "" */
    char place[128];         /* "rank 1 on node7", until the signal is known */
    int  place_code;         /* what it ended with, an exit code or a signal: the launcher does not say which */
    bool aborted;            /* a rank ended all the others, with this code: */
    int  abort_code;
    long pid[BENCH_FACTS_RANKS]; /* of each rank that told it; 0 unknown */
    char host[BENCH_FACTS_RANKS][32];
    bool stepped;            /* rank 0 told its progress: */
    unsigned long long step; /* steps done, at least */
    char newest[544];        /* checkpoint, "" none */
} bench_facts;

typedef struct bench_talk {
    FILE *sink;
    bench_facts *facts;
    bool verbose;
    rm_strbuf line, block;
    char fence;              /* '-' or '=' inside a block, else 0 */
    bool known;              /* the block is one to drop */
    bool blank;              /* an empty line waits to see whether it belongs to a block */
    bool drawn;              /* a progress line of rank 0 is on the terminal */
} bench_talk;

/* A rank's words for the launcher alone begin a line so: rank 0's progress, and which process a rank is. */
#define BENCH_TALK_STEP "@ringmark step "
#define BENCH_TALK_RANK "@ringmark rank "
void bench_talk_feed(bench_talk *t, const char *text, size_t n);
void bench_talk_end(bench_talk *t); /* passes on what is unfinished and frees */
/* Of several causes the first is kept; the same from several ranks is nobody's own. */
void bench_facts_add_cause(bench_facts *f, const char *why, int rank);
/* The cause with its rank before it where that matters: "rank 2: why"; "" when none was given. */
void bench_facts_cause(const bench_facts *f, char *text, size_t size);
/* " after step 12; newest checkpoint: F", "" when nothing is known of it. */
void bench_facts_progress(const bench_facts *f, char *text, size_t size);
#endif
