/// Where threads leave events for the communication thread.
#pragma once

#include <mutex>
#include <utility>
#include <vector>

#include "lategrad/node/node.h"
#include "lategrad/transport/transport.h"

namespace lategrad {

/// `post` from any thread; `take` from the communication thread alone.
class Mailbox {
  public:
    /// `transport` outlives the mailbox; its `receive` returns when something is posted.
    explicit Mailbox(Transport& transport) : transport_(transport) {}

    void post(Event event) {
        {
            const std::lock_guard lock(mutex_);
            events_.push_back(std::move(event));
        }
        transport_.wake();
    }

    /// Swaps what was posted into `out`, which is empty.
    void take(std::vector<Event>& out) {
        const std::lock_guard lock(mutex_);
        events_.swap(out);
    }

  private:
    Transport& transport_;
    std::mutex mutex_;
    std::vector<Event> events_;
};

} // namespace lategrad
