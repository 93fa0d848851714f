/// Whatever header decodes is encoded again to the same bytes.
#include <algorithm>
#include <cstring>

#include "tests/fuzz/header.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {
namespace {

// message.cpp
constexpr std::size_t kReservedAt = 83;
constexpr std::size_t kRoomAt = 108;

class WireTarget final : public Target {
  public:
    bool run(unsigned control, Bytes bytes) const override {
        if ((control & kSealAsIs) == 0) {
            if ((control & kLengthsAsIs) == 0) bytes.resize(kHeaderBytes);
            if (bytes.size() == kHeaderBytes) put_header_right(bytes);
        }
        DecodedHeader decoded;
        if (decode_header(bytes, decoded) != WireFault::none) return false;
        CHECK(decoded.payload_bytes <= kPayloadBytesMax);
        CHECK(!decoded.message.payload);

        // The header that says the same of no payload: what is not a message's field is 0.
        std::span<std::byte> same = bytes;
        for (std::size_t at = kPayloadBytesAt; at < kPayloadEnd; ++at) same[at] = std::byte{0};
        same[kReservedAt] = std::byte{0};
        for (std::size_t at = kRoomAt; at < kHeaderChecksumAt; ++at) same[at] = std::byte{0};
        put_header_right(same);
        const Header again = encode_header(decoded.message);
        CHECK(std::ranges::equal(again, same));
        return true;
    }

    std::vector<Bytes> payloads() const override {
        BufferPool pool(16);
        Message push{.type = MessageType::push,
                     .worker = WorkerId{7},
                     .incarnation = Incarnation{1},
                     .run = 0x1122334455667788,
                     .step = Step{41},
                     .version = Version{40},
                     .examples = 32,
                     .loss = 0.25,
                     .compute_seconds = 0.5,
                     .payload = pool.lease(16)};
        std::memset(push.payload.data(), 1, push.payload.bytes());
        const Message parameters{.type = MessageType::parameters,
                                 .data = {.part = 3, .position = 640},
                                 .cancels = true,
                                 .step_scale = 1.5F,
                                 .fate = Fate::drop,
                                 .reason = Reason::too_stale};
        const Message hello{.type = MessageType::hello, .process = 99, .elements = 61706};
        std::vector<Bytes> out;
        for (const Header& header : {encode_header(push), encode_header(push, PayloadChecksum::yes),
                                     encode_header(parameters), encode_header(hello)}) {
            out.emplace_back(header.begin(), header.end());
        }
        return out;
    }
};

} // namespace

std::unique_ptr<Target> make_wire_target(const std::string&) {
    return std::make_unique<WireTarget>();
}

} // namespace lategrad::fuzz
