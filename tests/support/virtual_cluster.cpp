#include "tests/support/virtual_cluster.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// Each worker computes on one version and may have the next one waiting; the server has one and makes one, and a test
/// may keep some snapshots.
std::size_t versions_max(std::size_t workers) {
    return 2 * workers + 8;
}

} // namespace

/// Computes everything at once, by the test's functions.
class VirtualCluster::Functions final : public Computation {
  public:
    Functions(const VirtualClusterOptions& options, const Codec& codec)
        : gradient_(options.gradient),
          evaluate_(options.evaluate),
          codec_(codec),
          floats_(options.initial.size()),
          jobs_(options.examples.size()) {}

    void start(WorkerId worker, const ComputeJob& job, Time) override {
        Job& started = jobs_[worker.value()];
        started.job = job;
        const std::span<const float> params = std::as_const(job.params).floats();
        started.params.assign(params.begin(), params.end());
        started.loss = gradient_(worker, job.step, params, started.job.grad.floats());
    }

    double finish(WorkerId worker) override {
        Job& job = jobs_[worker.value()];
        // Nobody may write a version that is being computed on.
        CHECK(std::ranges::equal(job.params, std::as_const(job.job.params).floats(),
                                 [](float a, float b) { return a == b || (a != a && b != b); }));
        job.job = {};
        return job.loss;
    }

    void cancel(WorkerId worker) override { finish(worker); }

    Reason validate(const Message& push) override {
        return codec_.validate({push.payload.data(), push.payload.bytes()}, floats_);
    }

    void update(UpdateTask& task) override { task.run(pool_); }

    void evaluate(const Snapshot& snapshot) override {
        if (evaluate_) evaluate_(snapshot);
    }

    /// The server hears of evaluations by the test.
    std::optional<Evaluation> finish_evaluation() override { return std::nullopt; }

  private:
    struct Job {
        ComputeJob job;
        std::vector<float> params; ///< as they were at the start
        double loss = 0;
    };
    VirtualClusterOptions::Gradient gradient_;
    std::function<void(const Snapshot&)> evaluate_;
    const Codec& codec_;
    std::size_t floats_;
    std::vector<Job> jobs_; ///< by worker
    ThreadPool pool_{1};
};

VirtualCluster::VirtualCluster(VirtualClusterOptions options)
    : floats_(options.initial.size()),
      codec_(make_codec("none")),
      optimizer_(make_optimizer(options.optimizer, floats_)),
      versions_(versions_max(options.examples.size()) * floats_ * sizeof(float)),
      computation_(std::make_unique<Functions>(options, *codec_)) {
    Buffer initial = versions_.lease(floats_ * sizeof(float));
    std::ranges::copy(options.initial, initial.floats().begin());
    ClusterOptions cluster{.server = options.server,
                           .policy = options.policy,
                           .examples = options.examples,
                           .compute_time = options.duration,
                           .update_time = options.update_duration,
                           .copies = options.copies};
    cluster.server.trainable = floats_;
    cluster.server.size = floats_;
    cluster.links.latency = options.latency;
    cluster_ = std::make_unique<Cluster>(std::move(cluster), *codec_, *optimizer_, std::move(initial), versions_,
                                         computation_.get(), [this, keep = options.keep_events](const RunEvent& event) {
                                             if (keep) events_.push_back(event);
                                         });
}

VirtualCluster::~VirtualCluster() = default;

std::vector<float> VirtualCluster::parameters() const {
    const auto floats = server().parameters().floats();
    return {floats.begin(), floats.end()};
}

std::size_t VirtualCluster::gradient_buffers(WorkerId worker) const {
    return cluster_->gradients(worker).bytes_allocated() / (floats_ * sizeof(float));
}

std::size_t VirtualCluster::version_buffers() const {
    return versions_.bytes_allocated() / (floats_ * sizeof(float));
}

} // namespace lategrad
