/// A server and its workers, the production nodes, driven in virtual time on one thread: the same options, the same
/// run, event by event.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/buffer.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/node/node.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/policy/policy.h"
#include "lategrad/server/server.h"
#include "lategrad/worker/worker.h"

namespace lategrad {

struct VirtualClusterOptions {
    /// `workers` follows from `examples`, and `trainable` and `size` from `initial`.
    ServerOptions server;
    PolicyOptions policy;
    OptimizerOptions optimizer;
    std::vector<std::uint32_t> examples = {1}; ///< the batch size of each worker
    std::vector<float> initial = {1};          ///< version 0

    /// Writes the gradient at `params` to `grad` and returns the loss.
    using Gradient = std::function<double(WorkerId, Step, std::span<const float> params, std::span<float> grad)>;
    Gradient gradient;
    /// How long that takes.
    std::function<Duration(WorkerId, Step)> duration = [](WorkerId, Step) { return Duration(1); };
    Duration update_duration{0};
    Duration latency{0}; ///< of every message; the order between two peers is kept

    /// How often a worker's push arrives; more than once is a duplicate.
    std::function<std::size_t(const Message&)> copies = [](const Message&) { return std::size_t{1}; };
    std::function<void(const Snapshot&)> evaluate;
    bool keep_events = true;
};

class VirtualCluster {
  public:
    explicit VirtualCluster(VirtualClusterOptions options);
    VirtualCluster(const VirtualCluster&) = delete;
    VirtualCluster& operator=(const VirtualCluster&) = delete;

    /// From then on the worker does and hears nothing; the server is told that its peer is gone.
    void kill(WorkerId worker, Time at);
    /// Gives the server an event of the test's own.
    void tell_server(Time at, Event event);

    /// Handles the next event. False when the server is done, or when nothing is left to happen.
    bool step();
    /// Until the server is done. False where that takes more than `events_max` events or never happens.
    bool run(std::size_t events_max = 10'000'000);

    bool done() const { return done_; }
    Time now() const { return now_; }
    const Server& server() const { return *server_; }
    /// The parameters of the current version. REQUIRES: no update under way.
    std::vector<float> parameters() const;
    const std::vector<RunEvent>& events() const { return events_; }
    /// The most gradient buffers this worker ever had in use at once.
    std::size_t gradient_buffers(WorkerId worker) const;
    /// The most versions that ever existed at once.
    std::size_t version_buffers() const;

    /// All events of one type, in order.
    template <class Body>
    std::vector<Body> all() const {
        std::vector<Body> bodies;
        for (const RunEvent& event : events_) {
            if (const Body* body = std::get_if<Body>(&event.body)) bodies.push_back(*body);
        }
        return bodies;
    }

  private:
    using Key = std::pair<Time, std::uint64_t>;
    struct Computing {
        ComputeJob job;
        ComputeDone done;
        std::vector<float> params; ///< as they were at the start
        Key ends;
    };
    struct Seat {
        explicit Seat(std::size_t bytes) : gradients(Worker::kGradientBuffers * bytes) {}
        BufferPool gradients;
        std::unique_ptr<Worker> worker;
        std::optional<Computing> computing;
        bool alive = true;
    };

    Key schedule(Time at, std::function<void()> action);
    void to_server(const Event& event);
    void to_worker(WorkerId id, const Event& event);
    void start_compute(WorkerId id, const ComputeJob& job);
    void finish_compute(WorkerId id);
    void cancel_compute(WorkerId id);
    Seat& seat(WorkerId id) { return *seats_[id.value()]; }
    static Peer peer(WorkerId id) { return Peer{id.value() + 1}; }

    VirtualClusterOptions options_;
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_;
    BufferPool versions_;
    ThreadPool pool_{1};
    std::unique_ptr<Server> server_;
    std::vector<std::unique_ptr<Seat>> seats_;

    std::map<Key, std::function<void()>> queue_;
    std::uint64_t sequence_ = 0;
    std::optional<Key> timer_; ///< the server's
    Time now_{};
    bool done_ = false;
    std::vector<RunEvent> events_;
};

} // namespace lategrad
