/* Input: from a folder of JPEG files to batches of u8 images, deterministic whatever the number of workers.
 *
 * Layout DIR/train/<class>/<file>, DIR/val/<class>/<file>; classes sorted by name (bytewise), files sorted by class then name.
 * Names end in .jpg or .jpeg in any case; names that begin with a dot are ignored; links are followed.
 * A sample's box and flip depend on (seed, epoch, sample index) alone; the order of an epoch on (seed, epoch) alone.
 * Threads: rm_dataset is immutable after open and may be shared; one consumer per rm_loader. */
#ifndef RM_INPUT_H
#define RM_INPUT_H
#include "profiler/trace.h"
#include <stdbool.h>
#include <stdint.h>

typedef enum rm_part { RM_TRAIN, RM_VAL } rm_part;
typedef enum rm_bad_policy { RM_BAD_FAIL, RM_BAD_SKIP, RM_BAD_SUBSTITUTE } rm_bad_policy;

/* ---- the folder */
typedef struct rm_dataset rm_dataset;
/* Errors name the folder and say what is wrong: missing, unreadable, no image, one class, val classes that differ.
 * cache_path: where the index (paths, sizes) is kept, NULL for none. A folder without train/ and val/ is an error. */
rm_status rm_dataset_open(const char *dir, const char *cache_path, rm_dataset **out) RM_CHECKED;
void      rm_dataset_close(rm_dataset *ds);
uint32_t  rm_dataset_classes(const rm_dataset *ds);
const char *rm_dataset_class(const rm_dataset *ds, uint32_t i);
uint32_t  rm_dataset_count(const rm_dataset *ds, rm_part part);
const char *rm_dataset_path(const rm_dataset *ds, rm_part part, uint32_t i);   /* relative to dir */
uint32_t  rm_dataset_label(const rm_dataset *ds, rm_part part, uint32_t i);
const char *rm_dataset_dir(const rm_dataset *ds);
uint64_t  rm_dataset_fingerprint(const rm_dataset *ds);                       /* of paths and sizes */

/* ---- one image */
typedef struct rm_crop_params { double scale_min, scale_max, ratio_min, ratio_max; bool flip; } rm_crop_params;
extern const rm_crop_params rm_crop_default;                                   /* .08 1 3/4 4/3 flip */
typedef struct rm_box { int32_t x, y, w, h, flip; } rm_box;
/* torchvision's RandomResizedCrop.get_params: log-uniform ratio, ten tries, central fallback. */
rm_box rm_random_box(int32_t width, int32_t height, const rm_crop_params *p, uint64_t seed, uint64_t epoch, uint64_t index);

typedef struct rm_decoder rm_decoder;                                          /* one per thread; owns all scratch */
typedef struct rm_decode_limits { uint64_t max_pixels; int32_t max_scans; } rm_decode_limits; /* 0: defaults 178,956,970 and 100 */
rm_status rm_decoder_new(const rm_decode_limits *limits, rm_decoder **out) RM_CHECKED;
void      rm_decoder_free(rm_decoder *d);
rm_status rm_jpeg_size(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, int32_t *w, int32_t *h) RM_CHECKED;
/* dst: (px, px, 3) u8 RGB. Bit-equal to Pillow's decode -> convert RGB -> crop -> resize(BILINEAR) [-> flip when do_flip]
 * (Pillow 13, which resizes vertically first where a box loses many more rows than columns; older ones never do).
 * do_flip false leaves the flip to the device's AUGMENT op. */
rm_status rm_jpeg_crop(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, rm_box box, int32_t px, bool do_flip, uint8_t *dst) RM_CHECKED;
/* Evaluation: shorter side to `resize`, centre crop px; equal to torchvision Resize(resize) + CenterCrop(px) on PIL images. */
rm_status rm_jpeg_center(rm_decoder *d, const void *jpeg, size_t bytes, const char *where, int32_t resize, int32_t px, uint8_t *dst) RM_CHECKED;
/* Nanoseconds spent by this decoder in {decode, resize} since the last call. */
void      rm_decoder_times(rm_decoder *d, uint64_t *decode_ns, uint64_t *resize_ns);
/* Vector code in use: "avx512", "avx2", "c". rm_input_force_isa(NULL) returns to the best one (tests). */
const char *rm_input_isa(void);
rm_status rm_input_force_isa(const char *name) RM_CHECKED;

/* ---- order of an epoch */
/* Position `i` of the shuffled epoch -> sample index; a permutation of 0..n-1 depending on (seed, epoch) alone. Fisher-Yates
 * over Philox into `order` (n entries). shuffle false: identity. */
void rm_epoch_order(uint32_t n, uint64_t seed, uint64_t epoch, bool shuffle, uint32_t *order);

