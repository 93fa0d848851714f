/// Who is let in: joins, places, hellos, refusals, exclusion.
#include <algorithm>
#include <cstring>
#include <utility>

#include "lategrad/server/server.h"

namespace lategrad {
namespace {

/// How long a worker may take to load its data before another one may have its place.
constexpr Duration kWelcomeKept = std::chrono::minutes(5);

} // namespace

std::optional<WorkerId> Server::worker_at(Peer peer) const {
    return peer.value() < by_peer_.size() ? by_peer_[peer.value()] : std::nullopt;
}

/// The same, but for one that left during the update: its connection is gone, and its number may be another's already.
std::optional<WorkerId> Server::known_at(Peer peer) const {
    const auto worker = worker_at(peer);
    return worker && members_[worker->value()].leaving ? std::nullopt : worker;
}

void Server::bind(Peer peer, WorkerId worker) {
    if (peer.value() >= by_peer_.size()) by_peer_.resize(peer.value() + 1);
    by_peer_[peer.value()] = worker;
    members_[worker.value()].peer = peer;
}

void Server::unbind(WorkerId worker) {
    by_peer_[members_[worker.value()].peer.value()].reset();
}

void Server::refuse(Peer peer, Reason reason, const std::string& words, Effects& out) {
    Buffer text = words_.try_lease(words.size()); // with a crowd at the door, the last ones are told nothing more
    if (text) std::memcpy(text.data(), words.data(), words.size());
    send(peer, {.type = MessageType::refuse, .reason = reason, .payload = std::move(text)}, out);
}

bool Server::place_is_free(const Member& member) const {
    return !member.here && !member.welcomed && !member.leaving && !member.joining;
}

/// The place of a process that has been here; else the first that is free, and so a part of the data that nobody has;
/// else that of a worker that nobody has heard for long, or that was welcomed long ago and has said nothing since.
std::optional<WorkerId> Server::place_for(const Message& join, Time now, Effects& out) {
    std::optional<WorkerId> free, silent;
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        Member& member = members_[i];
        if (member.process == join.process && (member.here || member.welcomed)) {
            // Its connection broke, and here it is already; nothing comes over the old one.
            out.forget.push_back(member.peer);
            on_peer_left(member.peer, now, out);
        }
        if (place_is_free(member) && member.process == join.process) return WorkerId{i};
        if (!free && place_is_free(member)) free = WorkerId{i};
        const bool dawdles = member.welcomed && now - member.welcomed_at >= kWelcomeKept;
        if (!silent && ((member.here && member.suspect) || dawdles)) silent = WorkerId{i};
    }
    if (free || !silent) return free;
    refuse(members_[silent->value()].peer, kComeAgain, "this worker was silent, and its place was given away", out);
    on_peer_left(members_[silent->value()].peer, now, out);
    return silent;
}

void Server::on_join(const MessageArrived& arrived, Time now, Effects& out) {
    const Message& join = arrived.message;
    if (!options_.admission || known_at(arrived.peer)) {
        ledger_.count_stray();
        return;
    }
    if (state_ == State::ending || state_ == State::ended) {
        send(arrived.peer, {.type = MessageType::stop}, out);
        return;
    }
    if (std::ranges::find(banned_, join.process) != banned_.end()) {
        refuse(arrived.peer, Reason::excluded, "this worker was excluded: too many of its gradients could not be used",
               out);
        return;
    }
    if (updating_) { // who has left may still have to be accounted for
        const bool waits = std::ranges::any_of(waiting_, [&](const Event& event) {
            const auto* other = std::get_if<MessageArrived>(&event);
            return other && other->peer == arrived.peer && other->message.type == MessageType::join;
        });
        if (waits) ledger_.count_stray();
        else waiting_.push_back(arrived);
        return;
    }
    const auto place = place_for(join, now, out);
    if (!place || updating_) {
        // Of a worker that left just now an update closed.
        if (place) waiting_.push_back(arrived);
        else refuse(arrived.peer, kComeAgain, "all places of the run are taken (--workers-max)", out);
        return;
    }
    Member& member = members_[place->value()];
    if (member.process != join.process) member.rejected = 0;
    member.process = join.process;
    member.welcomed = true;
    member.welcomed_at = now;
    bind(arrived.peer, *place);
    const auto& batches = options_.admission->batches;
    send(arrived.peer,
         {.type = MessageType::welcome,
          .worker = *place,
          .examples = batches[place->value() % batches.size()],
          .payload = options_.admission->welcome},
         out);
}

