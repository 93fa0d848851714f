#include "tests/support/virtual_cluster.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/server/push_check.h"

namespace lategrad {
namespace {

/// Each worker computes on one version and may have the next one waiting; the server has one and makes one, and a test
/// may keep some snapshots. A process that is stopped has some more before it.
std::size_t versions_max(std::size_t workers) {
    return 4 * workers + 16;
}

} // namespace

/// Computes everything at once, by the test's functions.
class VirtualCluster::Functions final : public Computation {
  public:
    Functions(const VirtualClusterOptions& options, const Codec& codec, const PublishCodec& publish_codec)
        : gradient_(options.gradient),
          evaluate_(options.evaluate),
          begins_life_(options.begins_life),
          encoded_(options.encoded),
          codec_(codec),
          check_(codec, options.initial.size(), options.server.reject_norm > 0),
          publish_codec_(publish_codec),
          jobs_(options.examples.size()) {}

    void begin_life(WorkerId worker, WorkerBuffers& buffers) override {
        jobs_[worker.value()].codecs.emplace(codec_, publish_codec_, worker, buffers);
        if (begins_life_) begins_life_(worker);
    }

    void start(WorkerId worker, const ComputeJob& job, Time) override {
        Job& started = jobs_[worker.value()];
        started.job = job;
        started.decoded = started.codecs->decode(job);
        const std::span<const float> params = std::as_const(started.decoded).floats();
        started.params.assign(params.begin(), params.end());
        started.loss = gradient_(worker, job.step, params, started.job.grad.floats());
    }

    Computed finish(WorkerId worker) override {
        Job& job = take(worker);
        const auto floats = std::as_const(job.job.grad).floats();
        const std::vector<float> grad(floats.begin(), floats.end());
        Buffer payload = job.codecs->encode(job.job);
        if (encoded_) encoded_(worker, job.job.step, grad, payload, job.codecs->encoder().residual());
        return {.loss = job.loss, .payload = std::move(payload)};
    }

    void cancel(WorkerId worker) override { take(worker).job = {}; }

    std::span<const float> residual(WorkerId worker) const {
        return jobs_[worker.value()].codecs->encoder().residual();
    }

    void validate(MessageArrived& push) override { check_(push); }

    void persist(Archive& archive) override {
        for (Job& job : jobs_) {
            bool under_way = static_cast<bool>(job.job.grad);
            archive(under_way);
            if (under_way) {
                lategrad::persist(archive, job.job);
                archive(job.params, job.loss);
            }
            archive(*job.codecs);
            if (archive.reading() && under_way) job.decoded = job.codecs->decode(job.job);
        }
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
        Buffer decoded;
        std::vector<float> params; ///< as they were at the start
        double loss = 0;
        std::optional<GradientCodecs> codecs;
    };

    Job& take(WorkerId worker) {
        Job& job = jobs_[worker.value()];
        // Nobody may write a version that is being computed on.
        CHECK(std::ranges::equal(job.params, std::as_const(job.decoded).floats(),
                                 [](float a, float b) { return a == b || (a != a && b != b); }));
        job.job.params.reset();
        job.decoded.reset();
        return job;
    }

    VirtualClusterOptions::Gradient gradient_;
    std::function<void(const Snapshot&)> evaluate_;
    std::function<void(WorkerId)> begins_life_;
    decltype(VirtualClusterOptions::encoded) encoded_;
    const Codec& codec_;
    PushCheck check_;
    const PublishCodec& publish_codec_;
    std::vector<Job> jobs_; ///< by worker
    ThreadPool pool_{1};
};

VirtualCluster::VirtualCluster(VirtualClusterOptions options)
    : floats_(options.initial.size()),
      setup_{.elements = floats_,
             .tensors = options.tensors,
             .workers = options.examples.size(),
             .momentum = options.codec_momentum},
      codec_(make_codec(options.codec, setup_)),
      publish_codec_(options.publish_codec, setup_),
      optimizer_(make_optimizer(options.optimizer, floats_)),
      versions_(versions_max(options.examples.size()) * floats_ * sizeof(float)),
      published_(std::numeric_limits<std::size_t>::max() / 2),
      computation_(std::make_unique<Functions>(options, *codec_, publish_codec_)) {
    if (!publish_codec_.in_place()) publisher_.emplace(publish_codec_, published_, published_);
    Buffer initial = versions_.lease(floats_ * sizeof(float));
    std::ranges::copy(options.initial, initial.floats().begin());
    ClusterOptions cluster{.server = options.server,
                           .policy = options.policy,
                           .examples = options.examples,
                           .compute_time = options.duration,
                           .update_time = options.update_duration,
                           .links = options.links,
                           .failures = options.failures,
                           .publisher = publisher_ ? &*publisher_ : nullptr,
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

void VirtualCluster::persist(Archive& archive) {
    archive.pools({&versions_, &published_});
    cluster_->persist(archive);
}

std::vector<float> VirtualCluster::parameters() const {
    const auto floats = server().parameters().floats();
    return {floats.begin(), floats.end()};
}

std::span<const float> VirtualCluster::residual(WorkerId worker) const {
    return computation_->residual(worker);
}

std::size_t VirtualCluster::gradient_buffers(WorkerId worker) const {
    return cluster_->buffers(worker).gradients.bytes_allocated() / (floats_ * sizeof(float));
}

std::size_t VirtualCluster::version_buffers() const {
    return versions_.bytes_allocated() / (floats_ * sizeof(float));
}

} // namespace lategrad
