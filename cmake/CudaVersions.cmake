# Whether NVIDIA's headers that were found are new enough: those of an older version must leave the device out with the reason, not break the build.
# Included by Cuda.cmake. Asked of the headers themselves, once for each folder: what a version calls itself is only for the message.
include(CheckCSourceCompiles)

# OUT: whether a file that includes HEADER from the folders DIRS compiles with the expression EXPRESSION in it.
function(ringmark_headers_have out header expression)
  set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
  set(CMAKE_REQUIRED_INCLUDES ${ARGN})
  set(CMAKE_REQUIRED_FLAGS "-w")
  set(CMAKE_REQUIRED_QUIET ON)
  set(asked "${header};${expression};${ARGN}")
  if(NOT "${${out}_ASKED}" STREQUAL "${asked}")
    unset(${out} CACHE)
  endif()
  check_c_source_compiles("#include <${header}>\nunsigned long rm_try(void) { return (unsigned long)(${expression}); }" ${out})
  set(${out}_ASKED "${asked}" CACHE INTERNAL "")
endfunction()

# OUT: "9.5", as FILE's macros MAJOR and MINOR say; "a version unknown" where they do not.
function(ringmark_header_version out file major minor)
  set(${out} "a version unknown" PARENT_SCOPE)
  if(NOT EXISTS "${file}")
    return()
  endif()
  file(STRINGS "${file}" lines REGEX "^#define[ \t]+(${major}|${minor})[ \t]+[0-9]+")
  if("${lines}" MATCHES "${major}[ \t]+([0-9]+)")
    set(version ${CMAKE_MATCH_1})
    if("${lines}" MATCHES "${minor}[ \t]+([0-9]+)")
      set(${out} "${version}.${CMAKE_MATCH_1}" PARENT_SCOPE)
    endif()
  endif()
endfunction()

# OUT: what is wrong with cuDNN's headers in DIR, with the CUDA toolkit's in the folders that follow; empty where nothing is.
function(ringmark_cudnn_too_old out dir)
  ringmark_headers_have(RM_CUDNN_DESCRIBES_GPUS cudnn_graph.h "CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR + CUDNN_ATTR_ENGINEHEUR_DEVICEPROP + CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP"
                        ${dir} ${ARGN})
  set(${out} "" PARENT_SCOPE)
  if(NOT RM_CUDNN_DESCRIBES_GPUS)
    ringmark_header_version(version ${dir}/cudnn_version.h CUDNN_MAJOR CUDNN_MINOR)
    set(${out} "cuDNN 9.8 or later (${version} is in ${dir})" PARENT_SCOPE)
  endif()
endfunction()

# Likewise NCCL: communicators that do not block, and what they say of themselves.
function(ringmark_nccl_too_old out dir)
  ringmark_headers_have(RM_NCCL_NONBLOCKING nccl.h "sizeof(ncclConfig_t) + ncclInProgress + ncclRemoteError + (ncclCommFinalize != 0) + (ncclCommInitRankConfig != 0)" ${dir} ${ARGN})
  set(${out} "" PARENT_SCOPE)
  if(NOT RM_NCCL_NONBLOCKING)
    ringmark_header_version(version ${dir}/nccl.h NCCL_MAJOR NCCL_MINOR)
    set(${out} "${version} in ${dir} has no communicators that do not block" PARENT_SCOPE)
  endif()
endfunction()

# Likewise CUPTI, whose records' structs have a number that grows with the toolkit.
function(ringmark_cupti_too_old out dir)
  ringmark_headers_have(RM_CUPTI_RECORDS cupti.h
                        "sizeof(CUpti_ActivityKernel10) + sizeof(CUpti_ActivityMemcpy6) + sizeof(CUpti_ActivityMemset4) + sizeof(CUpti_ActivityOverhead3) + CUPTI_ACTIVITY_ATTR_ZEROED_OUT_ACTIVITY_BUFFER"
                        ${dir} ${ARGN})
  set(${out} "" PARENT_SCOPE)
  if(NOT RM_CUPTI_RECORDS)
    set(${out} "the one in ${dir} has other records than CUDA 13.0's" PARENT_SCOPE)
  endif()
endfunction()
