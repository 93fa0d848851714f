#include "lategrad/server/server.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"
#include "lategrad/server/terms.h"

namespace lategrad {
namespace {

/// How long the end of a run waits for the workers' goodbyes. A step that cannot be interrupted may take this long.
constexpr Duration kGrace = std::chrono::seconds(30);

} // namespace

Server::Server(const ServerOptions& options, std::unique_ptr<Policy> policy, const Codec& codec, Optimizer& optimizer,
               Buffer initial, BufferPool& versions, Publisher* publisher)
    : options_(options),
      policy_(std::move(policy)),
      versions_(versions),
      in_place_(codec.in_place()),
      update_(codec, optimizer, options, publisher),
      parameters_(std::move(initial)) {
    CHECK(options.workers > 0 && options.trainable > 0 && options.trainable <= options.size);
    members_.resize(options.workers);
    if (publisher) publisher->publish(published_, parameters_, {});
}

void Server::handle(const Event& event, Time now, Effects& out) {
    if (const auto* arrived = std::get_if<MessageArrived>(&event)) on_message(*arrived, now, out);
    else if (std::holds_alternative<UpdateDone>(event)) on_update_done(now, out);
    else if (const auto* left = std::get_if<PeerLeft>(&event)) on_peer_left(left->peer, now, out);
    else if (const auto* evaluation = std::get_if<EvaluationDone>(&event)) on_evaluation(evaluation->result, now, out);
    else if (std::holds_alternative<StopRequested>(event)) end(Outcome::interrupted, now, out);

    if (options_.time_limit && state_ == State::running) {
        const Time limit = *began_at_ + *options_.time_limit;
        if (now >= limit) end(Outcome::time_limit, now, out);
        else out.wake_at = limit;
    }
    if (state_ == State::ended) {
        out.wake_at = ended_at_ + kGrace;
        out.done = here_ == 0 || now >= out.wake_at;
    }
    for (RunEvent& told : out.events) told.at = since_begin(told.at);
}

std::optional<WorkerId> Server::worker_at(Peer peer) const {
    return peer.value() < by_peer_.size() ? by_peer_[peer.value()] : std::nullopt;
}

void Server::send(Peer to, Message message, Effects& out) {
    message.run = options_.run;
    bytes_sent_ += kHeaderBytes + message.payload.bytes();
    out.sends.push_back({to, std::move(message)});
}

void Server::on_message(const MessageArrived& arrived, Time now, Effects& out) {
    bytes_received_ += kHeaderBytes + arrived.message.payload.bytes();
    switch (arrived.message.type) {
    case MessageType::hello: on_hello(arrived, now, out); return;
    case MessageType::push: on_push(arrived, now, out); return;
    case MessageType::goodbye: on_peer_left(arrived.peer, now, out); return;
    case MessageType::parameters:
    case MessageType::stop:
    case MessageType::welcome:
    case MessageType::refuse: ledger_.count_stray(); return; // only a server says these
    case MessageType::beat:
    case MessageType::join: return;
    }
}

void Server::on_hello(const MessageArrived& arrived, Time now, Effects& out) {
    const Message& hello = arrived.message;
    const WorkerId worker = hello.worker;
    if (state_ == State::ended) { // it came too late
        send(arrived.peer, {.type = MessageType::stop, .worker = worker}, out);
        return;
    }
    const bool fits = worker.value() < members_.size() && hello.examples > 0 && hello.elements == options_.size &&
                      hello.run == options_.run && (state_ == State::gathering || state_ == State::running);
    // What left during an update is still known by its peer until the update is done; so is its return put off.
    if (fits && updating_ && !members_[worker.value()].here && !members_[worker.value()].joining) {
        members_[worker.value()].joining = true;
        waiting_.push_back(arrived);
        return;
    }
    if (worker_at(arrived.peer)) {
        ledger_.count_stray(); // it has said so before
        return;
    }
    if (!fits || members_[worker.value()].here || members_[worker.value()].joining) {
        ledger_.count_stray();
        send(arrived.peer, {.type = MessageType::stop, .reason = Reason::malformed}, out);
        return;
    }
    if (arrived.peer.value() >= by_peer_.size()) by_peer_.resize(arrived.peer.value() + 1);
    by_peer_[arrived.peer.value()] = worker;
    Member& member = members_[worker.value()];
    member.peer = arrived.peer;
    member.examples = hello.examples;
    member.here = true;
    member.fate = Fate::lost;
    member.reason = Reason::none;
    member.has.reset();
    member.unusable = 0;
    ++here_;
    if (state_ == State::running) {
        join(worker, now, out);
    } else if (here_ == options_.workers) {
        state_ = State::running;
        began_at_ = now;
        for (std::uint32_t i = 0; i < members_.size(); ++i) join(WorkerId{i}, now, out);
        end_if_reached(now, out); // --updates 0
    }
}

void Server::join(WorkerId worker, Time now, Effects& out) {
    const std::uint32_t examples = members_[worker.value()].examples;
    out.events.push_back({now, JoinEvent{worker, examples}});
    decide(WorkerJoined{worker, examples}, now, out);
}

void Server::on_push(const MessageArrived& arrived, Time now, Effects& out) {
    const auto worker = worker_at(arrived.peer);
    const Message& message = arrived.message;
    if (state_ == State::ended || state_ == State::gathering || !worker || message.worker != *worker ||
        message.run != options_.run || !ledger_.is_open(*worker, message.step, message.version)) {
        if (state_ != State::ended) ledger_.count_stray();
        return;
    }
    if (!updating_) {
        decide_push(arrived, now, out);
        return;
    }
    Step& next_to_wait = members_[worker->value()].next_to_wait;
    if (message.step < next_to_wait) {
        ledger_.count_stray(); // the same one twice
        return;
    }
    next_to_wait = message.step.next();
    waiting_.push_back(arrived);
}

void Server::decide_push(const MessageArrived& push, Time now, Effects& out) {
    const Message& message = push.message;
    const WorkerId worker = message.worker;
    if (!ledger_.is_open(worker, message.step, message.version)) { // its worker left before it in the queue
        ledger_.count_stray();
        return;
    }
    while (ledger_.first_open(worker) < message.step) {
        const Step step = ledger_.lose_first(worker);
        out.events.push_back({now, LostEvent{worker, step, Reason::cancelled}});
    }
    decision_.clear();
    // A worker with a codec sends an empty payload where its gradient is not finite, or the format does not hold it.
    const bool refused = message.payload.bytes() == 0 && !in_place_;
    const Reason defect = refused ? Reason::not_finite : push.defect;
    if (defect != Reason::none) {
        policy_->step(GradientRejected{worker, message.version, defect}, now, decision_);
    } else {
        policy_->step(GradientArrived{worker, message.step, message.version}, now, decision_);
    }
    ledger_.arrive_first(worker, decision_.fate);
    members_[worker.value()].fate = decision_.fate;
    members_[worker.value()].reason = decision_.reason;
    members_[worker.value()].has = message.version;
    out.events.push_back({now, ArriveEvent{.worker = worker,
                                           .step = message.step,
                                           .base = message.version,
                                           .fate = decision_.fate,
                                           .reason = decision_.reason,
                                           .loss = message.loss,
                                           .compute_seconds = message.compute_seconds}});
    if (decision_.fate != Fate::drop) held_.push_back({worker, message.step, message.loss, message.payload});

    if (hopeless(worker, defect == Reason::none)) {
        end(Outcome::diverged, now, out);
        return;
    }
    if (decision_.closes) start_update(now, out);
    else send_parameters(now, out);
}

/// True when, since the last usable gradient, whoever can still push has pushed two that were not (NaNs, infinities):
/// the parameters themselves are no longer any good, or the others wait for a machine that will never deliver. A broken
/// machine that the others can do without does not come to that.
bool Server::hopeless(WorkerId worker, bool usable) {
    if (usable) {
        if (std::exchange(any_unusable_, false)) {
            for (Member& member : members_) member.unusable = 0;
        }
        return false;
    }
    any_unusable_ = true;
    ++members_[worker.value()].unusable;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        const bool can_push = members_[i].here && (i == worker.value() || ledger_.has_open(WorkerId{i}));
        if (can_push && members_[i].unusable < 2) return false;
    }
    return true;
}

