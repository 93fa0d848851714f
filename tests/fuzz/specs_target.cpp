/// Whatever value an option has, it is taken or refused; what is taken can be asked. A worker is told the options of
/// its run by the server.
#include <algorithm>
#include <cmath>

#include "lategrad/codec/publish.h"
#include "lategrad/core/quantity.h"
#include "lategrad/data/partition.h"
#include "lategrad/optim/schedule.h"
#include "lategrad/policy/policy.h"
#include "lategrad/worker/straggle.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

constexpr std::uint64_t kSeed = 1;
constexpr std::size_t kElements = 24;
const CodecSetup kSetup{.elements = kElements, .tail = 2, .tensors = {{4, 5}, {1, 4}}};

void try_policy(const std::string& text) {
    PolicyOptions options;
    options.wait_for = 2;
    passes("--policy", [&] { options.parse_kind(text); });
    passes("--normalize", [&] { options.parse_normalize(text); });
    options.late_weight = LateWeight::parse(text);
    CHECK(LateWeight::parse(options.late_weight.spec()).spec() == options.late_weight.spec());
    passes({}, [&] { make_policy(options); });
    for (const std::uint64_t staleness : {0, 1, 1000}) {
        CHECK(std::isfinite(options.late_weight.of(
            {.staleness = staleness, .span_updates = 1, .gradients = 1, .fresh_examples = 1, .late_examples = 1})));
    }
}

void try_kind(const std::string& text) {
    PolicyOptions options;
    options.parse_kind(text);
    options.wait_for = 2;
    CHECK(make_policy(options)->version() == Version{0});
}

void try_codec(const std::string& text) {
    const auto codec = make_codec(text, kSetup);
    BufferPool pool(std::size_t{1} << 20);
    Buffer gradient = pool.lease((kElements + 2) * sizeof(float));
    for (float& value : gradient.floats()) value = 0.5F;
    const Buffer payload = codec->make_encoder(WorkerId{0}, pool)->encode(gradient, {});
    CHECK(payload && payload.bytes() <= codec->payload_bytes_max());
    CHECK(codec->validate({payload.data(), payload.bytes()}) == Reason::none);
}

void try_publish_codec(const std::string& text) {
    const PublishCodec codec(text, kSetup);
    BufferPool pool(std::size_t{1} << 20);
    Publisher publisher(codec, pool, pool);
    Buffer params = pool.lease((kElements + 2) * sizeof(float));
    for (float& value : params.floats()) value = 0.5F;
    publisher.publish(Version{0}, params, {});
    const Buffer payload = publisher.payload({});
    CHECK(codec.validate({payload.data(), payload.bytes()}) == Reason::none);
}

void try_schedule(const std::string& text) {
    const Schedule schedule = Schedule::parse(text);
    for (const std::uint64_t examples : {0, 7, 1'000'000}) {
        const double factor = schedule.factor({.examples_applied = examples, .epoch_examples = 10, .done = 0.5});
        CHECK(std::isfinite(factor) && factor >= 0);
    }
}

/// A table is a file's (csv_target.cpp).
void try_straggle(const std::string& text) {
    if (text.starts_with("trace:")) return;
    const StraggleModel model = StraggleModel::parse(text, kSeed);
    for (std::uint32_t worker = 0; worker < 4; ++worker) {
        const Duration delay = model.delay(WorkerId{worker}, Step{1}, 4, from_seconds(1));
        CHECK(delay >= Duration::zero());
        CHECK(delay == Duration::zero() || model.adds_time(from_seconds(1)));
    }
    CHECK(model.workers_min() <= std::size_t{1} << 32);
}

void try_time(const std::string& text) {
    for (const bool bare_seconds : {false, true}) {
        passes("--time", [&] {
            const Duration time = parse_duration(text, "--time", bare_seconds);
            CHECK(time >= Duration::zero() && seconds(time) <= kSecondsMax);
        });
    }
}

void try_partition(const std::string& text) {
    const Partition partition = Partition::parse(text);
    CHECK(std::isfinite(partition.alpha) && partition.alpha >= 0);
}

struct Option {
    std::string_view name;
    void (*try_value)(const std::string& text);
    std::vector<std::string_view> values;
};

const std::vector<Option>& options() {
    static const std::vector<Option> all{
        {"policy", try_kind, {"sync", "ssp:18446744073709551615"}},
        {"late-weight", try_policy, {"exp:0.5", "span", "certified"}},
        {"codec", try_codec, {"topk:0.05+zstd:3", "dgc:0.01,4", "qsgd:4", "lowrank:2", "randk:1+blosc"}},
        {"publish-codec", try_publish_codec, {"delta:topk:0.1+lz4", "bf16+lz4", "none"}},
        {"lr-schedule", try_schedule, {"step:30,0.1+warmup:5", "cosine:0.01"}},
        {"straggle",
         try_straggle,
         {"exp:20ms", "shifted-exp:5ms,20ms", "pareto:1.5,10ms", "slow:2,4", "bimodal:0.1,5"}},
        {"time", try_time, {"1.5s", "100us", "2m", "90"}},
        {"partition", try_partition, {"dirichlet:0.5", "iid"}},
    };
    return all;
}

class SpecsTarget final : public Target {
  public:
    explicit SpecsTarget(const Option& option) : option_(option) {}

    bool run(unsigned, Bytes bytes) const override {
        return passes({}, [&] { option_.try_value(std::string(text_in(bytes))); });
    }

    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out;
        for (const std::string_view value : option_.values) out.push_back(bytes_in(value));
        return out;
    }

  private:
    const Option& option_;
};

} // namespace

std::unique_ptr<Target> make_specs_target(const std::string& spec) {
    const auto option = std::ranges::find(options(), spec, &Option::name);
    CHECK(option != options().end());
    return std::make_unique<SpecsTarget>(*option);
}

} // namespace lategrad::fuzz
