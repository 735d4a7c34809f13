#!/usr/bin/env bash
# Headers of NVIDIA's that are too old leave the device, NCCL or CUPTI out with the reason: cmake/CudaVersions.cmake over headers made up here.
source "${RM_SOURCE_DIR:?}/tests/cli/common.bash"
cat > CMakeLists.txt <<END
cmake_minimum_required(VERSION 3.18)
project(versions C)
include($RM_SOURCE_DIR/cmake/CudaVersions.cmake)
ringmark_cudnn_too_old(cudnn \${DIR} \${DIR})
ringmark_nccl_too_old(nccl \${DIR} \${DIR})
ringmark_cupti_too_old(cupti \${DIR} \${DIR})
message(STATUS "cudnn [\${cudnn}] nccl [\${nccl}] cupti [\${cupti}]")
END
mkdir old new
printf '#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 5\n' > old/cudnn_version.h
echo 'enum { CUDNN_BACKEND_ENGINE_DESCRIPTOR };' > old/cudnn_graph.h
echo 'enum { CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP };' > new/cudnn_graph.h
printf '#define NCCL_MAJOR 2\n#define NCCL_MINOR 11\n' > old/nccl.h
echo 'typedef int ncclConfig_t; enum { ncclInProgress, ncclRemoteError }; int ncclCommFinalize(void); int ncclCommInitRankConfig(void);' > new/nccl.h
echo 'typedef int CUpti_ActivityKernel9;' > old/cupti.h
echo 'typedef int CUpti_ActivityKernel10, CUpti_ActivityMemcpy6, CUpti_ActivityMemset4, CUpti_ActivityOverhead3; enum { CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER };' > new/cupti.h

# the same build folder throughout: an answer is kept for the folder that it was asked of, no longer
expect 0 'cudnn \[cuDNN 9.8 or later \(9.5 is in [^ ]*/old\)\] nccl \[2.11 in [^ ]*/old has no [^]]*\] cupti \[the one in [^ ]*/old has other records' cmake -S . -B build -D DIR="$PWD/old"
expect 0 'cudnn \[\] nccl \[\] cupti \[\]' cmake -S . -B build -D DIR="$PWD/new"
expect 0 'cudnn \[\] nccl \[\] cupti \[\]' cmake -S . -B build
expect 0 'cudnn \[cuDNN 9.8' cmake -S . -B build -D DIR="$PWD/old"
finish
