# The library as a user gets it: installed into a folder of its own, with nothing exported but what rwpm.h declares, and
# a program that finds it by find_package. Variables: build, source, work, walk_case, generator, c_compiler, nm.
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE status OUTPUT_VARIABLE text ERROR_VARIABLE text)
  if(status)
    message(FATAL_ERROR "${ARGV}: exit status ${status}\n${text}")
  endif()
  set(text "${text}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work})
run(${CMAKE_COMMAND} --install ${build} --component runtime --prefix ${work}/prefix)

file(GLOB_RECURSE library ${work}/prefix/*/librwpm.so)
file(STRINGS ${work}/prefix/include/rwpm.h declared REGEX "^RWPM_API ")
list(TRANSFORM declared REPLACE "^RWPM_API .*[ *](rwpm_[a-z_]+)\\(.*" "\\1")
list(SORT declared)
run(${nm} -D --defined-only --format=posix ${library})
string(REGEX MATCHALL "[^\n ]+ [A-Z] " exported "${text}")
list(TRANSFORM exported REPLACE " .*" "")
list(SORT exported)
if(NOT exported STREQUAL declared)
  message(FATAL_ERROR "librwpm.so exports ${exported}; rwpm.h declares ${declared}")
endif()

# Outside the package the program finds npy.h alone, so that rwpm.h is the installed one.
run(${CMAKE_COMMAND} -S ${source}/walk_embeddings -B ${work}/program -G ${generator} -DCMAKE_C_COMPILER=${c_compiler}
    -DCMAKE_PREFIX_PATH=${work}/prefix "-DCMAKE_C_FLAGS=-Wall -Wextra -pedantic -Werror")
run(${CMAKE_COMMAND} --build ${work}/program)
set(program ${work}/program/walk_embeddings)
set(options ${work}/embeddings.npy ${work}/walked.npy --values ${work}/values.npy --mask ${work}/mask.npy --alpha 0.9
            --steps 5 --temperature 0.02 --anchor-share 0.1)
run(${walk_case} write ${work})
run(${program} ${options} --threads 2 --repeat 3)
if(NOT text MATCHES "pixels, [0-9]+ pairs, exact, .*first [0-9.]+ ms, then median [0-9.]+ ms, p95 [0-9.]+ ms of 2")
  message(FATAL_ERROR "walk_embeddings prints: ${text}")
endif()
run(${walk_case} compare ${work}/walked.npy)

# A line that names what is wrong, and no file.
file(REMOVE ${work}/walked.npy)
function(refuse expected)
  execute_process(COMMAND ${program} ${options} ${ARGN} RESULT_VARIABLE status OUTPUT_QUIET ERROR_VARIABLE text)
  if(NOT status EQUAL 1 OR NOT text STREQUAL "walk_embeddings: ${expected}\n" OR EXISTS ${work}/walked.npy)
    message(FATAL_ERROR "${ARGN}: exit status ${status}, ${text}")
  endif()
endfunction()
refuse("alpha: expected a number in [0, 1], got 2" --alpha 2)
refuse("--steps: expected an integer in [0, 1000000], got 'many'" --steps many)
refuse("unknown option --speed; see --help" --speed 9)
refuse("${work}/values.npy: expected bool [N], got float32 of 2 dimensions" --mask ${work}/values.npy)
refuse("${work}/none.npy: cannot be read: No such file or directory" --values ${work}/none.npy)