void Server::decide(const PolicyEvent& event, Time now, Effects& out) {
    decision_.clear();
    policy_->step(event, now, decision_);
    if (decision_.closes) start_update(now, out);
    else send_parameters(now, out);
}

void Server::start_update(Time now, Effects& out) {
    const auto& applied = decision_.applied;
    CHECK(held_.size() == applied.size()); // what is held is what the policy has accepted
    // The order of the sum. Places are sorted rather than what is held: these are many and small.
    held_order_.resize(held_.size());
    for (std::uint32_t i = 0; i < held_.size(); ++i) held_order_[i] = {held_[i].worker, held_[i].step, i};
    std::sort(held_order_.begin(), held_order_.end());

    // Nobody but the server holds the current version: it is updated in place. Else it is being sent, computed on or
    // evaluated, and the next one is written beside it.
    const bool in_place = parameters_.unique();
    FusedUpdate& sum = update_.sum;
    sum.in = parameters_;
    sum.out = in_place ? parameters_ : versions_.lease(parameters_.bytes());
    sum.learning_rate = learning_rate();

    const std::uint64_t least = least_staleness(applied, decision_.version);
    double loss = 0;
    double examples = 0;
    sum.terms.clear();
    for (std::size_t i = 0; i < applied.size(); ++i) {
        const AppliedGradient& gradient = applied[i];
        Held& held = held_[held_order_[i].place];
        CHECK(held.worker == gradient.worker && held.step == gradient.step);
        sum.terms.push_back(
            make_term(gradient, decision_.version, decision_.denominator, least, std::move(held.payload)));
        loss += held.loss * gradient.examples;
        examples += gradient.examples;
        examples_applied_ += gradient.examples;
        ledger_.apply();
        members_[gradient.worker.value()].fate = Fate::apply;
    }
    held_.clear();

    update_event_.version = decision_.version;
    update_event_.applied = applied;
    update_event_.denominator = decision_.denominator;
    update_event_.learning_rate = sum.learning_rate;
    update_event_.loss = loss / examples;
    update_event_.examples_applied = examples_applied_;
    update_event_.bytes_received = bytes_received_;
    update_event_.bytes_sent = bytes_sent_;
    out.events.push_back({now, update_event_});

    update_.makes = decision_.version.next();
    update_.bases.clear();
    update_.newcomers = false;
    if (update_.publisher) {
        for (const WorkerId worker : decision_.send) {
            const auto& has = members_[worker.value()].has;
            if (has) update_.bases.push_back(*has);
            else update_.newcomers = true;
        }
        std::ranges::sort(update_.bases);
        const auto doubles = std::ranges::unique(update_.bases);
        update_.bases.erase(doubles.begin(), doubles.end());
    }
    send_.swap(decision_.send);
    cancel_.swap(decision_.cancel);
    updating_ = true;
    out.start_update = &update_;
}

