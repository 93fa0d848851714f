/// lategrad train: the main job, in threads or over MPI.
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/commands.h"
#include "cli/launch/server_word.h"
#include "cli/options.h"
#include "cli/recorder.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/core/error.h"
#include "lategrad/torch/fingerprint.h"
#include "lategrad/transport/mpi.h"
#include "lategrad/transport/mpi_launch.h"

namespace lategrad {
namespace {

/// How long the end of an MPI run waits for a peer that does not answer.
constexpr Duration kPatience = std::chrono::seconds(5);
constexpr Duration kLaunchersMatter = std::chrono::hours(24);

/// `--compute` in place of computing.
std::optional<ComputeTime> pretended(const ComputeOptions& compute) {
    if (!compute.real()) return compute.time();
    if (!compute.compute.empty() || !compute.compute_per_example.empty()) {
        throw InputError("--compute: real gradients take the time they take; it goes with --gradients none, or with "
                         "lategrad simulate");
    }
    return std::nullopt;
}

Problem problem_of(const RunOptions& options, const ComputeOptions& compute, bool serves) {
    const auto pretend = pretended(compute);
    Problem problem = make_problem(resolve(options));
    if (serves) problem = certified(std::move(problem));
    problem.pretend = pretend;
    return problem;
}

int train_here(const RunOptions& options, const ComputeOptions& compute) {
    Signals signals;
    const Problem problem = problem_of(options, compute, true);
    warn_of_surprises(problem);
    const auto resume = checkpoint_to_resume(problem, compute.toml("train"));
    return run_recorded(problem,
                        {.transport = "threads",
                         .progress = !options.quiet,
                         .own_config = compute.toml("train"),
                         .resume = resume ? &*resume : nullptr},
                        signals, [&](const RunHooks& hooks) { return train_in_threads(problem, hooks); });
}

int train_over_mpi(RunOptions options, const ComputeOptions& compute, bool workers_given) {
    Signals signals;
    const auto session = open_mpi_session();
    tell_launch(); // every process now takes signals
    const std::size_t workers = session->size() - 1;
    const SteadyClock clock;
    std::unique_ptr<MpiTransport> transport;
    const bool serves = session->rank() == 0;
    int status = 1;
    try {
        if (workers_given && options.workers != workers) {
            throw InputError(fmt::format("--workers {}: {} processes were started, which are a server and {} workers",
                                         options.workers, session->size(), workers));
        }
        options.workers = workers;
        const Problem problem = problem_of(options, compute, serves);
        // Two payloads per worker: one held, one arriving.
        transport = session->make_transport(clock, {.payload_bytes_max = received_bytes_max(problem, serves),
                                                    .payloads_max = 2 * workers,
                                                    .heartbeat = problem.job.silence.heartbeat});
        if (serves) {
            warn_of_surprises(problem);
            const auto resume = checkpoint_to_resume(problem, compute.toml("train"));
            status = run_recorded(problem,
                                  {.transport = session->library(),
                                   .progress = !options.quiet,
                                   .own_config = compute.toml("train"),
                                   .resume = resume ? &*resume : nullptr},
                                  signals, [&](const RunHooks& hooks) {
                                      return serve(problem, *transport, clock, hooks, {.heartbeats = true});
                                  });
        } else {
            const WorkEnd end =
                work(problem, WorkerId{static_cast<std::uint32_t>(session->rank() - 1)}, *transport, clock);
            if (end.refusal) throw EnvironmentError(end.refusal->words);
            status = 0;
        }
    } catch (const InputError& error) {
        if (!transport) transport = session->make_transport(clock, {});
        // Mostly the same in every process, and rank 0, which then goes, has said it. What is wrong on one machine
        // alone is said there.
        const auto heard = serves ? std::nullopt : transport->receive(clock.now() + kPatience);
        const bool said = heard && std::holds_alternative<PeerGone>(*heard);
        if (serves) fmt::print(stderr, "lategrad: {}\n", error.what());
        else if (!said) fmt::print(stderr, "lategrad: rank {}: {}\n", session->rank(), error.what());
        status = 2;
    } catch (const std::exception& error) {
        fmt::print(stderr, "lategrad: rank {}: {}\n", session->rank(), error.what());
        if (!transport) transport = session->make_transport(clock, {});
    }
    transport->shutdown(clock.now() + kPatience);
    for (const std::string& fault : transport->faults()) {
        spdlog::warn("rank {}: gave up the link to {}", session->rank(), fault);
    }
    std::fflush(nullptr);
    tell_launch(status);
    // Workers wait for as long as rank 0 evaluates and writes; should it die, the launcher ends them.
    if (!session->finish(transport->clean(), serves ? kPatience : kLaunchersMatter)) _exit(status);
    return status;
}

} // namespace

void add_train(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<RunOptions>();
    auto compute = std::make_shared<ComputeOptions>();
    CLI::App* command = program.add_subcommand(
        "train",
        "Train in threads here; under mpirun or srun with several processes, rank 0 serves and the others work");
    add_run_options(*command, *options);
    add_compute_options(*command, *compute, "none: workers sleep --compute instead, to try a cluster out");
    command->footer("Examples:\n"
                    "  lategrad train --workers 8 --wait-for 6 --straggle exp:20ms --epochs 5\n"
                    "  lategrad train --model mlp:300,100 --data arrays.safetensors --policy ssp:3\n"
                    "  lategrad train --config runs/20260101-120000-lenet-reuse/config.toml --lr 0.02\n"
                    "  mpirun -n 9 lategrad train --model net.pt --policy reuse --wait-for 6\n");
    command->callback([command, options, compute, &chosen] {
        chosen = [command, options, compute] {
            const auto launch = mpi_launch();
            if (!launch || launch->processes < 2) return train_here(*options, *compute);
            return train_over_mpi(*options, *compute, command->get_option("--workers")->count() > 0);
        };
    });
}

} // namespace lategrad
