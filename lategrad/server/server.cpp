#include "lategrad/server/server.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"
#include "lategrad/server/terms.h"

namespace lategrad {
namespace {

/// How long the end of a run waits for the workers' goodbyes. A step that cannot be interrupted may take this long.
constexpr Duration kGrace = std::chrono::seconds(30);
/// The same where the user wants it to end.
constexpr Duration kGraceOfInterrupt = std::chrono::milliseconds(500);

} // namespace

Server::Server(const ServerOptions& options, std::unique_ptr<Policy> policy, const Codec& codec, Optimizer& optimizer,
               Buffer initial, BufferPool& versions, Publisher* publisher)
    : options_(options),
      codec_(codec),
      policy_(std::move(policy)),
      versions_(versions),
      update_(codec, optimizer, options, publisher),
      silence_(options.silence, options.workers),
      norms_(options.reject_norm),
      data_(options.part_sizes, options.workers, options.reassign_after),
      parameters_(std::move(initial)) {
    CHECK(options.workers > 0 && options.trainable > 0 && options.trainable <= options.size);
    if (options_.workers_start == 0) options_.workers_start = options_.workers;
    members_.resize(options.workers);
    if (publisher) publisher->publish(published_, parameters_, {});
}

void Server::handle(const Event& event, Time now, Effects& out) {
    silence_.awake(now);
    if (const auto* arrived = std::get_if<MessageArrived>(&event)) on_message(*arrived, now, out);
    else if (std::holds_alternative<UpdateDone>(event)) on_update_done(now, out);
    else if (const auto* heard = std::get_if<PeerHeard>(&event)) on_heard(heard->peer, now, out);
    else if (const auto* left = std::get_if<PeerLeft>(&event)) on_peer_left(left->peer, now, out);
    else if (const auto* evaluation = std::get_if<EvaluationDone>(&event)) on_evaluation(evaluation->result, now, out);
    else if (std::holds_alternative<StopRequested>(event)) end(Outcome::interrupted, now, out);

    if (state_ == State::running) {
        check_silence(now, out);
        reassign(now, out);
        out.wake_at = data_.wake_at();
        if (!updating_) out.wake_at = std::min(out.wake_at, silence_.wake_at());
    }
    if (options_.time_limit && state_ == State::running) {
        const Time limit = *began_at_ + *options_.time_limit;
        if (now >= limit) end(Outcome::time_limit, now, out);
        else out.wake_at = std::min(out.wake_at, limit);
    }
    if (state_ == State::ended) {
        // The silent may be gone; a user who stops a run waits for nobody's step to end.
        while (const auto judged = silence_.next(now)) members_[judged->worker.value()].suspect = true;
        const auto silent = std::ranges::count_if(members_, [](const Member& m) { return m.here && m.suspect; });
        out.wake_at = ended_at_ + (outcome_ == Outcome::interrupted ? kGraceOfInterrupt : kGrace);
        out.done = here_ == static_cast<std::size_t>(silent) || now >= out.wake_at;
        if (!out.done) out.wake_at = std::min(out.wake_at, silence_.wake_at());
    }
    for (RunEvent& told : out.events) told.at = since_begin(told.at);
    if (!restored_.empty()) out.events.insert(out.events.begin(), restored_.begin(), restored_.end());
    restored_.clear();
    events_told_ += out.events.size();
}

void Server::send(Peer to, Message message, Effects& out) {
    message.run = options_.run;
    message.incarnation = options_.incarnation;
    bytes_sent_ += kHeaderBytes + message.payload.bytes();
    out.sends.push_back({to, std::move(message)});
}

void Server::on_message(const MessageArrived& arrived, Time now, Effects& out) {
    bytes_received_ += kHeaderBytes + arrived.message.payload.bytes();
    switch (arrived.message.type) {
    case MessageType::join: on_join(arrived, now, out); return;
    case MessageType::hello: on_hello(arrived, now, out); return;
    case MessageType::push: on_push(arrived, now, out); return;
    case MessageType::goodbye: on_peer_left(arrived.peer, now, out); return;
    case MessageType::parameters:
    case MessageType::stop:
    case MessageType::welcome:
    case MessageType::refuse: // only a server says these
    case MessageType::beat: ledger_.count_stray(); return;
    }
}

void Server::on_heard(Peer peer, Time now, Effects& out) {
    const auto worker = worker_at(peer);
    if (!worker || !silence_.heard(*worker, now)) return;
    if (state_ == State::ended) members_[worker->value()].suspect = false;
    else if (updating_) waiting_.emplace_back(PeerHeard{peer});
    else decide_return(*worker, now, out);
}

void Server::begin(Time now, Effects& out) {
    state_ = State::running;
    began_at_ = now - elapsed_;
    checkpoint_at_ = now;
    data_.begin(now); // before anybody joins, who would be given what a run that is resumed has left
    if (published_ > Version{0}) snapshot_if_due(now, out); // its checkpoint was taken before that
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        Member& each = members_[i];
        if (!each.here) continue;
        each.entering = updating_; // by what was held when the run was resumed
        if (updating_) waiting_.emplace_back(PeerHeard{each.peer});
        else join(WorkerId{i}, now, out);
    }
    check_pause(now, out);
    // A server that is killed before the first one is due can be resumed, too.
    const bool periodic = options_.checkpoint_updates > 0 || options_.checkpoint_time > Duration::zero();
    if (options_.checkpoints && periodic && published_ == Version{0} && !updating_) checkpoint(now, out);
    end_if_reached(now, out); // --updates 0
}

