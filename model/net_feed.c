/* Feed: the next batch travels to the device while this one is computed. */
#include "model/net_feed.h"
#include "model/net_private.h"
#include <stdlib.h>
#include <string.h>

struct rm_feed {
    rm_net   *net;
    rm_queue *queue;
    rm_buf   *host;               /* page-locked: images, flips, labels */
    rm_mark  *arrived, *consumed; /* the batch is on the device; the network has read all of it */
    size_t    image, flip, label; /* bytes */
    bool      full;
};

static rm_status open_parts(rm_feed *f)
{
    rm_device *d = f->net->device;
    RM_TRY(rm_queue_new(d, &f->queue));
    RM_TRY(rm_mark_new(d, &f->arrived));
    RM_TRY(rm_mark_new(d, &f->consumed));
    return rm_buf_alloc(d, RM_MEM_PINNED, f->image + f->flip + f->label, &f->host);
}

rm_status rm_feed_new(rm_net *net, rm_feed **out)
{
    const rm_shape s = net->graph->image;
    RM_ASSERT(net->cfg.training && !net->cfg.input_f32);
    rm_feed *f = calloc(1, sizeof *f);
    if (!f) return rm_fail(RM_E_NOMEM, "out of memory for the copy of batches");
    f->net = net;
    f->image = (size_t)s.n * (size_t)s.h * (size_t)s.w * 3;
    f->label = (size_t)s.n * sizeof(int32_t);
    f->flip = (size_t)s.n;
    const rm_status st = open_parts(f);
    if (st == RM_OK) *out = f;
    else rm_feed_free(f);
    return st;
}

void rm_feed_free(rm_feed *f)
{
    if (!f) return;
    rm_device *d = f->net->device;
    if (f->queue) (void)!rm_device_sync(d, f->queue);
    rm_buf_free(d, f->host);
    rm_mark_free(d, f->arrived);
    rm_mark_free(d, f->consumed);
    rm_queue_free(d, f->queue);
    free(f);
}

bool rm_feed_full(const rm_feed *f) { return f->full; }
void rm_feed_drop(rm_feed *f) { f->full = false; }

static rm_status copy(rm_feed *f, int32_t tensor, size_t offset, size_t bytes)
{
    return rm_device_write(f->net->device, f->queue, f->net->tensor[tensor].ref, (char *)rm_buf_host(f->host) + offset, bytes);
}

rm_status rm_feed_put(rm_feed *f, const rm_batch *b)
{
    rm_net *net = f->net;
    rm_device *d = net->device;
    RM_ASSERT(!f->full && b->n == net->graph->image.n);
    RM_TRY(rm_device_sync(d, f->queue)); /* the batch before has left the host's memory */
    char *host = rm_buf_host(f->host);
    memcpy(host, b->image, f->image);
    memcpy(host + f->image, b->label, f->label);
    memcpy(host + f->image + f->label, b->flip, f->flip);
    net->copy.info.bytes_written = f->image + f->label + f->flip;
    RM_TRY(rm_mark_wait(d, f->queue, f->consumed));
    RM_TRY(rm_net_begin_copy(net, f->queue));
    RM_TRY(copy(f, net->input, 0, f->image));
    RM_TRY(copy(f, net->label, f->image, f->label));
    RM_TRY(copy(f, net->flip, f->image + f->label, f->flip));
    RM_TRY(rm_net_end_copy(net, f->queue));
    RM_TRY(rm_mark_set(d, f->queue, f->arrived));
    f->full = true;
    return RM_OK;
}

rm_status rm_feed_take(rm_feed *f)
{
    RM_ASSERT(f->full);
    f->full = false;
    return rm_mark_wait(f->net->device, NULL, f->arrived);
}

rm_status rm_feed_consumed(rm_feed *f) { return rm_mark_set(f->net->device, NULL, f->consumed); }
rm_status rm_feed_finish(rm_feed *f) { return rm_device_sync(f->net->device, f->queue); }
