/// lategrad keys: who may take part in an elastic run.
#include <filesystem>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "lategrad/transport/zmq_keys.h"

namespace lategrad {
namespace {

int new_keys(const std::filesystem::path& dir) {
    create_keys(dir);
    fmt::print("{0}/server.key   stays with the server: lategrad serve --keys {0}\n"
               "{0}/worker.key   goes to every worker:   lategrad work --key worker.key\n"
               "{0}/admitted     lists the workers' keys that are let in; take a line out to shut one out\n",
               dir.string());
    return 0;
}

} // namespace

void add_keys(CLI::App& program, Command& chosen) {
    CLI::App* command = program.add_subcommand("keys", "Keys for elastic runs: authentication and encryption");
    command->require_subcommand(1);
    auto dir = std::make_shared<std::string>();
    CLI::App* make = command->add_subcommand("new", "Make the keys of a server and its workers in a new folder");
    make->add_option("dir", *dir, "folder")->required()->type_name("DIR");
    make->footer("Example:\n  lategrad keys new keys\n");
    make->callback([dir, &chosen] { chosen = [dir] { return new_keys(*dir); }; });
}

} // namespace lategrad
