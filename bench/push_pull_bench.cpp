/// Push + pull between two processes over MPI, through the whole server: a worker whose gradients take no time. Against
/// MPI_Send and MPI_Recv of the same bytes and the fused update by itself, in the same run. Two ranks: mpirun -n 2.
#include <mpi.h>

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "bench/medians.h"
#include "lategrad/runtime/job_thread.h"
#include "lategrad/runtime/node_loop.h"
#include "lategrad/server/server.h"
#include "lategrad/transport/mpi.h"
#include "lategrad/worker/worker.h"

namespace lategrad {
namespace {

constexpr int kRepetitions = 15;
constexpr Duration kPatience = std::chrono::seconds(10);

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return seconds(Duration(std::chrono::steady_clock::now() - begin));
}

/// The parts that both measurements use, allocated once.
struct Parts {
    explicit Parts(std::size_t size) : elements(size) {}

    std::size_t elements;
    std::size_t bytes = elements * sizeof(float);
    std::unique_ptr<Codec> codec = make_codec("none", {.elements = elements});
    std::unique_ptr<Optimizer> optimizer = make_optimizer({.momentum = 0.9}, elements);
    ThreadPool pool{std::max(1u, std::thread::hardware_concurrency())};
    BufferPool buffers{8 * bytes};
    SteadyClock clock;

    Buffer zeros() {
        Buffer buffer = buffers.lease(bytes);
        std::memset(buffer.data(), 0, bytes);
        return buffer;
    }
};

/// Seconds for a push and a pull: a gradient to rank 0, parameters back, each with memory of its own on either side.
/// Between them, untimed, rank 0 writes as much other memory as an update does, so that both find the caches alike.
double raw(Parts& parts, std::size_t rank, int rounds) {
    Buffer gradient = parts.zeros();
    Buffer parameters = parts.zeros();
    std::array others = {parts.zeros(), parts.zeros(), parts.zeros()};
    const auto exchange = [&](Buffer& buffer, bool send) {
        const int count = static_cast<int>(buffer.bytes());
        const int other = rank == 0 ? 1 : 0;
        if (send) MPI_Send(buffer.data(), count, MPI_BYTE, other, 0, MPI_COMM_WORLD);
        else MPI_Recv(buffer.data(), count, MPI_BYTE, other, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    };
    double sum = 0;
    for (int i = -2; i < rounds; ++i) {
        if (rank == 0) {
            for (Buffer& other : others) std::memset(other.data(), i, other.bytes());
        }
        MPI_Barrier(MPI_COMM_WORLD);
        const auto begin = std::chrono::steady_clock::now();
        exchange(gradient, rank == 1);
        exchange(parameters, rank == 0);
        if (i >= 0) sum += seconds_since(begin);
    }
    return sum / rounds;
}

/// Seconds for one update of one gradient, in place.
double update_alone(Parts& parts, int rounds) {
    FusedUpdate update(*parts.codec, *parts.optimizer, parts.elements, parts.elements);
    Buffer params = parts.zeros();
    const Buffer gradient = parts.zeros();
    std::chrono::steady_clock::time_point begin;
    for (int i = -2; i < rounds; ++i) {
        if (i == 0) begin = std::chrono::steady_clock::now();
        update.terms.push_back({.payload = gradient, .coefficient = 1, .gives_buffers = true});
        update.in = params;
        update.out = params;
        update.learning_rate = 0.1;
        update.run(parts.pool);
        update.terms.clear();
    }
    return seconds_since(begin) / rounds;
}

double serve(Parts& parts, MpiSession& session, int rounds) {
    const auto transport = session.make_transport(parts.clock, {.payloads_max = 2});
    const auto updates = static_cast<std::uint64_t>(rounds) + 3;
    PolicyOptions policy;
    policy.kind = "sync";
    Server server({.workers = 1, .trainable = parts.elements, .size = parts.elements, .updates = updates},
                  make_policy(policy), *parts.codec, *parts.optimizer, parts.zeros(), parts.buffers);
    Mailbox mailbox(*transport);
    JobThread<UpdateTask*> thread([&](UpdateTask*& task) {
        task->run(parts.pool);
        mailbox.post(UpdateDone{});
    });
    std::vector<Time> at;
    NodeLoop loop(server, *transport, parts.clock, mailbox,
                  {.start_update = [&](UpdateTask& task) { thread.start(&task); },
                   .tell =
                       [&](const RunEvent& event) {
                           if (std::holds_alternative<UpdateEvent>(event.body)) at.push_back(event.at);
                       },
                   .validate =
                       [&](const Message& message) {
                           return parts.codec->validate({message.payload.data(), message.payload.bytes()});
                       }});
    loop.run();
    transport->shutdown(parts.clock.now() + kPatience);
    return seconds(at.back() - at[2]) / static_cast<double>(at.size() - 3);
}

void work(Parts& parts, MpiSession& session) {
    const auto transport = session.make_transport(parts.clock, {.payloads_max = 2});
    WorkerBuffers buffers(*parts.codec, parts.elements, 1);
    { // as gradients are: written before
        std::vector<Buffer> all;
        for (Buffer next = buffers.gradients.try_lease(parts.bytes); next;
             next = buffers.gradients.try_lease(parts.bytes)) {
            std::memset(next.data(), 0, parts.bytes);
            all.push_back(std::move(next));
        }
    }
    Worker worker({.worker = WorkerId{0}, .examples = 1, .size = parts.elements}, *parts.codec, buffers);
    Mailbox mailbox(*transport);
    NodeLoop loop(worker, *transport, parts.clock, mailbox,
                  {.start_compute =
                       [&](const ComputeJob& job) { mailbox.post(ComputeDone{.step = job.step, .payload = job.grad}); },
                   .cancel_compute = [] {}});
    loop.run();
    transport->shutdown(parts.clock.now() + kPatience);
}

/// Both ranks come through here equally often, in step: the numbers of iterations and repetitions are given.
void measure(benchmark::State& state, MpiSession& session, Parts& parts, int rounds) {
    for (auto _ : state) {
        const double raw_seconds = raw(parts, session.rank(), rounds);
        if (session.rank() != 0) {
            work(parts, session);
            state.SetIterationTime(raw_seconds);
            continue;
        }
        const double update_seconds = update_alone(parts, rounds);
        const double whole_seconds = serve(parts, session, rounds);
        state.SetIterationTime(whole_seconds);
        state.counters["raw ms"] = 1000 * raw_seconds;
        state.counters["update ms"] = 1000 * update_seconds;
        state.counters["whole ms"] = 1000 * whole_seconds;
        state.counters["ratio"] = whole_seconds / (raw_seconds + update_seconds);
    }
}

struct Size {
    const char* name;
    std::size_t elements;
    int rounds;
};
constexpr Size kSizes[] = {{"1 M", 1'000'000, 60}, {"25 M", 25'000'000, 8}};

} // namespace
} // namespace lategrad

