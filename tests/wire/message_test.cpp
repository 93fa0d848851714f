#include "lategrad/wire/message.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <limits>
#include <span>
#include <vector>

namespace lategrad {
namespace {

constexpr std::size_t kChecksumOffset = 120;

template <class T>
void put(Header& header, std::size_t offset, T value) {
    std::memcpy(header.data() + offset, &value, sizeof value);
}

template <class T>
T get(const Header& header, std::size_t offset) {
    T value;
    std::memcpy(&value, header.data() + offset, sizeof value);
    return value;
}

/// As somebody would who knows the layout and means harm.
Header resealed(Header header) {
    put(header, kChecksumOffset, payload_checksum(std::span(header).first(kChecksumOffset)));
    return header;
}

WireFault decoded(std::span<const std::byte> bytes) {
    DecodedHeader out;
    return decode_header(bytes, out);
}

Buffer payload_of(std::span<const std::uint8_t> bytes) {
    BufferPool pool(bytes.size());
    Buffer payload = pool.lease(bytes.size());
    if (!bytes.empty()) std::memcpy(payload.data(), bytes.data(), bytes.size());
    return payload;
}

template <class T>
T any() {
    return *rc::gen::arbitrary<T>();
}

Message any_message() {
    Message message;
    message.type = *rc::gen::element(MessageType::hello, MessageType::parameters, MessageType::push, MessageType::stop,
                                     MessageType::goodbye, MessageType::beat, MessageType::join, MessageType::welcome,
                                     MessageType::refuse);
    message.worker = WorkerId{any<std::uint32_t>()};
    message.incarnation = Incarnation{any<std::uint32_t>()};
    message.run = any<std::uint64_t>();
    message.step = Step{any<std::uint64_t>()};
    message.version = Version{any<std::uint64_t>()};
    message.examples = any<std::uint32_t>();
    message.elements = any<std::uint64_t>();
    message.loss = any<double>();
    message.compute_seconds = std::abs(any<float>()); // travels as a float
    message.cancels = any<bool>();
    message.refunds = any<bool>();
    message.step_scale = std::abs(any<float>());
    message.process = any<std::uint64_t>();
    message.data = {.part = any<std::uint32_t>(), .position = any<std::uint64_t>()};
    message.fate = *rc::gen::element(Fate::apply, Fate::hold, Fate::drop, Fate::lost);
    message.reason = static_cast<Reason>(*rc::gen::inRange(0, static_cast<int>(kLastReason) + 1));
    message.payload = payload_of(any<std::vector<std::uint8_t>>());
    return message;
}

/// One message with every field set.
Header full_header() {
    Message message;
    message.type = MessageType::parameters;
    message.worker = WorkerId{7};
    message.incarnation = Incarnation{2};
    message.run = 0x0123456789abcdef;
    message.step = Step{41};
    message.version = Version{40};
    message.examples = 32;
    message.elements = 431'080;
    message.loss = 0.25;
    message.compute_seconds = 1;
    message.cancels = true;
    message.refunds = true;
    message.step_scale = 1;
    message.process = 0xfedcba9876543210;
    message.data = {.part = 3, .position = 1'000'000};
    message.fate = Fate::drop;
    message.reason = Reason::too_stale;
    const std::uint8_t bytes[] = {1, 2, 3};
    message.payload = payload_of(bytes);
    return encode_header(message, PayloadChecksum::yes);
}

RC_GTEST_PROP(Header, ReadsBackAsWritten, ()) {
    const Message message = any_message();
    const auto checksum = any<bool>() ? PayloadChecksum::yes : PayloadChecksum::no;
    DecodedHeader out;
    RC_ASSERT(decode_header(encode_header(message, checksum), out) == WireFault::none);
    RC_ASSERT(out.message.type == message.type);
    RC_ASSERT(out.message.worker == message.worker);
    RC_ASSERT(out.message.incarnation == message.incarnation);
    RC_ASSERT(out.message.run == message.run);
    RC_ASSERT(out.message.step == message.step);
    RC_ASSERT(out.message.version == message.version);
    RC_ASSERT(out.message.examples == message.examples);
    RC_ASSERT(out.message.elements == message.elements);
    RC_ASSERT(out.message.loss == message.loss);
    RC_ASSERT(out.message.compute_seconds == message.compute_seconds);
    RC_ASSERT(out.message.cancels == message.cancels);
    RC_ASSERT(out.message.refunds == message.refunds);
    RC_ASSERT(out.message.step_scale == message.step_scale);
    RC_ASSERT(out.message.process == message.process);
    RC_ASSERT(out.message.data == message.data);
    RC_ASSERT(out.message.fate == message.fate);
    RC_ASSERT(out.message.reason == message.reason);
    RC_ASSERT(!out.message.payload);
    RC_ASSERT(out.payload_bytes == message.payload.bytes());
    RC_ASSERT(out.payload_checksum.has_value() == (checksum == PayloadChecksum::yes));
    if (out.payload_checksum) {
        RC_ASSERT(*out.payload_checksum == payload_checksum({message.payload.data(), message.payload.bytes()}));
    }
}

TEST(Header, EveryFlippedBitIsFound) {
    const Header header = full_header();
    ASSERT_EQ(decoded(header), WireFault::none);
    for (std::size_t bit = 0; bit < kHeaderBytes * 8; ++bit) {
        Header flipped = header;
        flipped[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_NE(decoded(flipped), WireFault::none) << "bit " << bit;
    }
}

TEST(Header, MustHaveItsLength) {
    std::vector<std::byte> bytes(2 * kHeaderBytes);
    const Header header = full_header();
    std::memcpy(bytes.data(), header.data(), kHeaderBytes);
    for (std::size_t length = 0; length <= bytes.size(); ++length) {
        EXPECT_EQ(decoded(std::span(bytes).first(length)),
                  length == kHeaderBytes ? WireFault::none : WireFault::length);
    }
}

RC_GTEST_PROP(Header, NoiseIsRefused, ()) {
    const auto length = *rc::gen::oneOf(rc::gen::just(kHeaderBytes), rc::gen::inRange<std::size_t>(0, 200));
    const auto noise = *rc::gen::container<std::vector<std::uint8_t>>(length, rc::gen::arbitrary<std::uint8_t>());
    RC_ASSERT(decoded(std::as_bytes(std::span(noise))) != WireFault::none);
}

/// The checksum finds accidents; what a peer says with a right checksum is still checked field by field.
RC_GTEST_PROP(Header, AnyFieldsWithARightChecksumAreReadOrRefused, ()) {
    Header header = full_header();
    const auto count = *rc::gen::inRange(1, 9);
    for (int i = 0; i < count; ++i) {
        header[*rc::gen::inRange<std::size_t>(5, kChecksumOffset)] = std::byte{any<std::uint8_t>()};
    }
    header = resealed(header);
    DecodedHeader out;
    if (decode_header(header, out) == WireFault::none) {
        RC_ASSERT(out.payload_bytes <= kPayloadBytesMax);
        RC_ASSERT(out.message.type >= MessageType::hello && out.message.type <= MessageType::refuse);
        RC_ASSERT(out.message.fate <= Fate::lost);
        RC_ASSERT(out.message.reason <= kLastReason);
    }
}

struct Forged {
    const char* what;
    std::size_t offset;
    std::uint8_t value;
    WireFault fault;
};

TEST(Header, FieldsOutOfRangeAreRefusedThoughTheChecksumIsRight) {
    const Forged forgeries[] = {
        {"wire version", 4, 1, WireFault::wire_version},
        {"type 0", 5, 0, WireFault::type},
        {"type after refuse", 5, 10, WireFault::type},
        {"fate after lost", 6, 4, WireFault::field},
        {"reason after rolled_back", 7, 12, WireFault::field},
        {"a negative time of computation", 59, 0xbf, WireFault::field},
        {"an infinite time of computation", 59, 0x7f, WireFault::field},
        {"payload of 2^56 bytes", 71, 1, WireFault::payload_too_long},
        {"payload checksum neither there nor not", 80, 2, WireFault::field},
        {"cancels neither true nor false", 81, 2, WireFault::field},
        {"refunds neither true nor false", 82, 2, WireFault::field},
        {"a negative learning rate", 87, 0xbf, WireFault::field},
        {"an infinite learning rate", 87, 0x7f, WireFault::field},
    };
    for (const Forged& forged : forgeries) {
        Header header = full_header();
        put(header, forged.offset, forged.value);
        EXPECT_EQ(decoded(resealed(header)), forged.fault) << forged.what;
    }
}

TEST(Header, PayloadsUpToTheLimitAreAnnounced) {
    Header header = full_header();
    ASSERT_EQ(get<std::uint64_t>(header, 64), 3u);
    put(header, 64, kPayloadBytesMax);
    EXPECT_EQ(decoded(resealed(header)), WireFault::none);
    put(header, 64, kPayloadBytesMax + 1);
    EXPECT_EQ(decoded(resealed(header)), WireFault::payload_too_long);
    put(header, 64, std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(decoded(resealed(header)), WireFault::payload_too_long);
}

TEST(Header, ARefusedHeaderLeavesTheResultAlone) {
    DecodedHeader out;
    out.message.step = Step{5};
    Header header = full_header();
    put(header, 5, std::uint8_t{0});
    ASSERT_EQ(decode_header(resealed(header), out), WireFault::type);
    EXPECT_EQ(out.message.step, Step{5});
}

TEST(Header, FaultsHaveNames) {
    EXPECT_EQ(to_string(WireFault::none), "none");
    EXPECT_EQ(to_string(WireFault::payload_too_long), "payload beyond the limit of 1 GiB");
}

} // namespace
} // namespace lategrad
