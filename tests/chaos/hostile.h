/// A client that lies: from bytes that are no message at all to a worker that was let in and pushes what it should not.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "lategrad/core/ids.h"
#include "lategrad/transport/zmq_keys.h"

namespace lategrad::chaos {

struct Target {
    std::string server;         ///< tcp://HOST:PORT
    std::string network;        ///< namespace; empty: ours
    WorkerKeys keys;            ///< that are admitted
    std::uint64_t elements = 0; ///< floats of the model's parameters
};

struct Attacked {
    std::string what;
    std::string came_of_it;
    /// What the server let happen, but must not; empty where all is well.
    std::string wrong;
};

std::size_t attacks();
/// What attack `pick`, modulo attacks(), is.
std::string attack_name(std::uint64_t pick);

/// Runs it, on a thread of its own, within about 10 s. `seed`: of its noise. Gives up early once `stop`.
Attacked attack(std::uint64_t pick, std::uint64_t seed, const Target& target, const std::atomic<bool>& stop);

} // namespace lategrad::chaos
