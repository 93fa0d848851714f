/// lategrad inspect: what is in a run folder, a checkpoint or a weights file.
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "lategrad/checkpoint/checkpoint.h"
#include "lategrad/core/error.h"
#include "lategrad/files/safetensors.h"
#include "lategrad/telemetry/progress.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/telemetry/table.h"

namespace lategrad {
namespace {

int inspect_weights(const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    Table table({{"tensor", Align::left}, {"type", Align::left}, {"shape", Align::left}, {"elements"}, {"norm"}});
    std::size_t total = 0;
    for (const auto& [name, entry] : file.tensors()) {
        std::string norm = "-";
        if (entry.dtype == "F32" || entry.dtype == "F64") {
            double squares = 0;
            for (const float value : file.floats(name)) squares += static_cast<double>(value) * value;
            norm = fmt::format("{:.4g}", std::sqrt(squares));
        }
        table.add_row({name, entry.dtype, fmt::format("[{}]", fmt::join(entry.shape, ", ")),
                       fmt::format("{}", entry.elements()), norm});
        total += entry.elements();
    }
    fmt::print("{}{} tensors, {} elements\n", table.text(), file.tensors().size(), total);
    for (const auto& [key, value] : file.metadata()) fmt::print("{}: {}\n", key, value);
    return 0;
}

int inspect_checkpoint(const std::filesystem::path& path) {
    const Checkpoint checkpoint(path); // reads all of it: a damaged one is named
    const CheckpointSummary& summary = checkpoint.summary();
    fmt::print("checkpoint of a {}, whole: version {}, incarnation {}, {:.1f} s, {} examples applied\n",
               summary.kind == CheckpointSummary::Kind::server ? "run" : "simulation", summary.version.value(),
               summary.incarnation.value(), summary.seconds, summary.examples_applied);
    for (const auto& [name, count] : summary.ledger) fmt::print("{:10}{}\n", name, count);
    fmt::print("{:10}{}\n", "events", summary.events);
    if (summary.data_coverage) fmt::print("{:10}{:.1f} % of the data\n", "coverage", 100 * *summary.data_coverage);
    fmt::print("\n{}\n", checkpoint.config_toml());
    return inspect_weights(checkpoint.weights());
}

/// One worker's share in a run.
struct WorkerAccount {
    std::uint64_t assigned = 0;
    std::uint64_t arrived = 0;
    std::uint64_t dropped = 0;
    std::uint64_t lost = 0;
    std::uint64_t applied = 0;
    std::uint64_t late = 0;
    double compute_seconds = 0;
};

int inspect_run(const std::filesystem::path& path) {
    const RecordedRun run = read_run(path);
    fmt::print("{}", run.config_toml);
    if (run.truncated) fmt::print("\nThe last line of a log was cut short, as by a crash; it is left out here.\n");
    if (run.summary) fmt::print("\n{}", human_summary(*run.summary, path));
    else fmt::print("\nThe run did not end: it has no summary.json.\n");

    std::map<WorkerId, WorkerAccount> accounts;
    for (const RunEvent& event : run.events) {
        if (const auto* assign = std::get_if<AssignEvent>(&event.body)) {
            ++accounts[assign->worker].assigned;
        } else if (const auto* arrive = std::get_if<ArriveEvent>(&event.body)) {
            WorkerAccount& account = accounts[arrive->worker];
            ++account.arrived;
            account.dropped += arrive->fate == Fate::drop ? 1 : 0;
            account.compute_seconds += arrive->compute_seconds;
        } else if (const auto* lost = std::get_if<LostEvent>(&event.body)) {
            ++accounts[lost->worker].lost;
        } else if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
            for (const AppliedGradient& gradient : update->applied) {
                ++accounts[gradient.worker].applied;
                accounts[gradient.worker].late += gradient.base < update->version ? 1 : 0;
            }
        }
    }
    Table table({{"worker"}, {"assigned"}, {"applied"}, {"late among them"}, {"dropped"}, {"lost"}, {"mean ms"}});
    for (const auto& [worker, account] : accounts) {
        const double mean =
            account.arrived > 0 ? 1000 * account.compute_seconds / static_cast<double>(account.arrived) : 0;
        table.add_row({fmt::format("{}", worker.value()), fmt::format("{}", account.assigned),
                       fmt::format("{}", account.applied), fmt::format("{}", account.late),
                       fmt::format("{}", account.dropped), fmt::format("{}", account.lost),
                       fmt::format("{:.1f}", mean)});
    }
    fmt::print("\n{}", table.text());
    return 0;
}

int inspect(const std::filesystem::path& path) {
    if (!std::filesystem::exists(path))
        throw InputError(fmt::format("{}: there is no such file or folder", path.string()));
    if (std::filesystem::exists(path / kManifestFile)) return inspect_checkpoint(path);
    return std::filesystem::is_directory(path) ? inspect_run(path) : inspect_weights(path);
}

} // namespace

void add_inspect(CLI::App& program, Command& chosen) {
    auto path = std::make_shared<std::string>();
    CLI::App* command = program.add_subcommand("inspect", "What is in a run folder, a checkpoint or a weights file");
    command->add_option("path", *path, "run folder, checkpoint in it, or a .safetensors file")
        ->required()
        ->type_name("PATH");
    command->footer("Examples:\n"
                    "  lategrad inspect runs/20260101-120000-lenet-reuse\n"
                    "  lategrad inspect runs/20260101-120000-lenet-reuse/checkpoints/000000000700\n"
                    "  lategrad inspect runs/20260101-120000-lenet-reuse/weights.safetensors\n");
    command->callback([path, &chosen] { chosen = [path] { return inspect(*path); }; });
}

} // namespace lategrad
