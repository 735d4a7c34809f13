/* What a kernel is called in a trace. */
#ifndef RM_KERNEL_NAME_H
#define RM_KERNEL_NAME_H
#include <stddef.h>

/* The name of a C++ symbol of the Itanium ABI with its namespaces, without template arguments and parameters: "_ZN4rmbn5applyIfLi4EEEvPKf" is
 * "rmbn::apply", and so is "void rmbn::apply<float, 4>(float const*)". Other text is kept as it is. What does not fit is cut. size > 0. */
void rm_kernel_name(const char *symbol, char *out, size_t size);
#endif
