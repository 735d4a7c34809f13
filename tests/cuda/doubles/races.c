/* Who may see what. Every stream, every chain of a graph and the host counts its pieces of work; a clock says how far each of them is
 * known to be finished. A piece is ordered before another if the other's clock, when it began, had it. Memory is looked at in
 * granules of 64 bytes, each with who wrote it last and who read it since, and which of its 16 words. So a race is found from what is
 * ordered, in whatever order the pieces happened to run.
 * Not seen: more than three unordered readers of a granule, and the earlier of two that touched different words of one granule. */
#define _GNU_SOURCE
#include "tests/cuda/doubles/internal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { GRANULE = 64, WORD = 4, READERS = 3, CHUNK = 1 << 16, CHUNKS = 1 << 15, TOLD = 8 };

/* ---- clocks */
static uint32_t ticks[DBL_ACTORS];
static bool taken[DBL_ACTORS] = { true };
static int most = 1; /* actors in use are below */
static dbl_clock host;

dbl_clock *dbl_host(void) { return &host; }

/* A number that is used again goes on counting: what was before it is ordered before what comes. */
int dbl_actor_new(void)
{
    for (int i = 1; i < DBL_ACTORS; i++)
        if (!taken[i]) {
            taken[i] = true;
            if (i >= most) most = i + 1;
            return i;
        }
    return -1;
}
void dbl_actor_free(int actor) { taken[actor] = false; }

void dbl_join(dbl_clock *into, const dbl_clock *from)
{
    for (int i = 0; i < most; i++)
        if (into->at[i] < from->at[i]) into->at[i] = from->at[i];
}

/* ---- pieces of work that ran */
typedef struct record {
    const char *name;
    uint32_t tick, stream;
    int16_t actor, gpu;
} record;
static record *records[CHUNKS];
static uint32_t n_records; /* record 0 is nobody's */
static record *record_at(uint32_t i) { return &records[i / CHUNK][i % CHUNK]; }
uint64_t dbl_pieces(void) { return n_records; }

static struct {
    const dbl_clock *known;
    uint32_t me, fine; /* fine: a piece that was found to be ordered before */
    int gpu;
    uint32_t told[TOLD];
    int n_told;
} now;

void dbl_piece_begins(const char *name, uint32_t stream, int gpu, int actor, dbl_clock *known)
{
    if (++n_records == UINT32_MAX) n_records = 1;
    record **chunk = &records[n_records / CHUNK];
    if (n_records / CHUNK >= CHUNKS || (!*chunk && !(*chunk = calloc(CHUNK, sizeof **chunk)))) abort();
    known->at[actor] = ++ticks[actor];
    *record_at(n_records) = (record){ name, ticks[actor], stream, (int16_t)actor, (int16_t)gpu };
    now.known = known;
    now.me = n_records;
    now.fine = 0;
    now.gpu = gpu;
    now.n_told = 0;
}

static bool ordered(const dbl_clock *known, uint32_t piece)
{
    const record *r = record_at(piece);
    return known->at[r->actor] >= r->tick;
}

/* ---- granules */
typedef struct cell {
    uint32_t writer, reader[READERS];
    uint16_t wrote, read[READERS];
} cell;
static cell *cells;

