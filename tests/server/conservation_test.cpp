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

/// A model of several chunks, also behind a lossless stage, or one as small as kFloats.
std::vector<MatrixShape> tensors_of(std::size_t floats) {
    if (floats == kFloats) return kTensors;
    return {{.rows = 40, .columns = 50}, {.rows = 1, .columns = floats - 2000}};
}

/// What a payload makes an update add.
std::vector<float> decoded(const Codec& codec, const Buffer& payload, std::size_t floats) {
    std::vector<float> sum(floats);
    const EncodedTerm term{{payload.data(), payload.bytes()}, 1};
    for (std::size_t first = 0; first < floats; first += codec.chunk()) {
        const std::size_t size = std::min(codec.chunk(), floats - first);
        codec.weighted_sum({&term, 1}, first, std::span(sum).subspan(first, size));
    }
    return sum;
}

/// One process of a worker: all that it ever encoded.
struct Life {
    struct Encoded {
        Step step;
        std::vector<float> added;   ///< to what is left out: the gradient, or with momentum the velocity it has led to
        std::vector<float> payload; ///< decoded
    };
    /// After an encoding, whole or failed.
    struct State {
        std::size_t encoded = 0;  ///< so many until then
        std::size_t refunded = 0; ///< so many of them could have been
        std::vector<float> residual;
    };
    std::vector<Encoded> encoded;
    std::vector<State> states;
    std::vector<float> velocity;
};

/// Keeps a worker's lives, as its processes begin and encode.
class Books {
  public:
    Books(const std::string& codec, std::size_t floats, double momentum)
        : codec_(make_codec(codec, {.elements = floats, .tensors = tensors_of(floats)})),
          floats_(floats),
          momentum_(momentum) {}

