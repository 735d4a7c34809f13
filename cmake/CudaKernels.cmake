# The own CUDA kernels (kernels/cuda/*.cu): compiled by nvcc for the GPUs, and by clang++ for the emulator of tests/cuda/emu.
# Included by Cuda.cmake; sets nothing where the toolkit or clang++ is missing, and the build goes on.
#   rm_cuda_kernels        static library of the launchers, with nvcc
#   rm_cuda_emulated       shared library of the same launchers for the emulator, with clang++ and the toolkit's headers
file(GLOB RM_CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cu)
file(GLOB rm_cuda_headers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cuda/*.cuh ${CMAKE_SOURCE_DIR}/kernels/cuda/kernels.h)
set(RM_CUDA_ARCHITECTURES 80 90 100 CACHE STRING "GPUs that nvcc compiles for; PTX of the last goes with them")
set(RM_CUDA_EMULATE_FLAGS -Wall -Werror -Wno-pass-failed CACHE STRING "More options for the emulated kernels: which warnings are errors")
mark_as_advanced(RM_CUDA_EMULATE_FLAGS)
find_program(RM_CLANGXX NAMES clang++ clang++-19 clang++-18 clang++-17 clang++-16 clang++-15 clang++-14 DOC "clang++ for the emulated kernels")

# A compiler that cannot do a two-line file (no host compiler it likes, an architecture it does not know) is one that is missing.
function(ringmark_try_compiler name suffix) # NAME_WORKS: whether the command given compiles a file with the toolkit's headers
  if(DEFINED ${name}_WORKS AND "${${name}_TRIED}" STREQUAL "${ARGN}")
    return()
  endif()
  set(file ${CMAKE_BINARY_DIR}/cuda/try.${suffix})
  file(WRITE ${file} "#include <cuda_bf16.h>\n#include <type_traits>\nint rm_try(void) { return std::is_integral<int>::value; }\n")
  execute_process(COMMAND ${ARGN} -c ${file} -o ${file}.o RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(failed)
    string(STRIP "${said}" said)
    string(REGEX REPLACE "\n.*" "" said "${said}")
    message(STATUS "kernels/cuda: ${name} is left out: ${said}")
    set(${name}_WORKS OFF CACHE INTERNAL "")
  else()
    set(${name}_WORKS ON CACHE INTERNAL "")
  endif()
  set(${name}_TRIED "${ARGN}" CACHE INTERNAL "")
endfunction()

if(NOT RM_CUDA STREQUAL "OFF" AND CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE)
  set(gencode "")
  foreach(arch ${RM_CUDA_ARCHITECTURES})
    list(APPEND gencode -gencode arch=compute_${arch},code=sm_${arch})
  endforeach()
  list(GET RM_CUDA_ARCHITECTURES -1 last)
  list(APPEND gencode -gencode arch=compute_${last},code=compute_${last})
  ringmark_try_compiler(nvcc cu ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++17 ${gencode})
endif()
if(nvcc_WORKS AND CUDAToolkit_FOUND AND NOT RM_CUDA STREQUAL "OFF")
  set(objects "")
  set(RM_CUDA_PTXAS_REPORTS "")
  set(RM_CUDA_PTX "")
  foreach(source ${RM_CUDA_KERNELS})
    get_filename_component(name ${source} NAME_WE)
    set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
    # ptxas writes what each kernel uses to stderr; cuda.ptxas reads it. What ptxas got is kept: cuda.ptx runs it.
    add_custom_command(OUTPUT ${object} ${object}.ptxas
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda/kept
      COMMAND sh -c "\"$@\" 2> \"$0\" || { cat \"$0\"; exit 1; }" ${object}.ptxas
              ${CUDAToolkit_NVCC_EXECUTABLE} -std=c++17 -O3 -lineinfo -I ${CMAKE_SOURCE_DIR} --Werror all-warnings -Xcompiler -Wall,-Wextra
              ${gencode} -Xptxas -v --keep --keep-dir ${CMAKE_BINARY_DIR}/cuda/kept -c ${source} -o ${object}
      COMMAND find ${CMAKE_BINARY_DIR}/cuda/kept -name ${name}.* ! -name *.ptx -delete
      DEPENDS ${source} ${rm_cuda_headers} VERBATIM COMMENT "nvcc ${name}.cu")
    list(APPEND objects ${object})
    list(APPEND RM_CUDA_PTXAS_REPORTS ${object}.ptxas)
    list(APPEND RM_CUDA_PTX ${CMAKE_BINARY_DIR}/cuda/kept/${name}.compute_ARCHITECTURE.ptx)
  endforeach()
  add_library(rm_cuda_kernels STATIC ${objects})
  set_target_properties(rm_cuda_kernels PROPERTIES LINKER_LANGUAGE C)
  target_include_directories(rm_cuda_kernels PUBLIC ${CMAKE_SOURCE_DIR})
  target_include_directories(rm_cuda_kernels SYSTEM PUBLIC ${CUDAToolkit_INCLUDE_DIRS})
  target_link_libraries(rm_cuda_kernels PUBLIC CUDA::cudart stdc++)
endif()

# The emulator has checkers of its own, whose __tsan_* hooks cannot live beside libtsan: a build with sanitizers would only run them again.
if(NOT RM_CUDA STREQUAL "OFF" AND CUDAToolkit_FOUND AND RM_CLANGXX AND NOT RM_SANITIZE)
  set(RM_EMULATOR_DIR ${CMAKE_SOURCE_DIR}/tests/cuda/emu)
  set(RM_CUDA_EMULATE ${RM_CLANGXX} -std=c++17 -O1 -g -fPIC -fsanitize=thread -mllvm -tsan-instrument-read-before-write=1 -fno-exceptions -fno-rtti
      ${RM_CUDA_EMULATE_FLAGS} -I ${CMAKE_SOURCE_DIR})
  foreach(dir ${CUDAToolkit_INCLUDE_DIRS})
    list(APPEND RM_CUDA_EMULATE -isystem ${dir})
  endforeach()
  ringmark_try_compiler(clang++ cpp ${RM_CUDA_EMULATE})
  list(APPEND RM_CUDA_EMULATE -include ${RM_EMULATOR_DIR}/shim.h -x c++)
endif()
if(RM_CUDA_EMULATE AND clang++_WORKS)
  set(RM_CUDA_EMULATE_LINK ${RM_CLANGXX} -shared -Wl,--wrap=memcpy,--wrap=memset)
  function(ringmark_emulated name out) # library NAME of the .cu files given, for the emulator; `out`: its path
    set(objects "")
    foreach(source ${ARGN})
      get_filename_component(base ${source} NAME_WE)
      set(object ${CMAKE_BINARY_DIR}/cuda/emulated/${base}.o)
      add_custom_command(OUTPUT ${object}
        COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/cuda/emulated
        COMMAND ${RM_CUDA_EMULATE} -c ${source} -o ${object}
        DEPENDS ${source} ${rm_cuda_headers} ${RM_EMULATOR_DIR}/shim.h VERBATIM COMMENT "clang++ ${base}.cu for the emulator")
      list(APPEND objects ${object})
    endforeach()
    set(library ${CMAKE_BINARY_DIR}/cuda/emulated/lib${name}.so)
    add_custom_command(OUTPUT ${library} COMMAND ${RM_CUDA_EMULATE_LINK} -Wl,-soname,lib${name}.so -o ${library} ${objects} -lm
                       DEPENDS ${objects} VERBATIM COMMENT "lib${name}.so")
    add_custom_target(${name} ALL DEPENDS ${library})
    set(${out} ${library} PARENT_SCOPE)
  endfunction()
  ringmark_emulated(rm_cuda_emulated RM_CUDA_EMULATED ${RM_CUDA_KERNELS})
endif()
