/// The simulator without gradients: policy events per second of one core's time against the number of workers, and the
/// memory that they take.
#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "bench/medians.h"
#include "lategrad/codec/codec.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/sim/cluster.h"
#include "lategrad/telemetry/summary.h"
#include "lategrad/worker/straggle.h"

namespace lategrad {
namespace {

constexpr int kRepetitions = 5;
constexpr std::uint64_t kGradients = 1'000'000; ///< of a run, about
constexpr double kWanted = 1e6;                 ///< policy events per second
constexpr std::size_t kFloats = 11'689'512;     ///< ResNet-18

/// As `lategrad simulate --gradients none --log summary --compute 20ms --straggle exp:20ms` has it.
void simulate(benchmark::State& state, const std::string& policy, std::size_t workers) {
    const StraggleModel straggle = StraggleModel::parse("exp:20ms", 1);
    const auto codec = make_codec("none", {.elements = kFloats});
    const auto optimizer = make_optimizer({}, 1);
    double events = 0;
    for (auto _ : state) {
        BufferPool versions(std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal);
        ClusterOptions options;
        options.policy.parse_kind(policy);
        options.policy.wait_for = options.policy.has_quorum() ? (3 * workers + 3) / 4 : 1;
        options.server.updates = std::max<std::uint64_t>(kGradients / options.policy.wait_for, 1);
        options.server.trainable = options.server.size = kFloats;
        options.examples.assign(workers, 1);
        constexpr Duration compute = std::chrono::milliseconds(20);
        options.compute_time = [&](WorkerId worker, Step step) {
            return compute + straggle.delay(worker, step, workers, compute);
        };
        SummaryBuilder summary;
        std::uint64_t decided = 0;
        Cluster cluster(options, *codec, *optimizer, versions.lease(kFloats * sizeof(float)), versions, nullptr,
                        [&](const RunEvent& event) {
                            summary.tell(event);
                            decided += std::holds_alternative<ArriveEvent>(event.body) ||
                                       std::holds_alternative<JoinEvent>(event.body);
                        });
        if (!cluster.run()) state.SkipWithError("the run did not end");
        events += static_cast<double>(decided);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    state.counters["events"] = benchmark::Counter(events, benchmark::Counter::kIsRate);
    state.counters["MiB"] = static_cast<double>(usage.ru_maxrss) / 1024; // the most so far, so from few workers to many
}

} // namespace
} // namespace lategrad

int main(int argc, char** argv) {
    using namespace lategrad;
    struct Case {
        std::string policy;
        std::size_t workers;
        std::string name;
    };
    std::vector<Case> cases;
    for (const std::size_t workers : {8, 100, 1000, 10'000, 100'000}) {
        for (const char* policy : {"reuse", "async"}) {
            cases.push_back({policy, workers, fmt::format("{}, {} workers", policy, workers)});
        }
    }
    benchmark::Initialize(&argc, argv);
    for (const Case& one : cases) {
        benchmark::RegisterBenchmark(one.name.c_str(),
                                     [&one](benchmark::State& state) { simulate(state, one.policy, one.workers); })
            ->Iterations(1)
            ->Repetitions(kRepetitions);
    }
    fmt::print("simulation without gradients, about {} M policy events, one core; medians of {} repetitions\n",
               kGradients / 1'000'000, kRepetitions);
    Medians medians;
    benchmark::RunSpecifiedBenchmarks(&medians);
    fmt::print("{:<24} | {:>10} | {:>14} | peak MiB\n", "", "M events/s", "ratio to 1 M/s");
    for (const Case& one : cases) {
        if (!medians.has(one.name)) continue;
        const double rate = medians.of(one.name, "events");
        fmt::print("{:<24} | {:>10.2f} | {:>14.2f} | {:.0f}\n", one.name, rate / 1e6, rate / kWanted,
                   medians.of(one.name, "MiB"));
    }
    benchmark::Shutdown();
}
