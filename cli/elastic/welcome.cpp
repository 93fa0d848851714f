#include "cli/elastic/welcome.h"

#include <unistd.h>

#include <cstdlib>
#include <limits>
#include <random>
#include <system_error>

#include <fmt/format.h>

#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/files/file.h"

namespace lategrad {

Welcome welcome_of(const Problem& problem) {
    Welcome welcome{.config = to_toml(problem.job.options), .model = {}};
    const ModelSpec& model = problem.job.model;
    if (model.kind == ModelSpec::Kind::script) {
        welcome.model = read_file(model.file, std::numeric_limits<std::size_t>::max());
    }
    return welcome;
}

Traits traits_of(const Problem& problem) {
    const auto fingerprint = run_fingerprint(problem);
    Traits traits{{"lategrad", LATEGRAD_VERSION},
                  {"parameters", fmt::format("{}", problem.model->size())},
                  {"examples to train on", fmt::format("{}", problem.epoch_examples())}};
    for (const char* name : {"model", "training data"}) traits.emplace(name, fingerprint.at(name));
    return traits;
}

std::string host_name() {
    char name[256] = {}; // longer than any
    return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::uint64_t random_name() {
    std::random_device device;
    return (std::uint64_t{device()} << 32) | device();
}

ScratchFolder::ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "lategrad-XXXXXX").string();
    if (!::mkdtemp(name.data())) {
        throw EnvironmentError(
            fmt::format("{}: cannot make a folder: {}", name, std::generic_category().message(errno)));
    }
    path_ = name;
}

ScratchFolder::~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

RunOptions options_of(const Welcome& welcome, const std::filesystem::path& scratch) {
    write_file_atomically(scratch / "config.toml", welcome.config);
    return options_from_toml(scratch / "config.toml");
}

void take_model(const Welcome& welcome, const std::filesystem::path& scratch, RunOptions& options) {
    if (welcome.model.empty()) return;
    const auto file = scratch / "model.pt";
    write_file_atomically(file, std::span<const std::byte>(welcome.model));
    options.model = file.string();
}

} // namespace lategrad
