# Settings every target shares, and the functions that declare libraries and tests.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)

find_program(CCACHE ccache)
if(CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(lategrad_settings INTERFACE)
target_include_directories(lategrad_settings INTERFACE ${CMAKE_SOURCE_DIR})
# -ffp-contract=off: a multiplication and an addition stay two roundings, so that every SIMD target has the same bits.
# Designated initializers leave fields at their defaults on purpose; GCC 12 takes parts of a std::variant that is moved
# for uninitialized.
target_compile_options(lategrad_settings INTERFACE -Wall -Wextra -Wpedantic -Werror -Wno-missing-field-initializers
                                                   $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized> -ffp-contract=off)
target_link_libraries(lategrad_settings INTERFACE Threads::Threads)
if(LATEGRAD_SANITIZE)
    target_compile_options(lategrad_settings INTERFACE -fsanitize=${LATEGRAD_SANITIZE} -fno-omit-frame-pointer
                                                       -fno-sanitize-recover=all -g1)
    target_link_options(lategrad_settings INTERFACE -fsanitize=${LATEGRAD_SANITIZE})
    target_compile_options(lategrad_settings INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
endif()

# lategrad_library(core SOURCES a.cpp DEPENDS other PUBLIC lib PRIVATE lib)
# DEPENDS names folders of lategrad/; they are the only ones this folder may include (tests/layout checks it).
# INTERFACE libraries (headers alone) have no SOURCES.
function(lategrad_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PUBLIC;PRIVATE" ${ARGN})
    list(TRANSFORM ARG_DEPENDS PREPEND "lategrad::")
    if(ARG_SOURCES)
        add_library(lategrad_${name} STATIC ${ARG_SOURCES})
        target_link_libraries(lategrad_${name} PUBLIC lategrad_settings ${ARG_DEPENDS} ${ARG_PUBLIC}
                                               PRIVATE ${ARG_PRIVATE})
    else()
        add_library(lategrad_${name} INTERFACE)
        target_link_libraries(lategrad_${name} INTERFACE lategrad_settings ${ARG_DEPENDS} ${ARG_PUBLIC})
    endif()
    add_library(lategrad::${name} ALIAS lategrad_${name})
endfunction()

# lategrad_test(core SOURCES a_test.cpp DEPENDS core PRIVATE lib): the program test_core, one CTest case per test in it.
function(lategrad_test name)
    cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE;PROPERTIES" ${ARGN})
    list(TRANSFORM ARG_DEPENDS PREPEND "lategrad::")
    add_executable(test_${name} ${ARG_SOURCES})
    target_link_libraries(test_${name} PRIVATE lategrad_settings ${ARG_DEPENDS} ${ARG_PRIVATE} GTest::gmock_main)
    target_compile_definitions(test_${name} PRIVATE LATEGRAD_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    gtest_discover_tests(test_${name} TEST_PREFIX "${name}/" DISCOVERY_TIMEOUT 120
                         PROPERTIES TIMEOUT 300 ENVIRONMENT "RC_PARAMS=seed=1" ${ARG_PROPERTIES})
endfunction()
