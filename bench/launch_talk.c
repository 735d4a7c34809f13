#include "bench/launch_talk.h"
#include <stdlib.h>
#include <string.h>

enum { FENCE = 60, LINE_MAX_BYTES = 16384 };

/* Blocks of Open MPI between two fences that say in ten lines what our own line says in one. */
static const char *const known_blocks[] = {
    "MPI_ABORT was invoked", "Primary job  terminated normally", "detected that one or more processes exited", "noticed that process rank",
    "An MPI communication peer process has unexpectedly disconnected",
    "BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES",
};
/* Loose lines of launchers, by how they begin or what they hold. */
static const char *const known_starts[] = {
    "YOUR APPLICATION TERMINATED WITH THE EXIT STRING", "This typically refers to a problem with your application", "Please see the FAQ page for debugging",
    "[mpiexec@", "[proxy:", "Abort(", "srun: ", "slurmstepd: ", "application called MPI_Abort(",
};
static const char *const known_parts[] = { ": Forwarding signal ", "more process has sent help message", "more processes have sent help message",
                                           "orte_base_help_aggregate", "ORTE_ERROR_LOG: ",
                                           "Read -1, expected " /* Open MPI, of the memory of a peer that has just died */,
                                           "mca_btl_tcp_", "pml_ob1_sendreq.c" /* ... and of its connections */ };

static bool starts_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

static bool is_known_line(const char *line)
{
    for (size_t i = 0; i < RM_COUNT(known_starts); i++)
        if (starts_with(line, known_starts[i])) return true;
    for (size_t i = 0; i < RM_COUNT(known_parts); i++)
        if (strstr(line, known_parts[i])) return true;
    return false;
}

/* ---- facts. Numbers in them are shown, not computed with: sscanf will do. NOLINTBEGIN(cert-err34-c) */
/* "@ringmark rank 2 4711 node7" */
static bool read_rank(bench_facts *f, const char *line)
{
    int rank = 0;
    long pid = 0;
    char host[32] = "";
    if (!starts_with(line, BENCH_TALK_RANK)) return false;
    if (sscanf(line + sizeof BENCH_TALK_RANK - 1, "%d %ld %31s", &rank, &pid, host) != 3 || rank < 0 || rank >= BENCH_FACTS_RANKS) return true;
    f->pid[rank] = pid;
    snprintf(f->host[rank], sizeof f->host[0], "%s", host);
    return true;
}

/* Which rank that process is, by number and the first word of the host's name; -1: unknown. */
static int rank_of_process(const bench_facts *f, long pid, const char *host)
{
    for (int r = 0; r < BENCH_FACTS_RANKS; r++) {
        const size_t n = strcspn(f->host[r], ".");
        if (f->pid[r] == pid && n == strcspn(host, ".") && strncmp(f->host[r], host, n) == 0) return r;
    }
    return -1;
}

static void read_killed(bench_facts *f, const char *line)
{
    int rank = 0, pid = 0, number = 0;
    char host[64] = "", name[64] = "";
    const char *p = strstr(line, "noticed that process rank"), *text = strstr(line, "EXIT STRING: ");
    if (f->killed[0]) return;
    if (p && sscanf(p, "noticed that process rank %d with PID %d on node %63s exited on signal %d (%63[^)])", &rank, &pid, host, &number, name) == 5)
        snprintf(f->killed, sizeof f->killed, "rank %d on %s was killed by signal %d (%s)", rank, host, number, name);
    else if ((p = strstr(line, "PID ")) && sscanf(p, "PID %d RUNNING AT %63s", &pid, host) == 2) {
        rank = rank_of_process(f, pid, host);
        if (rank >= 0) snprintf(f->place, sizeof f->place, "rank %d on %s", rank, host);
        else snprintf(f->place, sizeof f->place, "a rank (process %d on %s)", pid, host);
    } else if (f->place[0] && (p = strstr(line, "EXIT CODE: "))) f->place_code = atoi(p + strlen("EXIT CODE: "));
    else if (text && sscanf(text, "EXIT STRING: %63[^(](signal %d)", name, &number) == 2)
        snprintf(f->killed, sizeof f->killed, "%s was killed by signal %d (%.*s)", f->place[0] ? f->place : "a rank", number, (int)(strlen(name) - 1), name);
    else if (sscanf(line, "srun: error: %63[^:]: task %d: %63[^\n]", host, &rank, name) == 3 && !starts_with(name, "Exited"))
        snprintf(f->killed, sizeof f->killed, "rank %d on %s was killed (%s)", rank, host, name);
}

/* "@ringmark step 12 FILE" */
static bool read_step(bench_facts *f, const char *line)
{
    int at = 0;
    if (!starts_with(line, BENCH_TALK_STEP) || sscanf(line + sizeof BENCH_TALK_STEP - 1, "%llu %n", &f->step, &at) != 1 || !at) return false;
    f->stepped = true;
    snprintf(f->newest, sizeof f->newest, "%s", line + sizeof BENCH_TALK_STEP - 1 + at);
    return true;
}

void bench_facts_progress(const bench_facts *f, char *text, size_t size)
{
    if (f->stepped) snprintf(text, size, " after step %llu; %s%s", f->step, f->newest[0] ? "newest checkpoint: " : "no checkpoint was written", f->newest);
    else snprintf(text, size, "%s", "");
}

