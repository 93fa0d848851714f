/// What is to happen, in the order of virtual time; what is due at one time happens in the order in which it was asked
/// for. That order is what makes a simulated run repeat itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <queue>
#include <tuple>
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

    /// The next one; its time is now. REQUIRES: not empty.
    Happening pop() {
        const bool from_due = first_due_ < due_.size() && (later_.empty() || due_[first_due_] < later_.top());
        if (from_due) {
            const Happening what = due_[first_due_++].what;
            if (2 * first_due_ > due_.size()) { // what has been, is let go
                due_.erase(due_.begin(), due_.begin() + static_cast<std::ptrdiff_t>(first_due_));
                first_due_ = 0;
            }
            return what;
        }
        const Entry entry = later_.top();
        later_.pop();
        now_ = entry.at;
        return entry.what;
    }

  private:
    struct Entry {
        Time at;
        std::uint64_t sequence;
        Happening what;

        friend bool operator<(const Entry& a, const Entry& b) {
            return std::tie(a.at, a.sequence) < std::tie(b.at, b.sequence);
        }
        friend bool operator>(const Entry& a, const Entry& b) { return b < a; }
    };

    Time now_{};
    std::uint64_t sequence_ = 0;
    std::vector<Entry> due_; ///< from first_due_ on: due now
    std::size_t first_due_ = 0;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> later_;
};

} // namespace lategrad
