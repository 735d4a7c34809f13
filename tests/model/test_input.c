/* The folder, the order of an epoch and the loader: what comes out depends on seed, epoch and position alone. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/log.h"
#include "model/input/input.h"
#include "model/input/jpeg.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PX = 16, CLASSES = 3, PER_CLASS = 17, N_TRAIN = CLASSES * PER_CLASS, N_VAL = 10 };

static char root[64];
static unsigned folders;

/* ---- folders made for the occasion */

static void put(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

/* An image whose mean tells which it is. */
static void put_jpeg(const char *path, int tone)
{
    uint8_t rgb[24 * 20 * 3], *jpeg;
    size_t n;
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(tone + (int)(i % 7));
    assert_int_equal(rm_jpeg_encode(rgb, 24, 20, 90, &jpeg, &n), RM_OK);
    put(path, jpeg, n);
    free(jpeg);
}

static const char *join(const char *dir, const char *fmt, ...)
{
    static char path[4][512];
    static unsigned turn;
    char *p = path[turn++ % 4], tail[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(tail, sizeof tail, fmt, ap);
    va_end(ap);
    snprintf(p, 512, "%s/%s", dir, tail);
    return p;
}

static const char *new_dir(void)
{
    static char dir[8][128];
    char *d = dir[folders % 8];
    snprintf(d, 128, "%s/%u", root, folders++);
    assert_int_equal(mkdir(d, 0777), 0);
    return d;
}

static const char *class_dir(const char *dir, const char *part, const char *class)
{
    mkdir(join(dir, "%s", part), 0777);
    mkdir(join(dir, "%s/%s", part, class), 0777);
    return join(dir, "%s/%s", part, class);
}

static const char *good_folder(void)
{
    static const char *const class[CLASSES] = { "ant", "bee", "cat" };
    const char *dir = new_dir();
    for (int c = 0; c < CLASSES; c++) {
        class_dir(dir, "train", class[c]);
        class_dir(dir, "val", class[c]);
        for (int i = 0; i < PER_CLASS; i++) put_jpeg(join(dir, "train/%s/%02d.jpg", class[c], i), 4 * (c * PER_CLASS + i));
    }
    for (int i = 0; i < N_VAL; i++) put_jpeg(join(dir, "val/%s/v%02d.JPEG", class[i % CLASSES], i), 20 * i);
    return dir;
}

static int make_root(void **state)
{
    snprintf(root, sizeof root, "/tmp/ringmark-test-XXXXXX");
    rm_log_setup(RM_QUIET, 0);
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static rm_dataset *open_good(const char *dir)
{
    rm_dataset *ds;
    if (rm_dataset_open(dir, NULL, &ds) != RM_OK) fail_msg("%s", rm_last_error());
    return ds;
}

/* ---- the folder */

static void test_order_of_files(void **state)
{
    const char *dir = good_folder();
    put_jpeg(join(dir, "train/bee/\xff\xfeodd \n\"name'.JPG"), 9);
    put(join(dir, "train/bee/notes.txt"), "x", 1);
    put(join(dir, "train/bee/._03.jpg"), "x", 1);
    assert_int_equal(symlink("../ant/00.jpg", join(dir, "train/bee/00a.jpeg")), 0);
    mkdir(join(dir, "train/bee/folder.jpg"), 0777);
    rm_dataset *ds = open_good(dir);
    assert_int_equal(rm_dataset_classes(ds), 3);
    assert_string_equal(rm_dataset_class(ds, 2), "cat");
    assert_int_equal(rm_dataset_count(ds, RM_TRAIN), N_TRAIN + 2);
    assert_int_equal(rm_dataset_count(ds, RM_VAL), N_VAL);
    assert_string_equal(rm_dataset_path(ds, RM_TRAIN, 16), "train/ant/16.jpg");
    assert_string_equal(rm_dataset_path(ds, RM_TRAIN, 18), "train/bee/00a.jpeg");
    assert_string_equal(rm_dataset_path(ds, RM_TRAIN, 35), "train/bee/\xff\xfeodd \n\"name'.JPG");
    assert_int_equal(rm_dataset_label(ds, RM_TRAIN, 35), 1);
    assert_string_equal(rm_dataset_path(ds, RM_VAL, 0), "val/ant/v00.JPEG");
    rm_dataset_close(ds);
    rm_check_report r;
    assert_int_equal(rm_dataset_check(dir, 2, NULL, NULL, &r), RM_OK);
    assert_true(r.files == N_TRAIN + 2 + N_VAL && r.bad == 0 && r.warned == 0);
}

static void refuses(const char *dir, const char *because)
{
    rm_dataset *ds;
    if (rm_dataset_open(dir, NULL, &ds) == RM_OK) fail_msg("taken in spite of: %s", because);
    if (!strstr(rm_last_error(), because)) fail_msg("expected '%s' in '%s'", because, rm_last_error());
    assert_non_null(strstr(rm_last_error(), dir));
}

static void test_wrong_folders(void **state)
{
    const char *dir = new_dir();
    refuses("/nonexistent/data", "cannot open");
    refuses(dir, "neither train/ nor val/");
    mkdir(join(dir, "train"), 0777);
    refuses(dir, "no val/");
    mkdir(join(dir, "val"), 0777);
    refuses(dir, "no class folders");
    class_dir(dir, "train", "a");
    class_dir(dir, "val", "a");
    refuses(dir, "holds no image");
    put_jpeg(join(dir, "train/a/1.jpg"), 3);
    refuses(dir, "val holds no image");
    put_jpeg(join(dir, "val/a/1.jpg"), 3);
    refuses(dir, "one class only (a)");
    class_dir(dir, "train", "b");
    refuses(dir, "train/b exists, val/b does not");
    class_dir(dir, "val", "b");
    class_dir(dir, "val", "aa");
    refuses(dir, "val/aa exists, train/aa does not");
    put(join(dir, "file"), "x", 1);
    refuses(join(dir, "file"), "not a folder");
    if (geteuid() == 0) return; /* root reads everything */
    assert_int_equal(chmod(join(dir, "train/a"), 0), 0);
    refuses(dir, "Permission denied");
    chmod(join(dir, "train/a"), 0777);
}

static void test_index_is_cached(void **state)
{
    const char *dir = good_folder(), *cache = join(root, "index-%u", folders);
    char path[128];
    rm_dataset *first, *second;
    snprintf(path, sizeof path, "%s", cache);
    assert_int_equal(rm_dataset_open(dir, path, &first), RM_OK);
    assert_int_equal(access(path, R_OK), 0);
    assert_int_equal(rm_dataset_open(dir, path, &second), RM_OK);
    assert_true(rm_dataset_fingerprint(first) == rm_dataset_fingerprint(second));
    for (uint32_t i = 0; i < N_TRAIN; i++) assert_string_equal(rm_dataset_path(first, RM_TRAIN, i), rm_dataset_path(second, RM_TRAIN, i));
    rm_dataset_close(second);
    usleep(20000); /* the clock of the file system is coarse */
    put_jpeg(join(dir, "train/cat/99.jpg"), 1);
    assert_int_equal(rm_dataset_open(dir, path, &second), RM_OK);
    assert_int_equal(rm_dataset_count(second, RM_TRAIN), N_TRAIN + 1);
    assert_true(rm_dataset_fingerprint(first) != rm_dataset_fingerprint(second));
    rm_dataset_close(second);
    for (long at = 0; at < 900; at += 37) { /* damage anywhere: scanned again */
        FILE *f = fopen(path, "r+b");
        fseek(f, at, SEEK_SET);
        fputc('~', f);
        fclose(f);
        assert_int_equal(rm_dataset_open(dir, path, &second), RM_OK);
        assert_int_equal(rm_dataset_count(second, RM_TRAIN), N_TRAIN + 1);
        rm_dataset_close(second);
    }
    put(path, "RMINDX1", 8);
    assert_int_equal(rm_dataset_open(dir, path, &second), RM_OK);
    rm_dataset_close(second);
    rm_dataset_close(first);
}

/* ---- the order of an epoch */

/* Worked out with an independent Philox4x32-10 in Python: key (5, 0), counter (block, 2, 0xFFFFFFFF, 0xFFFFFFFF). */
static void test_order_known_answer(void **state)
{
    static const uint32_t expected[12] = { 10, 11, 8, 4, 5, 6, 2, 9, 1, 0, 3, 7 };
    uint32_t order[12];
    rm_epoch_order(12, 5, 2, true, order);
    assert_memory_equal(order, expected, sizeof order);
    rm_epoch_order(12, 5, 2, false, order);
    for (uint32_t i = 0; i < 12; i++) assert_int_equal(order[i], i);
}

static void test_order_is_a_permutation(void **state)
{
    enum { N = 1000 };
    uint32_t a[N], b[N], same = 0;
    bool seen[N] = { false };
    rm_epoch_order(N, 1, 0, true, a);
    rm_epoch_order(N, 1, 1, true, b);
    for (uint32_t i = 0; i < N; i++) {
        assert_true(a[i] < N && !seen[a[i]]);
        seen[a[i]] = true;
        same += a[i] == b[i];
    }
    assert_true(same < 10);
    rm_epoch_order(0, 1, 0, true, a);
    rm_epoch_order(1, 1, 0, true, a);
    assert_int_equal(a[0], 0);
}

/* ---- the loader */

static rm_loader_config training(int32_t batch)
{
    return (rm_loader_config){ .part = RM_TRAIN, .batch = batch, .px = PX, .workers = 2, .seed = 3, .ranks = 1, .shuffle = true, .drop_last = true,
                               .crop = rm_crop_default, .bad = RM_BAD_FAIL, .max_bad_share = 0.01 };
}

static rm_loader_config evaluation(int32_t batch)
{
    return (rm_loader_config){ .part = RM_VAL, .batch = batch, .px = PX, .resize = 18, .workers = 2, .ranks = 1, .bad = RM_BAD_FAIL, .max_bad_share = 0.01 };
}

static uint64_t mix(uint64_t h, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}

static uint64_t hash_batch(const rm_batch *b)
{
    const size_t n = (size_t)b->n;
    uint64_t h = mix(14695981039346656037u, b->image, n * PX * PX * 3);
    h = mix(mix(h, b->flip, n), b->label, n * sizeof *b->label);
    return mix(mix(h, b->index, n * sizeof *b->index), &b->epoch, sizeof b->epoch) + b->number;
}

/* Hashes of the batches until the end or the first failure; *status tells which. */
static size_t drain(const rm_dataset *ds, const rm_loader_config *c, uint64_t *hash, size_t max, rm_status *status, uint32_t *n_bad)
{
    rm_loader *l;
    rm_batch *b;
    uint64_t wait_ns;
    const char *path, *reason;
    size_t n = 0;
    if (rm_loader_open(ds, c, &l) != RM_OK) fail_msg("%s", rm_last_error());
    while ((*status = rm_loader_next(l, &b, &wait_ns)) == RM_OK && b) {
        assert_true(n < max);
        hash[n++] = hash_batch(b);
        rm_loader_release(l, b);
    }
    *n_bad = rm_loader_bad(l, 0, &path, &reason);
    for (uint32_t i = 0; i < *n_bad; i++) {
        rm_loader_bad(l, i, &path, &reason);
        assert_true(path[0] && reason[0]);
    }
    rm_loader_close(l);
    return n;
}

static void test_workers_do_not_matter(void **state)
{
    rm_dataset *ds = open_good(good_folder());
    rm_loader_config c = training(8);
    uint64_t expected[40], got[40];
    rm_status status;
    uint32_t bad;
    c.max_batches = 40;
    c.workers = 1;
    assert_int_equal(drain(ds, &c, expected, 40, &status, &bad), 40);
    for (int32_t workers = 2; workers <= 5; workers += 3)
        for (int32_t depth = 2; depth <= 9; depth += 7) {
            c.workers = workers;
            c.depth = depth;
            assert_int_equal(drain(ds, &c, got, 40, &status, &bad), 40);
            assert_memory_equal(got, expected, sizeof got);
        }
    assert_true(expected[0] != expected[6]); /* six batches an epoch: another order, other boxes */
    c.seed++;
    assert_int_equal(drain(ds, &c, got, 40, &status, &bad), 40);
    assert_true(got[0] != expected[0]);
    rm_dataset_close(ds);
}

static void test_resume(void **state)
{
    rm_dataset *ds = open_good(good_folder());
    rm_loader_config c = training(8);
    uint64_t all[20], rest[20];
    rm_status status;
    uint32_t bad;
    c.max_batches = 20;
    assert_int_equal(rm_loader_batches_per_epoch(ds, &c), 6);
    drain(ds, &c, all, 20, &status, &bad);
    c.start_epoch = 1;
    c.start_batch = 4;
    c.max_batches = 10;
    drain(ds, &c, rest, 20, &status, &bad);
    assert_memory_equal(rest, all + 10, 10 * sizeof *rest);
    c.start_epoch = 0;
    c.start_batch = 10; /* past the end of an epoch: the same place */
    drain(ds, &c, rest, 20, &status, &bad);
    assert_memory_equal(rest, all + 10, 10 * sizeof *rest);
    rm_dataset_close(ds);
}

static void count_samples(const rm_dataset *ds, rm_loader_config c, unsigned *seen, uint64_t *batches)
{
    rm_loader *l;
    rm_batch *b;
    uint64_t wait_ns;
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_OK);
    while (rm_loader_next(l, &b, &wait_ns) == RM_OK && b) {
        for (int32_t i = 0; i < b->n; i++) {
            seen[b->index[i]]++;
            assert_int_equal(b->label[i], rm_dataset_label(ds, c.part, b->index[i]));
        }
        ++*batches;
        rm_loader_release(l, b);
    }
    rm_loader_close(l);
}

static void test_shards_cover(void **state)
{
    rm_dataset *ds = open_good(good_folder());
    for (int32_t ranks = 1; ranks <= 4; ranks++) {
        unsigned train[N_TRAIN] = { 0 }, val[N_VAL] = { 0 }, used = 0;
        uint64_t steps = N_TRAIN / (uint64_t)(4 * ranks), batches = 0, val_batches = 0, promised = 0;
        for (int32_t r = 0; r < ranks; r++) {
            rm_loader_config t = training(4), v = evaluation(3);
            t.rank = v.rank = r;
            t.ranks = v.ranks = ranks;
            t.max_batches = steps;
            assert_int_equal(rm_loader_batches_per_epoch(ds, &t), steps);
            promised += rm_loader_batches_per_epoch(ds, &v);
            count_samples(ds, t, train, &batches);
            count_samples(ds, v, val, &val_batches);
        }
        for (int i = 0; i < N_TRAIN; i++) {
            assert_true(train[i] <= 1);
            used += train[i];
        }
        assert_int_equal(used, steps * 4 * (unsigned)ranks);
        for (int i = 0; i < N_VAL; i++) assert_int_equal(val[i], 1);
        assert_int_equal(val_batches, promised);
    }
    rm_dataset_close(ds);
}

static void test_holding_batches(void **state)
{
    rm_dataset *ds = open_good(good_folder());
    rm_loader_config c = training(4);
    rm_loader *l;
    rm_batch *a, *b, *d;
    rm_loader_stats s;
    uint64_t wait_ns;
    c.depth = 3;
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_OK);
    assert_int_equal(rm_loader_next(l, &a, &wait_ns), RM_OK);
    assert_int_equal(rm_loader_next(l, &b, &wait_ns), RM_OK);
    const uint64_t held = hash_batch(a);
    rm_loader_release(l, b); /* out of order is fine */
    for (int i = 0; i < 30; i++) {
        assert_int_equal(rm_loader_next(l, &d, &wait_ns), RM_OK);
        rm_loader_release(l, d);
        if (i == 0) {
            assert_true(hash_batch(a) == held); /* still ours */
            rm_loader_release(l, a);
        }
    }
    rm_loader_get_stats(l, &s);
    assert_true(s.batches == 32 && s.images == 128 && s.bad == 0 && s.decode_ns > 0 && s.resize_ns > 0 && s.read_ns > 0);
    rm_loader_close(l);
    rm_dataset_close(ds);
}

static void test_wrong_configuration(void **state)
{
    rm_dataset *ds = open_good(good_folder());
    rm_loader *l;
    rm_loader_config c = training(N_TRAIN + 1);
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "--batch"));
    c = training(0);
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_E_ARG);
    c = evaluation(4);
    c.resize = PX - 1;
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_E_ARG);
    c = training(4);
    c.rank = 1;
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_E_ARG);
    rm_dataset_close(ds);
}

