#include "profiler/store.h"
#include "base/sha256.h"
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

enum { APPLICATION_ID = 0x524d524b /* "RMRK" */, BUSY_MS = 10000 };

struct rm_store { sqlite3 *db; char *path; };

/* Step i brings schema i to i + 1; a store of an older schema runs the steps it lacks. */
static const char *const migrations[RM_STORE_SCHEMA] = {
    "CREATE TABLE run (id INTEGER PRIMARY KEY, command TEXT NOT NULL, command_line TEXT NOT NULL, config TEXT NOT NULL,"
    " environment TEXT NOT NULL, hard_sha TEXT NOT NULL, identity TEXT NOT NULL, owner TEXT NOT NULL, started TEXT NOT NULL,"
    " finished TEXT, exit_code INTEGER) STRICT;"
    "CREATE INDEX run_identity ON run (command, identity);"
    "CREATE TABLE result (id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE, key TEXT NOT NULL,"
    " origin TEXT NOT NULL CHECK (origin IN ('measured', 'emulated', 'projected', 'not_measured')),"
    " correct INTEGER NOT NULL CHECK (correct IN (0, 1)), row TEXT NOT NULL, stored TEXT NOT NULL, UNIQUE (run, key)) STRICT;"
    "CREATE TABLE sample (result INTEGER NOT NULL REFERENCES result (id) ON DELETE CASCADE, metric TEXT NOT NULL, i INTEGER NOT NULL,"
    " unit TEXT NOT NULL, value REAL, excluded INTEGER NOT NULL CHECK (excluded IN (0, 1)),"
    " PRIMARY KEY (result, metric, i)) STRICT, WITHOUT ROWID;",
};

/* The first failure of a statement as one clear line naming the file. */
static rm_status fail(rm_store *s, const char *what)
{
    int code = sqlite3_errcode(s->db), system = sqlite3_system_errno(s->db);
    const char *why = sqlite3_errmsg(s->db);
    switch (code & 0xff) {
    case SQLITE_FULL:
        return rm_fail(RM_E_NOSPACE, "%s: cannot %s: the disk is full; free some space or choose another file with --store", s->path, what);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return rm_fail(RM_E_FORMAT, "%s: cannot %s: the store is damaged or no store at all (%s); move it away or choose another with --store",
                       s->path, what, why);
    case SQLITE_NOMEM: return rm_fail(RM_E_NOMEM, "%s: cannot %s: out of memory", s->path, what);
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return rm_fail(RM_E_IO, "%s: cannot %s: another process holds the store; let it end first", s->path, what);
    case SQLITE_READONLY:
    case SQLITE_PERM: return rm_fail(RM_E_IO, "%s: cannot %s: no permission to write; choose another file with --store", s->path, what);
    default:
        if (system == ENOSPC || system == EDQUOT)
            return rm_fail(RM_E_NOSPACE, "%s: cannot %s: the disk is full; free some space or choose another file with --store", s->path, what);
        return rm_fail(RM_E_IO, "%s: cannot %s: %s%s%s", s->path, what, why, system ? ": " : "", system ? strerror(system) : "");
    }
}

static rm_status exec(rm_store *s, const char *sql, const char *what)
{
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? RM_OK : fail(s, what);
}

static rm_status prepare(rm_store *s, const char *sql, const char *what, sqlite3_stmt **out)
{
    return sqlite3_prepare_v2(s->db, sql, -1, out, NULL) == SQLITE_OK ? RM_OK : fail(s, what);
}

static rm_status ask_int(rm_store *s, const char *sql, int64_t *out)
{
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, sql, "read the store", &q));
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) *out = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return rc == SQLITE_ROW ? RM_OK : fail(s, "read the store");
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

const char *rm_store_library_version(void) { return sqlite3_libversion(); }

const char *rm_store_default_path(void)
{
    const char *path = getenv("RINGMARK_STORE");
    return path && *path ? path : "ringmark.db";
}

/* WAL needs shared memory between the processes of one host; over a network it corrupts. Unknown systems count as local:
 * SQLite itself refuses WAL where shared memory cannot be had. */
