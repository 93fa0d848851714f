/// Push + pull between two processes over MPI, through the whole server: a worker whose gradients take no time. Against
/// MPI_Send and MPI_Recv of the same bytes and the fused update by itself, in the same run. Two ranks: mpirun -n 2.
#include <mpi.h>

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "lategrad/core/error.h"
#include "lategrad/runtime/job_thread.h"
#include "lategrad/runtime/node_loop.h"
#include "lategrad/server/server.h"
#include "lategrad/transport/mpi.h"
#include "lategrad/worker/worker.h"

namespace lategrad {
namespace {

constexpr int kRepetitions = 7;
constexpr Duration kPatience = std::chrono::seconds(10);

double seconds_since(std::chrono::steady_clock::time_point begin) {
    return seconds(Duration(std::chrono::steady_clock::now() - begin));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

/// The parts that both measurements use, allocated once.
struct Parts {
    std::size_t elements;
    std::size_t bytes = elements * sizeof(float);
    std::unique_ptr<Codec> codec = make_codec("none");
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

/// Seconds for a push and a pull: bytes to rank 0, bytes back.
double raw(std::size_t rank, Buffer& buffer, int rounds) {
    const auto exchange = [&](bool send) {
        const int count = static_cast<int>(buffer.bytes());
        const int other = rank == 0 ? 1 : 0;
        if (send) MPI_Send(buffer.data(), count, MPI_BYTE, other, 0, MPI_COMM_WORLD);
        else MPI_Recv(buffer.data(), count, MPI_BYTE, other, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    };
    std::chrono::steady_clock::time_point begin;
    for (int i = -2; i < rounds; ++i) {
        if (i == 0) begin = std::chrono::steady_clock::now();
        exchange(rank == 1);
        exchange(rank == 0);
    }
    return seconds_since(begin) / rounds;
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
    NodeLoop loop(
        server, *transport, parts.clock, mailbox,
        {.start_update = [&](UpdateTask& task) { thread.start(&task); },
         .tell =
             [&](const RunEvent& event) {
                 if (std::holds_alternative<UpdateEvent>(event.body)) at.push_back(event.at);
             },
         .validate =
             [&](const Message& message) {
                 return parts.codec->validate({message.payload.data(), message.payload.bytes()}, parts.elements);
             }});
    loop.run();
    transport->shutdown(parts.clock.now() + kPatience);
    return seconds(at.back() - at[2]) / static_cast<double>(at.size() - 3);
}

void work(Parts& parts, MpiSession& session) {
    const auto transport = session.make_transport(parts.clock, {.payloads_max = 2});
    BufferPool gradients(Worker::kGradientBuffers * parts.bytes);
    { // as gradients are: written before
        std::vector<Buffer> all;
        for (std::size_t i = 0; i < Worker::kGradientBuffers; ++i) {
            all.push_back(gradients.lease(parts.bytes));
            std::memset(all.back().data(), 0, parts.bytes);
        }
    }
    Worker worker({.worker = WorkerId{0}, .examples = 1, .size = parts.elements}, *parts.codec, gradients);
    Mailbox mailbox(*transport);
    NodeLoop loop(worker, *transport, parts.clock, mailbox,
                  {.start_compute = [&](const ComputeJob& job) { mailbox.post(ComputeDone{.step = job.step}); },
                   .cancel_compute = [] {}});
    loop.run();
    transport->shutdown(parts.clock.now() + kPatience);
}

void measure(MpiSession& session, std::size_t elements, int rounds) {
    Parts parts{.elements = elements};
    Buffer buffer = parts.zeros();
    std::vector<double> raws, updates, wholes, ratios;
    for (int i = 0; i < kRepetitions; ++i) {
        raws.push_back(raw(session.rank(), buffer, rounds));
        if (session.rank() == 0) {
            updates.push_back(update_alone(parts, rounds));
            wholes.push_back(serve(parts, session, rounds));
            ratios.push_back(wholes.back() / (raws.back() + updates.back()));
        } else {
            work(parts, session);
        }
    }
    if (session.rank() == 0) {
        fmt::print("{:>6} M | {:>8.2f} | {:>9.2f} | {:>8.2f} | {:.2f}\n", elements / 1'000'000, 1000 * median(raws),
                   1000 * median(updates), 1000 * median(wholes), median(ratios));
    }
}

} // namespace
} // namespace lategrad

int main() {
    using namespace lategrad;
    const auto session = open_mpi_session();
    if (session->size() != 2) {
        fmt::print(stderr, "start two processes: mpirun -n 2 --bind-to none bench_push_pull\n");
        return 2;
    }
    if (session->rank() == 0) {
        fmt::print("Push + pull of float32 parameters over {}; medians of {} repetitions, ms\n", session->library(),
                   kRepetitions);
        fmt::print("{:>8} | {:>8} | {:>9} | {:>8} | whole / (raw + update)\n", "floats", "raw MPI", "update", "whole");
    }
    measure(*session, 1'000'000, 60);
    measure(*session, 25'000'000, 8);
    std::fflush(nullptr);
    if (!session->finish(true, kPatience)) _exit(0);
}
