#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "lategrad/core/ids.h"

namespace lategrad {

class Archive;

/// What has changed from version to version, as words; forgets the oldest where there is no room.
class ChangeHistory {
  public:
    static constexpr std::size_t kVersionsMax = 1024;

    explicit ChangeHistory(std::size_t words_max);

    /// Forgets all; the next change leads from `newest` to the one after.
    void clear(Version newest);
    void add(std::span<const std::uint32_t> head, std::span<const std::uint32_t> body);
    /// Whether all that has changed after that version is known.
    bool reaches(Version version) const {
        return version >= oldest_ && version.value() < oldest_.value() + ends_.size();
    }
    Version oldest() const { return oldest_; }
    Version newest() const { return Version{oldest_.value() + ends_.size() - 1}; }
    /// Of the changes after `from`, up to `to`. REQUIRES: it reaches both; from <= to.
    std::size_t words(Version from, Version to) const;
    /// REQUIRES: out.size() == words(from, to).
    void copy(Version from, Version to, std::span<std::uint32_t> out) const;

    /// For one of as many words. The words that are kept are copied.
    void persist(Archive& archive);

  private:
    void append(std::uint64_t at, std::span<const std::uint32_t> words);
    std::uint64_t end(Version version) const { return ends_[version - oldest_]; }

    // Positions only grow; a word lies at the remainder of its own.
    std::size_t words_max_;
    std::unique_ptr<std::uint32_t[]> words_; ///< not touched before it is needed
    Version oldest_;
    std::vector<std::uint64_t> ends_; ///< of the changes that lead to oldest_ and to each version after it
};

} // namespace lategrad
