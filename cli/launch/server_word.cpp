#include "cli/launch/server_word.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/files/file.h"
#include "lategrad/transport/mpi_launch.h"

namespace lategrad {

void tell_launch(std::optional<int> status) {
    const char* file = std::getenv(kServerWordVariable);
    const auto launch = mpi_launch();
    if (!file || !launch || launch->rank != 0) return;
    try {
        write_file_atomically(file, fmt::format("{} {}\n", ::getpid(), status ? std::to_string(*status) : "serves"));
    } catch (const EnvironmentError&) { // on another machine than the launcher's there is no such folder
    }
}

std::optional<ServerWord> read_server_word(const std::filesystem::path& file) {
    ServerWord word;
    std::ifstream in(file);
    if (!(in >> word.process)) return std::nullopt;
    int status = 0;
    if (in >> status) word.status = status;
    return word;
}

} // namespace lategrad
