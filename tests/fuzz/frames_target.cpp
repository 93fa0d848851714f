/// Whatever parts a peer sends over ZeroMQ, they are put together to messages within bounds, or dropped.
#include <algorithm>
#include <array>
#include <optional>

#include <zmq.hpp>

#include "lategrad/transport/zmq_link.h"
#include "tests/fuzz/header.h"
#include "tests/fuzz/target.h"

namespace lategrad::fuzz {
namespace {

// An input is parts, one behind the other: whether more follow of the same frame (1), bytes (2), then these.
constexpr std::size_t kPartHeader = 3;
constexpr std::size_t kPayloadBytesMost = 600;
constexpr std::array<FrameKind, 6> kKinds{FrameKind::open, FrameKind::header, FrameKind::chunk,
                                          FrameKind::took, FrameKind::beat,   FrameKind::bye};

/// Two ends within this process. One connection serves all inputs: what is left in it is taken out before the next one.
struct Ends {
    Ends() : ours(context, zmq::socket_type::pair), theirs(context, zmq::socket_type::pair) {
        ours.bind("inproc://frames");
        theirs.connect("inproc://frames");
    }
    static void empty(zmq::socket_t& socket) {
        zmq::message_t part;
        while (socket.recv(part, zmq::recv_flags::dontwait)) {
        }
    }

    zmq::context_t context;
    zmq::socket_t ours, theirs;
};

struct Part {
    bool more;
    Bytes bytes;
};

std::vector<Part> parts_of(std::span<const std::byte> input) {
    std::vector<Part> parts;
    while (input.size() >= kPartHeader) {
        const std::size_t bytes = std::min<std::size_t>(load<std::uint16_t>(input, 1), input.size() - kPartHeader);
        const auto content = input.subspan(kPartHeader, bytes);
        parts.push_back({input[0] != std::byte{0}, {content.begin(), content.end()}});
        input = input.subspan(kPartHeader + bytes);
    }
    if (!parts.empty()) parts.back().more = false;
    return parts;
}

void append(Bytes& input, bool more, std::span<const std::byte> bytes) {
    const std::size_t at = input.size();
    input.resize(at + kPartHeader);
    input[at] = std::byte{more};
    store(std::span(input), at + 1, static_cast<std::uint16_t>(bytes.size()));
    input.insert(input.end(), bytes.begin(), bytes.end());
}

/// Tags become those of frames, and what is behind a header's tag a header.
void put_right(std::vector<Part>& parts, unsigned control) {
    bool begins = true, header = false;
    for (Part& part : parts) {
        if (begins) {
            part.bytes.resize(1);
            auto kind = static_cast<FrameKind>(part.bytes[0]);
            if (std::ranges::find(kKinds, kind) == kKinds.end()) {
                kind = kKinds[static_cast<std::size_t>(part.bytes[0]) % kKinds.size()];
            }
            part.bytes[0] = static_cast<std::byte>(kind);
            header = kind == FrameKind::header;
        } else if (header) {
            part.bytes.resize(kHeaderBytes);
            if ((control & kLengthsAsIs) == 0) {
                store(std::span(part.bytes), kPayloadBytesAt,
                      load<std::uint64_t>(part.bytes, kPayloadBytesAt) % (kPayloadBytesMost + 1));
                part.bytes[kPayloadEnd - 1] = std::byte{0}; // no checksum of it
            }
            put_header_right(part.bytes);
            header = false;
        }
        begins = !part.more;
    }
}

class FramesTarget final : public Target {
  public:
    bool run(unsigned control, Bytes bytes) const override {
        static Ends ends;
        std::vector<Part> parts = parts_of(bytes);
        if ((control & kSealAsIs) == 0) put_right(parts, control);
        for (const Part& part : parts) {
            const auto flags = part.more ? zmq::send_flags::sndmore : zmq::send_flags::none;
            CHECK(
                ends.theirs.send(zmq::buffer(part.bytes.data(), part.bytes.size()), flags | zmq::send_flags::dontwait));
        }
        const bool whole = read_all(ends.ours);
        Ends::empty(ends.ours);
        Ends::empty(ends.theirs);
        return whole;
    }

    std::vector<Bytes> payloads() const override {
        BufferPool pool(100);
        Message push{.type = MessageType::push, .step = Step{3}, .payload = pool.lease(100)};
        std::ranges::fill(std::span(push.payload.data(), 100), std::byte{7});
        const std::span<const std::byte> payload(push.payload.data(), 100);
        Bytes once, twice;
        append_frame(once, FrameKind::open, std::as_bytes(std::span(kProtocol)));
        append_frame(once, FrameKind::header, encode_header(push, PayloadChecksum::yes));
        append_frame(once, FrameKind::chunk, payload.first(64));
        append_frame(once, FrameKind::beat, {});
        append_frame(once, FrameKind::chunk, payload.subspan(64));
        append_frame(twice, FrameKind::header, encode_header({.type = MessageType::join, .process = 9}));
        append_frame(twice, FrameKind::took, {});
        append_frame(twice, FrameKind::header, encode_header(push));
        append_frame(twice, FrameKind::chunk, payload);
        append_frame(twice, FrameKind::bye, {});
        return {once, twice};
    }

  private:
    static void append_frame(Bytes& input, FrameKind kind, std::span<const std::byte> body) {
        append(input, !body.empty(), std::as_bytes(std::span(&kind, 1)));
        if (!body.empty()) append(input, false, body);
    }

    static std::uint64_t count(const ZmqFaults& faults) {
        std::uint64_t count = 0;
        for (std::size_t i = 0; i < kZmqFaults; ++i) count += faults[static_cast<ZmqFault>(i)];
        return count;
    }

    /// Whether a message arrived.
    static bool read_all(zmq::socket_t& socket) {
        const ZmqLinkOptions options{.payload_bytes_max = kPayloadBytesMost, .payloads_max = 2, .chunk_bytes = 64};
        BufferPool payloads(options.payloads_max * options.payload_bytes_max);
        ZmqFaults faults;
        ZmqLink link(socket, {}, options, payloads, faults);
        Frame frame;
        Message last; // is in the receiver's hands until the next one
        bool any = false;
        for (Time now{}; read_frame(socket, false, frame); now += std::chrono::milliseconds(1)) {
            switch (link.arrived(frame, now)) {
            case ZmqLink::Arrival::alive: break;
            case ZmqLink::Arrival::message:
                last = link.take();
                any = true;
                CHECK(last.type != MessageType::beat && last.payload.bytes() <= options.payload_bytes_max);
                link.try_send(last, now); // an echo
                break;
            case ZmqLink::Arrival::bye: link.close(now); return any;
            case ZmqLink::Arrival::broken: CHECK(count(faults) == 1); return any;
            }
        }
        return any;
    }
};

} // namespace

std::unique_ptr<Target> make_frames_target(const std::string&) {
    return std::make_unique<FramesTarget>();
}

} // namespace lategrad::fuzz
