/// One description of an object's state for both directions: to bytes and back. Little-endian, without names or types;
/// sections find where reader and writer do not agree. Bytes may be damaged: everything read is checked against what
/// remains before memory is taken for it.
///
///     void persist(Archive& archive) {
///         archive.section("clock");
///         archive(version_, waiting_, held_);             // numbers, containers, buffers, what has persist itself
///         archive.expect(size(), "the clock's size");     // what this object was made for
///         archive.require(waiting_.size() <= size(), "more wait than there are");
///     }
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "lategrad/core/buffer.h"
#include "lategrad/core/error.h"
#include "lategrad/core/ids.h"

namespace lategrad {

class Archive;

namespace archive_detail {

template <class T>
inline constexpr bool is_id = false;
template <class Tag, class Rep>
inline constexpr bool is_id<Ordinal<Tag, Rep>> = true;

/// Copied as it lies in memory. Not bool, of which most bytes are no value.
template <class T>
concept Plain = (std::is_arithmetic_v<T> && !std::same_as<T, bool> && !std::same_as<T, long double>) || is_id<T>;

template <class T>
concept WithPersist = requires(T& value, Archive& archive) {
    value.persist(archive);
};
/// For headers that need not know this one.
template <class T>
concept WithArchive = requires(T& value, Archive& archive) {
    value.archive(archive);
};
template <class T>
concept WithFreePersist = requires(T& value, Archive& archive) {
    persist(archive, value);
};

} // namespace archive_detail

/// ArchiveWriter or ArchiveReader. Reading throws InputError, "at byte N: what is wrong"; then what was being read is
/// in no state to be used.
///
/// Takes numbers, enums, ids, times, strings, buffers; pair, tuple, array, vector, deque, optional, map, set and
/// variant of what it takes (and can make by default); and what has a member `void persist(Archive&)`, a member
/// `template <class A> void archive(A&)`, or a function `void persist(Archive&, T&)` beside it.
class Archive {
  public:
    Archive(const Archive&) = delete;
    Archive& operator=(const Archive&) = delete;

    bool reading() const { return reading_; }

    /// No run counts so far. What is read is refused beyond it, so that sums of a few stay within a number.
    static constexpr std::uint64_t kCountMax = std::uint64_t{1} << 62;

    template <class... T>
    void operator()(T&... values) {
        (item(values), ...);
    }

    /// The same name must stand here on reading.
    void section(std::string_view name);

    /// Numbers whose count both sides know: no memory is taken for them. The writer copies them.
    template <archive_detail::Plain T>
    void fixed(std::span<T> values, std::string_view what) {
        expect(values.size(), what);
        raw(values.data(), values.size_bytes());
    }

    /// What the object was made for: must be the same on reading. Numbers, enums and text.
    template <class T>
    void expect(const T& value, std::string_view what) {
        if constexpr (std::convertible_to<const T&, std::string_view>) {
            expect_text(value, what);
        } else {
            T found = value;
            item(found);
            if (found != value) fail_expected(what, text(found), text(value));
        }
    }

    /// An enumerator, none after `last`.
    template <class E>
    requires std::is_enum_v<E>
    void enumerator(E& value, E last) {
        item(value);
        require(value >= E{} && value <= last, "an enumerator out of range");
    }

    /// What must hold of what was read. Of what is written it holds, or that is our bug.
    void require(bool holds, std::string_view what) {
        if (!holds) fail(what);
    }
    /// kCountMax for what was read, from where it goes on.
    void require_count(std::uint64_t read, std::string_view what) { require(!reading_ || read <= kCountMax, what); }
    /// Throws InputError, which says where in the bytes.
    [[noreturn]] void fail(std::string_view what) const;

    /// Pools whose buffers will be met: the same ones in the same order on both sides, before any of their buffers. A
    /// resumed pool lends what it would have lent (BufferPool::has_room). Several calls add up. The pools outlive this.
    virtual void pools(std::span<BufferPool* const> pools) = 0;
    void pools(std::initializer_list<BufferPool*> pools) { this->pools(std::span(pools.begin(), pools.size())); }

  protected:
    explicit Archive(bool reading) : reading_(reading) {}
    ~Archive() = default;

