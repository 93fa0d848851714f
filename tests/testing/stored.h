/// Archives in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {

struct Stored {
    std::vector<std::byte> state;
    std::vector<std::byte> blobs;

    explicit Stored(ArchiveWriter& writer) : Stored(writer.finish()) {}
    explicit Stored(const ArchiveWriter::Captured& captured) : state(captured.state) {
        for (const auto blob : captured.blobs()) blobs.insert(blobs.end(), blob.begin(), blob.end());
    }
    template <class... T>
    static Stored of(T&... values) {
        ArchiveWriter writer;
        writer(values...);
        return Stored(writer);
    }

    friend bool operator==(const Stored&, const Stored&) = default;
};

/// Buffers come from `pool`. Throws InputError.
template <class... T>
void read_stored(const Stored& stored, BufferPool& pool, T&... values) {
    ArchiveReader reader(stored.state, stored.blobs, pool);
    reader(values...);
    reader.finish();
}

/// What an archive that does not fit is refused with; empty where `action` reads it.
template <class Action>
std::string refusal(Action action) {
    try {
        action();
    } catch (const InputError& error) {
        return error.what();
    }
    return {};
}

/// Changed at a few places, or cut short.
inline Stored damaged(Stored stored, RandomStream& random) {
    if (random.below(8) == 0) stored.state.resize(random.below(stored.state.size()));
    for (std::uint64_t i = 1 + random.below(4); i > 0 && !stored.state.empty(); --i) {
        const std::size_t at = random.below(stored.state.size());
        if (random.below(2) == 0) stored.state[at] ^= static_cast<std::byte>(1U << random.below(8));
        else stored.state[at] = static_cast<std::byte>(random());
    }
    return stored;
}

} // namespace lategrad
