/* Builds without CUPTI. */
#include "profiler/cupti.h"

bool rm_cupti_in_build(void) { return false; }

rm_status rm_cupti_open(rm_cupti **out)
{
    (void)out;
    return rm_fail(RM_E_UNSUPPORTED, "CUPTI is not in this build: it comes with the CUDA toolkit");
}

void rm_cupti_close(rm_cupti *c) { RM_ASSERT(!c); }
rm_status rm_cupti_pause(rm_cupti *c, bool paused)
{
    (void)c;
    (void)paused;
    RM_BUG("CUPTI is not in this build");
}
void rm_cupti_push(rm_cupti *c, rm_cupti_part part, uint32_t index)
{
    (void)c;
    (void)part;
    (void)index;
}
void rm_cupti_pop(rm_cupti *c) { (void)c; }
rm_status rm_cupti_flush(rm_cupti *c, rm_cupti_step *out)
{
    (void)c;
    (void)out;
    RM_BUG("CUPTI is not in this build");
}
const char *rm_cupti_name(const rm_cupti *c, uint32_t name)
{
    (void)c;
    (void)name;
    return "";
}
uint32_t rm_cupti_names(const rm_cupti *c)
{
    (void)c;
    return 0;
}
