#include "lategrad/codec/chunked.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "lategrad/codec/finite.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/bytes.h"
#include "lategrad/core/error.h"

namespace lategrad {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads travel as they lie in memory");

constexpr std::size_t kHeader = 16;
constexpr std::size_t kKindAt = 8;
constexpr std::size_t kChunksBytesAt = 12;

/// The running sum of one chunk stays in the first-level cache while the payloads pass by. A lossless stage finds more
/// in longer chunks, and second-level cache is fast enough for it.
constexpr std::size_t kChunk = 4096;
constexpr std::size_t kLosslessChunk = Codec::kChunkMax;

constexpr std::byte kStored{0};
constexpr std::byte kCompressed{1};

std::size_t padded(std::size_t bytes) {
    return (bytes + 3) / 4 * 4;
}

std::uint64_t checksum(std::span<const std::byte> payload) {
    return XXH3_64bits(payload.data() + sizeof(std::uint64_t), payload.size() - sizeof(std::uint64_t));
}

/// One chunk before its lossless stage: this thread's, because one codec serves all threads.
std::vector<std::byte>& room_of_thread() {
    static thread_local std::vector<std::byte> room;
    return room;
}

} // namespace

ChunkedCodec::ChunkedCodec(std::string name, std::unique_ptr<Rule> rule, std::unique_ptr<Lossless> lossless,
                           const CodecSetup& setup)
    : name_(std::move(name)),
      rule_(std::move(rule)),
      lossless_(std::move(lossless)),
      setup_(setup),
      kind_(static_cast<std::uint32_t>(XXH3_64bits_withSeed(name_.data(), name_.size(), setup.elements))),
      chunk_(lossless_ ? kLosslessChunk : kChunk),
      chunks_((setup.elements + chunk_ - 1) / chunk_),
      preamble_(padded(rule_->preamble_bytes())) {
    CHECK(setup.elements > 0);
    for (std::size_t i = 0; i < chunks_; ++i) chunks_bytes_max_ += stored_bytes_max(i);
    const std::size_t most = rule_->bytes_max(setup.elements);
    if (most < chunks_bytes_max_) chunks_bytes_max_ = std::min(chunks_bytes_max_, most + (lossless_ ? chunks_ : 0));
    CHECK(chunks_bytes_max_ < std::uint64_t{1} << 32);
}

std::size_t ChunkedCodec::table_at() const {
    return kHeader + preamble_;
}

std::size_t ChunkedCodec::chunks_at() const {
    return table_at() + (has_table() ? chunks_ * sizeof(std::uint32_t) : 0);
}

std::size_t ChunkedCodec::bytes_around() const {
    return chunks_at() + setup_.tail * sizeof(float);
}

std::size_t ChunkedCodec::stored_bytes_max(std::size_t index) const {
    return rule_->chunk_bytes(chunk_size(index)) + (lossless_ ? 1 : 0);
}

std::size_t ChunkedCodec::payload_bytes_max() const {
    return bytes_around() + padded(chunks_bytes_max_);
}

std::size_t ChunkedCodec::payload_bytes_typical() const {
    if (!has_table()) return payload_bytes_max();
    const double chunks = rule_->bytes_per_element() * static_cast<double>(setup_.elements);
    return bytes_around() + padded(std::min(chunks_bytes_max_, static_cast<std::size_t>(std::ceil(chunks))));
}

std::unique_ptr<Encoder> ChunkedCodec::make_encoder(WorkerId worker, BufferPool& payloads) const {
    return rule_->make_encoder(*this, worker, payloads);
}

std::span<const std::byte> ChunkedCodec::stored_chunk(std::span<const std::byte> payload, std::size_t index) const {
    if (!has_table()) {
        return payload.subspan(chunks_at() + index * rule_->chunk_bytes(chunk_), rule_->chunk_bytes(chunk_size(index)));
    }
    const std::size_t begin =
        index == 0 ? 0 : load<std::uint32_t>(payload, table_at() + (index - 1) * sizeof(std::uint32_t));
    const std::size_t end = load<std::uint32_t>(payload, table_at() + index * sizeof(std::uint32_t));
    return payload.subspan(chunks_at() + begin, end - begin);
}

