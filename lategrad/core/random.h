/// Seeded random streams. Every consumer has its own, named by a path such as (seed, purpose, worker, epoch), so that
/// what one draws never moves what another one sees.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <span>
#include <utility>

namespace lategrad {

/// What a stream is for: the first part of its path.
enum class Purpose : std::uint64_t { data = 1, partition, straggle, model, test, theory, failures, curvature, codec };

/// xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021, §5), seeded by
/// SplitMix64. The distributions are our own, because those of the standard library differ between implementations.
class RandomStream {
  public:
    using result_type = std::uint64_t;

    RandomStream(std::uint64_t seed, Purpose purpose, std::initializer_list<std::uint64_t> path = {}) {
        std::uint64_t mixed = split_mix(seed) ^ split_mix(static_cast<std::uint64_t>(purpose) + 0x51ed270b);
        for (const std::uint64_t part : path) mixed = split_mix(mixed ^ split_mix(part + 0x9e3779b9));
        for (auto& word : state_) word = mixed = split_mix(mixed);
    }

    static constexpr result_type min() { return 0; }
    static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

    result_type operator()() {
        const std::uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0];
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = rotate(state_[3], 45);
        return result;
    }

    /// In [0, 1), with 53 random bits.
    double uniform() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }

    /// In [0, bound), unbiased (Lemire 2019). REQUIRES: bound > 0.
    std::uint64_t below(std::uint64_t bound) {
        __extension__ using Wide = unsigned __int128;
        Wide product = static_cast<Wide>((*this)()) * bound;
        if (static_cast<std::uint64_t>(product) < bound) {
            const std::uint64_t threshold = (0 - bound) % bound;
            while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>((*this)()) * bound;
        }
        return static_cast<std::uint64_t>(product >> 64);
    }

    /// Exponential with the given mean.
    double exponential(double mean) { return -mean * std::log1p(-uniform()); }

    /// Pareto: scale · U^(−1/shape), never below scale.
    double pareto(double shape, double scale) { return scale * std::pow(1.0 - uniform(), -1.0 / shape); }

    /// Where the stream is (core/archive.h).
    template <class A>
    void archive(A& archive) {
        archive(state_);
        archive.require(state_ != decltype(state_){}, "a random stream that stands still");
    }

    /// Fisher–Yates.
    template <class T>
    void shuffle(std::span<T> values) {
        for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
    }

  private:
    static std::uint64_t rotate(std::uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }
    static std::uint64_t split_mix(std::uint64_t x) {
        x += 0x9e3779b97f4a7c15;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
        x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
        return x ^ (x >> 31);
    }

    std::array<std::uint64_t, 4> state_{};
};

} // namespace lategrad
