/// What a checkpoint keeps of the server.
#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/server/server.h"

namespace lategrad {

template <class A>
void Server::Member::archive(A& archive) {
    archive(peer, process, examples, here, welcomed, leaving, joining, entering, suspect);
    archive.enumerator(fate, Fate::lost);
    archive.enumerator(reason, kLastReason);
    archive(has, next_to_wait, unusable, rejected);
}

template <class A>
void Server::Held::archive(A& archive) {
    archive(worker, step, loss, payload);
}

/// All but what is configured, what is on its way, and what the update under way has.
void Server::persist_settled(Archive& archive) {
    archive.section("server");
    archive.expect(options_.size, "the model's size");
    archive.expect(options_.trainable, "the model's trainable size");
    archive.expect(members_.size(), "the number of places");
    archive(options_.run);
    archive.enumerator(state_, State::ended);
    archive.enumerator(outcome_, Outcome::diverged);
    archive(published_, parameters_, snapshot_, examples_applied_, any_unusable_, bytes_received_, bytes_sent_,
            events_told_, elapsed_, began_at_, paused_, banned_, here_, by_peer_);
    for (Member& member : members_) archive(member);
    archive(held_);
    archive.require(parameters_.bytes() == options_.size * sizeof(float), "parameters of another size");
    archive.section("policy");
    policy_->persist(archive);
    ledger_.persist(archive);
    archive(norms_, data_);
    if (archive.reading()) check_read(archive);
}

/// That its parts know the same of each other, and that what will be decoded can be.
void Server::check_read(Archive& archive) const {
    archive.require_count(examples_applied_, "more than a run comes to");
    archive.require(elapsed_ >= Duration::zero() && elapsed_ <= Duration::max() / 2 && banned_.size() <= kBannedMax,
                    "more than a run comes to");
    const auto is_place = [&](const std::optional<WorkerId>& worker) {
        return !worker || worker->value() < members_.size();
    };
    archive.require(std::ranges::all_of(by_peer_, is_place) && policy_->workers() <= members_.size() &&
                        ledger_.workers() <= members_.size(),
                    "a worker for whom there is no place");
    // The one has the gradients, the other decides on them, the third one counts them.
    std::vector<std::pair<WorkerId, Step>> held, decided;
    for (const Held& gradient : held_) held.emplace_back(gradient.worker, gradient.step);
    for (const AppliedGradient& gradient : policy_->held_gradients())
        decided.emplace_back(gradient.worker, gradient.step);
    std::ranges::sort(held);
    std::ranges::sort(decided);
    archive.require(held == decided && held.size() == ledger_.totals().held,
                    "other gradients are held than waited for");
    for (const Held& gradient : held_) {
        const std::span<const std::byte> payload(gradient.payload.data(), gradient.payload.bytes());
        // A simulation's may have no bytes.
        archive.require(gradient.payload && (!payload.data() || codec_.validate(payload) == Reason::none),
                        "a held gradient that cannot be decoded");
    }
}

void Server::persist(Archive& archive) {
    persist_settled(archive);
    archive.section("on its way");
    archive(ended_at_, checkpoint_at_, silence_, waiting_, updating_, send_, cancel_);
    FusedUpdate& sum = update_.sum;
    archive(sum.in, sum.out, sum.learning_rate, update_.makes, update_.bases, update_.newcomers);
    std::size_t terms = sum.terms.size();
    archive(terms);
    archive.require(terms <= kPayloadBytesMax, "more gradients than there can be");
    if (archive.reading()) sum.terms.clear();
    for (std::size_t i = 0; i < terms; ++i) {
        if (archive.reading()) sum.terms.emplace_back();
        archive(sum.terms[i].payload, sum.terms[i].coefficient, sum.terms[i].gives_buffers);
    }
    update_.persist_state(archive);
    archive.require(policy_->version() == (updating_ ? published_.next() : published_), "versions that differ");
}

void Server::Update::persist_state(Archive& archive) {
    archive.section("optimizer");
    optimizer.persist(archive);
    if (publisher) publisher->persist(archive);
}

/// REQUIRES: no update is under way, and the archive has what the last one left behind.
void Server::capture(ArchiveWriter& archive, Time now, Effects& out) {
    checkpoint_at_ = now;
    elapsed_ = since_begin(now) - Time{};
    const std::uint64_t told_before = std::exchange(events_told_, events_told_ + out.events.size());
    persist_settled(archive);
    out.checkpoint = CheckpointDue{.version = published_,
                                   .at = Time{elapsed_},
                                   .events = std::exchange(events_told_, told_before),
                                   .examples_applied = examples_applied_,
                                   .incarnation = options_.incarnation,
                                   .ledger = ledger_.totals().by_name(),
                                   .data_coverage = data_.coverage(),
                                   .params = parameters_,
                                   .state = archive.finish()};
}

/// REQUIRES: no update is under way.
void Server::checkpoint(Time now, Effects& out) {
    ArchiveWriter archive;
    update_.persist_state(archive);
    capture(archive, now, out);
}

void Server::resume(Archive& archive) {
    update_.persist_state(archive);
    persist_settled(archive);
    archive.require(state_ == State::running || state_ == State::ending, "the state of a run that is not under way");
    archive.require(policy_->version() == published_ &&
                        (!update_.publisher || update_.publisher->newest() == published_),
                    "versions that differ");

    // What was under way is lost with the server that was.
    const Time at = Time{elapsed_};
    restored_.push_back({at, ResumeEvent{options_.incarnation, published_}});
    for (std::uint32_t i = 0; i < members_.size(); ++i) {
        const WorkerId worker{i};
        while (ledger_.has_open(worker)) {
            restored_.push_back({at, LostEvent{worker, ledger_.lose_first(worker), Reason::rolled_back}});
        }
        Member& member = members_[i];
        if ((member.here || member.leaving) && !member.entering) restored_.push_back({at, LeaveEvent{worker}});
        data_.left(worker, Time{});
        member = {.process = member.process, .next_to_wait = member.next_to_wait, .rejected = member.rejected};
    }
    policy_->forget_workers();
    by_peer_.clear();
    here_ = 0;
    paused_ = false;
    any_unusable_ = false;
    began_at_.reset();
    outcome_ = Outcome::running;
    state_ = State::gathering;
}

} // namespace lategrad
