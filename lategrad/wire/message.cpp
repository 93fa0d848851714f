#include "lategrad/wire/message.h"

#include <xxhash.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

static_assert(std::endian::native == std::endian::little, "payloads travel as they lie in memory");

constexpr std::uint32_t kMagic = 0x4447544c; // "LTGD"
constexpr std::uint8_t kWireVersion = 3;

/// The header as it travels. Offsets in bytes; the checksum covers everything before it.
struct Layout {
    std::uint32_t magic;               //  0
    std::uint8_t wire_version;         //  4
    std::uint8_t type;                 //  5
    std::uint8_t fate;                 //  6
    std::uint8_t reason;               //  7
    std::uint64_t run;                 //  8
    std::uint32_t incarnation;         // 16
    std::uint32_t worker;              // 20
    std::uint64_t step;                // 24
    std::uint64_t version;             // 32
    std::uint64_t elements;            // 40
    double loss;                       // 48
    float compute_seconds;             // 56
    std::uint32_t examples;            // 60
    std::uint64_t payload_bytes;       // 64
    std::uint64_t payload_checksum;    // 72
    std::uint8_t has_payload_checksum; // 80
    std::uint8_t cancels;              // 81
    std::uint8_t refunds;              // 82
    std::uint8_t reserved;             // 83
    float step_scale;                  // 84
    std::uint64_t process;             // 88
    std::uint64_t position;            // 96
    std::uint32_t part;                // 104
    std::array<std::uint32_t, 3> room; // 108
    std::uint64_t checksum;            // 120
};
static_assert(sizeof(Layout) == kHeaderBytes);

std::uint64_t header_checksum(std::span<const std::byte> bytes) {
    return XXH3_64bits(bytes.data(), offsetof(Layout, checksum));
}

} // namespace

std::uint64_t payload_checksum(std::span<const std::byte> payload) {
    return XXH3_64bits(payload.data(), payload.size());
}

Header encode_header(const Message& message, PayloadChecksum checksum) {
    CHECK(message.payload.bytes() <= kPayloadBytesMax);
    Layout layout{};
    layout.magic = kMagic;
    layout.wire_version = kWireVersion;
    layout.type = static_cast<std::uint8_t>(message.type);
    layout.fate = static_cast<std::uint8_t>(message.fate);
    layout.reason = static_cast<std::uint8_t>(message.reason);
    layout.run = message.run;
    layout.incarnation = message.incarnation.value();
    layout.worker = message.worker.value();
    layout.step = message.step.value();
    layout.version = message.version.value();
    layout.elements = message.elements;
    layout.loss = message.loss;
    layout.compute_seconds = static_cast<float>(message.compute_seconds);
    layout.examples = message.examples;
    layout.payload_bytes = message.payload.bytes();
    layout.cancels = message.cancels ? 1 : 0;
    layout.refunds = message.refunds ? 1 : 0;
    layout.step_scale = message.step_scale;
    layout.process = message.process;
    layout.position = message.data.position;
    layout.part = message.data.part;
    if (checksum == PayloadChecksum::yes) {
        layout.has_payload_checksum = 1;
        layout.payload_checksum = payload_checksum({message.payload.data(), message.payload.bytes()});
    }
    Header header;
    std::memcpy(header.data(), &layout, sizeof layout);
    const std::uint64_t sum = header_checksum(header);
    std::memcpy(header.data() + offsetof(Layout, checksum), &sum, sizeof sum);
    return header;
}

std::string_view to_string(WireFault fault) {
    switch (fault) {
    case WireFault::none: return "none";
    case WireFault::length: return "wrong header length";
    case WireFault::magic: return "not a Lategrad header";
    case WireFault::checksum: return "header checksum differs";
    case WireFault::wire_version: return "another wire version";
    case WireFault::type: return "unknown message type";
    case WireFault::field: return "field out of range";
    case WireFault::payload_too_long: return "payload beyond the limit of 1 GiB";
    }
    CHECK(false && "unknown fault");
}

WireFault decode_header(std::span<const std::byte> bytes, DecodedHeader& out) {
    if (bytes.size() != kHeaderBytes) return WireFault::length;
    Layout layout;
    std::memcpy(&layout, bytes.data(), sizeof layout);
    if (layout.magic != kMagic) return WireFault::magic;
    if (layout.checksum != header_checksum(bytes)) return WireFault::checksum;
    if (layout.wire_version != kWireVersion) return WireFault::wire_version;
    if (layout.type < static_cast<std::uint8_t>(MessageType::hello) ||
        layout.type > static_cast<std::uint8_t>(MessageType::refuse)) {
        return WireFault::type;
    }
    if (layout.fate > static_cast<std::uint8_t>(Fate::lost) || layout.reason > static_cast<std::uint8_t>(kLastReason) ||
        layout.cancels > 1 || layout.refunds > 1 || layout.has_payload_checksum > 1 ||
        !std::isfinite(layout.step_scale) || layout.step_scale < 0 || !std::isfinite(layout.compute_seconds) ||
        layout.compute_seconds < 0) {
        return WireFault::field;
    }
    if (layout.payload_bytes > kPayloadBytesMax) return WireFault::payload_too_long;

    out.message.type = static_cast<MessageType>(layout.type);
    out.message.fate = static_cast<Fate>(layout.fate);
    out.message.reason = static_cast<Reason>(layout.reason);
    out.message.run = layout.run;
    out.message.incarnation = Incarnation{layout.incarnation};
    out.message.worker = WorkerId{layout.worker};
    out.message.step = Step{layout.step};
    out.message.version = Version{layout.version};
    out.message.elements = layout.elements;
    out.message.loss = layout.loss;
    out.message.compute_seconds = layout.compute_seconds;
    out.message.examples = layout.examples;
    out.message.cancels = layout.cancels == 1;
    out.message.refunds = layout.refunds == 1;
    out.message.step_scale = layout.step_scale;
    out.message.process = layout.process;
    out.message.data = {.part = layout.part, .position = layout.position};
    out.message.payload.reset();
    out.payload_bytes = layout.payload_bytes;
    out.payload_checksum.reset();
    if (layout.has_payload_checksum == 1) out.payload_checksum = layout.payload_checksum;
    return WireFault::none;
}

} // namespace lategrad
