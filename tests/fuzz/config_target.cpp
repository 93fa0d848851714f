/// Whatever file of options a command takes is the same options again when they are written as a run folder has them.
#include <algorithm>
#include <optional>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/config.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

/// One option of each kind.
struct Options {
    std::string model = "lenet";
    std::optional<std::uint64_t> updates;
    double lr = 0.05;
    bool quiet = false;
    std::vector<std::string> codecs;
    std::string policy;

    std::string toml() const {
        std::string out = toml_line("model", model) + fmt::format("lr = {}\nquiet = {}\n", lr, quiet);
        if (updates) out += fmt::format("updates = {}\n", *updates);
        return out;
    }
};

class ConfigTarget final : public Target {
  public:
    explicit ConfigTarget(const std::string& command) : command_(command) {}

    bool run(unsigned, Bytes bytes) const override {
        const std::optional<Options> options = read(bytes);
        if (!options) return false;
        const std::optional<Options> again = read(bytes_in(options->toml()));
        CHECK(again && again->toml() == options->toml());
        return true;
    }

    std::vector<Bytes> payloads() const override {
        return {
            bytes_in("model = \"mlp:3,4\"\nupdates = 7\nlr = 1e-3\nquiet = true\n"),
            bytes_in("# a comment\npolicy = 'reuse'\n[train]\nmodel = \"\"\"a \\u00e9\\\"\"\"\"\n[simulate]\nx = 1\n"),
            bytes_in("[simulate]\nx = [1, {y = 1979-05-27}]\n"),
            bytes_in("\"lr\" = \"0.5\"\ncodec = \"bf16\"\n'updates' = 0x10\n")};
    }

  private:
    /// What the command line makes of it; nothing where it complains.
    std::optional<Options> read(const Bytes& bytes) const {
        const MemoryFile input(bytes);
        Options options;
        CLI::App command("", command_);
        command.add_option("--model", options.model);
        take_whole_numbers(*command.add_option("--updates", options.updates));
        take_numbers(*command.add_option("--lr", options.lr));
        command.add_flag("--quiet", options.quiet);
        command.add_option("--config");
        command.add_option("--codec", options.policy);
        if (command_ == "compare") {
            command.add_option("--policies", options.codecs)->delimiter(',');
            command.add_option("--codecs", options.codecs)->delimiter(',');
        } else {
            command.add_option("--policy", options.policy);
        }
        std::vector<std::string> arguments;
        if (!passes("--config " + input.path(), [&] {
                arguments = expand_config(command, {"--config", input.path()});
            })) {
            return std::nullopt;
        }
        std::ranges::reverse(arguments); // CLI11 takes them from the back
        try {
            command.parse(std::move(arguments));
        } catch (const CLI::ParseError&) {
            return std::nullopt;
        }
        options.lr += 0.0; // -0 is written as a whole number, which has no sign
        return options;
    }

    std::string command_;
};

} // namespace

std::unique_ptr<Target> make_config_target(const std::string& spec) {
    return std::make_unique<ConfigTarget>(spec);
}

} // namespace lategrad::fuzz
