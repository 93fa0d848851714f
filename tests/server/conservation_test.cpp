/// Error feedback loses nothing: what was applied and what is left out add up to all gradients, whatever comes late, is
/// dropped, dies or returns.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <vector>

#include "lategrad/core/random.h"
#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

constexpr std::size_t kFloats = 24;
const std::vector<MatrixShape> kTensors = {{.rows = 4, .columns = 5}, {.rows = 1, .columns = 4}};

/// What a payload makes an update add.
std::vector<float> decoded(const Codec& codec, const Buffer& payload, std::size_t floats = kFloats) {
    std::vector<float> sum(floats);
    const EncodedTerm term{{payload.data(), payload.bytes()}, 1};
    codec.weighted_sum({&term, 1}, 0, sum);
    return sum;
}

/// One process of a worker: all that it ever encoded.
struct Life {
    struct Encoded {
        Step step;
        std::vector<float> added;   ///< to what is left out: the gradient, or with momentum the velocity it has led to
        std::vector<float> payload; ///< decoded
    };
    std::vector<Encoded> encoded;
    std::size_t refunded = 0;    ///< so many of them could have been, by an encoding after them, whole or failed
    std::vector<float> residual; ///< at its end
    std::vector<float> velocity = std::vector<float>(kFloats);
};

/// Keeps a worker's lives, as its processes begin and encode.
class Books {
  public:
    Books(const std::string& codec, double momentum)
        : codec_(make_codec(codec, {.elements = kFloats, .tensors = kTensors})),
          momentum_(momentum) {}

    void watch(VirtualClusterOptions& options) {
        options.begins_life = [this](WorkerId worker) { lives_[worker].emplace_back(); };
        options.encoded = [this](WorkerId worker, Step step, std::span<const float> grad, const Buffer& payload,
                                 std::span<const float> residual) {
            Life& life = lives_[worker].back();
            life.residual.assign(residual.begin(), residual.end());
            life.refunded = life.encoded.size();
            if (!payload) return; // not finite: as if it had not been
            std::vector<float> added, sent = decoded(*codec_, payload);
            for (std::size_t i = 0; i < kFloats; ++i) {
                added.push_back(static_cast<float>(momentum_) * life.velocity[i] + grad[i]);
                life.velocity[i] = sent[i] == 0 ? added[i] : 0; // factor masking
            }
            life.encoded.push_back({step, std::move(added), std::move(sent)});
        };
    }
    const std::map<WorkerId, std::vector<Life>>& lives() const { return lives_; }
    const std::vector<float>& payload(WorkerId worker, Step step) const {
        for (const Life& life : lives_.at(worker)) {
            for (const Life::Encoded& encoded : life.encoded) {
                if (encoded.step == step) return encoded.payload;
            }
        }
        throw std::logic_error("nobody encoded that");
    }

  private:
    std::unique_ptr<Codec> codec_;
    double momentum_;
    std::map<WorkerId, std::vector<Life>> lives_;
};

/// The order of the sums differs.
bool close(double a, double b, double magnitude) {
    return std::abs(a - b) <= 1e-5 * (1 + magnitude);
}

