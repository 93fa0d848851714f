/// One worker, no stragglers, in threads, against a plain libtorch loop: LeNet, batch 256, one intra-op thread each.
/// What the server, the policy, the transport and the threads cost.
#include "lategrad/torch/torch_headers.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <chrono>
#include <vector>

#include "bench/medians.h"
#include "cli/training.h"

namespace lategrad {
namespace {

constexpr std::uint64_t kUpdates = 24;
constexpr std::uint64_t kWarmUp = 4;
constexpr int kRepetitions = 12;

struct LeNet : torch::nn::Module {
    torch::nn::Conv2d conv1{register_module("conv1", torch::nn::Conv2d(1, 20, 5))};
    torch::nn::Conv2d conv2{register_module("conv2", torch::nn::Conv2d(20, 50, 5))};
    torch::nn::Linear fc1{register_module("fc1", torch::nn::Linear(800, 500))};
    torch::nn::Linear fc2{register_module("fc2", torch::nn::Linear(500, 10))};

    torch::Tensor forward(torch::Tensor x) {
        x = torch::relu(torch::max_pool2d(conv1(x), 2));
        x = torch::relu(torch::max_pool2d(conv2(x), 2));
        return fc2(torch::relu(fc1(x.flatten(1))));
    }
};

/// Seconds per update of a loop that anyone would write.
double plain(const Problem& problem) {
    at::set_num_threads(1);
    torch::manual_seed(1);
    LeNet net;
    torch::optim::SGD optimizer(net.parameters(), torch::optim::SGDOptions(0.05).momentum(0.9));
    Batcher batcher = problem.batcher(WorkerId{0});
    Batch batch;
    std::chrono::steady_clock::time_point begin;
    for (std::uint64_t step = 0; step < kUpdates; ++step) {
        if (step == kWarmUp) begin = std::chrono::steady_clock::now();
        batcher.draw({.position = step * batcher.batch_size()}, batch);
        const auto n = static_cast<std::int64_t>(batch.examples);
        const auto x = torch::from_blob(batch.features.data(), {n, 1, 28, 28});
        const auto y = torch::from_blob(batch.labels.data(), {n}, torch::kLong);
        optimizer.zero_grad();
        torch::nn::functional::cross_entropy(net.forward(x), y).backward();
        optimizer.step();
    }
    return seconds(Duration(std::chrono::steady_clock::now() - begin)) / static_cast<double>(kUpdates - kWarmUp);
}

/// Seconds per update of a whole run; the evaluation after it does not count.
double ours(const Problem& problem) {
    std::vector<Time> updates;
    train_in_threads(problem, {.tell =
                                   [&](const RunEvent& event) {
                                       if (std::holds_alternative<UpdateEvent>(event.body)) updates.push_back(event.at);
                                   },
                               .evaluate = EvaluationThread::When::after});
    return seconds(updates.back() - updates[kWarmUp - 1]) / static_cast<double>(kUpdates - kWarmUp);
}

constexpr const char* kName = "one worker";

/// One pair, the plain loop first in every second one, so that what else the machine does meets both.
void pair(benchmark::State& state, const Problem& problem) {
    static bool plain_first = false;
    plain_first = !plain_first;
    for (auto _ : state) {
        double plain_seconds = plain_first ? plain(problem) : 0;
        const double our_seconds = ours(problem);
        if (!plain_first) plain_seconds = plain(problem);
        state.SetIterationTime(our_seconds);
        state.counters["plain ms"] = 1000 * plain_seconds;
        state.counters["our ms"] = 1000 * our_seconds;
        state.counters["throughput to plain"] = plain_seconds / our_seconds;
    }
}

} // namespace
} // namespace lategrad

int main(int argc, char** argv) {
    using namespace lategrad;
    benchmark::Initialize(&argc, argv);
    RunOptions options;
    options.workers = 1;
    options.policy = "sync";
    options.momentum = 0.9;
    options.updates = kUpdates;
    options.eval_every = kUpdates;
    const Problem problem = make_problem(resolve(options));
    benchmark::RegisterBenchmark(kName, [&](benchmark::State& state) { pair(state, problem); })
        ->UseManualTime()
        ->Iterations(1)
        ->Repetitions(kRepetitions);
    Medians medians;
    benchmark::RunSpecifiedBenchmarks(&medians);
    benchmark::Shutdown();
    if (!medians.has(kName)) return 0;
    fmt::print("LeNet, batch 256, one worker, one intra-op thread; medians of {} pairs of {} updates\n", kRepetitions,
               kUpdates - kWarmUp);
    fmt::print("{:<28} | {:>7} | throughput to plain\n", "name", "ms");
    fmt::print("{:<28} | {:>7.1f} | 1.00\n", "plain libtorch loop", medians.of(kName, "plain ms"));
    fmt::print("{:<28} | {:>7.1f} | {:.2f}\n", "lategrad, in threads", medians.of(kName, "our ms"),
               medians.of(kName, "throughput to plain"));
}
