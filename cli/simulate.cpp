/// lategrad simulate: a training run in virtual time on a modelled cluster.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <type_traits>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/options.h"
#include "cli/recorder.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/core/quantity.h"
#include "lategrad/core/random.h"
#include "lategrad/sim/cluster.h"
#include "lategrad/sim/parallel_computation.h"
#include "lategrad/torch/evaluator.h"
#include "lategrad/torch/torch_gradient_source.h"

namespace lategrad {
namespace {

/// As the user gave them.
struct SimulateOptions {
    RunOptions run;
    ComputeOptions compute;
    std::string update_time = "0ms";
    std::string link = "unlimited";
    std::string server_link; ///< empty: the rate of link
    std::uint32_t servers = 1;
    std::string payload; ///< empty: the model's
    std::string failures = "none";
    std::string log; ///< empty: events with real gradients, else summary
    std::size_t jobs = 0;
};

/// What they mean.
struct Simulation {
    ComputeTime compute;
    Duration update_time{0};
    LinkOptions links;
    FailureModel failures;
    std::size_t floats = 0; ///< in the flat vectors; nominal where nothing is computed
    std::size_t trainable = 0;
    std::vector<MatrixShape> tensors; ///< where nothing is computed; empty: not known
    std::size_t jobs = 1;
};

/// What it took to simulate.
struct Effort {
    std::uint64_t policy_events = 0;
    double seconds = 0;
};

constexpr std::uint32_t kServersMax = 1024;
constexpr std::uint64_t kUpdatesDefault = 1000; ///< where no gradients are computed, there are no epochs

std::size_t parse_bytes(const std::string& text) {
    const auto bytes = parse_quantity(text, {{"B", 1},
                                             {"kB", 1e3},
                                             {"MB", 1e6},
                                             {"GB", 1e9},
                                             {"KiB", 1024},
                                             {"MiB", 1024 * 1024},
                                             {"GiB", 1024 * 1024 * 1024}});
    if (!bytes || *bytes < sizeof(float) || *bytes > kPayloadBytesMax) {
        throw InputError(fmt::format("--payload {}: expected a size from 4B to 1GiB, as in 46.8MB", text));
    }
    return static_cast<std::size_t>(*bytes);
}

/// Without any of these a gradient takes no time, and a run that ends by time would never end.
void require_time_to_pass(const Simulation& simulation, const Job& job) {
    const Duration compute = simulation.compute.per_batch + simulation.compute.per_example;
    const bool passes = compute > Duration::zero() || job.straggle.adds_time(compute) ||
                        simulation.update_time > Duration::zero() || simulation.links.latency > Duration::zero() ||
                        !simulation.links.unlimited();
    if (!passes) {
        throw InputError(
            "--compute 0: time would not pass; give it, --compute-per-example, --straggle, --update-time or "
            "--link");
    }
}

/// Where workers hardly ever live through a gradient, a run would not end.
void require_life_enough(const Simulation& simulation, const Problem& problem) {
    const Duration gradient = simulation.compute.of(*std::min_element(problem.batches.begin(), problem.batches.end()));
    const auto mean = simulation.failures.mean_lifetime();
    if (mean && *mean < seconds(gradient) / 10) {
        throw InputError(
            fmt::format("--failures mtbf: {:g} s on average is less than a tenth of the {:g} s that a gradient "
                        "takes; hardly a worker would live through one",
                        *mean, seconds(gradient)));
    }
}

/// The options that are not those of train as well, as a table of config.toml.
std::string own_config(const SimulateOptions& o) {
    std::string table = o.compute.toml("simulate");
    if (table.empty()) table = "\n[simulate]\n";
    table += toml_line("update-time", o.update_time) + toml_line("link", o.link);
    if (!o.server_link.empty()) table += toml_line("server-link", o.server_link);
    table += fmt::format("servers = {}\n", o.servers);
    if (!o.payload.empty()) table += toml_line("payload", o.payload);
    table += toml_line("failures", o.failures);
    if (!o.log.empty()) table += toml_line("log", o.log);
    return table;
}

void refuse_what_needs_gradients(const RunOptions& o) {
    const auto refuse = [](bool given, const char* option, const char* instead) {
        if (given) throw InputError(fmt::format("{}: --gradients none learns nothing{}", option, instead));
    };
    refuse(o.epochs.has_value(), "--epochs", " and has no epochs; give --updates or --time-limit");
    refuse(o.target_accuracy.has_value(), "--target-accuracy", "; give --updates or --time-limit");
    refuse(o.eval_every > 0, "--eval-every", ", so there is nothing to evaluate");
}

/// A problem of which only the timing matters: no data, no model.
Problem timing_problem(const Job& job) {
    Problem problem;
    problem.job = job;
    problem.job.options.eval_every = 0;
    problem.data.name = "none";
    problem.batches = batch_shares(job.options.batch_size, std::vector<std::size_t>(job.options.workers, 1));
    problem.run = RandomStream(job.options.seed, Purpose::model, {job.options.workers, job.options.batch_size})();
    return problem;
}

/// How many updates there are between two looks at the clock.
constexpr std::uint64_t kUpdatesPerLook = 64;

/// The run itself. Without a computation, timing, ledger and policy are the same, and payloads have a size alone.
Trained run_cluster(const Problem& problem, const Simulation& simulation, const RunHooks& hooks, Effort& effort,
                    Computation* computation, const Codec& codec, BufferPool& versions, Buffer initial,
                    Publisher* publisher, BufferPool* published) {
    const Job& job = problem.job;
    const auto optimizer = make_optimizer(job.optimizer, computation ? simulation.trainable : 1);
    ClusterOptions options;
    options.server = server_options(problem, simulation.trainable, simulation.floats);
    options.policy = job.policy;
    options.examples = problem.batches;
    options.compute_time = [&](WorkerId worker, Step step) {
        const Duration nominal = simulation.compute.of(problem.batches[worker.value()]);
        return nominal + job.straggle.delay(worker, step, job.options.workers, nominal);
    };
    options.update_time = simulation.update_time;
    options.evaluation_time = simulation.compute.of(problem.batches[0]);
    options.links = simulation.links;
    options.failures = simulation.failures;
    options.publisher = publisher;

    std::atomic<bool> stop = false;
    std::uint64_t told = 0; // events, by this run and the one it goes on with
    Cluster cluster(
        std::move(options), codec, *optimizer, std::move(initial), versions, computation, [&](const RunEvent& event) {
            const RunEventBody& body = event.body;
            effort.policy_events += std::holds_alternative<ArriveEvent>(body) ||
                                    std::holds_alternative<JoinEvent>(body) || std::holds_alternative<LeaveEvent>(body);
            ++told;
            if (hooks.tell) hooks.tell(event);
        });
    const auto persist = [&](Archive& archive) {
        archive.pools({&versions});
        if (published) archive.pools({published});
        archive.section("simulation");
        archive(told);
        cluster.persist(archive);
    };
    if (hooks.resume) {
        // Of processes that have died: as those of the others, with or without bytes.
        BufferPool unnamed(std::numeric_limits<std::size_t>::max() / 2, versions.memory());
        hooks.resume->read_state(unnamed, persist);
    }
    // All of the cluster, and at once: what is shared with a file that is being written is out of its pool, which must
    // not depend on how fast this machine is.
    const auto checkpoint = [&] {
        ArchiveWriter archive;
        persist(archive);
        const Server& server = cluster.server();
        hooks.checkpoint({.version = server.version(),
                          .at = cluster.now(),
                          .events = told,
                          .examples_applied = server.examples_applied(),
                          .ledger = server.totals().by_name(),
                          .data_coverage = server.data().coverage(),
                          .params = server.parameters(),
                          .state = archive.finish()});
    };
    // One of a run that is over would be the end of every run that went on from it.
    const auto may_checkpoint = [&] {
        return job.checkpoints && hooks.checkpoint && cluster.server().outcome() == Outcome::running &&
               !cluster.failure();
    };
    auto checkpoint_at = std::chrono::steady_clock::now();
    Version checkpoint_version = cluster.server().version();
    const auto due = [&] {
        const Version version = cluster.server().version();
        if (!may_checkpoint() || version == checkpoint_version) return false;
        const bool by_updates = job.checkpoint_updates > 0 && version.value() % job.checkpoint_updates == 0;
        const bool looks = version.value() % kUpdatesPerLook == 0 && job.checkpoint_time > Duration::zero();
        const bool by_time = looks && std::chrono::steady_clock::now() - checkpoint_at >= job.checkpoint_time;
        checkpoint_version = version;
        return by_updates || by_time;
    };
    const auto began = std::chrono::steady_clock::now();
    {
        const StopAsked asked(hooks, [&stop] { stop = true; });
        while (cluster.step()) {
            if (due()) {
                checkpoint();
                checkpoint_at = std::chrono::steady_clock::now();
            }
            if (stop.load(std::memory_order_relaxed) && stop.exchange(false)) {
                if (may_checkpoint()) checkpoint();
                cluster.tell_server(cluster.now(), StopRequested{});
            }
        }
    }
    if (!cluster.done()) {
        throw InputError(fmt::format(
            "nothing is left to happen after {:.3g} s of virtual time, and the run has not ended: all workers are gone "
            "and --failures brings none back, or a transfer or a delay lasts longer than virtual time, which ends "
            "after decades (--link, --payload, --straggle)",
            seconds(cluster.now())));
    }
    cluster.finish_evaluations();
    effort.seconds = seconds(Duration(std::chrono::steady_clock::now() - began));

    Trained trained = trained_by(cluster.server());
    if (computation) {
        const auto floats = cluster.server().parameters().floats();
        trained.parameters.assign(floats.begin(), floats.end());
    }
    const ClusterLoad load = cluster.load();
    trained.server_load = ServerLoad{load.receiving, load.sending, load.updating};
    trained.failure = cluster.failure();
    return trained;
}

Trained simulate_timing(const Problem& problem, const Simulation& simulation, const RunHooks& hooks, Effort& effort) {
    const RunOptions& o = problem.job.options;
    CodecSetup setup = codec_setup(problem, simulation.trainable, simulation.floats);
    setup.tensors = simulation.tensors;
    const auto codec = make_codec(o.codec, setup);
    BufferPool versions(std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal);
    // Parameters are as long as what is sent of them.
    Buffer initial = versions.lease(PublishCodec(o.publish_codec, setup).payload_bytes_typical());
    return run_cluster(problem, simulation, hooks, effort, nullptr, *codec, versions, std::move(initial), nullptr,
                       nullptr);
}

Trained simulate_training(const Problem& problem, const Simulation& simulation, const RunHooks& hooks, Effort& effort) {
    const Job& job = problem.job;
    const RunOptions& o = job.options;
    const CodecSetup setup = codec_setup(problem, simulation.trainable, simulation.floats);
    const auto codec = make_codec(o.codec, setup);
    const PublishCodec publish_codec(o.publish_codec, setup);
    std::vector<std::unique_ptr<GradientSource>> sources;
    for (std::size_t i = 0; i < std::min(simulation.jobs, o.workers); ++i) {
        sources.push_back(make_gradient_source(job.model, *problem.data.train, o.threads, o.seed));
    }
    std::vector<Batcher> batchers;
    for (std::uint32_t worker = 0; worker < o.workers; ++worker) {
        batchers.push_back(problem.batcher(WorkerId{worker}));
    }
    TorchEvaluator evaluator(job.model, *problem.data.train, o.threads);
    std::mutex one_at_a_time;
    const auto evaluate = [&](const Snapshot& snapshot) {
        const std::lock_guard lock(one_at_a_time);
        return *judge(evaluator, snapshot, *problem.data.test, [] { return false; });
    };
    // Each version that a gradient is being computed on, or that waits for one, exists.
    BufferPool versions(std::numeric_limits<std::size_t>::max() / 2);
    Buffer initial = versions.lease(simulation.floats * sizeof(float));
    problem.model->initial_parameters(initial.floats());
    ThreadPool pool(1); // updates are short, and the cores are busy with gradients
    std::optional<ParallelComputation> computation;
    try {
        computation.emplace(std::move(sources), std::move(batchers), evaluate, *codec, publish_codec, pool,
                            PushCheck(*codec, simulation.trainable, o.reject_norm > 0));
    } catch (const std::system_error& error) {
        throw EnvironmentError(
            fmt::format("--jobs {}: a thread does not start ({}); use fewer", simulation.jobs, error.code().message()));
    }
    BufferPool published(std::numeric_limits<std::size_t>::max() / 2);
    std::optional<Publisher> publisher;
    if (!publish_codec.in_place()) publisher.emplace(publish_codec, published, published);
    return run_cluster(problem, simulation, hooks, effort, &*computation, *codec, versions, std::move(initial),
                       publisher ? &*publisher : nullptr, &published);
}

int simulate(SimulateOptions given) {
    Signals signals;
    RunOptions& o = given.run;
    const bool real = given.compute.real();
    Simulation simulation;
    simulation.compute = given.compute.time();
    simulation.update_time = parse_duration(given.update_time, "--update-time");
    simulation.links.parse_link(given.link);
    if (!given.server_link.empty()) simulation.links.parse_server_link(given.server_link);
    if (given.servers == 0 || given.servers > kServersMax) {
        throw InputError(fmt::format("--servers {}: expected 1 to {}", given.servers, kServersMax));
    }
    simulation.links.servers = given.servers;
    given.failures = settle_path(given.failures, "script:");
    simulation.failures = FailureModel::parse(given.failures, o.seed);
    if (simulation.failures.workers_min() > o.workers) {
        throw InputError(fmt::format("--failures {}: names worker {}, but there are only {} (--workers)",
                                     given.failures, simulation.failures.workers_min() - 1, o.workers));
    }
    if (!given.log.empty() && given.log != "events" && given.log != "summary") {
        throw InputError(fmt::format("--log {}: expected events or summary", given.log));
    }
    if (real && !given.payload.empty()) {
        throw InputError("--payload: goes with --gradients none; real gradients have the model's size");
    }
    if (!real) {
        refuse_what_needs_gradients(o);
        if (!o.updates && o.time_limit.empty()) o.updates = kUpdatesDefault;
    }
    if (given.jobs > static_cast<std::size_t>(kThreadsMax)) {
        throw InputError(fmt::format("--jobs {}: expected 1 to {}", given.jobs, kThreadsMax));
    }
    simulation.jobs = given.jobs > 0 ? given.jobs : std::max(1u, std::thread::hardware_concurrency());

    const Job job = resolve(o);
    require_time_to_pass(simulation, job);
    Problem problem;
    if (real || given.payload.empty()) {
        problem = make_problem(job);
        simulation.floats = problem.model->size();
        simulation.trainable = problem.model->trainable();
    }
    if (!given.payload.empty()) {
        simulation.floats = parse_bytes(given.payload) / sizeof(float);
        simulation.trainable = simulation.floats;
    }
    if (!real) {
        if (given.payload.empty()) simulation.tensors = matrices_of(*problem.model);
        problem = timing_problem(job);
    } else {
        warn_of_surprises(problem);
    }
    require_life_enough(simulation, problem);
    problem = certified(std::move(problem));

    Effort effort;
    RecorderOptions recording{.transport = std::string(kSimulated),
                              .progress = !o.quiet,
                              .events = given.log.empty() ? real : given.log == "events",
                              .model = given.payload.empty() ? std::nullopt : std::optional<std::string>("none"),
                              .own_config = own_config(given)};
    const auto resume = checkpoint_to_resume(problem, own_config(given), CheckpointSummary::Kind::simulation);
    recording.simulation = true;
    recording.resume = resume ? &*resume : nullptr;
    const int status = run_recorded(problem, recording, signals, [&](const RunHooks& hooks) {
        return real ? simulate_training(problem, simulation, hooks, effort)
                    : simulate_timing(problem, simulation, hooks, effort);
    });
    if (!o.quiet && !real) {
        fmt::print(stderr, "simulated {} policy events in {:.1f} s, {:.2f} million per second\n", effort.policy_events,
                   effort.seconds, static_cast<double>(effort.policy_events) / effort.seconds / 1e6);
    }
    return status;
}

} // namespace

void add_simulate(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<SimulateOptions>();
    SimulateOptions& o = *options;
    CLI::App* command = program.add_subcommand(
        "simulate", "Train in virtual time on a modelled cluster: any number of workers, links and failures");
    add_run_options(*command, o.run);
    add_compute_options(*command, o.compute, "none: only the timing, for 100,000 workers and more");
    const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
        CLI::Option* option = command->add_option(name, value, help)
                                  ->group("Cluster")
                                  ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
                                  ->type_name(type)
                                  ->capture_default_str();
        if constexpr (std::is_integral_v<std::remove_reference_t<decltype(value)>>) take_whole_numbers(*option);
        return option;
    };
    add("--update-time", o.update_time, "how long the server takes for an update", "TIME");
    add("--link", o.link, "each worker's, in each direction: a rate, and a latency of every message; as 1Gbit,100us",
        "RATE[,LATENCY]");
    add("--server-link", o.server_link, "each server's, in each direction, shared by all transfers; default --link's",
        "RATE");
    add("--servers", o.servers, "split the parameters over so many", "S");
    add("--payload", o.payload, "--gradients none: bytes of a gradient and of the parameters, in place of the model's",
        "SIZE");
    add("--failures", o.failures,
        "none, mtbf:MEAN,rejoin:TIME[,detect:TIME], or script:FILE.csv (columns seconds, worker, leave or join)",
        "SPEC");
    add("--log", o.log, "events, or summary alone; default events with real gradients", "WHAT");
    add("--jobs", o.jobs, "gradients computed at a time; decides nothing but the speed; default one per core", "N")
        ->default_str("");
    command->get_option("--workers")
        ->description("as many as fit into memory: 100,000 with --gradients none take 0.2 GiB");
    command->get_option("--straggle")
        ->description("stragglers, in virtual time: none, exp:MEAN, shifted-exp:SHIFT,MEAN, pareto:SHAPE,SCALE, "
                      "slow:COUNT,FACTOR, bimodal:PROBABILITY,FACTOR, trace:FILE.csv; times as 20ms");
    command->get_option("--time-limit")->description("virtual seconds, or with a unit: 90, 1.5m");
    command->footer(
        "The workers, the server and the policy are those of train; docs/simulator.md states the models of the rest.\n"
        "\nExamples:\n"
        "  lategrad simulate --workers 8 --wait-for 6 --straggle slow:2,4 --epochs 2\n"
        "  lategrad simulate --gradients none --workers 32 --payload 46.8MB --compute-per-example 2ms \\\n"
        "    --batch-size 1024 --link 1Gbit,100us --servers 4 --updates 200\n"
        "  lategrad simulate --gradients none --workers 100000 --batch-size 100000 --payload 4MB --straggle exp:20ms\n"
        "  lategrad simulate --workers 8 --failures mtbf:60s,rejoin:10s --epochs 2\n");
    command->callback([options, &chosen] { chosen = [options] { return simulate(*options); }; });
}

} // namespace lategrad
