/* Fashion-MNIST as folders of JPEG files: real images through the real decoder, for machines without a data set. */
#define _GNU_SOURCE
#include "model/input/jpeg.h"
#include "model/input/parallel.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { PATH_ROOM = 4096, NAME_ROOM = 128 /* for what is added to a path */ };
enum { SIDE = 28, OUT_SIDE = 32, BORDER = (OUT_SIDE - SIDE) / 2, QUALITY = 95, CLASSES = 10 };

/* Their order by name is the order of the labels. */
static const char *const class_name[CLASSES] = { "0-t-shirt", "1-trouser", "2-pullover", "3-dress", "4-coat",
                                                 "5-sandal", "6-shirt", "7-sneaker", "8-bag", "9-ankle-boot" };
static const char *const part_name[2] = { "train", "val" };
static const char *const prefix[2] = { "train", "t10k" };

typedef struct digits { uint8_t *pixels, *labels; uint32_t n; } digits; /* (n, 28, 28), (n) */

/* ---- idx files: big-endian magic and sizes, then bytes */

static rm_status read_gz(const char *path, uint8_t *data, size_t bytes)
{
    gzFile f = gzopen(path, "rb");
    if (!f) return rm_fail_errno("cannot open %s; install dataset-fashion-mnist or name the folder with --source", path);
    size_t have = 0;
    int n = 1;
    while (have < bytes && (n = gzread(f, data + have, (unsigned)(bytes - have > 1u << 20 ? 1u << 20 : bytes - have))) > 0) have += (size_t)n;
    gzclose(f);
    if (have < bytes) return rm_fail(RM_E_FORMAT, "%s is %s", path, n < 0 ? "damaged" : "too short");
    return RM_OK;
}

static uint32_t big_endian(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

/* The data behind a head of 4 + 4 * dims bytes; `magic` says what they are. `item` bytes each. */
static rm_status read_idx(const char *path, uint32_t magic, int dims, size_t item, uint8_t **out, uint32_t *out_n)
{
    uint8_t head[16];
    const size_t head_bytes = 4 + 4 * (size_t)dims;
    RM_TRY(read_gz(path, head, head_bytes));
    const uint32_t n = big_endian(head + 4);
    if (big_endian(head) != magic || n < 1 || n > 10000000 || (dims == 3 && (big_endian(head + 8) != SIDE || big_endian(head + 12) != SIDE)))
        return rm_fail(RM_E_FORMAT, "%s is not an idx file of 28 x 28 images or their labels", path);
    uint8_t *data = malloc(head_bytes + n * item);
    if (!data) return rm_fail(RM_E_NOMEM, "out of memory for %s", path);
    const rm_status status = read_gz(path, data, head_bytes + n * item);
    if (status != RM_OK) {
        free(data);
        return status;
    }
    memmove(data, data + head_bytes, n * item);
    *out = data;
    *out_n = n;
    return RM_OK;
}

static void digits_free(digits *d)
{
    free(d->pixels);
    free(d->labels);
    *d = (digits){ 0 };
}

static rm_status digits_read(const char *src, int part, digits *out)
{
    digits d = { 0 };
    uint32_t n_labels = 0;
    char path[PATH_ROOM + NAME_ROOM];
    rm_status status;
    snprintf(path, sizeof path, "%s/%s-images-idx3-ubyte.gz", src, prefix[part]);
    RM_TRY_GOTO(status, read_idx(path, 0x803, 3, (size_t)SIDE * SIDE, &d.pixels, &d.n), fail);
    snprintf(path, sizeof path, "%s/%s-labels-idx1-ubyte.gz", src, prefix[part]);
    RM_TRY_GOTO(status, read_idx(path, 0x801, 1, 1, &d.labels, &n_labels), fail);
    if (n_labels != d.n) RM_TRY_GOTO(status, rm_fail(RM_E_FORMAT, "%s has %u labels for %u images", path, n_labels, d.n), fail);
    for (uint32_t i = 0; i < d.n; i++)
        if (d.labels[i] >= CLASSES) RM_TRY_GOTO(status, rm_fail(RM_E_FORMAT, "%s: label %u is %d; 0 to 9 are possible", path, i, d.labels[i]), fail);
    *out = d;
    return RM_OK;
fail:
    digits_free(&d);
    return status;
}

/* ---- writing */

typedef struct making { const char *dir; digits part[2]; uint32_t n[2]; } making;

static rm_status write_file(const char *path, const uint8_t *data, size_t bytes)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return rm_fail_errno("cannot create %s", path);
    for (size_t have = 0; have < bytes; ) {
        const ssize_t n = write(fd, data + have, bytes - have);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const rm_status status = rm_fail_errno("cannot write %s", path);
            close(fd);
            return status;
        }
        have += (size_t)n;
    }
    return close(fd) == 0 ? RM_OK : rm_fail_errno("cannot write %s", path);
}

