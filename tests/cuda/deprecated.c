/* Must not compile: a legacy call, under the options of kernels/cuda. */
#include <cudnn.h>
int main(void) { return cudnnSetConvolution2dDescriptor(0, 1, 1, 1, 1, 1, 1, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT) != CUDNN_STATUS_SUCCESS; }