void Server::on_update_done(Time now, Effects& out) {
    CHECK(updating_);
    updating_ = false;
    parameters_ = std::move(update_.sum.out);
    update_.sum.in.reset();
    update_.sum.terms.clear(); // the payloads go back to where they were leased
    published_ = published_.next();

    decision_.clear();
    decision_.send.swap(send_);
    decision_.cancel.swap(cancel_);
    const bool ending = state_ == State::ending;
    if (!ending) end_if_reached(now, out);
    if (state_ == State::running) {
        send_parameters(now, out);
        if (options_.eval_every > 0 && published_.value() % options_.eval_every == 0) snapshot(now, out);
    }
    // Decide on what came meanwhile, until one of these closes the next update.
    std::size_t decided = 0;
    while (decided < waiting_.size() && !updating_ && state_ == State::running) {
        const Event event = std::exchange(waiting_[decided++], Timer{});
        const auto* message = std::get_if<MessageArrived>(&event);
        if (message && message->message.type == MessageType::hello) {
            members_[message->message.worker.value()].joining = false;
            on_hello(*message, now, out);
        } else if (message) decide_push(*message, now, out);
        else if (const auto worker = worker_at(std::get<PeerLeft>(event).peer)) decide_left(*worker, now, out);
    }
    decided = std::min(decided, waiting_.size()); // the end of the run has cleared them
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(decided));
    if (ending) finish(now, out);
}

double Server::learning_rate() const {
    const double epochs = static_cast<double>(examples_applied_) / static_cast<double>(options_.epoch_examples);
    double done = 0;
    if (options_.epochs && *options_.epochs > 0) done = epochs / *options_.epochs;
    if (options_.updates && *options_.updates > 0) {
        done = std::max(done, static_cast<double>(published_.value()) / static_cast<double>(*options_.updates));
    }
    return options_.learning_rate * options_.schedule.factor({.examples_applied = examples_applied_,
                                                              .epoch_examples = options_.epoch_examples,
                                                              .done = std::min(done, 1.0)});
}

