/// The server's fused update against what the memory of this machine gives: bandwidths of the arrays that must move,
/// and their ratios to a STREAM-like triad of the same run on the same threads.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bench/medians.h"
#include "lategrad/codec/codec.h"
#include "lategrad/core/buffer.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/server/update.h"

namespace lategrad {
namespace {

constexpr std::size_t kParameters = 25'000'000;
constexpr std::size_t kTerms = 8;
constexpr std::size_t kArrayBytes = kParameters * sizeof(float);
constexpr int kRepetitions = 5;

/// All arrays of the run, allocated and touched once.
struct Arrays {
    BufferPool pool{(kTerms + 5) * kArrayBytes};
    std::vector<Buffer> gradients;
    Buffer params = filled(0.5f);
    Buffer other = filled(0);
    Buffer a = filled(1);
    Buffer b = filled(2);
    Buffer c = filled(3);

    Arrays() {
        for (std::size_t i = 0; i < kTerms; ++i) gradients.push_back(filled(1e-3f * static_cast<float>(i + 1)));
    }

    Buffer filled(float value) {
        Buffer buffer = pool.lease(kArrayBytes);
        std::ranges::fill(buffer.floats(), value);
        return buffer;
    }
};

void report(benchmark::State& state, std::size_t arrays) {
    state.counters["GB/s"] = benchmark::Counter(static_cast<double>(arrays * kArrayBytes) * 1e-9,
                                                benchmark::Counter::kIsIterationInvariantRate);
}

void triad(benchmark::State& state, Arrays& arrays, ThreadPool& pool) {
    float* __restrict a = arrays.a.floats().data();
    const float* __restrict b = arrays.b.floats().data();
    const float* __restrict c = arrays.c.floats().data();
    constexpr std::size_t kBlock = 65536;
    const std::function<void(std::size_t)> work = [=](std::size_t block) {
        const std::size_t end = std::min((block + 1) * kBlock, kParameters);
#pragma GCC ivdep // a, b and c do not overlap
        for (std::size_t i = block * kBlock; i < end; ++i) a[i] = b[i] + 3.0f * c[i];
    };
    for (auto _ : state) {
        pool.run((kParameters + kBlock - 1) / kBlock, work);
        benchmark::ClobberMemory();
    }
    report(state, 3);
}

void fused(benchmark::State& state, Arrays& arrays, ThreadPool& pool, const Buffer& out) {
    const auto codec = make_codec("none", {.elements = kParameters});
    const auto optimizer = make_optimizer({.kind = "sgd", .momentum = 0.9}, kParameters);
    FusedUpdate update(*codec, *optimizer, kParameters, kParameters);
    for (const Buffer& gradient : arrays.gradients) update.terms.push_back({gradient, 0.125f, true});
    update.in = arrays.params;
    update.out = out;
    update.learning_rate = 1e-6;
    for (auto _ : state) update.run(pool);
    report(state, kTerms + 4);
}

void validate(benchmark::State& state, Arrays& arrays) {
    const auto codec = make_codec("none", {.elements = kParameters});
    const Buffer& payload = arrays.gradients[0];
    for (auto _ : state) benchmark::DoNotOptimize(codec->validate({payload.data(), payload.bytes()}));
    report(state, 1);
}

constexpr const char* kTriad = "triad";
constexpr const char* kInPlace = "fused update, in place";
constexpr const char* kOtherBuffer = "fused update, other buffer";
constexpr const char* kTriadAlone = "triad, one thread";
constexpr const char* kValidate = "validate, one thread";

void print(const Medians& medians) {
    const auto line = [&](const char* name, const char* triad) {
        if (!medians.has(name) || !medians.has(triad)) return;
        const double rate = medians.of(name, "GB/s");
        fmt::print("{:<28} | {:>7.2f} | {:.2f}\n", name, rate, rate / medians.of(triad, "GB/s"));
    };
    fmt::print("{:<28} | {:>7} | ratio to its triad\n", "name", "GB/s");
    for (const char* name : {kTriad, kInPlace, kOtherBuffer}) line(name, kTriad);
    for (const char* name : {kTriadAlone, kValidate}) line(name, kTriadAlone);
}

} // namespace
} // namespace lategrad

int main(int argc, char** argv) {
    using namespace lategrad;
    // What else the machine does comes and goes: repetitions of all measurements alternate, so that it meets them all.
    std::vector<char*> arguments(argv, argv + argc);
    std::string alternate = "--benchmark_enable_random_interleaving=true";
    arguments.insert(arguments.begin() + 1, alternate.data());
    int count = static_cast<int>(arguments.size());
    benchmark::Initialize(&count, arguments.data());
    Arrays arrays;
    ThreadPool all(std::max(1u, std::thread::hardware_concurrency()));
    ThreadPool one(1);
    const auto add = [](const char* name, auto&& body) {
        benchmark::RegisterBenchmark(name, body)
            ->UseRealTime()
            ->Repetitions(kRepetitions)
            ->Unit(benchmark::kMillisecond);
    };
    add(kTriad, [&](benchmark::State& state) { triad(state, arrays, all); });
    add(kInPlace, [&](benchmark::State& state) { fused(state, arrays, all, arrays.params); });
    add(kOtherBuffer, [&](benchmark::State& state) { fused(state, arrays, all, arrays.other); });
    add(kTriadAlone, [&](benchmark::State& state) { triad(state, arrays, one); });
    add(kValidate, [&](benchmark::State& state) { validate(state, arrays); });

    fmt::print("{} gradients of {} M parameters, SGD with momentum, {} threads; medians of {} repetitions\n", kTerms,
               kParameters / 1'000'000, all.size(), kRepetitions);
    Medians medians;
    benchmark::RunSpecifiedBenchmarks(&medians);
    print(medians);
    benchmark::Shutdown();
}