RC_GTEST_PROP(Conservation, AppliedAndLeftOutAddUpToAllGradients, ()) {
    const auto seed = *rc::gen::arbitrary<std::uint64_t>();
    const auto codec = *rc::gen::element<std::string>("topk:0.1", "topk:0.3+zstd", "randk:0.2", "signsgd",
                                                      "signsgd+lz4", "lowrank:1", "dgc:0.1");
    const auto policy = *rc::gen::element<std::string>("sync", "backup", "reuse", "kasync", "kbatch", "async", "ssp:1");
    const auto workers = *rc::gen::inRange<std::size_t>(1, 5);
    const auto staleness_max = *rc::gen::inRange(-1, 3);
    const auto deaths = *rc::gen::inRange<int>(0, 4);
    const auto nan_percent = *rc::gen::element(0, 0, 10);
    const auto publish_codec = *rc::gen::element<std::string>("none", "bf16", "zstd", "delta:topk:0.2", "delta:signsgd",
                                                              "delta:bf16+lz4", "delta:qsgd:4", "delta:randk:0.2");
    const double momentum = codec.starts_with("dgc") ? *rc::gen::element(0.0, 0.9) : 0;
    RC_LOG() << "seed " << seed << ", " << codec << ", " << policy << ", " << workers << " workers, staleness-max "
             << staleness_max << ", deaths " << deaths << ", NaN " << nan_percent << " %, publish " << publish_codec
             << ", momentum " << momentum << "\n";

    VirtualClusterOptions options;
    options.codec = codec;
    options.publish_codec = publish_codec;
    options.tensors = kTensors;
    options.codec_momentum = momentum;
    options.policy.parse_kind(policy);
    options.policy.wait_for = *rc::gen::inRange<std::size_t>(1, workers + 1);
    options.policy.cancel_late = policy == "backup" && *rc::gen::arbitrary<bool>();
    if (staleness_max >= 0) options.policy.staleness_max = static_cast<std::uint64_t>(staleness_max);
    options.server.updates = *rc::gen::inRange<std::uint64_t>(1, 30);
    options.server.learning_rate = 0.5;
    options.server.workers_return = true;
    options.initial.assign(kFloats, 1.0F);
    options.examples.assign(workers, 1);
    options.latency = Duration(*rc::gen::element(0, 2, 15));
    options.update_duration = Duration(*rc::gen::inRange(0, 12));
    const auto chance = [seed](std::uint64_t what, WorkerId worker, Step step) {
        return RandomStream(seed, Purpose::test, {what, worker.value(), step.value()});
    };
    options.duration = [&](WorkerId worker, Step step) { return Duration(1 + chance(1, worker, step).below(40)); };
    std::map<std::pair<WorkerId, Step>, std::vector<float>> computed_on;
    options.gradient = [&](WorkerId worker, Step step, std::span<const float> params, std::span<float> grad) {
        computed_on[{worker, step}].assign(params.begin(), params.end());
        RandomStream random = chance(2, worker, step);
        for (float& value : grad) value = static_cast<float>(random.exponential(1) - random.exponential(1));
        if (random.below(100) < static_cast<std::uint64_t>(nan_percent)) grad[3] = NAN;
        return 0.0;
    };
    Books books(codec, momentum);
    books.watch(options);
    VirtualCluster cluster(std::move(options));
    RandomStream random(seed, Purpose::test, {3});
    for (int i = 0; i < deaths; ++i) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(workers))};
        const Time at{Duration(30 + random.below(300))};
        cluster.kill(worker, at);
        cluster.revive(worker, at + Duration(5 + random.below(20)));
    }
    cluster.run(100'000);

    std::map<std::pair<WorkerId, Step>, ArriveEvent> arrived;
    for (const ArriveEvent& event : cluster.all<ArriveEvent>())
        arrived.emplace(std::pair(event.worker, event.step), event);

    // Each process by itself: all its gradients are applied (or held), on their way, or left out.
    for (const auto& [worker, lives] : books.lives()) {
        for (const Life& life : lives) {
            if (life.encoded.empty()) continue;
            for (std::size_t i = 0; i < kFloats; ++i) {
                double gradients = 0, magnitude = 0, elsewhere = 0;
                for (std::size_t j = 0; j < life.encoded.size(); ++j) {
                    const Life::Encoded& encoded = life.encoded[j];
                    gradients += encoded.added[i];
                    magnitude += std::abs(encoded.added[i]);
                    const auto event = arrived.find({worker, encoded.step});
                    const bool refunded =
                        event != arrived.end() && event->second.fate == Fate::drop && policy != "backup";
                    if (!refunded || j >= life.refunded) elsewhere += encoded.payload[i];
                }
                RC_ASSERT(close(elsewhere + life.residual[i], gradients, magnitude));
            }
        }
    }
    // And what the updates applied is what was sent: nothing twice, nothing else.
    std::vector<double> moved(kFloats), magnitude(kFloats);
    for (const UpdateEvent& update : cluster.all<UpdateEvent>()) {
        for (const AppliedGradient& gradient : update.applied) {
            const auto& payload = books.payload(gradient.worker, gradient.step);
            for (std::size_t i = 0; i < kFloats; ++i) {
                const double term = 0.5 * gradient.weight * gradient.examples / update.denominator * payload[i];
                moved[i] += term;
                magnitude[i] += std::abs(term);
            }
        }
    }
    const auto parameters = cluster.parameters();
    for (std::size_t i = 0; i < kFloats; ++i) RC_ASSERT(close(1 - parameters[i], moved[i], magnitude[i]));
    // Whoever computes on a version has the same bits of it, whichever versions it has skipped.
    std::map<Version, std::vector<float>> versions;
    for (const AssignEvent& event : cluster.all<AssignEvent>()) {
        const auto params = computed_on.find({event.worker, event.step});
        if (params == computed_on.end()) continue; // it died, or the run ended
        const auto& version = versions.try_emplace(event.version, params->second).first->second;
        RC_ASSERT(std::memcmp(version.data(), params->second.data(), kFloats * sizeof(float)) == 0);
    }
}