static bool on_network(const char *path)
{
    static const unsigned long network[] = {
        0x6969 /* nfs */, 0x517b /* smb */, 0xff534d42 /* cifs */, 0xfe534d42 /* smb2 */, 0x0bd00bd0 /* lustre */, 0x47504653 /* gpfs */,
        0x00c36400 /* ceph */, 0x5346414f /* afs */, 0x01021997 /* 9p */, 0x19830326 /* beegfs */, 0x65735546 /* fuse: sshfs and others */,
        0x20030528 /* pvfs2 */, 0x7461636f /* ocfs2 */, 0x01161970 /* gfs2 */, 0x786f4256 /* vboxsf */,
    };
    struct statfs fs;
    if (statfs(path, &fs)) return false;
    for (size_t i = 0; i < RM_COUNT(network); i++)
        if ((unsigned long)fs.f_type == network[i] || ((unsigned long)fs.f_type & 0xffffffffu) == network[i]) return true;
    return false;
}

static rm_status migrate(rm_store *s, int64_t have)
{
    rm_status st = exec(s, "BEGIN IMMEDIATE", "create the store");
    if (st != RM_OK) return st;
    RM_TRY_GOTO(st, ask_int(s, "PRAGMA user_version", &have), undo); /* another process may have been faster */
    for (int64_t i = have; i < RM_STORE_SCHEMA; i++) RM_TRY_GOTO(st, exec(s, migrations[i], "create the store"), undo);
    char sql[96];
    snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, RM_STORE_SCHEMA);
    RM_TRY_GOTO(st, exec(s, sql, "create the store"), undo);
    RM_TRY_GOTO(st, exec(s, "COMMIT", "create the store"), undo);
    return RM_OK;
undo:
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return st;
}

/* Is this a store, of a schema we know? An empty file is a store about to be. */
static rm_status check_schema(rm_store *s, bool read_only)
{
    int64_t application, version, tables;
    RM_TRY(ask_int(s, "SELECT count(*) FROM sqlite_schema", &tables));
    RM_TRY(ask_int(s, "PRAGMA application_id", &application));
    RM_TRY(ask_int(s, "PRAGMA user_version", &version));
    bool empty = !tables && !application && !version;
    if (!empty && application != APPLICATION_ID)
        return rm_fail(RM_E_FORMAT, "%s: a database of another program, not a Ringmark store; choose another file with --store", s->path);
    if (version > RM_STORE_SCHEMA)
        return rm_fail(RM_E_FORMAT, "%s: written by a newer Ringmark (schema %lld, this one reads up to %d); use the newer program", s->path,
                       (long long)version, RM_STORE_SCHEMA);
    if (version == RM_STORE_SCHEMA) return RM_OK;
    if (read_only) return rm_fail(RM_E_FORMAT, "%s: %s", s->path, empty ? "an empty file, not a store" : "an older schema; open it once for writing");
    return migrate(s, version);
}

static rm_status open_db(rm_store *s, bool read_only)
{
    int flags = read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(s->path, &s->db, flags | SQLITE_OPEN_FULLMUTEX, NULL) != SQLITE_OK)
        return s->db ? fail(s, "open the store") : rm_fail(RM_E_NOMEM, "%s: cannot open the store: out of memory", s->path);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    return RM_OK;
}

/* A WAL store on a medium where not even the -shm file can be made (read-only mount, foreign folder) reads as immutable. */
static rm_status open_immutable(rm_store *s)
{
    char *uri = sqlite3_mprintf("file:%s?immutable=1", s->path);
    if (!uri) return rm_fail(RM_E_NOMEM, "%s: cannot open the store: out of memory", s->path);
    bool odd = strpbrk(s->path, "?#%") != NULL;
    sqlite3 *db = NULL;
    int rc = odd ? SQLITE_CANTOPEN : sqlite3_open_v2(uri, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_FULLMUTEX | SQLITE_OPEN_URI, NULL);
    sqlite3_free(uri);
    if (rc != SQLITE_OK) {
        sqlite3_close(db);
        return fail(s, "open the store");
    }
    sqlite3_close(s->db);
    s->db = db;
    return RM_OK;
}