void Server::join(WorkerId worker, Time now, Effects& out) {
    const std::uint32_t examples = members_[worker.value()].examples;
    out.events.push_back({now, JoinEvent{worker, examples, members_[worker.value()].from}});
    data_.joined(worker, changes_);
    reassign(now, out);
    decide(WorkerJoined{worker, examples}, now, out);
}

void Server::decide_suspect(WorkerId worker, bool overdue, Time now, Effects& out) {
    members_[worker.value()].suspect = true;
    data_.left(worker, now);
    out.events.push_back({now, SuspectEvent{worker, overdue}});
    decide(WorkerLeft{worker}, now, out);
    check_pause(now, out);
}

void Server::decide_return(WorkerId worker, Time now, Effects& out) {
    Member& member = members_[worker.value()];
    if (!member.here || !std::exchange(member.suspect, false)) return;
    out.events.push_back({now, ReturnEvent{worker}});
    data_.joined(worker, changes_);
    reassign(now, out);
    decide(
        WorkerJoined{
            .worker = worker, .examples = member.examples, .returns = true, .computing = ledger_.has_open(worker)},
        now, out);
    check_pause(now, out);
    drain(now, out);
}

/// REQUIRES: running. Nothing is decided while an update is carried out; that is soon enough.
void Server::check_silence(Time now, Effects& out) {
    while (!updating_ && state_ == State::running) {
        const auto judged = silence_.next(now);
        if (!judged) return;
        if (judged->verdict != Silence::Verdict::dead) {
            decide_suspect(judged->worker, judged->verdict == Silence::Verdict::overdue, now, out);
            continue;
        }
        const Peer peer = members_[judged->worker.value()].peer;
        // Over a transport that peers come back by, it hears of that when it wakes.
        if (options_.admission) refuse(peer, kComeAgain, "this worker was silent for too long", out);
        else out.forget.push_back(peer);
        on_peer_left(peer, now, out);
    }
}

void Server::check_pause(Time now, Effects& out) {
    if (state_ != State::running) return;
    const bool too_few = !policy_->may_close() && (here_ > 0 || options_.admission);
    if (too_few == paused_) return;
    paused_ = too_few;
    if (paused_) out.events.push_back({now, PauseEvent{policy_->active(), policy_->workers_min()}});
    else out.events.push_back({now, ContinueEvent{policy_->active()}});
    if (!paused_) drain(now, out);
}

void Server::reassign(Time now, Effects& out) {
    data_.reassign(now, changes_);
    for (const DataPlan::Change& change : changes_) out.events.push_back({now, PartEvent{change.part, change.worker}});
    changes_.clear();
}

void Server::on_push(const MessageArrived& arrived, Time now, Effects& out) {
    const auto worker = known_at(arrived.peer);
    const Message& message = arrived.message;
    if (!worker && options_.admission && (state_ == State::gathering || state_ == State::running)) {
        refuse(arrived.peer, kComeAgain, "the server has given this worker up", out);
    }
    if (state_ == State::ended || state_ == State::gathering || !worker || message.worker != *worker ||
        message.run != options_.run || message.incarnation != options_.incarnation ||
        !ledger_.is_open(*worker, message.step, message.version)) {
        if (state_ != State::ended) ledger_.count_stray();
        return;
    }
    if (silence_.arrived(*worker, now)) {
        if (updating_) waiting_.emplace_back(PeerHeard{arrived.peer});
        else decide_return(*worker, now, out);
    }
    if (!updating_ && !paused_) {
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
    const bool refused = message.payload.bytes() == 0 && !codec_.in_place();
    Reason defect = refused ? Reason::not_finite : push.defect;
    if (defect == Reason::none && push.norm && norms_.rejects(*push.norm)) defect = Reason::too_large;
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
    const bool excluded = defect != Reason::none && options_.quarantine_after > 0 &&
                          ++members_[worker.value()].rejected >= options_.quarantine_after;
    if (excluded) std::erase(decision_.send, worker);
    if (decision_.closes) start_update(now, out);
    else send_parameters(now, out);
    if (excluded) exclude(worker, defect, now, out);
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
    std::size_t bad = 0;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        const bool can_push = members_[i].here && (i == worker.value() || ledger_.has_open(WorkerId{i}));
        if (can_push && members_[i].unusable < 2) return false;
        bad += can_push ? 1 : 0;
    }
    // A few broken machines will be excluded, and the others, who wait with good gradients, go on.
    return options_.quarantine_after == 0 || 2 * bad > here_;
}