static void draw(const uint8_t *grey, uint8_t rgb[OUT_SIDE * OUT_SIDE * 3])
{
    memset(rgb, 0, OUT_SIDE * OUT_SIDE * 3);
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            memset(rgb + 3 * ((y + BORDER) * OUT_SIDE + x + BORDER), grey[y * SIDE + x], 3);
}

static rm_status make_one(void *shared, void *own, uint64_t i)
{
    making *m = shared;
    const int part = i >= m->n[0];
    const uint32_t k = (uint32_t)(part ? i - m->n[0] : i);
    uint8_t rgb[OUT_SIDE * OUT_SIDE * 3], *jpeg;
    size_t bytes;
    char path[PATH_ROOM + NAME_ROOM];
    draw(m->part[part].pixels + (size_t)k * SIDE * SIDE, rgb);
    RM_TRY(rm_jpeg_encode(rgb, OUT_SIDE, OUT_SIDE, QUALITY, &jpeg, &bytes));
    snprintf(path, sizeof path, "%s/%s/%s/%05u.jpg", m->dir, part_name[part], class_name[m->part[part].labels[k]], k);
    const rm_status status = write_file(path, jpeg, bytes);
    free(jpeg);
    return status;
}

static rm_status make_folder(const char *path)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? RM_OK : rm_fail_errno("cannot create the folder %s", path);
}

static rm_status make_parents(const char *dir)
{
    char path[PATH_ROOM + NAME_ROOM];
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        RM_TRY(make_folder(path));
        *p = '/';
    }
    return RM_OK;
}

static rm_status make_folders(const char *dir)
{
    char path[PATH_ROOM + NAME_ROOM];
    RM_TRY(make_parents(dir));
    if (mkdir(dir, 0777) != 0) return rm_fail_errno("cannot create the folder %s", dir);
    for (int part = 0; part < 2; part++) {
        snprintf(path, sizeof path, "%s/%s", dir, part_name[part]);
        RM_TRY(make_folder(path));
        for (int c = 0; c < CLASSES; c++) {
            snprintf(path, sizeof path, "%s/%s/%s", dir, part_name[part], class_name[c]);
            RM_TRY(make_folder(path));
        }
    }
    return RM_OK;
}

static int remove_entry(const char *path, const struct stat *s, int type, struct FTW *ftw) { return remove(path); }

static void remove_tree(const char *dir) { (void)nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS); }

static rm_status fill(making *m, int32_t threads)
{
    const rm_loop loop = { .item = make_one, .shared = m };
    RM_TRY(make_folders(m->dir));
    return rm_loop_run(&loop, (uint64_t)m->n[0] + m->n[1], threads);
}

static rm_status make_in(making *m, const char *dir, int32_t threads)
{
    char temporary[PATH_ROOM];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.tmp", dir) + 64 > sizeof temporary) return rm_fail(RM_E_ARG, "the path %s is too long", dir);
    remove_tree(temporary); /* of a run that was stopped */
    m->dir = temporary;
    rm_status status = fill(m, threads);
    if (status == RM_OK && rename(temporary, dir) != 0) status = rm_fail_errno("cannot put %s in place", dir);
    if (status != RM_OK) remove_tree(temporary);
    return status;
}

rm_status rm_fashion_make(const char *src, const char *dir, uint32_t limit_train, uint32_t limit_val, int32_t threads)
{
    const uint32_t limit[2] = { limit_train, limit_val };
    making m = { 0 };
    rm_status status = RM_OK;
    char plain[PATH_ROOM];
    size_t n = (size_t)snprintf(plain, sizeof plain, "%s", dir);
    if (n + 64 > sizeof plain) return rm_fail(RM_E_ARG, "the path %s is too long", dir);
    while (n > 1 && plain[n - 1] == '/') plain[--n] = '\0';
    if (access(plain, F_OK) == 0 && rmdir(plain) != 0) return rm_fail(RM_E_ARG, "%s exists already; remove it first or choose another folder", plain);
    for (int part = 0; part < 2; part++) {
        RM_TRY_GOTO(status, digits_read(src, part, &m.part[part]), done);
        m.n[part] = limit[part] && limit[part] < m.part[part].n ? limit[part] : m.part[part].n;
    }
    RM_TRY_GOTO(status, make_in(&m, plain, threads), done);
done:
    digits_free(&m.part[0]);
    digits_free(&m.part[1]);
    return status;
}