static rm_status set_up(rm_store *s, bool read_only)
{
    RM_TRY(open_db(s, read_only));
    if (read_only) {
        int rc = sqlite3_exec(s->db, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL) & 0xff;
        if (rc == SQLITE_CANTOPEN || rc == SQLITE_READONLY) RM_TRY(open_immutable(s));
        return check_schema(s, true);
    }
    RM_TRY(check_schema(s, false)); /* before the journal mode: a foreign database is left as it is */
    RM_TRY(exec(s, on_network(s->path) ? "PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL", "set the journal of the store"));
    return exec(s, "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON", "open the store");
}

rm_status rm_store_open(const char *path, bool read_only, rm_store **out)
{
    struct stat st;
    if (stat(path, &st)) {
        if (errno != ENOENT) return rm_fail_errno("%s: cannot open the store", path);
        if (read_only) return rm_fail(RM_E_IO, "%s: no such store; run a measurement first (bench scaling) or name one with --store", path);
    } else if (!S_ISREG(st.st_mode)) {
        return rm_fail(RM_E_ARG, "%s: not a regular file, so no store; choose another with --store", path);
    }
    rm_store *s = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        free(s);
        return rm_fail(RM_E_NOMEM, "%s: cannot open the store: out of memory", path);
    }
    rm_status status = set_up(s, read_only);
    if (status != RM_OK) {
        rm_store_close(s);
        return status;
    }
    *out = s;
    return RM_OK;
}

void rm_store_close(rm_store *s)
{
    if (!s) return;
    sqlite3_close(s->db);
    free(s->path);
    free(s);
}

/* ---- runs ------------------------------------------------------------------------------------------------------- */

static void now_text(char out[32])
{
    struct timespec t;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &utc);
    size_t n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(out + n, 32 - n, ".%03ldZ", t.tv_nsec / 1000000);
}

static char *canonical(const json_t *j) { return json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY); }

static const char *hard_sha_of(const json_t *environment)
{
    const char *sha = json_string_value(json_object_get(environment, "hard_sha"));
    return sha ? sha : "";
}

static void identity_of(const char *config, const char *hard_sha, char hex[65])
{
    rm_sha256 h;
    rm_sha256_begin(&h);
    rm_sha256_add(&h, config, strlen(config));
    rm_sha256_add(&h, "\n", 1);
    rm_sha256_add(&h, hard_sha, strlen(hard_sha));
    rm_sha256_end(&h, hex);
}

/* Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat), 0 when it is gone: tells a live owner
 * of a run from a later process that was given the same number. */
static unsigned long long process_start(long pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    const char *p = strrchr(text, ')'); /* the name of the program may hold anything */
    unsigned long long start = 0;
    if (p && sscanf(p + 1, " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu", &start) != 1) start = 0;
    return start;
}

static void owner_text(char *out, size_t size)
{
    char host[128] = "";
    gethostname(host, sizeof host - 1);
    snprintf(out, size, "%ld:%llu:%s", (long)getpid(), process_start((long)getpid()), host);
}

/* Does another live process of this host still work on the run? */
static bool owner_alive(const char *owner)
{
    long pid;
    unsigned long long start;
    int at = 0;
    char host[128] = "";
    gethostname(host, sizeof host - 1);
    if (sscanf(owner, "%ld:%llu:%n", &pid, &start, &at) != 2 || !at || strcmp(owner + at, host) || pid == (long)getpid()) return false;
    return start && process_start(pid) == start;
}

static rm_status done(rm_store *s, sqlite3_stmt *q, const char *what)
{
    int rc = sqlite3_step(q);
    rm_status st = rc == SQLITE_DONE ? RM_OK : fail(s, what);
    sqlite3_finalize(q);
    return st;
}

