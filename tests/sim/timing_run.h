/// A run of which only the timing is simulated.
#pragma once

#include <functional>
#include <limits>
#include <memory>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/sim/cluster.h"

namespace lategrad {

class TimingRun {
  public:
    explicit TimingRun(ClusterOptions options)
        : codec_(make_codec("none", {.elements = options.server.size})),
          initial_(versions_.lease(options.server.size * sizeof(float))),
          cluster_(std::move(options), *codec_, *optimizer_, std::move(initial_), versions_, nullptr,
                   [this](const RunEvent& event) {
                       if (keep) events.push_back(event);
                   }) {}

    /// Of `workers` workers and a model of `floats`.
    static ClusterOptions options(const char* policy, std::size_t workers, std::size_t wait_for, std::uint64_t updates,
                                  std::size_t floats = 1000) {
        ClusterOptions options;
        options.policy.parse_kind(policy);
        options.policy.wait_for = wait_for;
        options.server.updates = updates;
        options.server.trainable = options.server.size = floats;
        options.examples.assign(workers, 1);
        return options;
    }

    Cluster& cluster() { return cluster_; }
    double seconds_per_update() const {
        return seconds(cluster_.server().lasted()) / static_cast<double>(cluster_.server().version().value());
    }

    /// All events of one type, in order.
    template <class Body>
    std::vector<std::pair<Time, Body>> all() const {
        std::vector<std::pair<Time, Body>> bodies;
        for (const RunEvent& event : events) {
            if (const Body* body = std::get_if<Body>(&event.body)) bodies.emplace_back(event.at, *body);
        }
        return bodies;
    }

    bool keep = true;
    std::vector<RunEvent> events;

  private:
    BufferPool versions_{std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal};
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_ = make_optimizer({}, 1);
    Buffer initial_;
    Cluster cluster_;
};

} // namespace lategrad
