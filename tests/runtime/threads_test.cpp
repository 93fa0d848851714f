/// Whole runs: a server and four workers, each with their threads, over the transport inside one process.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/data/batcher.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/runtime/gradient_thread.h"
#include "lategrad/runtime/job_thread.h"
#include "lategrad/runtime/node_loop.h"
#include "lategrad/server/push_check.h"
#include "lategrad/server/server.h"
#include "lategrad/transport/in_process.h"
#include "lategrad/worker/worker.h"
#include "tests/data/numbered_data.h"
#include "tests/runtime/parabola.h"

namespace lategrad {
namespace {

constexpr std::size_t kWorkers = 4;
constexpr std::size_t kExamples = 40;
constexpr std::size_t kBytes = Parabola::kSize * sizeof(float);
constexpr double kLearningRate = 0.1;
constexpr std::uint64_t kSeed = 3;
/// Their batch sizes; uneven, so that the weights of the sum are.
constexpr std::array<std::uint32_t, kWorkers> kBatches = {3, 3, 2, 2};

Batcher batcher(WorkerId worker) {
    static const auto data = std::make_shared<const NumberedData>(kExamples);
    static const auto parts = [] {
        auto each = std::make_shared<Parts>(kWorkers, std::vector<std::uint32_t>(kExamples / kWorkers));
        std::uint32_t next = 0;
        for (auto& part : *each) {
            for (std::uint32_t& example : part) example = next++;
        }
        return each;
    }();
    return Batcher(data, parts, kBatches[worker.value()], kSeed);
}

struct RunOptions {
    const char* policy = "sync";
    std::size_t wait_for = 1;
    bool cancel_late = false;
    const char* straggle = "none";
    std::uint64_t updates = 50;
    std::size_t broken = kWorkers;   ///< this worker cannot compute
    std::size_t vanishes = kWorkers; ///< this worker's link breaks when it gets its first parameters
    std::string codec = "none";
    std::size_t damages = kWorkers; ///< this worker's link flips a bit in its fourth gradient
};

/// What the worker whose link flips a bit was told of that gradient.
struct Told {
    Fate fate = Fate::lost;
    Reason reason = Reason::none;
};

/// A link that flips a bit in the middle of one gradient.
class DamagingLink final : public Transport {
  public:
    static constexpr Step kDamaged{3};

    DamagingLink(Transport& link, Told& told) : link_(link), told_(told) {}

    SendStatus try_send(Peer to, const Message& message) override {
        if (message.type != MessageType::push || message.step != kDamaged) return link_.try_send(to, message);
        if (!damaged_) {
            damaged_ = pool_.lease(message.payload.bytes());
            std::memcpy(damaged_.data(), message.payload.data(), damaged_.bytes());
            damaged_.data()[damaged_.bytes() / 2] ^= std::byte{1};
        }
        Message sent = message;
        sent.payload = damaged_;
        return link_.try_send(to, sent);
    }
    std::optional<Incoming> receive(Time deadline) override {
        auto incoming = link_.receive(deadline);
        const auto* received = incoming ? std::get_if<Received>(&*incoming) : nullptr;
        if (received && received->message.step == kDamaged.next()) {
            told_ = {.fate = received->message.fate, .reason = received->message.reason};
        }
        return incoming;
    }
    void forget(Peer peer) override { link_.forget(peer); }
    void wake() override { link_.wake(); }
    void shutdown(Time deadline) override { link_.shutdown(deadline); }

