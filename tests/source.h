/* Where this checkout is: for test programs that may run elsewhere than where they were built (scripts/gpu-check says it in the environment). */
#ifndef RM_TEST_SOURCE_H
#define RM_TEST_SOURCE_H
#include <stdlib.h>

static inline const char *source_dir(void)
{
    const char *dir = getenv("RM_SOURCE_DIR");
    return dir && *dir ? dir : RM_SOURCE_DIR;
}
#endif