    /// `count` things of at least `bytes_each`.
    void count(std::size_t& count, std::size_t bytes_each);
    void raw(void* data, std::size_t bytes) {
        if (reading_) {
            if (bytes > in_.size()) fail_short(bytes);
            if (bytes > 0) std::memcpy(data, in_.data(), bytes);
            in_ = in_.subspan(bytes);
        } else {
            const auto* from = static_cast<const std::byte*>(data);
            out_.insert(out_.end(), from, from + bytes);
        }
    }

    std::vector<std::byte> out_;
    std::span<const std::byte> in_; ///< what remains
    std::size_t in_bytes_ = 0;      ///< of all

  private:
    static_assert(std::endian::native == std::endian::little, "numbers are stored as they lie in memory");

    [[noreturn]] void fail_short(std::size_t bytes) const;
    [[noreturn]] void fail_expected(std::string_view what, const std::string& found, const std::string& here) const;
    void expect_text(std::string_view value, std::string_view what);
    virtual void buffer(Buffer& buffer) = 0;

    template <class T>
    static std::string text(const T& value) {
        if constexpr (std::is_enum_v<T>) return std::to_string(static_cast<std::underlying_type_t<T>>(value));
        else if constexpr (archive_detail::is_id<T>) return std::to_string(value.value());
        else return std::to_string(value);
    }

    template <class T>
    void item(T& value) {
        using namespace archive_detail;
        if constexpr (Plain<T>) {
            raw(&value, sizeof value);
        } else if constexpr (std::same_as<T, bool>) {
            flag(value);
        } else if constexpr (std::is_enum_v<T>) {
            auto number = static_cast<std::underlying_type_t<T>>(value);
            item(number);
            value = static_cast<T>(number);
        } else if constexpr (WithPersist<T>) {
            value.persist(*this);
        } else if constexpr (WithArchive<T>) {
            value.archive(*this);
        } else if constexpr (WithFreePersist<T>) {
            persist(*this, value);
        } else {
            composite(value);
        }
    }

    void flag(bool& value) {
        std::uint8_t byte = value ? 1 : 0;
        raw(&byte, 1);
        require(byte <= 1, "a truth value that is neither");
        value = byte == 1;
    }

    void composite(Buffer& value) { buffer(value); }
    void composite(std::string& value) { plain_sequence(value); }

    template <class Rep, class Period>
    void composite(std::chrono::duration<Rep, Period>& value) {
        Rep ticks = value.count();
        item(ticks);
        value = std::chrono::duration<Rep, Period>(ticks);
    }
    template <class Clock, class Duration>
    void composite(std::chrono::time_point<Clock, Duration>& value) {
        Duration since = value.time_since_epoch();
        item(since);
        value = std::chrono::time_point<Clock, Duration>(since);
    }

    template <class A, class B>
    void composite(std::pair<A, B>& value) {
        item(value.first);
        item(value.second);
    }
    template <class... T>
    void composite(std::tuple<T...>& value) {
        std::apply([&](auto&... parts) { (item(parts), ...); }, value);
    }
    template <class T, std::size_t n>
    void composite(std::array<T, n>& value) {
        if constexpr (archive_detail::Plain<T>) raw(value.data(), sizeof(T) * n);
        else
            for (T& element : value) item(element);
    }
    template <class T>
    void composite(std::optional<T>& value) {
        bool has = value.has_value();
        flag(has);
        if (reading_) {
            value.reset();
            if (has) value.emplace();
        }
        if (has) item(*value);
    }
    template <class... T>
    void composite(std::variant<T...>& value) {
        auto index = static_cast<std::uint8_t>(value.index());
        static_assert(sizeof...(T) <= 255);
        raw(&index, 1);
        require(index < sizeof...(T), "a variant of no kind there is");
        if (reading_) emplace(value, index, std::index_sequence_for<T...>());
        std::visit([&](auto& held) { item(held); }, value);
    }
    template <class Variant, std::size_t... kIndex>
    static void emplace(Variant& value, std::size_t index, std::index_sequence<kIndex...>) {
        (void)((kIndex == index && (static_cast<void>(value.template emplace<kIndex>()), true)) || ...);
    }

    template <class T, class Allocator>
    void composite(std::vector<T, Allocator>& value) {
        if constexpr (archive_detail::Plain<T>) plain_sequence(value);
        else sequence(value);
    }
    template <class Allocator>
    void composite(std::vector<bool, Allocator>& value) {
        std::size_t size = value.size();
        count(size, 1);
        if (reading_) value.assign(size, false);
        for (std::size_t i = 0; i < size; ++i) {
            bool element = value[i];
            flag(element);
            value[i] = element;
        }
    }
    template <class T, class Allocator>
    void composite(std::deque<T, Allocator>& value) {
        sequence(value);
    }

