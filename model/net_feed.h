/* Feed: the next batch travels to the device while this one is computed, on a queue of its own. For devices that work while the host goes
 * on (rm_device_info.async). Order of a step: put (unless full), take, the network's forward, consumed, put of the next batch, finish.
 * The network's inputs are written in place: a batch goes there once the forward before it has read them.
 * Threads: one at a time. Ownership: the net is the caller's and must outlive the feed. */
#ifndef RM_NET_FEED_H
#define RM_NET_FEED_H
#include "model/input/input.h"
#include "model/net.h"

typedef struct rm_feed rm_feed;
rm_status rm_feed_new(rm_net *net, rm_feed **out) RM_CHECKED;   /* a training net with u8 input */
void      rm_feed_free(rm_feed *f);                             /* NULL is fine. Sync */
bool      rm_feed_full(const rm_feed *f);
void      rm_feed_drop(rm_feed *f);                             /* the batch in it is nobody's */
/* The batch's contents are copied: it may be released when this returns. Waits for the copy of the batch before. */
rm_status rm_feed_put(rm_feed *f, const rm_batch *b) RM_CHECKED;
rm_status rm_feed_take(rm_feed *f) RM_CHECKED;                  /* later work on the compute queue sees the batch */
rm_status rm_feed_consumed(rm_feed *f) RM_CHECKED;              /* all work so far on the compute queue includes the last reader */
rm_status rm_feed_finish(rm_feed *f) RM_CHECKED;                /* waits until the last batch that was put is on the device */
#endif
