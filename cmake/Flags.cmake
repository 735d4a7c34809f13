# Warnings, sanitizers and fuzzing, for every target.
add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wformat=2
                    -Wno-unused-parameter -ffp-contract=on -fno-math-errno)
if(RM_WERROR)
  # maybe-uninitialized is a guess of gcc's optimiser, another one in every version.
  add_compile_options(-Werror $<$<C_COMPILER_ID:GNU>:-Wno-error=maybe-uninitialized>)
endif()
if(RM_SANITIZE)
  add_compile_options(-fsanitize=${RM_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${RM_SANITIZE})
endif()
if(RM_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "RM_FUZZ needs clang (libFuzzer): pass -D CMAKE_C_COMPILER=clang")
  endif()
  add_compile_options(-fsanitize=fuzzer-no-link)
endif()
