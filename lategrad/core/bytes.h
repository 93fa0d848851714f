/// Numbers at any address, aligned or not.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>

namespace lategrad {

/// REQUIRES: at + sizeof(T) <= from.size().
template <class T>
T load(std::span<const std::byte> from, std::size_t at = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, from.data() + at, sizeof value);
    return value;
}

/// The number `index` of those that lie one behind the other.
template <class T>
T load_nth(std::span<const std::byte> from, std::size_t index) {
    return load<T>(from, index * sizeof(T));
}

/// REQUIRES: at + sizeof(T) <= to.size().
template <class T>
void store(std::span<std::byte> to, std::size_t at, T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    std::memcpy(to.data() + at, &value, sizeof value);
}

} // namespace lategrad
