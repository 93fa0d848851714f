/// The simulator without gradients: policy events per second on one core, against the number of workers, and the
/// memory that 100,000 of them take.
#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <cstdint>
#include <limits>

#include "bench/medians.h"
#include "lategrad/codec/codec.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/sim/cluster.h"
#include "lategrad/telemetry/summary.h"
#include "lategrad/worker/straggle.h"

namespace lategrad {
namespace {

constexpr std::uint64_t kGradients = 2'000'000; ///< of a run, about

void simulate(benchmark::State& state, const char* policy) {
    const auto workers = static_cast<std::size_t>(state.range(0));
    const StraggleModel straggle = StraggleModel::parse("exp:20ms", 1);
    const auto codec = make_codec("none");
    const auto optimizer = make_optimizer({}, 1);
    double events = 0;
    for (auto _ : state) {
        BufferPool versions(std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal);
        ClusterOptions options;
        options.policy.parse_kind(policy);
        options.policy.wait_for = (3 * workers + 3) / 4;
        const std::size_t per_update = options.policy.kind == "async" ? 1 : options.policy.wait_for;
        options.server.updates = std::max<std::uint64_t>(kGradients / per_update, 1);
        options.server.trainable = options.server.size = 11'689'512; // ResNet-18
        options.examples.assign(workers, 1);
        constexpr Duration compute = std::chrono::milliseconds(20);
        options.compute_time = [&](WorkerId worker, Step step) {
            return compute + straggle.delay(worker, step, workers, compute);
        };
        SummaryBuilder summary;
        std::uint64_t decided = 0;
        Cluster cluster(options, *codec, *optimizer, versions.lease(options.server.size * sizeof(float)), versions,
                        nullptr, [&](const RunEvent& event) {
                            summary.tell(event);
                            decided += std::holds_alternative<ArriveEvent>(event.body) ||
                                       std::holds_alternative<JoinEvent>(event.body);
                        });
        cluster.run();
        events += static_cast<double>(decided);
    }
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    state.counters["policy_events"] = benchmark::Counter(events, benchmark::Counter::kIsRate);
    state.counters["peak_GiB"] = static_cast<double>(usage.ru_maxrss) / (1 << 20);
}

BENCHMARK_CAPTURE(simulate, reuse, "reuse")
    ->Arg(8)
    ->Arg(100)
    ->Arg(1000)
    ->Arg(10'000)
    ->Arg(100'000)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(simulate, async, "async")->Arg(100)->Arg(1000)->Arg(100'000)->Unit(benchmark::kMillisecond);

} // namespace
} // namespace lategrad

BENCHMARK_MAIN();