/* ---- bad images */

static const char *spoiled_folder(void)
{
    const char *dir = good_folder();
    put(join(dir, "train/ant/03.jpg"), "", 0);
    put(join(dir, "train/bee/05.jpg"), "\x89PNG\r\n\x1a\n", 8);
    unlink(join(dir, "train/cat/07.jpg"));
    assert_int_equal(symlink("nowhere", join(dir, "train/cat/07.jpg")), 0);
    put(join(dir, "val/bee/v04.JPEG"), "text", 4);
    return dir;
}

static bool is_spoiled(uint32_t i) { return i == 3 || i == PER_CLASS + 5 || i == 2 * PER_CLASS + 7; }

static void test_bad_images_replaced(void **state)
{
    static const rm_bad_policy policy[] = { RM_BAD_SKIP, RM_BAD_SUBSTITUTE };
    rm_dataset *ds = open_good(spoiled_folder());
    for (size_t p = 0; p < RM_COUNT(policy); p++) {
        rm_loader_config c = training(8);
        uint64_t first[18], again[18], batches = 0;
        unsigned seen[N_TRAIN] = { 0 }, total = 0;
        rm_status status;
        uint32_t bad, bad_again;
        c.max_batches = 18;
        c.bad = policy[p];
        c.max_bad_share = 0.2;
        c.workers = 1;
        assert_int_equal(drain(ds, &c, first, 18, &status, &bad), 18);
        c.workers = 5;
        assert_int_equal(drain(ds, &c, again, 18, &status, &bad_again), 18);
        assert_memory_equal(first, again, sizeof first);
        assert_true(bad == 3 && bad_again == 3);
        count_samples(ds, c, seen, &batches);
        for (uint32_t i = 0; i < N_TRAIN; i++) {
            if (is_spoiled(i)) assert_int_equal(seen[i], 0);
            total += seen[i];
        }
        assert_int_equal(total, 18 * 8); /* batches stay full */
    }
    rm_dataset_close(ds);
}

