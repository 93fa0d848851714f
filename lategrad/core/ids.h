/// Numbers that must not be mixed up each have a type (docs/life_of_a_gradient.md uses these terms).
#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace lategrad {

/// An integer that only compares with, and counts among, its own kind.
template <class Tag, class Rep>
class Ordinal {
  public:
    constexpr Ordinal() = default;
    constexpr explicit Ordinal(Rep value) : value_(value) {}

    constexpr Rep value() const { return value_; }
    constexpr Ordinal next() const { return Ordinal(value_ + 1); }
    friend constexpr auto operator<=>(Ordinal, Ordinal) = default;
    /// How far `a` is ahead of `b`. REQUIRES: b <= a.
    friend constexpr Rep operator-(Ordinal a, Ordinal b) { return a.value_ - b.value_; }

  private:
    Rep value_ = 0;
};

/// Numbers 0 … n−1, given out by the run; not an MPI rank.
using WorkerId = Ordinal<struct WorkerIdTag, std::uint32_t>;
/// The number of updates the parameters have had.
using Version = Ordinal<struct VersionTag, std::uint64_t>;
/// A worker's own count of gradients, numbered by the server as it hands out parameters: 0, 1, …
using Step = Ordinal<struct StepTag, std::uint64_t>;
/// How often the server of this run was started anew; (incarnation, version) is unique.
using Incarnation = Ordinal<struct IncarnationTag, std::uint32_t>;
/// The other end of a transport's link: the server is peer 0.
using Peer = Ordinal<struct PeerTag, std::uint32_t>;

inline constexpr Peer kServerPeer{0};

} // namespace lategrad

template <class Tag, class Rep>
struct std::hash<lategrad::Ordinal<Tag, Rep>> {
    std::size_t operator()(lategrad::Ordinal<Tag, Rep> id) const noexcept { return std::hash<Rep>{}(id.value()); }
};
