/// What is to happen, in the order of virtual time; what is due at one time happens in the order in which it was asked
/// for. That order is what makes a simulated run repeat itself.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "lategrad/core/time.h"

namespace lategrad {

/// `Happening` says what; small and trivially copied.
template <class Happening>
class EventQueue {
  public:
    /// At `at`, or now where that has passed; never, where that is kNever.
    void push(Time at, const Happening& what) {
        if (at == kNever) return;
        const std::uint64_t sequence = sequence_++;
        // Most messages of a cluster with unlimited links arrive at once: they need no heap.
        if (at <= now_) due_.push_back({now_, sequence, what});
        else later_.push({at, sequence, what});
    }

    bool empty() const { return first_due_ == due_.size() && later_.empty(); }
    Time now() const { return now_; }

    /// Happenings as they lie in memory.
    template <class A>
    void archive(A& archive) {
        archive(now_, sequence_, first_due_);
        archive(due_, later_);
        archive.require(first_due_ <= due_.size(), "more is done than was due");
    }

    /// The next one; its time is now. REQUIRES: not empty.
    Happening pop() {
        const bool from_due = first_due_ < due_.size() && (later_.empty() || due_[first_due_].before(later_.top()));
        if (from_due) {
            const Happening what = due_[first_due_++].what;
            if (2 * first_due_ > due_.size()) { // what has been, is let go
                due_.erase(due_.begin(), due_.begin() + static_cast<std::ptrdiff_t>(first_due_));
                first_due_ = 0;
            }
            return what;
        }
        const Entry entry = later_.pop();
        now_ = entry.at;
        return entry.what;
    }

  private:
    struct Entry {
        Time at;
        std::uint64_t sequence;
        Happening what;

        template <class A>
        void archive(A& archive) {
            archive(at, sequence, what);
        }
        bool before(const Entry& other) const { return at != other.at ? at < other.at : sequence < other.sequence; }
    };

    /// Four children to a node: half the levels of a binary heap, which is what a heap beyond the cache costs.
    class Heap {
      public:
        template <class A>
        void archive(A& archive) {
            archive(entries_);
        }
        bool empty() const { return entries_.empty(); }
        const Entry& top() const { return entries_.front(); }

        void push(const Entry& entry) {
            entries_.push_back(entry);
            std::size_t hole = entries_.size() - 1;
            for (; hole > 0 && entry.before(entries_[parent(hole)]); hole = parent(hole)) {
                entries_[hole] = entries_[parent(hole)];
            }
            entries_[hole] = entry;
        }

        Entry pop() {
            const Entry first = entries_.front();
            const Entry last = entries_.back();
            entries_.pop_back();
            if (!entries_.empty()) sink(last);
            return first;
        }

      private:
        static constexpr std::size_t kChildren = 4;
        static std::size_t parent(std::size_t child) { return (child - 1) / kChildren; }

        /// From the top, in the place of what has gone.
        void sink(const Entry& entry) {
            std::size_t hole = 0;
            for (;;) {
                const std::size_t begin = kChildren * hole + 1;
                const std::size_t end = std::min(begin + kChildren, entries_.size());
                if (begin >= end) break;
                std::size_t least = begin;
                for (std::size_t child = begin + 1; child < end; ++child) {
                    if (entries_[child].before(entries_[least])) least = child;
                }
                if (!entries_[least].before(entry)) break;
                entries_[hole] = entries_[least];
                hole = least;
            }
            entries_[hole] = entry;
        }

        std::vector<Entry> entries_; ///< every parent before its children
    };

    Time now_{};
    std::uint64_t sequence_ = 0;
    std::vector<Entry> due_; ///< from first_due_ on: due now
    std::size_t first_due_ = 0;
    Heap later_;
};

} // namespace lategrad