void Server::send_parameters(Time now, Effects& out) {
    for (const WorkerId worker : decision_.send) {
        Member& member = members_[worker.value()];
        if (!member.here) continue; // it left while the update was carried out
        const bool cancels = std::binary_search(decision_.cancel.begin(), decision_.cancel.end(), worker);
        const Step step = ledger_.assign(worker, published_);
        const bool refunds = policy_->refunds(member.fate, member.reason);
        CHECK(!(cancels && refunds)); // the verdict is of the gradient before, which may not be the last one pushed
        send(member.peer,
             {.type = MessageType::parameters,
              .worker = worker,
              .step = step,
              .version = published_,
              .cancels = cancels,
              .refunds = refunds,
              .step_scale = update_.optimizer.step_scale(learning_rate()),
              .fate = member.fate,
              .reason = member.reason,
              .payload = update_.publisher ? update_.publisher->payload(member.has) : parameters_},
             out);
        out.events.push_back({now, AssignEvent{worker, step, published_}});
    }
}

void Server::on_peer_left(Peer peer, Time now, Effects& out) {
    // It came back and left again before its hello was decided on.
    const auto hello = std::find_if(waiting_.begin(), waiting_.end(), [&](const Event& event) {
        const auto* arrived = std::get_if<MessageArrived>(&event);
        return arrived && arrived->peer == peer && arrived->message.type == MessageType::hello;
    });
    if (hello != waiting_.end()) {
        members_[std::get<MessageArrived>(*hello).message.worker.value()].joining = false;
        waiting_.erase(hello);
        return;
    }
    const auto worker = worker_at(peer);
    if (worker && members_[worker->value()].here) {
        members_[worker->value()].here = false;
        --here_;
        if (state_ == State::running) {
            if (updating_) waiting_.emplace_back(PeerLeft{peer});
            else decide_left(*worker, now, out);
        }
    }
    // Whoever left before the run began will not come: it cannot begin.
    if (state_ == State::gathering) end(Outcome::no_workers, now, out);
}

void Server::decide_left(WorkerId worker, Time now, Effects& out) {
    by_peer_[members_[worker.value()].peer.value()].reset();
    lose_open(worker, Reason::worker_gone, now, out);
    out.events.push_back({now, LeaveEvent{worker}});
    decide(WorkerLeft{worker}, now, out);
    if (here_ > 0 || options_.workers_return) return;
    const bool returning = std::any_of(members_.begin(), members_.end(), [](const Member& m) { return m.joining; });
    if (!returning) end(Outcome::no_workers, now, out);
}

void Server::lose_open(WorkerId worker, Reason reason, Time now, Effects& out) {
    while (ledger_.has_open(worker)) {
        const Step step = ledger_.lose_first(worker);
        out.events.push_back({now, LostEvent{worker, step, reason}});
    }
}

void Server::snapshot(Time now, Effects& out) {
    if (snapshot_ == published_) return;
    snapshot_ = published_;
    out.evaluate = Snapshot{
        .version = published_, .at = since_begin(now), .examples_applied = examples_applied_, .params = parameters_};
}

void Server::on_evaluation(const Evaluation& result, Time now, Effects& out) {
    out.events.push_back({now, result});
    if (options_.target_accuracy && result.accuracy && *result.accuracy >= *options_.target_accuracy) {
        end(Outcome::target_accuracy, now, out);
    }
}

void Server::end_if_reached(Time now, Effects& out) {
    const double epochs = static_cast<double>(examples_applied_) / static_cast<double>(options_.epoch_examples);
    if (options_.updates && published_.value() >= *options_.updates) end(Outcome::updates, now, out);
    else if (options_.epochs && epochs >= *options_.epochs) end(Outcome::epochs, now, out);
}

void Server::end(Outcome outcome, Time now, Effects& out) {
    if (state_ == State::ending || state_ == State::ended) return;
    outcome_ = outcome;
    state_ = State::ending;
    if (!updating_) finish(now, out); // else when the update that was decided on is done
}

void Server::finish(Time now, Effects& out) {
    state_ = State::ended;
    ended_at_ = now;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        lose_open(WorkerId{i}, Reason::run_ended, now, out); // what arrived undecided is lost with them
        if (members_[i].here) send(members_[i].peer, {.type = MessageType::stop, .worker = WorkerId{i}}, out);
    }
    for (const Event& event : waiting_) { // who has come back meanwhile
        const auto* arrived = std::get_if<MessageArrived>(&event);
        if (arrived && arrived->message.type == MessageType::hello) {
            send(arrived->peer, {.type = MessageType::stop, .worker = arrived->message.worker}, out);
        }
    }
    waiting_.clear();
    snapshot(now, out);
    CHECK(ledger_.totals().adds_up() && ledger_.totals().open == 0);
    out.events.push_back({now, EndEvent{outcome_}});
}

} // namespace lategrad
