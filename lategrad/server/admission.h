/// The door of an elastic run: who comes is told what to work on, and is let in where what it made of that is what the
/// server has.
///
///     worker                              server
///     join     who I am             →
///                                   ←     welcome  worker number, batch size, what to work on
///     hello    what I made of it    →
///                                   ←     parameters, or refuse
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lategrad/core/buffer.h"
#include "lategrad/core/fate.h"

namespace lategrad {

/// What decides a worker's gradients beside the options, by name: hashes of the initial parameters and of the data.
using Traits = std::map<std::string, std::string>;

struct Admission {
    Buffer welcome;                     ///< payload of the message of that name; the server does not read it
    Traits traits;                      ///< the server's own, which a worker's must equal
    std::vector<std::uint32_t> batches; ///< by part of the data
};

/// Text to the payload of a hello, and back. Nothing where the bytes are no such text; anything may be in them.
std::string traits_text(const Traits& traits);
std::optional<Traits> parse_traits(std::span<const std::byte> bytes);

/// In words, with both sides' values: how a worker that says this of itself differs. Empty where it does not.
std::string difference(const Traits& ours, const Traits& theirs);

/// Under this name a worker says among its traits where it runs, HOST:PROCESS. Nothing is decided by it.
inline constexpr const char* kFrom = "from";
/// What it says there, fit to be shown: short, and of printable ASCII.
std::string shown_from(const Traits& theirs);

/// A refusal with this reason means: not as who you were, but come again.
inline constexpr Reason kComeAgain = Reason::worker_gone;

} // namespace lategrad