    template <class Sequence>
    void plain_sequence(Sequence& value) {
        using T = typename Sequence::value_type;
        std::size_t size = value.size();
        count(size, sizeof(T));
        if (reading_) value.resize(size);
        raw(value.data(), size * sizeof(T));
    }

    /// Grows as it is read: an element takes a byte at least, so that memory follows what is there.
    template <class Sequence>
    void sequence(Sequence& value) {
        std::size_t size = value.size();
        count(size, 1);
        if (!reading_) {
            for (auto& element : value) item(element);
            return;
        }
        value.clear();
        for (std::size_t i = 0; i < size; ++i) element(value.emplace_back());
    }

    template <class K, class V, class Compare, class Allocator>
    void composite(std::map<K, V, Compare, Allocator>& value) {
        std::size_t size = value.size();
        count(size, 1);
        if (!reading_) {
            for (auto& [key, mapped] : value) {
                K copy = key;
                item(copy);
                item(mapped);
            }
            return;
        }
        value.clear();
        for (std::size_t i = 0; i < size; ++i) {
            K key{};
            element(key);
            const std::size_t before = value.size();
            auto at = value.emplace_hint(value.end(), std::move(key), V{});
            require(value.size() > before && std::next(at) == value.end(), "the keys of a map do not ascend");
            item(at->second);
        }
    }
    template <class K, class Compare, class Allocator>
    void composite(std::set<K, Compare, Allocator>& value) {
        std::size_t size = value.size();
        count(size, 1);
        if (!reading_) {
            for (K key : value) item(key);
            return;
        }
        value.clear();
        for (std::size_t i = 0; i < size; ++i) {
            K key{};
            element(key);
            const std::size_t before = value.size();
            const auto at = value.emplace_hint(value.end(), std::move(key));
            require(value.size() > before && std::next(at) == value.end(), "the elements of a set do not ascend");
        }
    }

    template <class T>
    void element(T& value) {
        const std::size_t before = in_.size();
        item(value);
        require(in_.size() < before, "elements of no bytes");
    }

    bool reading_;
};

/// Gathers small state as bytes, and handles to the buffers in place of copies of them.
class ArchiveWriter final : public Archive {
  public:
    ArchiveWriter() : Archive(false) {}

    using Archive::pools;
    void pools(std::span<BufferPool* const> pools) override;

    /// What was captured. May go to another thread; until it is gone, the buffers are shared (Buffer::unique) and out
    /// of their pools.
    struct Captured {
        std::vector<std::byte> state;
        std::vector<Buffer> buffers; ///< in the order in which they are stored, one behind the other

        /// What is to be stored of the buffers.
        std::vector<std::span<const std::byte>> blobs() const;
    };
    /// Ends the archive. Once, and last.
    Captured finish();

  private:
    void buffer(Buffer& buffer) override;

    std::vector<BufferPool*> pools_;
    std::unordered_map<const void*, std::uint32_t> numbers_of_pools_; ///< from 1, by identity
    std::vector<Buffer> met_;                                         ///< so that no other takes their identity
    std::unordered_map<const void*, std::uint32_t> numbers_;          ///< from 1, by identity
};

/// Reads what a writer made, into objects made with the same options.
class ArchiveReader final : public Archive {
  public:
    /// `blobs`: the writer's, one behind the other. Buffers of pools that were not named come from `unnamed`. All
    /// outlive this.
    ArchiveReader(std::span<const std::byte> state, std::span<const std::byte> blobs, BufferPool& unnamed);

    using Archive::pools;
    void pools(std::span<BufferPool* const> pools) override;

    /// Checks that all was read, and leaves in the pools what was idle. True where every named pool lends now what it
    /// would have lent: false where buffers were out that are not in the archive, or others still are. Once, and last.
    bool finish();

  private:
    void buffer(Buffer& buffer) override;
    Buffer take();

    std::span<const std::byte> blobs_;
    struct Pool {
        BufferPool* pool;
        std::size_t taken = 0; ///< of its bound, by what was read
    };
    std::vector<Pool> pools_; ///< the first lends what is of no named pool
    std::vector<Buffer> met_;
};

} // namespace lategrad
