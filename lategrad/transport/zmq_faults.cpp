#include "lategrad/core/error.h"
#include "lategrad/transport/zmq.h"

namespace lategrad {

std::string_view to_string(ZmqFault fault) {
    switch (fault) {
    case ZmqFault::header: return "damaged header";
    case ZmqFault::checksum: return "payload checksum differs";
    case ZmqFault::length: return "wrong payload length";
    case ZmqFault::memory: return "no memory for a payload";
    case ZmqFault::framing: return "peer given up";
    case ZmqFault::stray: return "stray frame";
    case ZmqFault::room: return "no room for a connection";
    case ZmqFault::handshake: return "handshake failed";
    }
    CHECK(false && "unknown fault");
}

std::map<std::string, std::uint64_t> ZmqFaults::by_name() const {
    std::map<std::string, std::uint64_t> counts;
    for (std::size_t i = 0; i < kZmqFaults; ++i) {
        if (counts_[i] > 0) counts.emplace(to_string(static_cast<ZmqFault>(i)), counts_[i]);
    }
    return counts;
}

} // namespace lategrad
