/// An input of a fuzz target is a control byte, then a payload.
#pragma once

#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "lategrad/core/error.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {

/// The control byte. What it does not leave as it is, is put right before the payload is validated, so that changes
/// reach the checks behind.
constexpr unsigned kSpec = 0x07;         ///< which of the target's codecs
constexpr unsigned kLengthsAsIs = 0x08;  ///< lengths and counts inside the payload
constexpr unsigned kSampleLength = 0x10; ///< the payload becomes as long as one from an encoder
constexpr unsigned kVersion = 0x60;      ///< of published parameters
constexpr unsigned kSealAsIs = 0x80;     ///< checksum and kind

template <class T>
T load(std::span<const std::byte> from, std::size_t at) {
    CHECK(at + sizeof(T) <= from.size());
    T value;
    std::memcpy(&value, &from[at], sizeof value);
    return value;
}

template <class T>
void store(std::span<std::byte> to, std::size_t at, T value) {
    CHECK(at + sizeof(T) <= to.size());
    std::memcpy(&to[at], &value, sizeof value);
}

inline void put_checksum_right(std::span<std::byte> payload) {
    if (payload.size() < 8) return;
    store(payload, 0, XXH3_64bits(payload.data() + 8, payload.size() - 8));
}

/// Puts right what stands around the content of one codec's payloads (chunked.h).
class Seal {
  public:
    /// `sample` comes from an encoder; `tail` floats end it.
    Seal(std::span<const std::byte> sample, std::size_t tail)
        : kind_(load<std::uint32_t>(sample, kKindAt)),
          length_(sample.size()) {
        const auto chunks = load<std::uint32_t>(sample, kChunksBytesAt);
        padding_ = padding_of(chunks);
        const std::size_t behind = chunks + padding_ + tail * sizeof(float);
        CHECK(sample.size() >= kHeader + behind);
        around_ = sample.size() - behind + tail * sizeof(float);
        // The table, where there is one, ends with the bytes of all chunks.
        const std::size_t table_end = sample.size() - behind;
        if (table_end > kHeader && load<std::uint32_t>(sample, table_end - 4) == chunks) end_at_ = table_end - 4;
    }

    /// A whole payload. Its last chunk may end within the last word.
    void put_right(Bytes& payload, unsigned control) const {
        const std::size_t padding = padding_of(payload.size());
        if ((control & (kSealAsIs | kLengthsAsIs)) == 0) payload.resize(payload.size() + padding);
        put_right(payload, control, padding);
    }
    /// One whose length cannot change; so many bytes of it pad the chunks, or as many as in the sample.
    void put_right(std::span<std::byte> payload, unsigned control, std::size_t padding = 0) const {
        if (payload.size() == length_) padding = padding_;
        if (payload.size() < kHeader || (control & kSealAsIs) != 0) return;
        if ((control & kLengthsAsIs) == 0 && payload.size() >= around_ + padding) {
            const auto chunks = static_cast<std::uint32_t>(payload.size() - around_ - padding);
            store(payload, kChunksBytesAt, chunks);
            if (end_at_) store(payload, *end_at_, chunks);
        }
        store(payload, kKindAt, kind_);
        put_checksum_right(payload);
    }

  private:
    static constexpr std::size_t kHeader = 16;
    static constexpr std::size_t kKindAt = 8;
    static constexpr std::size_t kChunksBytesAt = 12;

    static std::size_t padding_of(std::size_t bytes) { return (4 - bytes % 4) % 4; }

    std::uint32_t kind_;
    std::size_t length_;
    std::size_t padding_ = 0;
    std::size_t around_ = 0; ///< bytes that are not of chunks
    std::optional<std::size_t> end_at_;
};

} // namespace lategrad::fuzz
