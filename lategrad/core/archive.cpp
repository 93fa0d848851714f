#include "lategrad/core/archive.h"

#include <algorithm>
#include <limits>

namespace lategrad {
namespace {

/// FNV-1a.
std::uint32_t mark_of(std::string_view name) {
    std::uint32_t hash = 0x811c9dc5;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x01000193;
    return hash;
}

constexpr std::string_view kPools = "pools";
constexpr std::string_view kEnd = "end";

bool has_memory(const Buffer& buffer) {
    return buffer.data() != nullptr;
}

} // namespace

void Archive::fail(std::string_view what) const {
    CHECK(reading_ && "what is written holds");
    throw InputError("at byte " + std::to_string(in_bytes_ - in_.size()) + ": " + std::string(what));
}

void Archive::fail_short(std::size_t bytes) const {
    fail(std::to_string(bytes) + " bytes are expected, " + std::to_string(in_.size()) + " are there");
}

void Archive::fail_expected(std::string_view what, const std::string& found, const std::string& here) const {
    fail(std::string(what) + ": " + found + ", but " + here + " here");
}

void Archive::section(std::string_view name) {
    std::uint32_t mark = mark_of(name);
    item(mark);
    if (mark != mark_of(name)) fail("'" + std::string(name) + "' should begin here");
}

void Archive::count(std::size_t& count, std::size_t bytes_each) {
    static_assert(sizeof(std::size_t) == sizeof(std::uint64_t));
    item(count);
    if (reading_ && count > in_.size() / bytes_each) {
        fail(std::to_string(count) + " elements are announced, " + std::to_string(in_.size()) + " bytes are there");
    }
}

void Archive::expect_text(std::string_view value, std::string_view what) {
    std::string found(value);
    item(found);
    // What is found may be damaged: no more of it than a line holds.
    if (found != value) fail_expected(what, "'" + found.substr(0, 40) + "'", "'" + std::string(value) + "'");
}

void ArchiveWriter::pools(std::span<BufferPool* const> pools) {
    std::size_t size = pools.size();
    (*this)(size);
    for (BufferPool* const pool : pools) {
        pools_.push_back(pool);
        const bool is_new =
            numbers_of_pools_.emplace(pool->identity(), static_cast<std::uint32_t>(pools_.size())).second;
        CHECK(is_new);
    }
}

void ArchiveWriter::buffer(Buffer& buffer) {
    std::uint32_t number = 0;
    if (!buffer) {
        (*this)(number);
        return;
    }
    const auto [at, is_new] = numbers_.emplace(buffer.identity(), static_cast<std::uint32_t>(met_.size() + 1));
    number = at->second;
    (*this)(number);
    if (!is_new) return;
    CHECK(met_.size() < std::numeric_limits<std::uint32_t>::max() - 1);
    met_.push_back(buffer);
    const auto pool = numbers_of_pools_.find(BufferPool::identity_of_pool(buffer));
    std::uint32_t pool_number = pool == numbers_of_pools_.end() ? 0 : pool->second;
    std::uint64_t bytes = buffer.bytes();
    std::uint64_t capacity = buffer.capacity();
    bool real = has_memory(buffer);
    (*this)(pool_number, real, bytes, capacity);
}

ArchiveWriter::Captured ArchiveWriter::finish() {
    section(kPools);
    for (const BufferPool* const pool : pools_) {
        std::vector<std::size_t> idle = pool->idle();
        std::size_t leased = pool->bytes_leased();
        (*this)(leased, idle);
    }
    section(kEnd);
    std::erase_if(met_, [](const Buffer& buffer) { return !has_memory(buffer); });
    return {.state = std::move(out_), .buffers = std::move(met_)};
}

std::vector<std::span<const std::byte>> ArchiveWriter::Captured::blobs() const {
    std::vector<std::span<const std::byte>> spans;
    spans.reserve(buffers.size());
    for (const Buffer& buffer : buffers) spans.emplace_back(buffer.data(), buffer.bytes());
    return spans;
}

ArchiveReader::ArchiveReader(std::span<const std::byte> state, std::span<const std::byte> blobs, BufferPool& unnamed)
    : Archive(true),
      blobs_(blobs),
      pools_{{&unnamed}} {
    in_ = state;
    in_bytes_ = state.size();
}

void ArchiveReader::pools(std::span<BufferPool* const> pools) {
    expect(pools.size(), "how many pools there are");
    for (BufferPool* const pool : pools) pools_.push_back({pool});
}

void ArchiveReader::buffer(Buffer& buffer) {
    std::uint32_t number = 0;
    (*this)(number);
    require(number <= met_.size() + 1, "a buffer that was not met before");
    if (number == 0) buffer.reset();
    else if (number <= met_.size()) buffer = met_[number - 1];
    else buffer = met_.emplace_back(take());
}

Buffer ArchiveReader::take() {
    std::uint32_t pool_number = 0;
    bool real = false;
    std::uint64_t bytes = 0;
    std::uint64_t capacity = 0;
    (*this)(pool_number, real, bytes, capacity);
    require(pool_number < pools_.size(), "a buffer of a pool that is not there");
    Pool& from = pools_[pool_number];
    require(real == (from.pool->memory() == BufferPool::Memory::real), "a buffer of a pool of the other kind");
    // As BufferPool lends: not more than twice as long.
    require(bytes <= capacity && capacity / 2 <= bytes, "a buffer longer than its pool would lend it");
    require(!real || bytes <= blobs_.size(), "a buffer longer than what is stored of buffers");
    require(capacity <= from.pool->bytes_max() - from.taken, "more buffers than their pool lends");
    Buffer buffer = from.pool->lease_again(bytes, capacity);
    from.taken += capacity;
    if (real) {
        if (bytes > 0) std::memcpy(buffer.data(), blobs_.data(), bytes);
        blobs_ = blobs_.subspan(bytes);
    }
    return buffer;
}

bool ArchiveReader::finish() {
    section(kPools);
    met_.clear(); // what nobody kept goes back first
    bool same = true;
    for (const Pool& at : std::span(pools_).subspan(1)) {
        std::vector<std::size_t> idle;
        std::size_t leased = 0;
        (*this)(leased, idle);
        same = at.pool->set_idle(idle) && at.pool->bytes_leased() == leased && same;
    }
    section(kEnd);
    require(in_.empty(), "more follows behind the end");
    require(blobs_.empty(), "buffers that nobody holds");
    return same;
}

} // namespace lategrad