  private:
    Transport& link_;
    Told& told_;
    BufferPool pool_{1 << 20};
    Buffer damaged_;
};

struct Finished {
    std::vector<float> parameters;
    LedgerTotals totals;
    Outcome outcome;
    std::uint64_t version;
    std::vector<RunEvent> events;
    Told told;
};

void work(WorkerId id, const RunOptions& options, Transport& transport, const Clock& clock) {
    Mailbox mailbox(transport);
    const auto codec = make_codec(options.codec, {.elements = Parabola::kSize});
    const PublishCodec publish_codec("none", {.elements = Parabola::kSize});
    WorkerBuffers buffers(*codec, Parabola::kSize, 1);
    Worker node({.worker = id, .examples = kBatches[id.value()], .size = Parabola::kSize}, *codec, buffers);
    Parabola parabola;
    BrokenSource broken;
    GradientSource& source =
        id.value() == options.broken ? static_cast<GradientSource&>(broken) : static_cast<GradientSource&>(parabola);
    const StraggleModel straggle = StraggleModel::parse(options.straggle, kSeed);
    GradientThread thread(id, kWorkers, batcher(id), source, GradientCodecs(*codec, publish_codec, id, buffers),
                          straggle, mailbox);
    NodeLoop(node, transport, clock, mailbox,
             {.start_compute = [&](const ComputeJob& job) { thread.start(job); },
              .cancel_compute = [&] { thread.cancel(); }})
        .run();
}

/// Says hello, gets parameters and is never heard of again.
void vanish(WorkerId id, Transport& transport) {
    transport.try_send(
        kServerPeer,
        {.type = MessageType::hello, .worker = id, .examples = kBatches[id.value()], .elements = Parabola::kSize});
    transport.receive(kNever);
}

Finished run(const RunOptions& options) {
    SteadyClock clock;
    Finished finished;
    InProcessHub hub(kWorkers, clock);
    const auto transport = hub.endpoint(kServerPeer);

    std::vector<std::jthread> workers;
    for (std::uint32_t i = 0; i < kWorkers; ++i) {
        workers.emplace_back([&, id = WorkerId{i}, mine = hub.endpoint(Peer{i + 1})] {
            if (id.value() == options.vanishes) {
                vanish(id, *mine);
            } else if (id.value() == options.damages) {
                DamagingLink link(*mine, finished.told);
                work(id, options, link, clock);
            } else {
                work(id, options, *mine, clock);
            }
            mine->shutdown(kNever);
        });
    }

    PolicyOptions policy;
    policy.parse_kind(options.policy);
    policy.wait_for = options.wait_for;
    policy.cancel_late = options.cancel_late;
    const auto codec = make_codec(options.codec, {.elements = Parabola::kSize});
    const auto optimizer = make_optimizer({}, Parabola::kSize);
    // On the way to each worker, waiting for the way to be free, waiting in it and computed on; the current and the
    // next.
    BufferPool versions((kWorkers * (InProcessHub::kQueuedMax + 3) + 2) * kBytes);
    Buffer initial = versions.lease(kBytes);
    std::fill(initial.floats().begin(), initial.floats().end(), 0.0f);
    Server server({.workers = kWorkers,
                   .learning_rate = kLearningRate,
                   .epoch_examples = kExamples,
                   .trainable = Parabola::kSize,
                   .size = Parabola::kSize,
                   .updates = options.updates},
                  make_policy(policy), *codec, *optimizer, std::move(initial), versions);
    Mailbox mailbox(*transport);
    ThreadPool pool(2);
    JobThread<UpdateTask*> updates([&](UpdateTask*& task) {
        task->run(pool);
        mailbox.post(UpdateDone{});
    });
    NodeLoop(server, *transport, clock, mailbox,
             {.start_update = [&](UpdateTask& task) { updates.start(&task); },
              .tell = [&](const RunEvent& event) { finished.events.push_back(event); },
              .validate = PushCheck(*codec, Parabola::kSize, false)})
        .run();
    transport->shutdown(kNever);
    workers.clear(); // joins them

    const auto parameters = server.parameters().floats();
    finished.parameters.assign(parameters.begin(), parameters.end());
    finished.totals = server.totals();
    finished.outcome = server.outcome();
    finished.version = server.version().value();
    return finished;
}

/// Full synchrony as anybody would write it.
std::vector<float> plain_loop(std::uint64_t updates) {
    std::vector<float> w(Parabola::kSize, 0.0f);
    std::vector<Batcher> batchers;
    for (std::uint32_t i = 0; i < kWorkers; ++i) batchers.push_back(batcher(WorkerId{i}));
    Parabola parabola;
    for (std::uint64_t update = 0; update < updates; ++update) {
        std::vector<float> sum(Parabola::kSize, 0.0f);
        for (std::size_t i = 0; i < kWorkers; ++i) {
            Batch batch;
            batchers[i].draw(own_data(WorkerId{static_cast<std::uint32_t>(i)}, Step{update}, kBatches[i]), batch);
            std::vector<float> grad(Parabola::kSize);
            parabola.compute(w, grad, batch);
            const auto share = static_cast<float>(kBatches[i] / 10.0);
            for (std::size_t j = 0; j < grad.size(); ++j) {
                const float product = share * grad[j];
                sum[j] = sum[j] + product;
            }
        }
        for (std::size_t j = 0; j < w.size(); ++j) {
            const float change = static_cast<float>(kLearningRate) * sum[j];
            w[j] = w[j] - change;
        }
    }
    return w;
}

TEST(Threads, SyncGivesTheBitsOfAPlainLoopEveryTime) {
    const RunOptions options{.policy = "sync", .updates = 200};
    const Finished first = run(options);
    EXPECT_EQ(first.outcome, Outcome::updates);
    EXPECT_EQ(first.version, 200u);
    EXPECT_EQ(first.totals, (LedgerTotals{.pushed = 800, .applied = 800}));
    EXPECT_EQ(first.parameters, plain_loop(200));
    EXPECT_EQ(run(options).parameters, first.parameters);
}

TEST(Threads, SyncGivesTheSameBitsWithStragglers) {
    EXPECT_EQ(run({.policy = "sync", .straggle = "exp:1ms", .updates = 20}).parameters, plain_loop(20));
}

class ThreadsPolicies : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, ThreadsPolicies, testing::Values("sync", "backup", "reuse", "kasync", "async", "ssp:1"));

TEST_P(ThreadsPolicies, AddUpWithStragglers) {
    const Finished finished = run({.policy = GetParam(), .wait_for = 2, .straggle = "exp:2ms", .updates = 60});
    EXPECT_EQ(finished.outcome, Outcome::updates);
    EXPECT_EQ(finished.version, 60u);
    EXPECT_TRUE(finished.totals.adds_up());
    EXPECT_EQ(finished.totals.open, 0u);
    std::uint64_t applied = 0;
    for (const RunEvent& event : finished.events) {
        if (const auto* update = std::get_if<UpdateEvent>(&event.body)) applied += update->applied.size();
    }
    EXPECT_EQ(applied, finished.totals.applied);
}

TEST(Threads, AddUpWhenLateWorkersStartAnew) {
    const Finished finished = run({.policy = "backup", .wait_for = 2, .cancel_late = true, .straggle = "exp:2ms"});
    EXPECT_EQ(finished.outcome, Outcome::updates);
    EXPECT_EQ(finished.version, 50u);
    EXPECT_TRUE(finished.totals.adds_up());
    EXPECT_EQ(finished.totals.open, 0u);
    EXPECT_EQ(finished.totals.applied, 100u);
    EXPECT_GT(finished.totals.lost, 0u);
}

TEST(Threads, GoOnWithoutAWorkerThatCannotCompute) {
    const Finished finished = run({.policy = "reuse", .wait_for = 3, .broken = 1});
    EXPECT_EQ(finished.outcome, Outcome::updates);
    EXPECT_EQ(finished.version, 50u);
    EXPECT_TRUE(finished.totals.adds_up());
    EXPECT_GE(finished.totals.lost, 1u);
}

class ThreadsCodecs : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(All, ThreadsCodecs,
                         testing::Values("bf16+lz4", "topk:0.7", "randk:0.7+zstd", "qsgd:4", "signsgd", "lowrank:1"));

TEST_P(ThreadsCodecs, DropAGradientThatArrivesDamagedAndGoOn) {
    const Finished finished = run({.policy = "sync", .codec = GetParam(), .damages = 1});
    EXPECT_EQ(finished.outcome, Outcome::updates);
    EXPECT_EQ(finished.version, 50u);
    EXPECT_TRUE(finished.totals.adds_up());
    std::vector<ArriveEvent> dropped;
    for (const RunEvent& event : finished.events) {
        const auto* arrived = std::get_if<ArriveEvent>(&event.body);
        if (arrived && arrived->fate == Fate::drop) dropped.push_back(*arrived);
    }
    ASSERT_EQ(dropped.size(), 1u);
    EXPECT_EQ(dropped[0].worker, WorkerId{1});
    EXPECT_EQ(dropped[0].step, DamagingLink::kDamaged);
    EXPECT_EQ(dropped[0].reason, Reason::malformed);
    EXPECT_EQ(finished.told.fate, Fate::drop);
    EXPECT_EQ(finished.told.reason, Reason::malformed);
}

TEST(Threads, GoOnWithoutAWorkerWhoseLinkBroke) {
    const Finished finished = run({.policy = "sync", .vanishes = 2});
    EXPECT_EQ(finished.outcome, Outcome::updates);
    EXPECT_EQ(finished.version, 50u);
    EXPECT_TRUE(finished.totals.adds_up());
    EXPECT_EQ(finished.totals.lost, 1u);
}

} // namespace
} // namespace lategrad
