/// A welcome on the wire; apart from what makes and uses it, so that it needs no libtorch.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace lategrad {

/// What the server of an elastic run tells a worker that comes: everything that it needs to compute gradients.
struct Welcome {
    std::string config;           ///< the run's options, as in config.toml
    std::vector<std::byte> model; ///< the TorchScript file, where --model is one
};

/// Payload of the message: 8 bytes with the length of config, config, model.
std::vector<std::byte> to_bytes(const Welcome& welcome);
/// Throws InputError where a server sent something else.
Welcome parse_welcome(std::span<const std::byte> bytes);

} // namespace lategrad
