# Chooses the MPI by LATEGRAD_MPI. Afterwards, in every folder:
#   LATEGRAD_MPI_NAME  "Open MPI", "MPICH" or "none"
#   LATEGRAD_MPIRUN    the command that starts processes of this MPI here (append: -n 4 program …); empty without MPI
#   LATEGRAD_MPIRUN_PROGRAM  this MPI's mpirun alone, by its path
#   LATEGRAD_MPI_TEST_ENVIRONMENT  the ENVIRONMENT property of tests that use it
#   MPI::MPI_CXX       the target to link; does not exist without MPI

# Each one's name, Debian packages, and the word by which its mpirun --version is recognised.
set(lategrad_openmpi "Open MPI" "openmpi-bin libopenmpi-dev" "Open MPI")
set(lategrad_mpich "MPICH" "mpich libmpich-dev" "HYDRA")

# Debian's programs end in the name of their MPI; elsewhere there is one plain mpirun, which tells.
function(lategrad_find_mpi mpi)
    find_program(LATEGRAD_MPICXX_${mpi} mpicxx.${mpi})
    find_program(LATEGRAD_MPIRUN_${mpi} mpirun.${mpi})
    mark_as_advanced(LATEGRAD_MPICXX_${mpi} LATEGRAD_MPIRUN_${mpi})
    if(LATEGRAD_MPICXX_${mpi} AND LATEGRAD_MPIRUN_${mpi})
        return()
    endif()
    find_program(LATEGRAD_MPIRUN_plain mpirun)
    find_program(LATEGRAD_MPICXX_plain mpicxx)
    mark_as_advanced(LATEGRAD_MPICXX_plain LATEGRAD_MPIRUN_plain)
    if(NOT LATEGRAD_MPIRUN_plain OR NOT LATEGRAD_MPICXX_plain)
        return()
    endif()
    execute_process(COMMAND ${LATEGRAD_MPIRUN_plain} --version OUTPUT_VARIABLE version ERROR_QUIET)
    list(GET lategrad_${mpi} 2 word)
    if(version MATCHES "${word}")
        set(LATEGRAD_MPICXX_${mpi} ${LATEGRAD_MPICXX_plain} CACHE FILEPATH "" FORCE)
        set(LATEGRAD_MPIRUN_${mpi} ${LATEGRAD_MPIRUN_plain} CACHE FILEPATH "" FORCE)
    endif()
endfunction()

if(NOT LATEGRAD_MPI MATCHES "^(auto|openmpi|mpich|none)$")
    message(FATAL_ERROR "LATEGRAD_MPI=${LATEGRAD_MPI} is none of auto, openmpi, mpich, none")
endif()

set(lategrad_mpi_chosen none)
if(LATEGRAD_MPI STREQUAL "auto")
    set(lategrad_mpi_wanted openmpi mpich)
elseif(LATEGRAD_MPI STREQUAL "none")
    set(lategrad_mpi_wanted)
else()
    set(lategrad_mpi_wanted ${LATEGRAD_MPI})
endif()
foreach(mpi ${lategrad_mpi_wanted})
    lategrad_find_mpi(${mpi})
    if(LATEGRAD_MPICXX_${mpi} AND LATEGRAD_MPIRUN_${mpi})
        set(lategrad_mpi_chosen ${mpi})
        break()
    endif()
endforeach()
if(lategrad_mpi_chosen STREQUAL "none" AND LATEGRAD_MPI MATCHES "openmpi|mpich")
    list(GET lategrad_${LATEGRAD_MPI} 0 lategrad_mpi_name)
    list(GET lategrad_${LATEGRAD_MPI} 1 lategrad_mpi_packages)
    message(FATAL_ERROR "LATEGRAD_MPI=${LATEGRAD_MPI}, but the mpicxx and mpirun of ${lategrad_mpi_name} are not here: "
                        "apt-get install ${lategrad_mpi_packages}")
endif()

# MPI libraries leak from plug-ins unloaded before leaks are reported, so that no suppression can name them, and
# ThreadSanitizer does not see the locks inside them.
set(LATEGRAD_MPI_TEST_ENVIRONMENT ASAN_OPTIONS=detect_leaks=0 TSAN_OPTIONS=ignore_noninstrumented_modules=1
    CACHE INTERNAL "")
set(LATEGRAD_MPI_NAME none CACHE INTERNAL "")
set(LATEGRAD_MPIRUN "" CACHE INTERNAL "")
set(LATEGRAD_MPIRUN_PROGRAM "" CACHE INTERNAL "")
if(lategrad_mpi_chosen STREQUAL "none")
    message(STATUS "MPI: none")
    return()
endif()

# FindMPI keeps what it found; another choice starts anew.
if(NOT MPI_CXX_COMPILER STREQUAL LATEGRAD_MPICXX_${lategrad_mpi_chosen})
    get_cmake_property(lategrad_cached CACHE_VARIABLES)
    list(FILTER lategrad_cached INCLUDE REGEX "^MPI_|^FIND_PACKAGE_MESSAGE_DETAILS_MPI")
    foreach(variable ${lategrad_cached})
        unset(${variable} CACHE)
    endforeach()
    set(MPI_CXX_COMPILER ${LATEGRAD_MPICXX_${lategrad_mpi_chosen}} CACHE FILEPATH "The chosen MPI's compiler" FORCE)
endif()
set(MPI_CXX_SKIP_MPICXX TRUE CACHE BOOL "The C++ bindings were removed from MPI; we use C's" FORCE)
find_package(MPI REQUIRED COMPONENTS CXX)
set_target_properties(MPI::MPI_CXX PROPERTIES IMPORTED_GLOBAL TRUE)

list(GET lategrad_${lategrad_mpi_chosen} 0 lategrad_mpi_name)
set(LATEGRAD_MPI_NAME ${lategrad_mpi_name} CACHE INTERNAL "")
set(lategrad_mpirun ${LATEGRAD_MPIRUN_${lategrad_mpi_chosen}})
set(LATEGRAD_MPIRUN_PROGRAM ${lategrad_mpirun} CACHE INTERNAL "")
if(lategrad_mpi_chosen STREQUAL "openmpi")
    # Tests run as root in containers and with more processes than cores; each process has threads, which Open MPI would
    # otherwise bind to one core together.
    set(lategrad_mpirun ${CMAKE_COMMAND} -E env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
                        ${lategrad_mpirun} --oversubscribe --bind-to none)
endif()
set(LATEGRAD_MPIRUN "${lategrad_mpirun}" CACHE INTERNAL "")
message(STATUS "MPI: ${LATEGRAD_MPI_NAME} (${MPI_CXX_COMPILER})")