static void test_bad_images_stop(void **state)
{
    rm_dataset *ds = open_good(spoiled_folder());
    rm_loader_config c = training(8);
    uint64_t hash[60];
    rm_status status;
    uint32_t bad;
    size_t expected = 60;
    c.max_batches = 60;
    for (int32_t workers = 1; workers < 5; workers++) {
        c.workers = workers;
        const size_t n = drain(ds, &c, hash, 60, &status, &bad);
        assert_int_equal(status, RM_E_FORMAT);
        assert_non_null(strstr(rm_last_error(), "train/"));
        assert_true(n < 6);
        if (workers > 1) assert_int_equal(n, expected); /* at the same batch */
        expected = n;
    }
    c.bad = RM_BAD_SKIP; /* one bad image is bearable in a small folder, two are not */
    for (int32_t workers = 1; workers < 4; workers++) {
        c.workers = workers;
        const size_t n = drain(ds, &c, hash, 60, &status, &bad);
        assert_int_equal(status, RM_E_FORMAT);
        assert_non_null(strstr(rm_last_error(), "are bad"));
        if (workers > 1) assert_int_equal(n, expected);
        expected = n;
    }
    c.max_bad_share = 0;
    assert_true(drain(ds, &c, hash, 60, &status, &bad) <= expected && bad >= 1);
    rm_dataset_close(ds);
}

