/// checkpoint.json: what a checkpoint is, and what its other files must be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "lategrad/core/ids.h"

namespace lategrad {

/// What a checkpoint says of itself.
struct CheckpointSummary {
    /// Whose state it is: of a simulation all, of a real server the server's part.
    enum class Kind : std::uint8_t { simulation, server };
    Kind kind = Kind::server;
    Version version;
    double seconds = 0;       ///< of the run
    std::uint64_t events = 0; ///< lines of events.jsonl before it
    std::uint64_t examples_applied = 0;
    std::optional<double> data_coverage; ///< as in the run's summary
    Incarnation incarnation;
    std::map<std::string, std::uint64_t> ledger; ///< its totals by name

    friend bool operator==(const CheckpointSummary&, const CheckpointSummary&) = default;
};

std::string_view to_string(CheckpointSummary::Kind kind);

struct CheckpointManifest {
    struct File {
        std::uint64_t bytes = 0;
        std::uint64_t checksum = 0; ///< XXH3, 64 bits

        friend bool operator==(const File&, const File&) = default;
    };
    CheckpointSummary summary;
    std::map<std::string, File> files; ///< by name, itself left out

    friend bool operator==(const CheckpointManifest&, const CheckpointManifest&) = default;
};

/// JSON with a checksum of itself.
std::string to_json(const CheckpointManifest& manifest);
/// Throws InputError saying what is wrong with the text, any text.
CheckpointManifest parse_manifest(std::string_view json);

/// Of the pieces one behind the other.
std::uint64_t checksum_of(std::span<const std::span<const std::byte>> pieces);
std::uint64_t checksum_of(std::span<const std::byte> bytes);

} // namespace lategrad
