#include "lategrad/runtime/node_loop.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

NodeLoop::NodeLoop(Node& node, Transport& transport, const Clock& clock, Mailbox& mailbox, NodeHands hands)
    : node_(node),
      transport_(transport),
      clock_(clock),
      mailbox_(mailbox),
      hands_(std::move(hands)) {}

void NodeLoop::run() {
    handle(Timer{});
    // A node that is done only waits for its last messages to leave, and no longer than it said.
    while (!done_ || (!outbox_.empty() && clock_.now() < wake_at_)) {
        auto incoming = transport_.receive(wake_at_);
        flush();
        if (incoming) {
            // A node that is done hears no more of its peers.
            if (auto* received = std::get_if<Received>(&*incoming)) {
                if (done_) continue;
                MessageArrived arrived{.peer = received->peer, .message = std::move(received->message)};
                const bool carries =
                    arrived.message.type == MessageType::push || arrived.message.type == MessageType::parameters;
                if (carries && hands_.validate) {
                    hands_.validate(arrived);
                }
                handle(arrived);
            } else if (const auto* gone = std::get_if<PeerGone>(&*incoming)) {
                std::erase_if(outbox_, [&](const Send& send) { return send.to == gone->peer; });
                if (!done_) handle(PeerLeft{gone->peer});
            } else if (!done_) {
                handle(PeerHeard{std::get<PeerAlive>(*incoming).peer});
            }
        }
        posted_.clear();
        mailbox_.take(posted_);
        for (const Event& event : posted_) handle(event);
        if (!done_ && clock_.now() >= wake_at_) handle(Timer{});
    }
}

void NodeLoop::handle(const Event& event) {
    effects_.clear();
    node_.handle(event, clock_.now(), effects_);
    carry_out();
}

void NodeLoop::carry_out() {
    // Order matters twice: parameters leave before the evaluation of the same version takes a core, and a gradient is
    // given up before the next one is started.
    for (Send& send : effects_.sends) hand_over(std::move(send));
    for (const Peer peer : effects_.forget) {
        std::erase_if(outbox_, [&](const Send& send) { return send.to == peer; });
        transport_.forget(peer);
    }
    if (effects_.cancel_compute) hands_.cancel_compute();
    if (effects_.start_compute) hands_.start_compute(*effects_.start_compute);
    if (effects_.start_update) hands_.start_update(*effects_.start_update);
    if (effects_.evaluate && hands_.evaluate) hands_.evaluate(*effects_.evaluate);
    if (hands_.tell) {
        for (const RunEvent& event : effects_.events) hands_.tell(event);
    }
    if (effects_.checkpoint && hands_.checkpoint) hands_.checkpoint(std::move(*effects_.checkpoint));
    wake_at_ = effects_.wake_at;
    done_ = done_ || effects_.done;
    effects_.clear(); // lets go of the payloads
}

void NodeLoop::hand_over(Send&& send) {
    const bool queued =
        std::any_of(outbox_.begin(), outbox_.end(), [&](const Send& waiting) { return waiting.to == send.to; });
    if (!queued && transport_.try_send(send.to, send.message) != SendStatus::busy) return;
    if (send.message.type != MessageType::push) {
        // One slot for a slow receiver: the latest version wins, and one word to stop is enough. Pushes are bounded by
        // the buffers that gradients are computed in.
        std::erase_if(outbox_, [&](const Send& waiting) {
            return waiting.to == send.to && waiting.message.type == send.message.type;
        });
    }
    outbox_.push_back(std::move(send));
}

void NodeLoop::flush() {
    for (auto it = outbox_.begin(); it != outbox_.end();) {
        const bool behind = std::any_of(outbox_.begin(), it, [&](const Send& before) { return before.to == it->to; });
        if (behind || transport_.try_send(it->to, it->message) == SendStatus::busy) ++it;
        else it = outbox_.erase(it);
    }
}

} // namespace lategrad