std::optional<EncodedChunk> ChunkedCodec::open_chunk(std::span<const std::byte> payload, std::size_t index,
                                                     std::vector<std::byte>& room) const {
    EncodedChunk chunk{.preamble = payload.subspan(kHeader, rule_->preamble_bytes()),
                       .bytes = stored_chunk(payload, index),
                       .index = index,
                       .first = index * chunk_,
                       .elements = chunk_size(index)};
    if (!lossless_) return chunk;
    if (chunk.bytes.empty()) return std::nullopt;
    const std::byte form = chunk.bytes.front();
    chunk.bytes = chunk.bytes.subspan(1);
    if (form == kStored) return chunk;
    if (form != kCompressed) return std::nullopt;
    room.resize(rule_->chunk_bytes(chunk_));
    const std::span<std::byte> out(room.data(), rule_->chunk_bytes(chunk.elements));
    const auto bytes = lossless_->decompress(chunk.bytes, rule_->word(), out);
    if (!bytes) return std::nullopt;
    chunk.bytes = out.first(*bytes);
    return chunk;
}

Reason ChunkedCodec::validate(std::span<const std::byte> payload) const {
    if (payload.size() < bytes_around() || payload.size() > payload_bytes_max()) return Reason::malformed;
    const std::size_t chunks_bytes = load<std::uint32_t>(payload, kChunksBytesAt);
    if (payload.size() - bytes_around() != padded(chunks_bytes)) return Reason::malformed;
    if (load<std::uint32_t>(payload, kKindAt) != kind_) return Reason::malformed;
    if (load<std::uint64_t>(payload) != checksum(payload)) return Reason::malformed;

    if (has_table()) {
        std::size_t begin = 0;
        for (std::size_t i = 0; i < chunks_; ++i) {
            const std::size_t end = load<std::uint32_t>(payload, table_at() + i * sizeof(std::uint32_t));
            if (end < begin || end - begin > stored_bytes_max(i)) return Reason::malformed;
            begin = end;
        }
        if (begin != chunks_bytes) return Reason::malformed;
    } else if (chunks_bytes != chunks_bytes_max_) {
        return Reason::malformed;
    }
    if (const Reason defect = rule_->check_preamble(payload.subspan(kHeader, rule_->preamble_bytes()));
        defect != Reason::none) {
        return defect;
    }
    for (std::size_t i = 0; i < chunks_; ++i) {
        const auto chunk = open_chunk(payload, i, room_of_thread());
        if (!chunk || (!rule_->variable() && chunk->bytes.size() != rule_->chunk_bytes(chunk->elements))) {
            return Reason::malformed;
        }
        if (const Reason defect = rule_->check(*chunk); defect != Reason::none) return defect;
    }
    return all_finite(tail(payload)) ? Reason::none : Reason::not_finite;
}

void ChunkedCodec::weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const {
    bool continues = false;
    for (const EncodedTerm& term : terms) {
        const auto chunk = open_chunk(term.payload, first / chunk_, room_of_thread());
        CHECK(chunk && chunk->elements == sum.size()); // validated
        rule_->add(*chunk, term.coefficient, continues, sum);
        continues = true;
    }
}

std::span<const float> ChunkedCodec::tail(std::span<const std::byte> payload) const {
    // Aligned: all that goes before is a multiple of four bytes, and buffers are.
    const auto bytes = payload.last(setup_.tail * sizeof(float));
    return {reinterpret_cast<const float*>(bytes.data()), setup_.tail};
}

EncodedChunk ChunkedCodec::opened_chunk(std::span<const std::byte> payload, std::size_t index) const {
    const auto chunk = open_chunk(payload, index, room_of_thread());
    CHECK(chunk);
    return *chunk;
}

void ChunkedCodec::add_chunks(std::span<const std::byte> payload, std::size_t chunks, float coefficient,
                              std::span<float> sum) const {
    for (std::size_t i = 0; i < chunks; ++i) {
        const EncodedChunk chunk = opened_chunk(payload, i);
        rule_->add(chunk, coefficient, true, sum.subspan(i * chunk_, chunk.elements));
    }
}

