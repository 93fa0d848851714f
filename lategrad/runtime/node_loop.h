/// Drives one node with a real transport and the real clock. The thread that runs the loop is the communication thread:
/// it owns the transport and never computes; gradients, updates and evaluations run on threads of their own and come
/// back through the mailbox.
#pragma once

#include <deque>
#include <functional>
#include <vector>

#include "lategrad/node/node.h"
#include "lategrad/runtime/mailbox.h"
#include "lategrad/transport/clock.h"
#include "lategrad/transport/transport.h"

namespace lategrad {

/// Whoever carries out what a node asks for. None of these blocks; those a node never asks for may be empty.
struct NodeHands {
    std::function<void(const ComputeJob&)> start_compute; ///< answers with ComputeDone
    std::function<void()> cancel_compute;
    std::function<void(UpdateTask&)> start_update; ///< answers with UpdateDone
    std::function<void(const Snapshot&)> evaluate; ///< answers with EvaluationDone, or not at all
    std::function<void(const RunEvent&)> tell;     ///< telemetry
    std::function<void(CheckpointDue&&)> checkpoint;
    /// Reads the payload of a push or of parameters once, as it arrives, and fills in what it found.
    std::function<void(MessageArrived&)> validate;
};

class NodeLoop {
  public:
    /// Everything outlives the loop.
    NodeLoop(Node& node, Transport& transport, const Clock& clock, Mailbox& mailbox, NodeHands hands);

    /// Until the node is done and what it said is on its way. Does not shut the transport down.
    void run();

    /// One more event for a node that is done, such as a late evaluation.
    void handle(const Event& event);

  private:
    void carry_out();
    void flush();
    void hand_over(Send&& send);

    Node& node_;
    Transport& transport_;
    const Clock& clock_;
    Mailbox& mailbox_;
    NodeHands hands_;
    Effects effects_;
    std::vector<Event> posted_;
    std::deque<Send> outbox_; ///< refused as busy; of each type but `push` one per peer
    bool done_ = false;
    Time wake_at_ = kNever;
};

} // namespace lategrad
