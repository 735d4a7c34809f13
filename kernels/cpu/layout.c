/* Layout ids are oneDNN's format tags: id = RM_LAYOUT_PRIVATE + tag, so an id means the same in every process and a
 * frozen plan can name it. The two public layouts keep their public ids. */
#include "kernels/cpu/cpu.h"
#include <inttypes.h>

dnnl_data_type_t cpu_dnnl_type(rm_dtype t)
{
    static const dnnl_data_type_t type[RM_DTYPE_COUNT] = {
        [RM_F32] = dnnl_f32, [RM_BF16] = dnnl_bf16, [RM_F16] = dnnl_f16, [RM_U8] = dnnl_u8, [RM_I32] = dnnl_s32};
    return t < RM_DTYPE_COUNT ? type[t] : dnnl_data_type_undef;
}

static dnnl_format_tag_t tag_of(int32_t layout)
{
    if (layout == RM_LAYOUT_NCHW) return dnnl_abcd;
    if (layout == RM_LAYOUT_NHWC) return dnnl_acdb;
    if (layout < RM_LAYOUT_PRIVATE || layout - RM_LAYOUT_PRIVATE >= (int)dnnl_format_tag_last) return dnnl_format_tag_undef;
    return (dnnl_format_tag_t)(layout - RM_LAYOUT_PRIVATE);
}

int32_t cpu_tag_layout(dnnl_format_tag_t tag)
{
    if (tag == dnnl_abcd) return RM_LAYOUT_NCHW;
    if (tag == dnnl_acdb) return RM_LAYOUT_NHWC;
    return RM_LAYOUT_PRIVATE + (int32_t)tag;
}

int32_t cpu_blocked_layout(int block) { return cpu_tag_layout(block == 16 ? dnnl_nChw16c : dnnl_nChw8c); }

static dnnl_status_t make(const rm_tdesc *t, dnnl_format_tag_t tag, dnnl_memory_desc_t *out_md)
{
    dnnl_dims_t dims = {t->shape.n, t->shape.c, t->shape.h, t->shape.w};
    return dnnl_memory_desc_create_with_tag(out_md, 4, dims, cpu_dnnl_type(t->dtype), tag);
}

rm_status cpu_md(const rm_tdesc *t, dnnl_memory_desc_t *out_md)
{
    dnnl_format_tag_t tag = tag_of(t->layout);
    if (tag == dnnl_format_tag_undef || make(t, tag, out_md) != dnnl_success)
        return rm_fail(RM_E_UNSUPPORTED, "cpu: layout %" PRId32 " is not one of this device's; plan the op with the layout ANY", t->layout);
    return RM_OK;
}

rm_status cpu_layout_of(const_dnnl_memory_desc_t md, rm_shape shape, rm_dtype dtype, int32_t *out_layout)
{
    /* Those met in practice first; then every tag. */
    static const dnnl_format_tag_t usual[] = {dnnl_abcd, dnnl_ABcd8b8a, dnnl_ABcd8a8b, dnnl_nChw8c, dnnl_acdb, dnnl_Acdb8a,
                                              dnnl_nChw16c, dnnl_ABcd16b16a, dnnl_ABcd16a16b, dnnl_ABcd8b16a2b, dnnl_cdba};
    const rm_tdesc t = {shape, dtype, RM_LAYOUT_ANY};
    for (size_t i = 0; i < RM_COUNT(usual) + (size_t)dnnl_format_tag_last; i++) {
        dnnl_format_tag_t tag = i < RM_COUNT(usual) ? usual[i] : (dnnl_format_tag_t)(i - RM_COUNT(usual));
        dnnl_memory_desc_t try;
        if (tag == dnnl_format_tag_undef || tag == dnnl_format_tag_any || make(&t, tag, &try) != dnnl_success) continue;
        bool same = dnnl_memory_desc_equal(try, md);
        dnnl_memory_desc_destroy(try);
        if (!same) continue;
        *out_layout = cpu_tag_layout(tag);
        return RM_OK;
    }
    return rm_fail(RM_E_UNSUPPORTED, "cpu: oneDNN wants a layout that has no name");
}

size_t cpu_bytes(const rm_tdesc *t)
{
    dnnl_memory_desc_t md;
    if (t->shape.n <= 0) return 0;
    if (cpu_dnnl_type(t->dtype) == dnnl_data_type_undef) return rm_shape_count(t->shape) * rm_dtype_bytes(t->dtype);
    rm_tdesc plain = *t;
    if (plain.layout == RM_LAYOUT_ANY) plain.layout = RM_LAYOUT_NCHW;
    if (cpu_md(&plain, &md) != RM_OK) return 0;
    size_t bytes = dnnl_memory_desc_get_size(md);
    dnnl_memory_desc_destroy(md);
    return bytes;
}

uint64_t cpu_padded_count(const rm_tdesc *t) { return cpu_bytes(t) / rm_dtype_bytes(t->dtype); }

rm_tdesc cpu_as(rm_tdesc t, rm_dtype dtype, int32_t layout)
{
    t.dtype = dtype;
    t.layout = layout;
    return t;
}

/* Channels that own kernels may treat as one group in NHWC: the most that one vector set can hold in a run. */
static int nhwc_width(int c)
{
    for (int width = CPU_VEC_MAX_WIDTH; width >= 4; width /= 2)
        if (c % width == 0 && cpu_vec_for(width)) return width;
    return 0;
}

bool cpu_geometry(const cpu_device *d, const rm_tdesc *t, cpu_geom *out_geom)
{
    const rm_shape s = t->shape;
    const size_t pixels = (size_t)s.h * (size_t)s.w;
    int block = t->layout == cpu_blocked_layout(8) ? 8 : t->layout == cpu_blocked_layout(16) ? 16 : 0;
    int width = block ? block : t->layout == RM_LAYOUT_NHWC ? nhwc_width(s.c) : 0;
    if (!width) return false;
    const int groups = (s.c + width - 1) / width;
    const size_t p_stride = block ? (size_t)block : (size_t)s.c;
    *out_geom = (cpu_geom){.n = s.n, .c = s.c, .h = s.h, .w = s.w, .width = width, .groups = groups, .p_stride = p_stride,
                           .g_stride = block ? (size_t)block * pixels : (size_t)width,
                           .n_stride = block ? (size_t)groups * (size_t)block * pixels : pixels * (size_t)s.c,
                           .vec = cpu_vec_for(width)};
    return true;
}

int32_t cpu_activation_layout(const cpu_device *d, const rm_tdesc *t)
{
    cpu_geom g;
    return cpu_geometry(d, t, &g) ? t->layout : cpu_blocked_layout(d->block);
}
