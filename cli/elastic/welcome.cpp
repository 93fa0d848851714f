#include "cli/elastic/welcome.h"

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <system_error>

#include <fmt/format.h>

#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/files/file.h"

namespace lategrad {

std::vector<std::byte> to_bytes(const Welcome& welcome) {
    const std::uint64_t config_bytes = welcome.config.size();
    std::vector<std::byte> bytes(sizeof config_bytes + welcome.config.size() + welcome.model.size());
    std::memcpy(bytes.data(), &config_bytes, sizeof config_bytes);
    std::memcpy(bytes.data() + sizeof config_bytes, welcome.config.data(), welcome.config.size());
    if (!welcome.model.empty()) {
        std::memcpy(bytes.data() + sizeof config_bytes + config_bytes, welcome.model.data(), welcome.model.size());
    }
    return bytes;
}

Welcome parse_welcome(std::span<const std::byte> bytes) {
    std::uint64_t config_bytes = 0;
    const bool has_length = bytes.size() >= sizeof config_bytes;
    if (has_length) std::memcpy(&config_bytes, bytes.data(), sizeof config_bytes);
    if (!has_length || config_bytes > bytes.size() - sizeof config_bytes) {
        throw InputError("the server's welcome is cut short");
    }
    const auto config = bytes.subspan(sizeof config_bytes, config_bytes);
    const auto model = bytes.subspan(sizeof config_bytes + config_bytes);
    return {.config = {reinterpret_cast<const char*>(config.data()), config.size()},
            .model = {model.begin(), model.end()}};
}

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
    RunOptions options = options_from_toml(scratch / "config.toml");
    if (!welcome.model.empty()) {
        const auto file = scratch / "model.pt";
        write_file_atomically(file, std::span<const std::byte>(welcome.model));
        options.model = file.string();
    }
    return options;
}

} // namespace lategrad
