#include "lategrad/codec/sparse.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "lategrad/codec/finite.h"
#include "lategrad/codec/select.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// What is sent leaves the residual, and the velocity where the worker has momentum (dgc.h).
class SparseEncoder final : public ChunkedEncoder {
  public:
    SparseEncoder(const SparseRule& rule, const ChunkedCodec& codec, BufferPool& payloads)
        : ChunkedEncoder(codec, payloads),
          rule_(rule),
          momentum_(rule.takes_momentum() ? static_cast<float>(codec.setup().momentum) : 0),
          velocity_(momentum_ > 0 ? codec.setup().elements : 0) {}

    void persist(Archive& archive) override {
        ChunkedEncoder::persist(archive);
        archive.fixed(std::span(velocity_), "floats of the velocity");
    }

  private:
    Buffer encode_checked(std::span<const float> elements, std::span<const float> tail,
                          const EncodeStep& step) override {
        const double epoch = static_cast<double>(step.step.value()) / codec_.setup().steps_per_epoch;
        const Joining joining{.grad = elements,
                              .grad_scale = clip_factor(elements),
                              .residual_scale = step.residual_scale,
                              .momentum = momentum_,
                              .velocity = velocity_};
        if (!selector_.join(joining, residual_, SparseRule::count(rule_.share_at(epoch), elements.size()))) return {};
        writer_.begin();
        write_entries(writer_, codec_, selector_.places(), residual_);
        for (const std::uint32_t place : selector_.places()) {
            residual_[place] = 0;
            if (!velocity_.empty()) velocity_[place] = 0;
        }
        return writer_.finish(tail);
    }

    float clip_factor(std::span<const float> grad) const {
        if (rule_.clip() == 0) return 1;
        double squares = 0;
        for (const float value : grad) squares += static_cast<double>(value) * value;
        const double norm_max = rule_.clip() / std::sqrt(static_cast<double>(codec_.setup().workers));
        const double norm = std::sqrt(squares);
        return norm > norm_max ? static_cast<float>(norm_max / norm) : 1;
    }

    const SparseRule& rule_;
    float momentum_;
    Selector selector_;
    LargeVector<float> velocity_;
};

} // namespace

std::size_t SparseRule::count(double share, std::size_t elements) {
    return std::clamp<std::size_t>(static_cast<std::size_t>(std::llround(share * static_cast<double>(elements))), 1,
                                   elements);
}

Reason SparseRule::check(const EncodedChunk& chunk) const {
    const std::size_t entries = chunk.bytes.size() / kEntryBytes;
    if (chunk.bytes.size() % kEntryBytes != 0 || entries > chunk.elements) return Reason::malformed;
    std::size_t least = 0;
    for (std::size_t i = 0; i < entries; ++i) {
        const auto place = load_nth<std::uint16_t>(chunk.bytes, i);
        if (place < least || place >= chunk.elements) return Reason::malformed;
        least = std::size_t{place} + 1;
    }
    const auto values = chunk.bytes.subspan(entries * sizeof(std::uint16_t));
    return all_finite(values) ? Reason::none : Reason::not_finite;
}

void SparseRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    if (!continues) std::ranges::fill(sum, 0.0F);
    for_each_entry(chunk, [&](std::size_t place, float value) {
        const float product = coefficient * value;
        sum[place] += product;
    });
}

std::unique_ptr<Encoder> SparseRule::make_encoder(const ChunkedCodec& codec, WorkerId, BufferPool& payloads) const {
    return std::make_unique<SparseEncoder>(*this, codec, payloads);
}

void write_entries(PayloadWriter& writer, const ChunkedCodec& codec, std::span<const std::uint32_t> places,
                   std::span<const float> values) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < codec.chunks(); ++i) {
        const std::size_t begin = i * codec.chunk();
        const std::size_t end = begin + codec.chunk_size(i);
        const std::size_t first = next;
        while (next < places.size() && places[next] < end) ++next;
        const std::size_t entries = next - first;
        const auto room = writer.room();
        const auto to_values = room.subspan(entries * sizeof(std::uint16_t));
        for (std::size_t j = 0; j < entries; ++j) {
            const std::uint32_t place = places[first + j];
            store(room, j * sizeof(std::uint16_t), static_cast<std::uint16_t>(place - begin));
            store(to_values, j * sizeof(float), values[place]);
        }
        writer.add(entries * SparseRule::kEntryBytes);
    }
    CHECK(next == places.size());
}

} // namespace lategrad