int main(int argc, char** argv) {
    using namespace lategrad;
    benchmark::Initialize(&argc, argv);
    const auto session = open_mpi_session();
    if (session->size() != 2) {
        fmt::print(stderr, "start two processes: mpirun -n 2 --bind-to none bench_push_pull\n");
        return 2;
    }
    for (const Size& size : kSizes) {
        benchmark::RegisterBenchmark(size.name,
                                     [&, parts = std::make_shared<Parts>(size.elements)](benchmark::State& state) {
                                         measure(state, *session, *parts, size.rounds);
                                     })
            ->UseManualTime()
            ->Iterations(1)
            ->Repetitions(kRepetitions);
    }
    Medians medians;
    benchmark::RunSpecifiedBenchmarks(&medians);
    benchmark::ClearRegisteredBenchmarks();
    benchmark::Shutdown();
    if (session->rank() == 0) {
        fmt::print("Push + pull of float32 parameters over {}; medians of {} repetitions, ms\n", session->library(),
                   kRepetitions);
        fmt::print("{:>8} | {:>8} | {:>9} | {:>8} | whole / (raw + update)\n", "floats", "raw MPI", "update", "whole");
        for (const Size& size : kSizes) {
            if (!medians.has(size.name)) continue;
            fmt::print("{:>8} | {:>8.2f} | {:>9.2f} | {:>8.2f} | {:.2f}\n", size.name, medians.of(size.name, "raw ms"),
                       medians.of(size.name, "update ms"), medians.of(size.name, "whole ms"),
                       medians.of(size.name, "ratio"));
        }
    }
    std::fflush(nullptr);
    if (!session->finish(true, kPatience)) _exit(0);
}
