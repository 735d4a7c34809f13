# cmake --install: relocatable. The program finds a oneDNN that came with the checkout beside itself, others by their own path.
include(GNUInstallDirs)
file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_BINDIR} /prefix/${CMAKE_INSTALL_LIBDIR}/ringmark)
set_target_properties(bench PROPERTIES INSTALL_RPATH "$ORIGIN/${up}" INSTALL_RPATH_USE_LINK_PATH ${RM_DNNL_OUTSIDE})
install(TARGETS bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
if(NOT RM_DNNL_OUTSIDE)
  file(REAL_PATH ${DNNL_LIBRARY} dnnl_file)
  install(FILES ${dnnl_file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/ringmark RENAME libdnnl.so.3
          PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
endif()
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR})

# Man page and completions are printed by the program from its own option table.
set(generated ${CMAKE_BINARY_DIR}/generated)
add_custom_command(OUTPUT ${generated}/bench.1 ${generated}/bench.bash ${generated}/_bench ${generated}/bench.fish
  COMMAND bench man > ${generated}/bench.1
  COMMAND bench completion bash > ${generated}/bench.bash
  COMMAND bench completion zsh > ${generated}/_bench
  COMMAND bench completion fish > ${generated}/bench.fish
  DEPENDS bench COMMENT "Man page and completions" VERBATIM)
add_custom_target(manual ALL DEPENDS ${generated}/bench.1)
install(FILES ${generated}/bench.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${generated}/bench.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME bench)
install(FILES ${generated}/_bench DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${generated}/bench.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
