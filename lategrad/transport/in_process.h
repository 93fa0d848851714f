/// The transport of a run whose server and workers are threads of one process.
#pragma once

#include <cstddef>
#include <memory>

#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"

namespace lategrad {

/// Connects one server (peer 0) with `workers` workers (peers 1 … workers). Headers are encoded and decoded as on a
/// wire; payloads are shared by handle, never copied. Allocates nothing after construction.
class InProcessHub {
  public:
    /// Messages that may wait on the way from one peer to another; the next one finds the way busy.
    static constexpr std::size_t kQueuedMax = 4;

    /// `clock` must outlive the endpoints; the hub need not.
    InProcessHub(std::size_t workers, const Clock& clock);

    /// This peer's end; shuts down when destroyed. Any thread. REQUIRES: called once for each peer; peer <= workers.
    std::unique_ptr<Transport> endpoint(Peer peer);

    struct State;

  private:
    std::shared_ptr<State> state_;
};

} // namespace lategrad