void Server::decide(const PolicyEvent& event, Time now, Effects& out) {
    CHECK(!updating_);
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
        update_.bases.erase(std::unique(update_.bases.begin(), update_.bases.end()), update_.bases.end());
    }
    send_.swap(decision_.send);
    cancel_.swap(decision_.cancel);
    const bool by_updates = options_.checkpoint_updates > 0 && update_.makes.value() % options_.checkpoint_updates == 0;
    const bool by_time =
        options_.checkpoint_time > Duration::zero() && now - checkpoint_at_ >= options_.checkpoint_time;
    if (options_.checkpoints && (by_updates || by_time)) update_.checkpoint.emplace();
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
    if (update_.checkpoint) {
        if (state_ == State::running) capture(*update_.checkpoint, now, out); // at the end there is one of its own
        update_.checkpoint.reset();
    }
    const bool ending = state_ == State::ending;
    if (!ending) end_if_reached(now, out);
    if (state_ == State::running) {
        send_parameters(now, out);
        snapshot_if_due(now, out);
    }
    if (ending) finish(now, out);
    else drain(now, out);
}

/// Of what waits, also behind the one that is being decided on, the messages of which `which` is true.
template <class Which>
void Server::erase_waiting(Which which) {
    const auto is_it = [&](const Event& event) {
        const auto* arrived = std::get_if<MessageArrived>(&event);
        return arrived && which(*arrived);
    };
    std::erase_if(waiting_, is_it);
    if (drained_.empty()) return;
    const auto behind = drained_.begin() + static_cast<std::ptrdiff_t>(deciding_) + 1;
    drained_.erase(std::remove_if(behind, drained_.end(), is_it), drained_.end());
}

/// Decides on what came meanwhile, in order, until one of these closes the next update.
void Server::drain(Time now, Effects& out) {
    if (updating_) return;
    if (draining_) { // by one of those it decides on: what waited for that has its turn after the others
        drain_again_ = true;
        return;
    }
    draining_ = true;
    do {
        drain_again_ = false;
        drained_.swap(waiting_);
        for (deciding_ = 0; deciding_ < drained_.size(); ++deciding_) decide_waiting(drained_[deciding_], now, out);
        drained_.clear();
    } while (drain_again_ && !updating_);
    draining_ = false;
}

void Server::decide_waiting(Event& event, Time now, Effects& out) {
    if (state_ == State::ended) { // by one before it in the queue
        tell_of_end(event, out);
        return;
    }
    auto* message = std::get_if<MessageArrived>(&event);
    const bool push = message && message->message.type == MessageType::push;
    // A gradient that arrived before its worker fell silent waits until that is heard again, or is lost with it.
    const auto of = push ? worker_at(message->peer) : std::nullopt;
    if (updating_ || state_ == State::ending || (push && paused_) || (of && members_[of->value()].suspect)) {
        waiting_.push_back(std::move(event));
    } else if (push) {
        decide_push(*message, now, out);
    } else if (message && message->message.type == MessageType::hello) {
        members_[message->message.worker.value()].joining = false;
        on_hello(*message, now, out);
    } else if (message) {
        on_join(*message, now, out);
    } else if (const auto* heard = std::get_if<PeerHeard>(&event)) {
        const auto worker = worker_at(heard->peer);
        if (worker && std::exchange(members_[worker->value()].entering, false)) {
            join(*worker, now, out);
            check_pause(now, out);
        } else if (worker) {
            decide_return(*worker, now, out);
        }
    } else if (const auto worker = worker_at(std::get<PeerLeft>(event).peer)) {
        decide_left(*worker, Reason::worker_gone, now, out);
    }
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
    CHECK(!updating_); // they are being written
    for (const WorkerId worker : decision_.send) {
        Member& member = members_[worker.value()];
        if (!member.here) continue; // it left while the update was carried out
        const bool cancels = std::binary_search(decision_.cancel.begin(), decision_.cancel.end(), worker);
        const Step step = ledger_.assign(worker, published_);
        const DataPosition data = data_.take(worker, member.examples);
        silence_.assigned(worker, now);
        const bool refunds = policy_->refunds(member.fate, member.reason);
        CHECK(!(cancels && refunds)); // the verdict is of the gradient before, which may not be the last one pushed
        send(member.peer,
             {.type = MessageType::parameters,
              .worker = worker,
              .step = step,
              .version = published_,
              .data = data,
              .cancels = cancels,
              .refunds = refunds,
              .step_scale = update_.optimizer.step_scale(learning_rate()),
              .fate = member.fate,
              .reason = member.reason,
              .payload = update_.publisher ? update_.publisher->payload(member.has) : parameters_},
             out);
        AssignEvent assigned{worker, step, published_, {}};
        if (data != own_data(worker, step, member.examples)) assigned.data = data;
        out.events.push_back({now, assigned});
    }
}

