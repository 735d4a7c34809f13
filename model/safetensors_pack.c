/* Tensors to write whose values lie elsewhere, as doubles. */
#include "model/checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rm_status rm_st_pack_new(uint32_t room, rm_st_pack *out)
{
    *out = (rm_st_pack){ .room = room, .t = calloc(room, sizeof *out->t), .name = calloc(room, sizeof *out->name) };
    return out->t && out->name ? RM_OK : rm_fail(RM_E_NOMEM, "out of memory for %u tensors", room);
}

void rm_st_pack_free(rm_st_pack *p)
{
    for (uint32_t i = 0; i < p->n; i++) free((void *)(uintptr_t)p->t[i].data);
    free(p->t);
    free(p->name);
    memset(p, 0, sizeof *p);
}

static void add(rm_st_pack *p, rm_st_tensor t, const char *name)
{
    RM_ASSERT(p->n < p->room && strlen(name) < sizeof p->name[0]);
    snprintf(p->name[p->n], sizeof p->name[0], "%s", name);
    t.name = p->name[p->n];
    p->t[p->n++] = t;
}

rm_status rm_st_pack_real(rm_st_pack *p, const char *name, bool wide, int32_t n_dim, const int64_t *dim, const double *v, double scale)
{
    rm_st_tensor t = { .dtype = wide ? "F64" : "F32", .n_dim = n_dim };
    uint64_t count = 1;
    for (int32_t i = 0; i < n_dim; i++) count *= (uint64_t)(t.dim[i] = dim[i]);
    t.bytes = count * (wide ? sizeof(double) : sizeof(float));
    void *data = malloc(t.bytes);
    if (!data) return rm_fail(RM_E_NOMEM, "out of memory for the tensor %s", name);
    for (uint64_t i = 0; i < count; i++) {
        if (wide) ((double *)data)[i] = v[i] * scale;
        else ((float *)data)[i] = (float)(v[i] * scale);
    }
    t.data = data;
    add(p, t, name);
    return RM_OK;
}

rm_status rm_st_pack_i64(rm_st_pack *p, const char *name, int64_t value)
{
    int64_t *data = malloc(sizeof *data);
    if (!data) return rm_fail(RM_E_NOMEM, "out of memory for the tensor %s", name);
    *data = value;
    add(p, (rm_st_tensor){ .dtype = "I64", .data = data, .bytes = sizeof *data }, name);
    return RM_OK;
}