    void watch(VirtualClusterOptions& options) {
        options.begins_life = [this](WorkerId worker) { lives_[worker].emplace_back().velocity.resize(floats_); };
        options.encoded = [this](WorkerId worker, Step step, std::span<const float> grad, const Buffer& payload,
                                 std::span<const float> residual) {
            Life& life = lives_[worker].back();
            const std::size_t before = life.encoded.size();
            if (payload) { // else not finite: as if it had not been
                std::vector<float> added, sent = decoded(*codec_, payload, floats_);
                for (std::size_t i = 0; i < floats_; ++i) {
                    added.push_back(static_cast<float>(momentum_) * life.velocity[i] + grad[i]);
                    life.velocity[i] = sent[i] == 0 ? added[i] : 0; // factor masking
                }
                life.encoded.push_back({step, std::move(added), std::move(sent)});
            }
            life.states.push_back({life.encoded.size(), before, {residual.begin(), residual.end()}});
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
    std::size_t floats_;
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
    const auto policy =
        *rc::gen::element<std::string>("sync", "backup", "reuse", "reuse", "kasync", "kbatch", "async", "ssp:1");
    const auto workers = *rc::gen::element<std::size_t>(1, 2, 3, 4, 4);
    const auto staleness_max = *rc::gen::element(-1, 0, 0, 0, 1, 2);
    const auto deaths = *rc::gen::inRange<int>(0, 4);
    const auto nan_percent = *rc::gen::element(0, 0, 10);
    const auto publish_codec = *rc::gen::element<std::string>("none", "bf16", "zstd", "delta:topk:0.2", "delta:signsgd",
                                                              "delta:bf16+lz4", "delta:qsgd:4", "delta:randk:0.2");
    const double momentum = codec.starts_with("dgc") ? *rc::gen::element(0.0, 0.9) : 0;
    const auto schedule = *rc::gen::element<std::string>("constant", "step:1,0.5", "step:1,2", "constant+warmup:1");
    const auto floats = *rc::gen::weightedElement<std::size_t>({{8, kFloats}, {1, 4200}, {1, 16500}});
    RC_LOG() << "seed " << seed << ", " << codec << ", " << policy << ", " << workers << " workers, staleness-max "
             << staleness_max << ", deaths " << deaths << ", NaN " << nan_percent << " %, publish " << publish_codec
             << ", momentum " << momentum << ", lr-schedule " << schedule << ", " << floats << " floats\n";

    VirtualClusterOptions options;
    options.codec = codec;
    options.publish_codec = publish_codec;
    options.tensors = tensors_of(floats);
    options.codec_momentum = momentum;
    options.policy.parse_kind(policy);
    options.policy.wait_for = *rc::gen::inRange<std::size_t>(1, workers + 1);
    options.policy.cancel_late = policy == "backup" && *rc::gen::arbitrary<bool>();
    if (staleness_max >= 0) options.policy.staleness_max = static_cast<std::uint64_t>(staleness_max);
    options.server.updates = *rc::gen::inRange<std::uint64_t>(1, 30);
    options.server.learning_rate = 0.5;
    options.server.schedule = Schedule::parse(schedule);
    options.server.epoch_examples = 10;
    options.server.workers_return = true;
    options.initial.assign(floats, 1.0F);
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
    Books books(codec, floats, momentum);
    books.watch(options);
    VirtualCluster cluster(std::move(options));
    RandomStream random(seed, Purpose::test, {3});
    for (int i = 0; i < deaths; ++i) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(workers))};
        const Time at{Duration(30 + random.below(300))};
        cluster.kill(worker, at);
        cluster.revive(worker, at + Duration(5 + random.below(20)));
    }
    RC_ASSERT(cluster.run(100'000));

    std::map<std::pair<WorkerId, Step>, ArriveEvent> arrived;
    for (const ArriveEvent& event : cluster.all<ArriveEvent>())
        arrived.emplace(std::pair(event.worker, event.step), event);

    // The learning rate that a gradient was computed for; of the last version, which no update follows, it is not
    // known.
    std::map<Version, double> rates;
    for (const UpdateEvent& update : cluster.all<UpdateEvent>()) rates[update.version] = update.learning_rate;
    std::map<std::pair<WorkerId, Step>, double> rate_of;
    for (const AssignEvent& event : cluster.all<AssignEvent>()) {
        if (const auto rate = rates.find(event.version); rate != rates.end())
            rate_of[{event.worker, event.step}] = rate->second;
    }

    // Each process by itself: all its gradients are applied (or held), on their way, or left out.
    std::size_t refunds = 0;
    for (const auto& [worker, lives] : books.lives()) {
        for (const Life& life : lives) {
            std::vector<double> rate;
            for (const Life::Encoded& encoded : life.encoded) {
                const auto known = rate_of.find({worker, encoded.step});
                if (known == rate_of.end()) break;
                rate.push_back(known->second);
            }
            const auto known_by_then = [&](const Life::State& state) { return state.encoded <= rate.size(); };
            const auto state = std::find_if(life.states.rbegin(), life.states.rend(), known_by_then);
            if (state == life.states.rend() || state->encoded == 0) continue;
            std::vector<bool> refunded;
            for (std::size_t j = 0; j < state->encoded; ++j) {
                const auto event = arrived.find({worker, life.encoded[j].step});
                const bool dropped = event != arrived.end() && event->second.fate == Fate::drop && policy != "backup";
                refunded.push_back(dropped && j < state->refunded);
                refunds += refunded.back() ? 1 : 0;
            }
            for (std::size_t i = 0; i < floats; ++i) {
                double gradients = 0, magnitude = 0, elsewhere = 0;
                for (std::size_t j = 0; j < state->encoded; ++j) {
                    const Life::Encoded& encoded = life.encoded[j];
                    gradients += rate[j] * encoded.added[i];
                    magnitude += std::abs(rate[j] * encoded.added[i]);
                    if (!refunded[j]) elsewhere += rate[j] * encoded.payload[i];
                }
                const double left = rate[state->encoded - 1] * state->residual[i];
                RC_ASSERT(close(elsewhere + left, gradients, magnitude));
            }
        }
    }
    RC_CLASSIFY(refunds > 0, "refunds");
    // And what the updates applied is what was sent: nothing twice, nothing else.
    std::vector<double> moved(floats), magnitude(floats);
    for (const UpdateEvent& update : cluster.all<UpdateEvent>()) {
        for (const AppliedGradient& gradient : update.applied) {
            const auto& payload = books.payload(gradient.worker, gradient.step);
            for (std::size_t i = 0; i < floats; ++i) {
                const double term =
                    update.learning_rate * gradient.weight * gradient.examples / update.denominator * payload[i];
                moved[i] += term;
                magnitude[i] += std::abs(term);
            }
        }
    }
    const auto parameters = cluster.parameters();
    for (std::size_t i = 0; i < floats; ++i) RC_ASSERT(close(1 - parameters[i], moved[i], magnitude[i]));
    // Whoever computes on a version has the same bits of it, whichever versions it has skipped.
    std::map<Version, std::vector<float>> versions;
    for (const AssignEvent& event : cluster.all<AssignEvent>()) {
        const auto params = computed_on.find({event.worker, event.step});
        if (params == computed_on.end()) continue; // it died, or the run ended
        const auto& version = versions.try_emplace(event.version, params->second).first->second;
        RC_ASSERT(std::memcmp(version.data(), params->second.data(), floats * sizeof(float)) == 0);
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