static void read_abort(bench_facts *f, const char *line)
{
    static const char *const says[] = { "with errorcode ", "application called MPI_Abort(MPI_COMM_WORLD, " };
    for (size_t i = 0; i < RM_COUNT(says) && !f->aborted; i++) {
        const char *p = strstr(line, says[i]);
        f->aborted = p && sscanf(p + strlen(says[i]), "%d", &f->abort_code) == 1;
    }
}

void bench_facts_add_cause(bench_facts *f, const char *why, int rank)
{
    if (!why || !f->cause[0]) {
        snprintf(f->cause, sizeof f->cause, "%s", why ? why : "");
        f->cause_rank = rank;
    } else if (strcmp(f->cause, why) == 0 && f->cause_rank != rank) { /* of others the first is the cause, these its effects */
        f->cause_rank = -1;
    }
}

/* "bench train: why" or "[rank 2] bench train: why": the last line of a rank that failed. */
static bool read_cause(bench_facts *f, const char *line)
{
    int rank = 0, skip = 0;
    char command[32] = "";
    if (sscanf(line, "[rank %d] %n", &rank, &skip) == 1 && skip) line += skip;
    skip = 0;
    if (sscanf(line, "bench %31[a-z-]: %n", command, &skip) != 1 || !skip) return false;
    bench_facts_add_cause(f, line + skip, rank);
    return true;
}

void bench_facts_cause(const bench_facts *f, char *text, size_t size)
{
    if (f->cause_rank > 0 && !starts_with(f->cause, "rank ")) snprintf(text, size, "rank %d: %s", f->cause_rank, f->cause);
    else snprintf(text, size, "%s", f->cause);
}

/* NOLINTEND(cert-err34-c) */
/* ---- lines */
static const char line_end[] = "\r\033[K"; /* how log.c takes a progress line away; the last three characters end each drawing of it */

static void clear_progress(bench_talk *t)
{
    if (t->drawn) fputs(line_end, t->sink);
    t->drawn = false;
}

static void pass(bench_talk *t, const char *text)
{
    clear_progress(t);
    fputs(text, t->sink);
    fputc('\n', t->sink);
    fflush(t->sink);
}

static void end_block(bench_talk *t)
{
    if (!t->known && t->block.text) fputs(t->block.text, t->sink);
    fflush(t->sink);
    rm_str_free(&t->block);
    t->fence = 0;
    t->known = false;
}

/* The character of a fence, a line of at least FENCE '-' or '='; else 0. */
static char fence_of(const char *line)
{
    const size_t n = strlen(line);
    return n >= FENCE && (line[0] == '-' || line[0] == '=') && strspn(line, (char[2]) { line[0], 0 }) == n ? line[0] : 0;
}

static void in_block(bench_talk *t, const char *line, char fence)
{
    for (size_t i = 0; i < RM_COUNT(known_blocks) && !t->known; i++) t->known = strstr(line, known_blocks[i]) != NULL;
    rm_str_add(&t->block, line);
    rm_str_add(&t->block, "\n");
    if (fence == t->fence) end_block(t);
}

static void take_line(bench_talk *t, const char *line)
{
    if (read_step(t->facts, line) || read_rank(t->facts, line)) return;
    const char fence = fence_of(line);
    read_killed(t->facts, line);
    read_abort(t->facts, line);
    const bool cause = read_cause(t->facts, line);
    if (t->verbose) {
        pass(t, line);
        return;
    }
    if (cause) return;
    if (!line[0] && !t->fence) {
        t->blank = true;
        return;
    }
    if (t->fence && !starts_with(line, "[rank ") && !starts_with(line, "warning: ")) {
        in_block(t, line, fence);
    } else if (fence) {
        t->fence = fence;
        if (t->blank) rm_str_add(&t->block, "\n");
        rm_str_add(&t->block, line);
        rm_str_add(&t->block, "\n");
    } else if (!is_known_line(line)) {
        if (t->blank) pass(t, "");
        pass(t, line);
    }
    t->blank = false;
}

/* What is in `line` is a whole drawing of the progress line: it has no end of line, and is passed on as it is. */
static bool take_progress(bench_talk *t)
{
    const size_t n = t->line.n, tail = sizeof line_end - 2;
    if (n < tail + 1 || t->line.text[0] != '\r' || memcmp(t->line.text + n - tail, line_end + 1, tail) != 0) return false;
    fputs(t->line.text, t->sink);
    fflush(t->sink);
    t->drawn = n > tail + 1;
    return true;
}

void bench_talk_feed(bench_talk *t, const char *text, size_t n)
{
    while (n > 0) {
        size_t part = 0; /* up to the end of a line, or to where a drawing may end */
        while (part < n && text[part] != '\n' && text[part] != 'K') part++;
        const bool end = part < n && text[part] == '\n';
        const size_t taken = part < n ? part + 1 : n;
        rm_str_add_n(&t->line, text, end ? part : taken);
        if (end || t->line.n > LINE_MAX_BYTES) take_line(t, t->line.text ? t->line.text : "");
        if (end || t->line.n > LINE_MAX_BYTES || take_progress(t)) rm_str_free(&t->line);
        text += taken;
        n -= taken;
    }
}

void bench_talk_end(bench_talk *t)
{
    if (t->line.n) take_line(t, t->line.text);
    rm_str_free(&t->line);
    end_block(t);
    clear_progress(t);
}