/* ---- the loader: worker threads, one bounded ring of finished batches */
typedef struct rm_loader_config {
    rm_part part;
    int32_t batch;             /* images a batch of this rank */
    int32_t px;                /* output size */
    int32_t resize;            /* RM_VAL: shorter side */
    int32_t workers;           /* 0: one per core available */
    int32_t depth;             /* batches in the ring; 0: 4 */
    uint64_t seed;
    int32_t rank, ranks;       /* shard: global batch k of the epoch is positions [k*batch*ranks, ...), rank r takes its r-th part */
    bool    shuffle;           /* train: true */
    bool    drop_last;         /* train: true; val: false, the last batches are short and every sample comes exactly once */
    int32_t group;             /* with drop_last: batches of one optimiser step; what is left of an epoch is dropped too. 0: 1 */
    uint64_t start_epoch, start_batch; /* resume: the very next batch */
    uint64_t max_batches;      /* 0: endless over epochs (train) or one pass (val) */
    rm_crop_params crop;
    /* A bad image stops the run with FAIL. Otherwise it is listed (rm_loader_bad) and, in training, another takes its place,
     * so that batches stay full: with SKIP the one at the same place of the next batch, with SUBSTITUTE any. In evaluation
     * SKIP leaves it out and the batch is shorter. More than max_bad_share of the part's images (but one is never too
     * many unless the share is 0): RM_E_FORMAT. What takes whose place depends on (seed, epoch, position) alone. */
    rm_bad_policy bad; double max_bad_share;
    uint64_t inject_ns;        /* sleep added per batch by the producer (tests of the attribution) */
} rm_loader_config;
typedef struct rm_batch {
    uint8_t  *image;           /* (n, px, px, 3) RGB, not flipped */
    uint8_t  *flip;            /* (n) 0/1 */
    int32_t  *label;           /* (n); -1 never appears */
    uint32_t *index;           /* (n) sample index */
    int32_t   n;               /* == batch except in the last of a val pass */
    uint64_t  epoch, number;   /* number within the epoch */
    uint64_t  decode_ns, resize_ns, read_ns; /* summed over the workers that built it */
} rm_batch;
typedef struct rm_loader rm_loader;
rm_status rm_loader_open(const rm_dataset *ds, const rm_loader_config *cfg, rm_loader **out) RM_CHECKED;
/* Next batch, valid until rm_loader_release(); *out = NULL at the end of a bounded pass. Blocks; wait_ns is the time
 * spent waiting ("input stall"). A slot of the ring stays the caller's until released, so the device may read it. */
rm_status rm_loader_next(rm_loader *l, rm_batch **out, uint64_t *wait_ns) RM_CHECKED;
void      rm_loader_release(rm_loader *l, rm_batch *b);
typedef struct rm_loader_stats { uint64_t images, batches, decode_ns, resize_ns, read_ns, consumer_wait_ns, producer_wait_ns, bad; } rm_loader_stats;
void      rm_loader_get_stats(rm_loader *l, rm_loader_stats *out);
/* Bad files met so far: path and reason. Valid until close. */
uint32_t  rm_loader_bad(rm_loader *l, uint32_t i, const char **path, const char **reason);
/* Finished batches in the ring. */
int32_t   rm_loader_ready(rm_loader *l);
/* A lane a worker, "input worker K": what it reads, what it decodes and resizes (strip by strip, hence one span), with the sample's index;
 * and waiting for room in the ring. Room for some `batches`. NULL: stop. Nothing is emitted once it returned from that, nor while paused. The
 * trace is the caller's. */
rm_status rm_loader_set_trace(rm_loader *l, rm_trace *t, uint64_t batches) RM_CHECKED;
void      rm_loader_pause_trace(rm_loader *l, bool paused);
void      rm_loader_close(rm_loader *l);
/* Batches an epoch of this shard has. */
uint64_t  rm_loader_batches_per_epoch(const rm_dataset *ds, const rm_loader_config *cfg);

/* ---- whole folders */
typedef struct rm_check_report { uint64_t files, ok, bad, warned; } rm_check_report; /* warned: of the ok ones, damaged data libjpeg put up with */
/* Decodes every file with `threads` threads; fn is called (serialised) for each bad file. */
rm_status rm_dataset_check(const char *dir, int32_t threads, void (*fn)(void *ctx, const char *path, const char *reason), void *ctx, rm_check_report *out) RM_CHECKED;
/* Fashion-MNIST (idx .gz files of Debian's dataset-fashion-mnist in `src`) as JPEG folders in dir: 32 x 32, quality 95,
 * the 28 x 28 image centred on black, RGB from grey. Complete or not at all: written to DIR.tmp and renamed. limit 0: all. */
rm_status rm_fashion_make(const char *src, const char *dir, uint32_t limit_train, uint32_t limit_val, int32_t threads) RM_CHECKED;
#endif