/// Left out at one learning rate, applied at another: Σ lr·g is what is conserved.
TEST(Conservation, AChangedLearningRateRescalesWhatIsLeftOut) {
    for (const char* codec : {"topk:0.1", "signsgd", "randk:0.2", "lowrank:1", "dgc:0.1"})
        for (const char* schedule :
             {"step:1,0.5", "constant+warmup:1"}) { // every tenth update half; the first at rate 0
            VirtualClusterOptions options;
            options.codec = codec;
            options.tensors = kTensors;
            options.policy.kind = "sync";
            options.server.updates = 40;
            options.server.learning_rate = 0.5;
            options.server.epoch_examples = 10;
            options.server.schedule = Schedule::parse(schedule);
            options.initial.assign(kFloats, 1.0F);
            std::vector<std::vector<float>> gradients;
            options.gradient = [&](WorkerId, Step step, std::span<const float>, std::span<float> grad) {
                RandomStream random(1, Purpose::test, {step.value()});
                for (float& value : grad) value = static_cast<float>(random.uniform());
                gradients.emplace_back(grad.begin(), grad.end());
                return 0.0;
            };
            VirtualCluster cluster(options);
            ASSERT_TRUE(cluster.run());
            const auto updates = cluster.all<UpdateEvent>();
            ASSERT_EQ(updates.size(), 40u);
            const auto parameters = cluster.parameters();
            const auto residual = cluster.residual(WorkerId{0});
            EXPECT_TRUE(std::ranges::any_of(residual, [](float left) { return std::abs(left) > 0.1F; })) << codec;
            for (std::size_t i = 0; i < kFloats; ++i) {
                double wanted = 0;
                for (std::size_t j = 0; j < updates.size(); ++j) wanted += updates[j].learning_rate * gradients[j][i];
                const double left = updates.back().learning_rate * residual[i];
                EXPECT_NEAR(1 - parameters[i] + left, wanted, 1e-4) << codec << ' ' << schedule << ' ' << i;
            }
        }
}

/// What backup drops is forgotten, as its meaning is; what reuse drops as too stale comes back.
TEST(Conservation, OnlyBackupForgets) {
    for (const char* policy : {"backup", "reuse"}) {
        VirtualClusterOptions options;
        options.codec = "topk:0.1";
        options.policy.kind = policy;
        options.policy.staleness_max = 0;
        options.policy.wait_for = 1;
        options.server.updates = 50;
        options.initial.assign(kFloats, 0.0F);
        options.examples = {1, 1};
        options.duration = [](WorkerId worker, Step) { return Duration(worker.value() == 0 ? 1 : 10); };
        options.gradient = [](WorkerId, Step, std::span<const float>, std::span<float> grad) {
            std::ranges::fill(grad, 1.0F); // the slow worker's are always late
            return 0.0;
        };
        std::size_t encoded = 0;
        double last = 0;
        options.encoded = [&](WorkerId worker, Step, std::span<const float>, const Buffer&,
                              std::span<const float> left) {
            if (worker.value() != 1) return;
            ++encoded;
            last = 0;
            for (const float value : left) last += value;
        };
        VirtualCluster cluster(options);
        ASSERT_TRUE(cluster.run());
        ASSERT_GE(encoded, 4u);
        // Two of 24 entries are sent each time. Where they come back, all but those of the last one are still there.
        const auto all = static_cast<double>(encoded * kFloats);
        if (std::string(policy) == "reuse") EXPECT_GT(last, all - 2.0 * static_cast<double>(encoded) - 1e-3);
        else EXPECT_LT(last, all - 2.0 * static_cast<double>(encoded) + 1e-3);
    }
}

} // namespace
} // namespace lategrad