static cell *cell_at(uintptr_t p)
{
    if (__builtin_expect(!cells, 0)) {
        void *m = mmap(NULL, (dbl_hi - dbl_lo) / GRANULE * sizeof *cells, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (m == MAP_FAILED) abort();
        cells = m;
    }
    return &cells[(p - dbl_lo) / GRANULE];
}

static void tell(uint32_t other, const char *did, bool write, uintptr_t p)
{
    char place[128];
    for (int i = 0; i < now.n_told; i++)
        if (now.told[i] == other) return;
    if (now.n_told < TOLD) now.told[now.n_told++] = other;
    const record *a = record_at(now.me), *b = record_at(other);
    dbl_place((const void *)p, place, sizeof place);
    dbl_finding("race: %s on stream %u %s %s, which %s on stream %u %s; nothing orders the two", a->name, a->stream, write ? "writes" : "reads", place, b->name,
                b->stream, did);
}

static void judge(uint32_t other, bool same_words, const char *did, bool write, uintptr_t p)
{
    if (!other || other == now.me || other == now.fine || !same_words) return;
    if (ordered(now.known, other)) now.fine = other;
    else tell(other, did, write, p);
}

static void note_write(cell *c, uint16_t words, uintptr_t p)
{
    judge(c->writer, c->wrote & words, "wrote", true, p);
    for (int i = 0; i < READERS; i++) judge(c->reader[i], c->read[i] & words, "read", true, p);
    c->wrote = c->writer == now.me ? c->wrote | words : words;
    c->writer = now.me;
}

static void note_read(cell *c, uint16_t words, uintptr_t p)
{
    int at = -1;
    judge(c->writer, c->wrote & words, "wrote", false, p);
    for (int i = 0; i < READERS && at < 0; i++)
        if (c->reader[i] == now.me) at = i;
    for (int i = 0; i < READERS && at < 0; i++)
        if (!c->reader[i] || ordered(now.known, c->reader[i])) at = i;
    if (at < 0) at = READERS - 1;
    c->read[at] = c->reader[at] == now.me ? c->read[at] | words : words;
    c->reader[at] = now.me;
}

static void note_granule(uintptr_t p, uintptr_t end, bool write)
{
    const unsigned first = p % GRANULE / WORD, last = (end - 1) % GRANULE / WORD;
    const uint16_t words = (uint16_t)((2u << last) - (1u << first));
    cell *c = cell_at(p);
    if (write) {
        if (c->writer != now.me || (c->wrote & words) != words) note_write(c, words, p);
    } else if (c->reader[0] != now.me || (c->read[0] & words) != words) note_read(c, words, p);
}

static void outside(uintptr_t p, size_t bytes, bool write)
{
    char place[128];
    const record *a = record_at(now.me);
    dbl_place((const void *)p, place, sizeof place);
    dbl_finding("out of bounds: %s on stream %u %s %zu bytes at %s", a->name, a->stream, write ? "writes" : "reads", bytes, place);
}

static bool elsewhere(const dbl_block *b)
{
    const record *a = record_at(now.me);
    if (now.gpu < 0 || b->part == DBL_PINNED || b->part == now.gpu) return false;
    dbl_finding("wrong GPU: %s on stream %u of GPU %d touches memory of GPU %d", a->name, a->stream, now.gpu, b->part);
    return true;
}

bool dbl_touch_one(uintptr_t p, size_t bytes, bool write)
{
    const dbl_block *b = dbl_block_at(p);
    if (!b || !b->live || p < b->lo || p + bytes > b->hi) {
        outside(p, bytes, write);
        return false;
    }
    if (__builtin_expect(b->part != now.gpu, 0) && elsewhere(b)) return false;
    const uintptr_t end = p + bytes, next = (p | (GRANULE - 1)) + 1;
    if (__builtin_expect(end > next, 0)) {
        note_granule(next, end, write);
        note_granule(p, next, write);
    } else note_granule(p, end, write);
    return true;
}

bool dbl_touch_range(const void *at, size_t bytes, bool write)
{
    uintptr_t p = (uintptr_t)at;
    const uintptr_t end = p + bytes;
    if (!bytes || !dbl_ours(at)) return true;
    const dbl_block *b = dbl_block_at(p);
    if (!b || !b->live || p < b->lo || end > b->hi) {
        outside(p, bytes, write);
        return false;
    }
    if (elsewhere(b)) return false;
    for (uintptr_t next; p < end; p = next) {
        next = (p | (GRANULE - 1)) + 1;
        if (next > end) next = end;
        note_granule(p, next, write);
    }
    return true;
}

bool dbl_written_since(const void *at, size_t bytes, uint64_t piece)
{
    const uintptr_t p = (uintptr_t)at;
    if (!dbl_ours(at)) return false;
    for (uintptr_t g = p & ~(uintptr_t)(GRANULE - 1); g < p + bytes; g += GRANULE)
        if (cell_at(g)->writer > piece) return true;
    return false;
}

static uint32_t unfinished(const cell *c)
{
    if (c->writer && !ordered(&host, c->writer)) return c->writer;
    for (int i = 0; i < READERS; i++)
        if (c->reader[i] && !ordered(&host, c->reader[i])) return c->reader[i];
    return 0;
}

void dbl_block_freed(const dbl_block *b)
{
    uint32_t who = 0;
    uintptr_t where = 0;
    cell *first = cell_at(b->lo), *end = cell_at(b->hi - 1) + 1;
    for (uintptr_t p = b->lo; p < b->hi && !who; p = (p | (GRANULE - 1)) + 1) {
        who = unfinished(cell_at(p));
        where = p;
    }
    if (who) {
        char place[128];
        dbl_place((const void *)where, place, sizeof place);
        dbl_finding("freed too early: %s, which %s on stream %u touched; the host has not waited for it", place, record_at(who)->name, record_at(who)->stream);
    }
    const uintptr_t lo = ((uintptr_t)first + DBL_PAGE - 1) & ~(uintptr_t)(DBL_PAGE - 1), hi = (uintptr_t)end & ~(uintptr_t)(DBL_PAGE - 1);
    if (hi <= lo) {
        memset(first, 0, (size_t)((char *)end - (char *)first));
        return;
    }
    memset(first, 0, lo - (uintptr_t)first);
    madvise((void *)lo, hi - lo, MADV_DONTNEED);
    memset((void *)hi, 0, (uintptr_t)end - hi);
}