void Server::on_peer_left(Peer peer, Time now, Effects& out) {
    // It came and left again before that was decided on; its number may be another's next.
    erase_waiting([&](const MessageArrived& arrived) {
        const MessageType type = arrived.message.type;
        if (arrived.peer != peer || (type != MessageType::join && type != MessageType::hello)) return false;
        if (type == MessageType::hello) members_[arrived.message.worker.value()].joining = false;
        return true;
    });
    const auto worker = worker_at(peer);
    if (worker && members_[worker->value()].here) {
        Member& member = members_[worker->value()];
        member.here = false;
        --here_;
        silence_.left(*worker);
        if (state_ == State::running) {
            member.leaving = updating_;
            if (updating_) waiting_.emplace_back(PeerLeft{peer});
            else decide_left(*worker, Reason::worker_gone, now, out);
        } else if (options_.admission) {
            unbind(*worker);
        }
    } else if (worker && members_[worker->value()].welcomed) {
        members_[worker->value()].welcomed = false;
        unbind(*worker);
    }
    // Whoever left before the run began will not come: it cannot begin.
    if (state_ == State::gathering && !options_.admission) end(Outcome::no_workers, now, out);
}

void Server::decide_left(WorkerId worker, Reason lost, Time now, Effects& out) {
    Member& member = members_[worker.value()];
    member.leaving = false;
    unbind(worker);
    silence_.left(worker);
    data_.left(worker, now);
    lose_open(worker, lost, now, out);
    if (!std::exchange(member.entering, false)) { // else it never took part
        out.events.push_back({now, LeaveEvent{worker}});
        if (!std::exchange(member.suspect, false)) decide(WorkerLeft{worker}, now, out);
        check_pause(now, out);
    }
    if (here_ > 0 || options_.workers_return || options_.admission) return;
    const bool returning = std::any_of(members_.begin(), members_.end(), [](const Member& m) { return m.joining; });
    if (!returning) end(Outcome::no_workers, now, out);
}

void Server::lose_open(WorkerId worker, Reason reason, Time now, Effects& out) {
    while (ledger_.has_open(worker)) {
        const Step step = ledger_.lose_first(worker);
        out.events.push_back({now, LostEvent{worker, step, reason}});
    }
    // With them what arrived and waits: a pause may see many come and go.
    erase_waiting([&](const MessageArrived& arrived) {
        return arrived.message.type == MessageType::push && arrived.message.worker == worker;
    });
}

void Server::snapshot_if_due(Time now, Effects& out) {
    if (options_.eval_every > 0 && published_.value() % options_.eval_every == 0) snapshot(now, out);
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

/// To who has come meanwhile, and has no place yet.
void Server::tell_of_end(const Event& waited, Effects& out) {
    const auto* arrived = std::get_if<MessageArrived>(&waited);
    if (!arrived || arrived->message.type == MessageType::push || known_at(arrived->peer)) return;
    send(arrived->peer, {.type = MessageType::stop, .worker = arrived->message.worker}, out);
}

void Server::finish(Time now, Effects& out) {
    if (options_.checkpoints && began_at_) {
        // As it was when the end came: what is on its way is lost to a run that is resumed, too.
        checkpoint(now, out);
    }
    state_ = State::ended;
    ended_at_ = now;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        lose_open(WorkerId{i}, Reason::run_ended, now, out); // what arrived undecided is lost with them
        if (members_[i].here || members_[i].welcomed) {
            send(members_[i].peer, {.type = MessageType::stop, .worker = WorkerId{i}}, out);
        }
    }
    for (const Event& event : waiting_) tell_of_end(event, out);
    waiting_.clear();
    snapshot(now, out);
    CHECK(ledger_.totals().adds_up() && ledger_.totals().open == 0);
    out.events.push_back({now, EndEvent{outcome_}});
}

} // namespace lategrad
