/// What the server of a run tells `lategrad launch mpi`, by a file: mpirun --enable-recovery ends with status 0
/// whatever became of the run, and gives a run that is interrupted a second to end.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>

namespace lategrad {

struct ServerWord {
    pid_t process = 0;
    std::optional<int> status; ///< its exit status, once the run is over
};

/// The variable that names the file to rank 0.
inline constexpr const char* kServerWordVariable = "LATEGRAD_SERVER_WORD";

/// Says that this process serves, or with which status it ends. Does nothing where `lategrad launch` did not start it
/// or it is not rank 0. A file that cannot be written is as good as none.
void tell_launch(std::optional<int> status = std::nullopt);

/// Nothing where there is no word yet.
std::optional<ServerWord> read_server_word(const std::filesystem::path& file);

} // namespace lategrad
