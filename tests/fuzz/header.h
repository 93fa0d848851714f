/// What targets share that read headers of messages.
#pragma once

#include <cstring>
#include <span>

#include "lategrad/wire/message.h"
#include "tests/fuzz/input.h"

namespace lategrad::fuzz {

// message.cpp
constexpr std::size_t kPayloadBytesAt = 64; // then the payload's checksum, and whether it is there
constexpr std::size_t kPayloadEnd = 81;
constexpr std::size_t kHeaderChecksumAt = 120;

/// Magic, version of the wire, and checksum. REQUIRES: as long as a header.
inline void put_header_right(std::span<std::byte> header) {
    constexpr std::size_t kFormatBytes = 5;
    static const Header right = encode_header({});
    std::memcpy(header.data(), right.data(), kFormatBytes);
    store(header, kHeaderChecksumAt, payload_checksum(header.first(kHeaderChecksumAt)));
}

} // namespace lategrad::fuzz