static void test_bad_images_left_out_of_evaluation(void **state)
{
    rm_dataset *ds = open_good(spoiled_folder());
    for (int32_t batch = 1; batch <= 4; batch++) {
        rm_loader_config c = evaluation(batch);
        unsigned seen[N_VAL] = { 0 };
        uint64_t batches = 0;
        c.bad = RM_BAD_SKIP;
        c.max_bad_share = 0.5;
        count_samples(ds, c, seen, &batches);
        for (uint32_t i = 0; i < N_VAL; i++) assert_int_equal(seen[i], strstr(rm_dataset_path(ds, RM_VAL, i), "v04") == NULL);
    }
    rm_dataset_close(ds);
}

static void test_all_bad(void **state)
{
    const char *dir = new_dir();
    uint64_t hash[8];
    rm_status status;
    uint32_t bad;
    for (int i = 0; i < 6; i++) {
        put(join(class_dir(dir, "train", i % 2 ? "a" : "b"), "%d.jpg", i), "junk", 4);
        put(join(class_dir(dir, "val", i % 2 ? "a" : "b"), "%d.jpg", i), "junk", 4);
    }
    rm_dataset *ds = open_good(dir);
    rm_loader_config c = training(2), v = evaluation(2);
    c.max_batches = 3;
    c.bad = v.bad = RM_BAD_SKIP;
    c.max_bad_share = v.max_bad_share = 1;
    assert_int_equal(drain(ds, &c, hash, 8, &status, &bad), 0);
    assert_int_equal(status, RM_E_FORMAT);
    assert_int_equal(drain(ds, &v, hash, 8, &status, &bad), 0);
    assert_true(status == RM_OK && bad == 6);
    rm_dataset_close(ds);
}

