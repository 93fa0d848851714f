/// The simulated cluster with options that suit tests: gradients are a function, whatever happened is kept.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/codec/publish.h"
#include "lategrad/core/buffer.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/node/node.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/policy/policy.h"
#include "lategrad/server/server.h"
#include "lategrad/sim/cluster.h"
#include "lategrad/sim/computation.h"

namespace lategrad {

struct VirtualClusterOptions {
    /// `workers` follows from `examples`, and `trainable` and `size` from `initial`.
    ServerOptions server;
    PolicyOptions policy;
    OptimizerOptions optimizer;
    std::string codec = "none";
    std::string publish_codec = "none";
    std::vector<std::uint32_t> examples = {1}; ///< the batch size of each worker
    std::vector<float> initial = {1};          ///< version 0
    std::vector<MatrixShape> tensors;          ///< of these
    double codec_momentum = 0;

    /// Writes the gradient at `params` to `grad` and returns the loss.
    using Gradient = std::function<double(WorkerId, Step, std::span<const float> params, std::span<float> grad)>;
    Gradient gradient;
    /// How long that takes.
    std::function<Duration(WorkerId, Step)> duration = [](WorkerId, Step) { return Duration(1); };
    Duration update_duration{0};
    LinkOptions links; ///< `latency` is below
    FailureModel failures;
    Duration latency{0}; ///< of every message; the order between two peers is kept

    /// How often a worker's push arrives; more than once is a duplicate.
    std::function<std::size_t(const Message&)> copies;
    std::function<void(const Snapshot&)> evaluate;
    /// A process of a worker begins; it has encoded a gradient, or could not (no payload).
    std::function<void(WorkerId)> begins_life;
    std::function<void(WorkerId, Step, std::span<const float> grad, const Buffer& payload,
                       std::span<const float> residual)>
        encoded;
    bool keep_events = true;
};

class VirtualCluster {
  public:
    explicit VirtualCluster(VirtualClusterOptions options);
    ~VirtualCluster();

    void kill(WorkerId worker, Time at) { cluster_->kill(worker, at); }
    void freeze(WorkerId worker, Time at) { cluster_->freeze(worker, at); }
    void thaw(WorkerId worker, Time at) { cluster_->thaw(worker, at); }
    void revive(WorkerId worker, Time at) { cluster_->revive(worker, at); }
    void tell_server(Time at, Event event) { cluster_->tell_server(at, std::move(event)); }
    void persist(Archive& archive);
    bool step() { return cluster_->step(); }
    bool run(std::uint64_t events_max = 10'000'000) { return cluster_->run(events_max); }

    bool done() const { return cluster_->done(); }
    Time now() const { return cluster_->now(); }
    const Server& server() const { return cluster_->server(); }
    /// The parameters of the current version. REQUIRES: no update under way.
    std::vector<float> parameters() const;
    const std::vector<RunEvent>& events() const { return events_; }
    /// What the worker's process has left out so far (error feedback); empty without.
    std::span<const float> residual(WorkerId worker) const;
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
    class Functions;
    std::size_t floats_;
    CodecSetup setup_;
    std::unique_ptr<Codec> codec_;
    PublishCodec publish_codec_;
    std::unique_ptr<Optimizer> optimizer_;
    BufferPool versions_;
    BufferPool published_;
    std::optional<Publisher> publisher_;
    std::unique_ptr<Functions> computation_;
    std::vector<RunEvent> events_;
    std::unique_ptr<Cluster> cluster_;
};

} // namespace lategrad