rm_status rm_store_run_begin(rm_store *s, const char *command, const char *command_line, const json_t *config,
                             const json_t *environment, int64_t *out_run)
{
    static const char what[] = "begin a run";
    char hex[65], started[32], owner[192];
    sqlite3_stmt *q = NULL;
    rm_status st = RM_OK;
    char *config_text = canonical(config), *environment_text = canonical(environment);
    if (!config_text || !environment_text) {
        st = rm_fail(RM_E_NOMEM, "%s: cannot %s: the configuration does not turn into JSON", s->path, what);
        goto out;
    }
    identity_of(config_text, hard_sha_of(environment), hex);
    now_text(started);
    owner_text(owner, sizeof owner);
    RM_TRY_GOTO(st, prepare(s, "INSERT INTO run (command, command_line, config, environment, hard_sha, identity, owner, started)"
                               " VALUES (?, ?, ?, ?, ?, ?, ?, ?)", what, &q), out);
    const char *const text[] = { command, command_line, config_text, environment_text, hard_sha_of(environment), hex, owner, started };
    for (int i = 0; i < (int)RM_COUNT(text); i++) sqlite3_bind_text(q, i + 1, text[i], -1, SQLITE_STATIC);
    RM_TRY_GOTO(st, done(s, q, what), out);
    *out_run = sqlite3_last_insert_rowid(s->db);
out:
    free(environment_text);
    free(config_text);
    return st;
}

rm_status rm_store_run_end(rm_store *s, int64_t run, int exit_code)
{
    char finished[32];
    sqlite3_stmt *q = NULL;
    now_text(finished);
    RM_TRY(prepare(s, "UPDATE run SET finished = ?, exit_code = ? WHERE id = ?", "end a run", &q));
    sqlite3_bind_text(q, 1, finished, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 2, exit_code);
    sqlite3_bind_int64(q, 3, run);
    return done(s, q, "end a run");
}

/* Takes the run over: its owner is this process now, and it is unfinished again. */
static rm_status adopt(rm_store *s, int64_t run)
{
    char owner[192];
    sqlite3_stmt *q = NULL;
    owner_text(owner, sizeof owner);
    RM_TRY(prepare(s, "UPDATE run SET owner = ?, finished = NULL, exit_code = NULL WHERE id = ?", "resume a run", &q));
    sqlite3_bind_text(q, 1, owner, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, run);
    return done(s, q, "resume a run");
}

rm_status rm_store_run_resume(rm_store *s, const char *command, const json_t *config, const json_t *environment, int64_t *out_run)
{
    static const char what[] = "look for a run to resume";
    char hex[65];
    sqlite3_stmt *q = NULL;
    char *config_text = canonical(config);
    if (!config_text) return rm_fail(RM_E_NOMEM, "%s: cannot %s: the configuration does not turn into JSON", s->path, what);
    identity_of(config_text, hard_sha_of(environment), hex);
    free(config_text);
    /* The newest of its kind only: when it finished, an older broken one is of no interest any more. */
    RM_TRY(prepare(s, "SELECT id, owner FROM run WHERE command = ? AND identity = ? AND (exit_code IS NULL OR exit_code IN (5, 6, 130, 143))"
                      " AND id > coalesce((SELECT max(id) FROM run WHERE command = ?1 AND identity = ?2 AND exit_code NOT IN (5, 6, 130, 143)), 0)"
                      " ORDER BY id DESC", what, &q));
    sqlite3_bind_text(q, 1, command, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 2, hex, -1, SQLITE_STATIC);
    int64_t found = 0;
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        const char *owner = (const char *)sqlite3_column_text(q, 1);
        if (owner && owner_alive(owner)) continue;
        found = sqlite3_column_int64(q, 0);
        break;
    }
    rm_status st = rc == SQLITE_ROW || rc == SQLITE_DONE ? RM_OK : fail(s, what);
    sqlite3_finalize(q);
    if (st == RM_OK && found) st = adopt(s, found);
    if (st == RM_OK) *out_run = found;
    return st;
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static rm_status put_row(rm_store *s, int64_t run, const char *key, const char *origin, bool correct, const char *row, int64_t *out_id)
{
    char stored[32];
    sqlite3_stmt *q = NULL;
    now_text(stored);
    RM_TRY(prepare(s, "DELETE FROM result WHERE run = ? AND key = ?", "store a result", &q)); /* the samples go with it */
    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_text(q, 2, key, -1, SQLITE_STATIC);
    RM_TRY(done(s, q, "store a result"));
    RM_TRY(prepare(s, "INSERT INTO result (run, key, origin, correct, row, stored) VALUES (?, ?, ?, ?, ?, ?)", "store a result", &q));
    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_text(q, 2, key, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, origin, -1, SQLITE_STATIC);
    sqlite3_bind_int(q, 4, correct);
    sqlite3_bind_text(q, 5, row, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 6, stored, -1, SQLITE_STATIC);
    RM_TRY(done(s, q, "store a result"));
    *out_id = sqlite3_last_insert_rowid(s->db);
    return RM_OK;
}