static void count_bad(void *ctx, const char *path, const char *reason)
{
    assert_true(strstr(path, "/") && reason[0]);
    ++*(unsigned *)ctx;
}

static void test_check(void **state)
{
    rm_check_report r;
    unsigned called = 0;
    assert_int_equal(rm_dataset_check(spoiled_folder(), 3, count_bad, &called, &r), RM_OK);
    assert_true(r.files == N_TRAIN + N_VAL && r.bad == 4 && called == 4 && r.ok == r.files - 4);
    assert_int_equal(rm_dataset_check("/nonexistent", 3, count_bad, &called, &r), RM_E_IO);
}

/* ---- the embedded data set, from a small stand-in */

static void put_idx(const char *path, uint32_t magic, uint32_t n, bool images)
{
    gzFile f = gzopen(path, "wb");
    uint32_t head[4] = { __builtin_bswap32(magic), __builtin_bswap32(n), __builtin_bswap32(28), __builtin_bswap32(28) };
    assert_non_null(f);
    gzwrite(f, head, images ? 16 : 8);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t pixels[784];
        memset(pixels, (int)(i * 9), sizeof pixels);
        if (images) gzwrite(f, pixels, sizeof pixels);
        else gzputc(f, (int)(i % 10));
    }
    gzclose(f);
}