void Server::on_hello(const MessageArrived& arrived, Time now, Effects& out) {
    const Message& hello = arrived.message;
    const WorkerId worker = hello.worker;
    if (state_ == State::ending || state_ == State::ended) { // it came too late
        if (const auto place = known_at(arrived.peer);
            place && std::exchange(members_[place->value()].welcomed, false)) {
            unbind(*place);
        }
        send(arrived.peer, {.type = MessageType::stop, .worker = worker}, out);
        return;
    }
    const bool fits = worker.value() < members_.size() && hello.examples > 0 && hello.elements == options_.size &&
                      hello.run == options_.run;
    if (options_.admission) {
        const auto place = known_at(arrived.peer);
        if (!place || members_[place->value()].here || members_[place->value()].joining) {
            ledger_.count_stray(); // not welcomed, or it has said so before
            if (!place) refuse(arrived.peer, kComeAgain, "the server does not know this connection", out);
            return;
        }
        Member& member = members_[place->value()];
        const auto& batches = options_.admission->batches;
        const auto traits = parse_traits({hello.payload.data(), hello.payload.bytes()});
        const std::string differs = traits ? difference(options_.admission->traits, *traits) : "no traits of a worker";
        if (!fits || *place != worker || hello.process != member.process || !differs.empty() ||
            hello.examples != batches[worker.value() % batches.size()]) {
            member.welcomed = false;
            unbind(*place);
            refuse(arrived.peer, Reason::malformed,
                   differs.empty() ? "the worker's answer is not to what it was told" : differs, out);
            return;
        }
        if (updating_) { // the parameters that it would be sent are being written
            member.joining = true;
            waiting_.push_back(arrived);
            return;
        }
        member.welcomed = false;
        member.from = shown_from(*traits);
    } else {
        if (known_at(arrived.peer)) {
            ledger_.count_stray(); // it has said so before
            return;
        }
        if (!fits || members_[worker.value()].here || members_[worker.value()].joining) {
            ledger_.count_stray();
            send(arrived.peer, {.type = MessageType::stop, .reason = Reason::malformed}, out);
            return;
        }
        if (updating_) {
            members_[worker.value()].joining = true;
            waiting_.push_back(arrived);
            return;
        }
        bind(arrived.peer, worker);
    }
    let_in(worker, hello.examples, now, out);
}

void Server::let_in(WorkerId worker, std::uint32_t examples, Time now, Effects& out) {
    Member& member = members_[worker.value()];
    member.examples = examples;
    member.here = true;
    member.fate = Fate::lost;
    member.reason = Reason::none;
    member.has.reset();
    member.unusable = 0;
    ++here_;
    silence_.joined(worker, now);
    if (state_ == State::running) {
        join(worker, now, out);
        check_pause(now, out);
    } else if (here_ >= options_.workers_start) {
        begin(now, out);
    }
}

void Server::exclude(WorkerId worker, Reason reason, Time now, Effects& out) {
    Member& member = members_[worker.value()];
    out.events.push_back({now, ExcludeEvent{worker, reason}});
    if (banned_.size() == kBannedMax) banned_.erase(banned_.begin());
    banned_.push_back(member.process);
    if (!member.here) return; // its departure waits behind this gradient; its connection may be another's already
    refuse(member.peer, Reason::excluded,
           "this worker is excluded: too many of its gradients could not be used, the last one because it is " +
               std::string(to_string(reason)),
           out);
    member.here = false;
    --here_;
    if (here_ == 0) end(Outcome::diverged, now, out); // nobody's can be used
    else decide_left(worker, Reason::excluded, now, out);
}

} // namespace lategrad