static rm_status put_samples(rm_store *s, int64_t result, const rm_samples *m)
{
    static const char what[] = "store samples";
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, "INSERT INTO sample (result, metric, i, unit, value, excluded) VALUES (?, ?, ?, ?, ?, ?)", what, &q));
    rm_status st = RM_OK;
    for (size_t i = 0; st == RM_OK && i < m->n; i++) {
        sqlite3_bind_int64(q, 1, result);
        sqlite3_bind_text(q, 2, m->metric, -1, SQLITE_STATIC);
        sqlite3_bind_int64(q, 3, (int64_t)i);
        sqlite3_bind_text(q, 4, m->unit, -1, SQLITE_STATIC);
        sqlite3_bind_double(q, 5, m->value[i]); /* NaN becomes NULL */
        sqlite3_bind_int(q, 6, m->excluded && m->excluded[i]);
        if (sqlite3_step(q) != SQLITE_DONE) st = fail(s, what);
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    return st;
}

rm_status rm_store_result(rm_store *s, int64_t run, const char *key, const char *origin, bool correct, const json_t *row,
                          const rm_samples *samples, size_t n_samples)
{
    int64_t id;
    char *text = json_dumps(row, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);
    if (!text) return rm_fail(RM_E_NOMEM, "%s: cannot store the result %s: it does not turn into JSON", s->path, key);
    rm_status st = exec(s, "BEGIN IMMEDIATE", "store a result");
    if (st != RM_OK) goto out;
    RM_TRY_GOTO(st, put_row(s, run, key, origin, correct, text, &id), undo);
    for (size_t i = 0; i < n_samples; i++) RM_TRY_GOTO(st, put_samples(s, id, &samples[i]), undo);
    RM_TRY_GOTO(st, exec(s, "COMMIT", "store a result"), undo);
    goto out;
undo:
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
out:
    free(text);
    return st;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

static rm_status column_json(rm_store *s, sqlite3_stmt *q, int column, json_t **out)
{
    json_error_t e;
    const char *text = (const char *)sqlite3_column_text(q, column);
    json_t *j = text ? json_loads(text, JSON_DECODE_ANY, &e) : NULL;
    if (!j) return rm_fail(RM_E_FORMAT, "%s: the store is damaged: the column %s holds no JSON", s->path, sqlite3_column_name(q, column));
    *out = j;
    return RM_OK;
}

static rm_status visit_run(rm_store *s, sqlite3_stmt *q, int (*fn)(void *, const rm_run_row *), void *ctx, bool *stop)
{
    rm_run_row r = {
        .id = sqlite3_column_int64(q, 0), .command = (const char *)sqlite3_column_text(q, 1),
        .command_line = (const char *)sqlite3_column_text(q, 2), .started = (const char *)sqlite3_column_text(q, 3),
        .finished = (const char *)sqlite3_column_text(q, 4), .identity = (const char *)sqlite3_column_text(q, 8),
        .exit_code = sqlite3_column_type(q, 5) == SQLITE_NULL ? -1 : sqlite3_column_int(q, 5),
    };
    RM_TRY(column_json(s, q, 6, &r.config));
    rm_status st = column_json(s, q, 7, &r.environment);
    if (st == RM_OK) *stop = fn(ctx, &r) != 0;
    json_decref(r.environment);
    json_decref(r.config);
    return st;
}

rm_status rm_store_each_run(rm_store *s, const char *command, int (*fn)(void *ctx, const rm_run_row *row), void *ctx)
{
    static const char what[] = "read the runs";
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, "SELECT id, command, command_line, started, finished, exit_code, config, environment, identity FROM run"
                      " WHERE ?1 IS NULL OR command = ?1 ORDER BY id DESC", what, &q));
    sqlite3_bind_text(q, 1, command, -1, SQLITE_STATIC);
    rm_status st = RM_OK;
    bool stop = false;
    int rc = SQLITE_DONE;
    while (st == RM_OK && !stop && (rc = sqlite3_step(q)) == SQLITE_ROW) st = visit_run(s, q, fn, ctx, &stop);
    if (st == RM_OK && !stop && rc != SQLITE_DONE) st = fail(s, what);
    sqlite3_finalize(q);
    return st;
}

