/// The transport of an elastic run, over ZeroMQ: workers come and go, and need not be on machines that share anything
/// but a network. Each connection is a peer of its own; one that was lost is never taken up again, its process makes a
/// new one.
///
/// What a peer sends may cost it its connection, and nothing else: whatever is wrong is dropped and counted, and ends
/// the connection, since its sender would wait in vain for what comes of it. TCP has checksums, so that an honest peer
/// hardly ever meets this; it connects again. One thing is beyond that: libzmq gathers a message of very many parts
/// before it shows it. Where strangers can reach the server, use keys.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"
#include "lategrad/transport/zmq_keys.h"

namespace lategrad {

/// Bounds of `chunk_bytes` that users may choose from; tests use less than the least.
inline constexpr std::size_t kChunkBytesMin = std::size_t{1} << 20;
inline constexpr std::size_t kChunkBytesMax = std::size_t{16} << 20;

/// What both ends have to know.
struct ZmqLinkOptions {
    /// Who announces a longer payload loses its connection.
    std::size_t payload_bytes_max = kPayloadBytesMax;
    /// Memory for so many payloads of that length, arriving or in the receiver's hands. Whose message finds none loses
    /// its connection, so that it does not hold up others.
    std::size_t payloads_max = 2;
    /// Payloads are sent in pieces of this size.
    std::size_t chunk_bytes = std::size_t{4} << 20;
    /// Whether payloads sent are covered by a checksum. One that arrives with a checksum is always checked.
    PayloadChecksum checksum = PayloadChecksum::yes;
    /// How often a peer is told that we live, and PeerAlive reported at most twice as often; 0: never. The same at both
    /// ends.
    Duration heartbeat{0};
    /// A client that hears nothing of its server for so long, where there are heartbeats, takes it for gone; `receive`
    /// must be called more often than that. Half-open connections end after about as long: whatever was sent and is
    /// not acknowledged by then (TCP_USER_TIMEOUT), or where nothing was sent, by probes. A server ends connections
    /// over which it heard nothing, no beat either, for twice as long.
    Duration dead_after = std::chrono::seconds(30);
};

struct ZmqServerOptions {
    std::string listen;             ///< `tcp://ADDRESS:PORT`; port 0 or `*`: the system chooses
    std::size_t peers_max = 256;    ///< connections at one time; peers are numbered 1 … peers_max
    std::optional<ServerKeys> keys; ///< none: anybody may connect, and nothing is encrypted
    ZmqLinkOptions link;
};

struct ZmqClientOptions {
    std::string server; ///< `tcp://HOST:PORT`
    std::optional<WorkerKeys> keys;
    ZmqLinkOptions link;
};

/// What was dropped. Each message costs its peer the connection.
enum class ZmqFault : std::uint8_t {
    header,    ///< messages whose header is damaged, or of another wire version
    checksum,  ///< messages whose payload is not what its checksum says
    length,    ///< messages whose payload is too long, or ended before its announced length
    memory,    ///< messages for whose payload there was no memory
    framing,   ///< peers that were given up, since what they send makes no sense
    stray,     ///< frames of no peer: never opened, forgotten, given up
    room,      ///< connections beyond peers_max
    handshake, ///< connections that failed before they could say anything, for want of an admitted key above all
};
inline constexpr std::size_t kZmqFaults = 8;
std::string_view to_string(ZmqFault fault);

/// How often each happened.
class ZmqFaults {
  public:
    std::uint64_t operator[](ZmqFault fault) const { return counts_[static_cast<std::size_t>(fault)]; }
    void count(ZmqFault fault) { ++counts_[static_cast<std::size_t>(fault)]; }
    /// Those that happened.
    std::map<std::string, std::uint64_t> by_name() const;

  private:
    std::array<std::uint64_t, kZmqFaults> counts_{};
};

class ZmqTransport : public Transport {
  public:
    virtual const ZmqFaults& faults() const = 0;
};

class ZmqClientTransport : public ZmqTransport {
  public:
    /// From now on, in place of what the options say. How long the system waits for acknowledgements stays.
    virtual void set_heartbeat(Duration heartbeat, Duration dead_after) = 0;
};

/// Numbers connections by the smallest number that is free; it is free again once its PeerGone was delivered, or it was
/// forgotten.
class ZmqServerTransport : public ZmqTransport {
  public:
    /// Where workers connect to: `listen` with the port that was chosen.
    virtual const std::string& endpoint() const = 0;
    /// How many are connected and neither gone nor forgotten.
    virtual std::size_t peers() const = 0;
};

/// `clock` must outlive the transport. Throws InputError where `listen` is no address, EnvironmentError where it cannot
/// be listened at.
std::unique_ptr<ZmqServerTransport> listen_zmq(const ZmqServerOptions& options, const Clock& clock);

/// Why a server did not take a client in.
enum class ZmqRefusal : std::uint8_t {
    none,
    unreachable,  ///< nobody listens there
    silent,       ///< no answer until the deadline
    not_admitted, ///< the key is not among the server's admitted ones
    handshake,    ///< the two cannot talk: one of them without keys, or another server's key, or no Lategrad
    room,         ///< as many as it takes are connected
    version,      ///< it speaks another version of this protocol
};

struct ZmqConnection {
    std::unique_ptr<ZmqClientTransport> transport; ///< null where refused
    ZmqRefusal refusal = ZmqRefusal::none;
    std::string why; ///< in words; empty where connected
};

/// A worker's end of a new connection, once the server has answered; waits for that until `deadline` at most, or until
/// `given_up`, asked ten times a second, is true. `clock` must outlive it. Throws InputError where `server` is no
/// address.
ZmqConnection connect_zmq(const ZmqClientOptions& options, const Clock& clock, Time deadline,
                          const std::function<bool()>& given_up = {});

} // namespace lategrad
