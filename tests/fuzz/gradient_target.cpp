/// Whatever a gradient codec's validation lets pass, decodes.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <optional>
#include <utility>

#include "lategrad/codec/codec.h"
#include "tests/codec/coding.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kTail = 3;
constexpr std::size_t kLastChunk = 405;
constexpr std::size_t kPoolBytes = std::size_t{16} << 20;

/// A chunk and a part of another one, which no vector length divides; a matrix in both of them.
CodecSetup setup_for(const std::string& spec) {
    const std::size_t elements = make_codec(spec, {.elements = 1})->chunk() + kLastChunk;
    return {.elements = elements,
            .tail = kTail,
            .tensors = {{.rows = 1, .columns = elements - 4000}, {.rows = 40, .columns = 100}},
            .seed = 11};
}

bool all_finite(std::span<const float> values) {
    return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

class GradientTarget final : public Target {
  public:
    explicit GradientTarget(const std::string& spec) : setup_(setup_for(spec)), codec_(make_codec(spec, setup_)) {
        sample_ = encoded(gradient(300));
        of_sample_ = weighted_sum(std::array{EncodedTerm{sample_, 1}});
        if (spec != "none") seal_.emplace(sample_, kTail); // none has nothing around its floats
    }

    bool run(unsigned control, Bytes bytes) const override {
        if ((control & kSampleLength) != 0) bytes.resize(sample_.size());
        if (seal_) seal_->put_right(bytes, control);

        // Of exactly that length, as everything below: a sanitizer sees each end.
        BufferPool pool(kPoolBytes);
        Buffer buffer = pool.lease(bytes.size());
        std::ranges::copy(bytes, buffer.data());
        const std::span<const std::byte> payload(std::as_const(buffer).data(), buffer.bytes());

        const Reason reason = codec_->validate(payload);
        if (reason != Reason::none) {
            CHECK(reason == Reason::malformed || reason == Reason::not_finite);
            return false;
        }
        CHECK(payload.size() <= codec_->payload_bytes_max());
        const std::vector<float> decoded = weighted_sum(std::array{EncodedTerm{payload, 1}});
        CHECK(all_finite(decoded));
        CHECK(codec_->tail(payload).size() == kTail && all_finite(codec_->tail(payload)));

        // Behind another one, whose bytes this thread has decoded meanwhile.
        const std::vector<float> both = weighted_sum(std::array{EncodedTerm{sample_, 1}, EncodedTerm{payload, 1}});
        for (std::size_t i = 0; i < both.size(); ++i) CHECK(both[i] == of_sample_[i] + decoded[i]);

        const auto encoder = codec_->make_encoder(WorkerId(0), pool);
        encoder->refund(payload);
        CHECK(encoder->residual().empty() != codec_->error_feedback());
        if (codec_->error_feedback()) CHECK(std::ranges::equal(encoder->residual(), decoded));
        return true;
    }

    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out;
        for (const std::size_t entries : {std::size_t{0}, std::size_t{300}, setup_.elements}) {
            out.push_back(encoded(gradient(entries)));
        }
        if (Bytes stored = encoded(incompressible()); !stored.empty()) out.push_back(std::move(stored));
        return out;
    }

  private:
    /// That many entries are not zero.
    std::vector<float> gradient(std::size_t entries) const {
        RandomStream random(1, Purpose::test);
        std::vector<float> values = gaussian(random, entries);
        values.resize(setup_.elements);
        random.shuffle(std::span(values));
        const std::vector<float> tail = gaussian(random, kTail);
        values.insert(values.end(), tail.begin(), tail.end());
        return values;
    }
    /// In its last chunk, so that a lossless stage stores that as it is. More than some codecs can take.
    std::vector<float> incompressible() const {
        RandomStream random(2, Purpose::test);
        std::vector<float> values(setup_.elements + kTail);
        for (std::size_t i = values.size() - kTail - kLastChunk; i < setup_.elements; ++i) {
            do values[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
            while (!std::isfinite(values[i]));
        }
        return values;
    }
    Bytes encoded(std::span<const float> gradient) const {
        BufferPool pool(kPoolBytes);
        Buffer buffer = pool.lease(gradient.size_bytes());
        std::ranges::copy(gradient, buffer.floats().begin());
        return bytes_of(codec_->make_encoder(WorkerId(0), pool)->encode(buffer, {}));
    }
    std::vector<float> weighted_sum(std::span<const EncodedTerm> terms) const {
        std::vector<float> all;
        for (std::size_t first = 0; first < setup_.elements; first += codec_->chunk()) {
            std::vector<float> sum(std::min(codec_->chunk(), setup_.elements - first), 7);
            codec_->weighted_sum(terms, first, sum);
            all.insert(all.end(), sum.begin(), sum.end());
        }
        return all;
    }

    CodecSetup setup_;
    std::unique_ptr<Codec> codec_;
    Bytes sample_;
    std::vector<float> of_sample_;
    std::optional<Seal> seal_;
};

} // namespace

std::unique_ptr<Target> make_gradient_target(const std::string& spec) {
    return std::make_unique<GradientTarget>(spec);
}

} // namespace lategrad::fuzz