static void test_fashion(void **state)
{
    const char *src = new_dir();
    char dir[128];
    rm_status status;
    snprintf(dir, sizeof dir, "%s/deep/er/fashion", root);
    assert_int_equal(rm_fashion_make(src, dir, 0, 0, 2), RM_E_IO);
    put_idx(join(src, "train-images-idx3-ubyte.gz"), 0x803, 25, true);
    put_idx(join(src, "train-labels-idx1-ubyte.gz"), 0x801, 24, false);
    put_idx(join(src, "t10k-images-idx3-ubyte.gz"), 0x803, 20, true);
    put_idx(join(src, "t10k-labels-idx1-ubyte.gz"), 0x801, 20, false);
    assert_int_equal(rm_fashion_make(src, dir, 0, 0, 2), RM_E_FORMAT);
    assert_int_not_equal(access(dir, F_OK), 0); /* complete or not at all */
    put_idx(join(src, "train-labels-idx1-ubyte.gz"), 0x801, 25, false);
    status = rm_fashion_make(src, dir, 0, 10, 2);
    if (status != RM_OK) fail_msg("%s", rm_last_error());
    rm_dataset *ds = open_good(dir);
    assert_true(rm_dataset_classes(ds) == 10 && rm_dataset_count(ds, RM_TRAIN) == 25 && rm_dataset_count(ds, RM_VAL) == 10);
    assert_string_equal(rm_dataset_path(ds, RM_TRAIN, 0), "train/0-t-shirt/00000.jpg");
    assert_string_equal(rm_dataset_path(ds, RM_TRAIN, 1), "train/0-t-shirt/00010.jpg");
    rm_loader_config c = evaluation(10);
    rm_loader *l;
    rm_batch *b;
    uint64_t wait_ns;
    c.px = c.resize = 32;
    assert_int_equal(rm_loader_open(ds, &c, &l), RM_OK);
    assert_int_equal(rm_loader_next(l, &b, &wait_ns), RM_OK);
    for (int i = 0; i < 10; i++) {
        const uint8_t *centre = b->image + (size_t)i * 32 * 32 * 3 + 3 * (32 * 16 + 16);
        assert_int_equal(b->label[i], i);
        assert_in_range(centre[0] + 3, 9 * i, 9 * i + 6);
        assert_true(centre[0] == centre[1] && centre[1] == centre[2]);
    }
    rm_loader_release(l, b);
    rm_loader_close(l);
    rm_dataset_close(ds);
    assert_int_equal(rm_fashion_make(src, dir, 0, 10, 2), RM_E_ARG);
    assert_non_null(strstr(rm_last_error(), "exists"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_of_files),        cmocka_unit_test(test_wrong_folders),
        cmocka_unit_test(test_index_is_cached),       cmocka_unit_test(test_order_known_answer),
        cmocka_unit_test(test_order_is_a_permutation), cmocka_unit_test(test_workers_do_not_matter),
        cmocka_unit_test(test_resume),                cmocka_unit_test(test_shards_cover),
        cmocka_unit_test(test_holding_batches),       cmocka_unit_test(test_wrong_configuration),
        cmocka_unit_test(test_bad_images_replaced),   cmocka_unit_test(test_bad_images_stop),
        cmocka_unit_test(test_bad_images_left_out_of_evaluation),
        cmocka_unit_test(test_all_bad),               cmocka_unit_test(test_check),
        cmocka_unit_test(test_fashion),
    };
    return cmocka_run_group_tests(tests, make_root, drop_root);
}