PayloadWriter::PayloadWriter(const ChunkedCodec& codec, BufferPool& payloads)
    : codec_(codec),
      payloads_(payloads),
      varying_(codec.has_table() ? codec.payload_bytes_max() + codec.stored_bytes_max(0) : 0),
      room_(codec.lossless_ ? codec.rule().chunk_bytes(codec.chunk()) : 0) {}

std::span<std::byte> PayloadWriter::begin() {
    index_ = 0;
    end_ = codec_.chunks_at();
    if (codec_.has_table()) {
        bytes_ = varying_;
    } else {
        payload_ = payloads_.lease(codec_.payload_bytes_max());
        bytes_ = {payload_.data(), payload_.bytes()};
    }
    std::ranges::fill(bytes_.first(end_), std::byte{0});
    return bytes_.subspan(kHeader, codec_.rule().preamble_bytes());
}

std::span<std::byte> PayloadWriter::room() {
    CHECK(index_ < codec_.chunks());
    const std::size_t bytes = codec_.rule().chunk_bytes(codec_.chunk_size(index_));
    return codec_.lossless_ ? std::span(room_).first(bytes) : bytes_.subspan(end_, bytes);
}

void PayloadWriter::add(std::size_t bytes) {
    if (codec_.lossless_) {
        const auto chunk = std::span<const std::byte>(room_).first(bytes);
        const auto out = bytes_.subspan(end_ + 1, bytes);
        const auto compressed = codec_.lossless_->compress(chunk, codec_.rule().word(), out);
        bytes_[end_] = compressed ? kCompressed : kStored;
        if (!compressed) std::ranges::copy(chunk, out.begin());
        bytes = 1 + compressed.value_or(bytes);
    }
    end_ += bytes;
    if (codec_.has_table()) {
        store(bytes_, codec_.table_at() + index_ * sizeof(std::uint32_t),
              static_cast<std::uint32_t>(end_ - codec_.chunks_at()));
    }
    ++index_;
}

void PayloadWriter::add_written(float coefficient, std::span<float> sum) const {
    codec_.add_chunks(bytes_, index_, coefficient, sum);
}

Buffer PayloadWriter::finish(std::span<const float> tail) {
    CHECK(index_ == codec_.chunks() && tail.size() == codec_.setup().tail);
    store(bytes_, kKindAt, codec_.kind_);
    store(bytes_, kChunksBytesAt, static_cast<std::uint32_t>(end_ - codec_.chunks_at()));
    while (end_ % 4 != 0) bytes_[end_++] = std::byte{0};
    if (codec_.has_table()) { // its own length, so that holding it costs what was sent
        payload_ = payloads_.lease(end_ + tail.size_bytes());
        std::memcpy(payload_.data(), bytes_.data(), end_);
    }
    if (!tail.empty()) std::memcpy(payload_.data() + end_, tail.data(), tail.size_bytes());
    const std::span<std::byte> all(payload_.data(), payload_.bytes());
    store(all, 0, checksum(all));
    bytes_ = {};
    return std::move(payload_);
}

ChunkedEncoder::ChunkedEncoder(const ChunkedCodec& codec, BufferPool& payloads)
    : codec_(codec),
      writer_(codec, payloads),
      residual_(codec.error_feedback() ? codec.setup().elements : 0) {}

Buffer ChunkedEncoder::encode(const Buffer& grad, const EncodeStep& step) {
    const auto floats = grad.floats();
    CHECK(floats.size() == codec_.setup().elements + codec_.setup().tail);
    const auto elements = floats.first(codec_.setup().elements);
    const auto tail = floats.subspan(elements.size());
    // All of it before the residual is touched: a sum with what is not finite, or with its neighbours, cannot be
    // undone. Without a residual the rule finds it, or the other side.
    if (!all_finite(residual_.empty() ? tail : floats)) return {};
    Buffer payload = encode_checked(elements, tail, step);
    if (!payload) writer_.give_up();
    return payload;
}

void ChunkedEncoder::refund(std::span<const std::byte> payload) {
    if (!residual_.empty()) codec_.add_chunks(payload, codec_.chunks(), 1, residual_);
}

void ChunkedEncoder::persist(Archive& archive) {
    archive.section("encoder");
    archive.expect(codec_.name(), "the codec");
    archive.fixed(std::span(residual_), "floats of the residual");
}

} // namespace lategrad