rm_status rm_store_each_result(rm_store *s, int64_t run, int (*fn)(void *ctx, const rm_result_row *row), void *ctx)
{
    static const char what[] = "read the results";
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, "SELECT id, run, key, origin, correct, row FROM result WHERE run = ? ORDER BY id", what, &q));
    sqlite3_bind_int64(q, 1, run);
    rm_status st = RM_OK;
    bool stop = false;
    int rc = SQLITE_DONE;
    while (st == RM_OK && !stop && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        rm_result_row r = {
            .id = sqlite3_column_int64(q, 0), .run = sqlite3_column_int64(q, 1), .key = (const char *)sqlite3_column_text(q, 2),
            .origin = (const char *)sqlite3_column_text(q, 3), .correct = sqlite3_column_int(q, 4) != 0,
        };
        RM_TRY_GOTO(st, column_json(s, q, 5, &r.row), out);
        stop = fn(ctx, &r) != 0;
        json_decref(r.row);
    }
    if (!stop && rc != SQLITE_DONE) st = fail(s, what);
out:
    sqlite3_finalize(q);
    return st;
}

rm_status rm_store_samples(rm_store *s, int64_t result, const char *metric, double **out_value, size_t *out_n)
{
    static const char what[] = "read samples";
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, "SELECT value, count(*) OVER () FROM sample WHERE result = ? AND metric = ? AND excluded = 0 ORDER BY i", what, &q));
    sqlite3_bind_int64(q, 1, result);
    sqlite3_bind_text(q, 2, metric, -1, SQLITE_STATIC);
    double *value = NULL;
    size_t n = 0, room = 0;
    rm_status st = RM_OK;
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        if (!value) {
            room = (size_t)sqlite3_column_int64(q, 1);
            value = malloc(room * sizeof *value);
            if (!value) {
                st = rm_fail(RM_E_NOMEM, "%s: cannot %s: out of memory", s->path, what);
                goto out;
            }
        }
        if (n < room) value[n++] = sqlite3_column_type(q, 0) == SQLITE_NULL ? NAN : sqlite3_column_double(q, 0);
    }
    if (rc != SQLITE_DONE) {
        st = fail(s, what);
        goto out;
    }
    *out_value = value;
    *out_n = n;
    value = NULL;
out:
    free(value);
    sqlite3_finalize(q);
    return st;
}

rm_status rm_store_find(rm_store *s, int64_t run, const char *key, json_t **out_row)
{
    sqlite3_stmt *q = NULL;
    RM_TRY(prepare(s, "SELECT row FROM result WHERE run = ? AND key = ?", "find a result", &q));
    sqlite3_bind_int64(q, 1, run);
    sqlite3_bind_text(q, 2, key, -1, SQLITE_STATIC);
    json_t *row = NULL;
    rm_status st = RM_OK;
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) st = column_json(s, q, 0, &row);
    else if (rc != SQLITE_DONE) st = fail(s, "find a result");
    sqlite3_finalize(q);
    if (st == RM_OK) *out_row = row;
    return st;
}
