/// What nodes say to each other, and its form on the wire: a header of 128 bytes, then the payload as it lies in
/// memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "lategrad/core/buffer.h"
#include "lategrad/core/fate.h"
#include "lategrad/core/gradient.h"
#include "lategrad/core/ids.h"

namespace lategrad {

class Archive;

enum class MessageType : std::uint8_t {
    hello = 1,      ///< worker → server: I am here; `examples` is my batch size, `elements` my model's size
    parameters = 2, ///< server → worker: compute gradient `step` on these, which are `version`
    push = 3,       ///< worker → server: gradient `step`, computed on `version`
    stop = 4,       ///< server → worker: the run has ended
    goodbye = 5,    ///< worker → server: I leave; nothing follows
    beat = 6,       ///< either way, between transports alone: I live
    // In the elastic mode, before hello (lategrad/server/admission.h).
    join = 7,    ///< worker → server: who I am; what am I to work on? No payload
    welcome = 8, ///< server → worker: this, as worker `worker`; payload: Admission::welcome
    refuse = 9,  ///< server → worker: not you, or not any more, and why, in words: the payload, as text
};

/// One message. The payload is shared, not copied.
struct Message {
    MessageType type = MessageType::hello;
    WorkerId worker;
    Incarnation incarnation;
    std::uint64_t run = 0; ///< names the run, so that a frame of another run is recognised
    Step step;
    Version version;
    std::uint32_t examples = 0; ///< push and hello: the worker's batch size
    DataPosition data;          ///< parameters: where the batch begins
    std::uint64_t process = 0;  ///< join and hello: names the worker's process
    std::uint64_t elements = 0; ///< hello: floats in the worker's flat parameters
    double loss = 0;            ///< push: mean over its batch
    double compute_seconds = 0; ///< push: how long the gradient took
    bool cancels = false;       ///< parameters: give up the gradient being computed
    bool refunds = false;       ///< parameters: the last gradient pushed may join the residual again; never cancels too
    float step_scale = 0;       ///< parameters: of an update now (Optimizer::step_scale)
    Fate fate = Fate::lost;     ///< parameters: what became of the worker's gradient before this one
    Reason reason = Reason::none;
    Buffer payload;
};

/// All of it, for checkpoints (lategrad/core/archive.h).
void persist(Archive& archive, Message& message);

inline constexpr std::size_t kHeaderBytes = 128;
/// A peer that announces more is wrong or hostile.
inline constexpr std::uint64_t kPayloadBytesMax = std::uint64_t{1} << 30;

using Header = std::array<std::byte, kHeaderBytes>;

/// Whether the payload's bytes are covered by a checksum too. The header always is.
enum class PayloadChecksum : bool { no, yes };

/// Writes all of `message` but the payload's bytes. Little-endian; layout in message.cpp.
Header encode_header(const Message& message, PayloadChecksum checksum = PayloadChecksum::no);

struct DecodedHeader {
    Message message; ///< without its payload
    std::uint64_t payload_bytes = 0;
    std::optional<std::uint64_t> payload_checksum;
};

/// What a header failed on.
enum class WireFault : std::uint8_t { none, length, magic, checksum, wire_version, type, field, payload_too_long };
std::string_view to_string(WireFault fault);

/// Reads a header that a peer sent. Anything may be in it: never throws, never allocates by what it says.
WireFault decode_header(std::span<const std::byte> bytes, DecodedHeader& out);

/// XXH3 of the payload's bytes.
std::uint64_t payload_checksum(std::span<const std::byte> payload);

} // namespace lategrad
