/// Whatever the validation of published parameters lets pass, a worker decodes.
#include <algorithm>
#include <optional>
#include <utility>

#include "lategrad/codec/publish.h"
#include "lategrad/core/random.h"
#include "tests/codec/coding.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kTail = 3;
constexpr std::size_t kPoolBytes = std::size_t{16} << 20;

// publish.h
constexpr std::size_t kFormAt = 8;
constexpr std::size_t kCountAt = 12;
constexpr std::size_t kHeader = 24;
constexpr std::size_t kDifferenceHeader = 8;
constexpr std::size_t kBody = kHeader + kTail * sizeof(float);
constexpr std::uint32_t kWhole = 0x6c6f6877;
constexpr std::uint32_t kDifferences = 0x66666964;
constexpr std::uint32_t kValues = 0x756c6176;

/// The version that the worker holds; what was published before it and after it differs.
constexpr Version kHeld{1};
constexpr Version kNewest{2};
constexpr unsigned kVersionOne = kVersion & ~(kVersion << 1);

CodecSetup setup_for(std::string spec) {
    spec = spec.starts_with("delta:") ? spec.substr(6) : spec;
    return {.elements = make_codec(spec, {.elements = 1})->chunk() + 405, .tail = kTail, .seed = 11};
}

class PublishTarget final : public Target {
  public:
    explicit PublishTarget(const std::string& spec) : setup_(setup_for(spec)), codec_(spec, setup_) {
        BufferPool pool(kPoolBytes);
        Publisher publisher(codec_, pool, pool);
        RandomStream random(1, Purpose::test);
        std::vector<float> params(setup_.elements + kTail);
        for (Version version{0};; version = version.next()) {
            for (int moved = 0; moved < 300; ++moved) {
                params[random.below(params.size())] += static_cast<float>(random.uniform() - 0.5);
            }
            Buffer buffer = pool.lease(params.size() * sizeof(float));
            std::ranges::copy(params, buffer.floats().begin());
            publisher.publish(version, buffer, {});
            if (version == kHeld) held_ = bytes_of(publisher.payload({}));
            if (version == kNewest) break;
        }
        for (const std::optional<Version> base :
             {std::optional<Version>(), std::optional(kNewest), std::optional(kHeld), std::optional(Version{0})}) {
            const Bytes payload = bytes_of(publisher.payload(base));
            if (std::ranges::find(payloads_, payload) == payloads_.end()) payloads_.push_back(payload);
        }
        if (spec == "none") return;
        const std::span<const std::byte> sample = payloads_.back();
        const auto form = load<std::uint32_t>(sample, kFormAt);
        CHECK(form != kWhole);
        if (form == kValues) seal_.emplace(sample.subspan(kBody), 0);
        else if (form != kDifferences) seal_.emplace(sample, kTail);
        else seal_.emplace(sample.subspan(kBody + kDifferenceHeader, load<std::uint32_t>(sample, kBody)), 0);
    }

    std::vector<Bytes> payloads() const override { return payloads_; }
    unsigned control() const override { return static_cast<unsigned>(kNewest.value()) * kVersionOne; }

    bool run(unsigned control, Bytes bytes) const override {
        if ((control & kSampleLength) != 0) bytes.resize(sample_length(bytes));
        if (seal_ && bytes.size() >= kHeader) put_right(bytes, control);
        const Reason reason = codec_.validate(bytes);
        if (reason != Reason::none) {
            CHECK(reason == Reason::malformed || reason == Reason::not_finite);
            return false;
        }
        CHECK(bytes.size() <= codec_.payload_bytes_max());
        const Version version{(control & kVersion) / kVersionOne};
        const std::vector<Bytes> decoded = decode(bytes, version);
        CHECK(decoded == decode(bytes, version));
        return true;
    }

  private:
    /// What two workers hold: one had nothing, the other one kHeld. Empty where a payload is not for them. Behind it,
    /// the second one gets what is not from a hostile server.
    std::vector<Bytes> decode(const Bytes& bytes, Version version) const {
        std::vector<Bytes> out;
        for (const bool holds : {false, true}) {
            BufferPool payloads(kPoolBytes), params(kPoolBytes); // of exactly the lengths asked for
            Subscriber subscriber(codec_, params);
            if (holds) CHECK(subscriber.decode(in(payloads, held_), kHeld));
            const Buffer got = subscriber.decode(in(payloads, bytes), version);
            CHECK(!got || got.bytes() == (setup_.elements + kTail) * sizeof(float));
            out.push_back(bytes_of(got));
            out.push_back(bytes_of(subscriber.decode(in(payloads, payloads_.back()), kNewest)));
        }
        return out;
    }
    std::size_t sample_length(const Bytes& bytes) const {
        const bool whole = bytes.size() >= kHeader && load<std::uint32_t>(bytes, kFormAt) == kWhole;
        return whole ? kHeader + (setup_.elements + kTail) * sizeof(float) : payloads_.back().size();
    }
    static Buffer in(BufferPool& pool, std::span<const std::byte> bytes) {
        Buffer buffer = pool.lease(bytes.size());
        std::ranges::copy(bytes, buffer.data());
        return buffer;
    }

    /// The codecs' payloads inside, then what is around them.
    void put_right(std::span<std::byte> bytes, unsigned control) const {
        if ((control & kSealAsIs) != 0) return;
        const auto form = load<std::uint32_t>(bytes, kFormAt);
        if (form != kWhole && form != kDifferences && form != kValues) {
            seal_->put_right(bytes, control);
            return;
        }
        if (form == kValues && bytes.size() > kBody) seal_->put_right(bytes.subspan(kBody), control);
        if (form == kDifferences) {
            std::uint32_t count = 0;
            for (std::size_t at = kBody; at + kDifferenceHeader <= bytes.size(); ++count) {
                const std::size_t left = bytes.size() - at - kDifferenceHeader;
                if ((control & kLengthsAsIs) == 0 && load<std::uint32_t>(bytes, at) > left) {
                    store(bytes, at, static_cast<std::uint32_t>(left));
                }
                const std::size_t size = std::min<std::size_t>(load<std::uint32_t>(bytes, at), left);
                at += kDifferenceHeader;
                seal_->put_right(bytes.subspan(at, size), control);
                at += size;
            }
            if ((control & kLengthsAsIs) == 0) store(bytes, kCountAt, count);
        }
        put_checksum_right(bytes);
    }

    CodecSetup setup_;
    PublishCodec codec_;
    Bytes held_;
    std::vector<Bytes> payloads_; ///< of kNewest: the last one for who holds the oldest version
    std::optional<Seal> seal_;
};

} // namespace

std::unique_ptr<Target> make_publish_target(const std::string& spec) {
    return std::make_unique<PublishTarget>(spec);
}

} // namespace lategrad::fuzz
