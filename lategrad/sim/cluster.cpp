#include "lategrad/sim/cluster.h"

#include <algorithm>
#include <utility>

#include "lategrad/core/error.h"

namespace lategrad {

Cluster::Cluster(ClusterOptions options, const Codec& codec, Optimizer& optimizer, Buffer initial, BufferPool& versions,
                 Computation* computation, std::function<void(const RunEvent&)> tell)
    : options_(std::move(options)),
      codec_(codec),
      computation_(computation),
      tell_(std::move(tell)) {
    const std::size_t workers = options_.examples.size();
    const LinkOptions& links = options_.links;
    options_.server.workers = workers;
    options_.server.workers_return = options_.failures.random();
    server_ = std::make_unique<Server>(options_.server, make_policy(options_.policy), codec, optimizer,
                                       std::move(initial), versions, options_.publisher);
    if (!links.unlimited()) {
        for (Direction& direction : directions_) {
            direction.link.emplace(links.worker_rate, links.server_rate * links.servers);
            direction.ways.resize(workers);
        }
    }
    tell_server(Time{}, Timer{});
    for (std::uint32_t worker = 0; worker < workers; ++worker) {
        seats_.emplace_back();
        start_life(worker);
    }
}

/// The script's time counts, as the events' does, from when all workers were there.
void Cluster::begin() {
    begun_ = true;
    for (const ScriptedFailure& failure : options_.failures.script()) {
        const Time at = later(now(), failure.at);
        if (failure.leaves) kill(failure.worker, at);
        else revive(failure.worker, at);
    }
}

void Cluster::kill(WorkerId worker, Time at) {
    queue_.push(at, {Kind::die, worker.value(), kAnyLife});
}

void Cluster::freeze(WorkerId worker, Time at) {
    queue_.push(at, {Kind::freeze, worker.value()});
}

void Cluster::thaw(WorkerId worker, Time at) {
    queue_.push(at, {Kind::thaw, worker.value()});
}

void Cluster::revive(WorkerId worker, Time at) {
    queue_.push(at, {Kind::revive, worker.value()});
}

bool Cluster::step() {
    if (done_ || queue_.empty()) return false;
    happen(queue_.pop());
    return true;
}

bool Cluster::run(std::uint64_t events_max) {
    for (std::uint64_t i = 0; i < events_max && step(); ++i) {
    }
    if (done_) finish_evaluations();
    return done_;
}

void Cluster::finish_evaluations() {
    CHECK(done_);
    while (evaluations_ > 0) finish_evaluation(); // they name their versions
}

void Cluster::happen(const Happening& what) {
    Seat* const seat = what.worker < seats_.size() ? &seats_[what.worker] : nullptr;
    const bool of_process =
        what.kind == Kind::to_worker || what.kind == Kind::computed || what.kind == Kind::worker_timer;
    if (of_process && seat->frozen) {
        seat->missed.push_back(what);
        return;
    }
    switch (what.kind) {
    case Kind::to_server:
        to_server(letters_.at(what.slot).event);
        letters_.free(what.slot);
        return;
    case Kind::to_worker:
        if (letters_.at(what.slot).life == seat->lives) to_worker(what.worker, letters_.at(what.slot).event);
        letters_.free(what.slot);
        return;
    case Kind::computed:
        if (seat->computing && seat->computation == what.slot) finish_compute(what.worker);
        return;
    case Kind::worker_timer:
        if (seat->alarm.number != what.slot) return;
        seat->alarm.at = kNever;
        to_worker(what.worker, Timer{});
        return;
    case Kind::server_timer:
        if (server_alarm_.number != what.slot) return;
        server_alarm_.at = kNever;
        to_server(Timer{});
        return;
    case Kind::transfer_ended:
        if (directions_[what.worker].forecast == what.slot) end_transfers(what.worker);
        return;
    case Kind::die:
        if (what.slot == kAnyLife || seat->lives == what.slot) die(what.worker);
        return;
    case Kind::freeze: seat->frozen = seat->worker.has_value(); return;
    case Kind::thaw: thaw(what.worker); return;
    case Kind::beat:
        if (seat->worker && seat->lives == what.slot) beat(what.worker);
        return;
    case Kind::revive:
        if (seat->worker) return;
        if (now() < seat->missed_at) revive(WorkerId{what.worker}, seat->missed_at);
        else start_life(what.worker);
        return;
    case Kind::evaluated:
        if (evaluations_ > 0) finish_evaluation();
        return;
    }
}

// ---- Nodes

void Cluster::make_buffers(std::uint32_t worker) {
    seats_[worker].buffers =
        std::make_unique<WorkerBuffers>(codec_, options_.server.size, options_.policy.held_of_one_worker_max(),
                                        computation_ ? BufferPool::Memory::real : BufferPool::Memory::nominal);
    if (computation_) computation_->begin_life(WorkerId{worker}, *seats_[worker].buffers);
}

void Cluster::make_worker(std::uint32_t worker) {
    seats_[worker].worker.emplace(WorkerOptions{.worker = WorkerId{worker},
                                                .examples = options_.examples[worker],
                                                .run = options_.server.run,
                                                .size = options_.server.size},
                                  codec_, *seats_[worker].buffers);
}

void Cluster::start_life(std::uint32_t worker) {
    Seat& seat = seats_[worker];
    make_buffers(worker);
    make_worker(worker);
    ++seat.lives;
    seat.lifetime_set = false;
    beat(worker);
    set_alarm(seat.alarm, now(), Kind::worker_timer, worker);
}

void Cluster::die(std::uint32_t worker) {
    Seat& seat = seats_[worker];
    if (!seat.worker) return;
    seat.frozen = false;
    for (const Happening& what : std::exchange(seat.missed, {})) {
        if (what.kind == Kind::to_worker) letters_.free(what.slot);
    }
    give_up_compute(worker);
    seat.computing = false;
    seat.worker.reset();
    set_alarm(seat.alarm, kNever, Kind::worker_timer, worker);
    for (Direction& direction : directions_) {
        if (!direction.link) continue;
        direction.ways[worker] = {};
        direction.link->cut(now(), worker);
    }
    forecast_end(kUp);
    forecast_end(kDown);
    seat.missed_at = later(later(now(), options_.links.latency), options_.failures.detect());
    tell_server(seat.missed_at, PeerLeft{peer(worker)});
    if (options_.failures.random()) revive(WorkerId{worker}, later(now(), options_.failures.rejoin()));
}

/// A sign of life as transports send them, whatever the worker computes.
void Cluster::beat(std::uint32_t worker) {
    const Duration every = options_.server.silence.heartbeat;
    if (every <= Duration::zero()) return;
    if (!seats_[worker].frozen) tell_server(later(now(), options_.links.latency), PeerHeard{peer(worker)});
    queue_.push(later(now(), every), {Kind::beat, worker, seats_[worker].lives});
}

void Cluster::thaw(std::uint32_t worker) {
    Seat& seat = seats_[worker];
    if (!std::exchange(seat.frozen, false)) return;
    for (const Happening& what : std::exchange(seat.missed, {})) queue_.push(now(), what);
}

void Cluster::set_alarm(Alarm& alarm, Time at, Kind kind, std::uint32_t worker) {
    if (alarm.at == at) return;
    alarm.at = at;
    ++alarm.number;
    if (at != kNever) queue_.push(at, {kind, worker, alarm.number});
}

void Cluster::to_server(const Event& event) {
    effects_.clear();
    server_->handle(event, now(), effects_);
    for (Send& sent : effects_.sends) send(kDown, sent.to.value() - 1, std::move(sent.message));
    if (effects_.start_update) {
        if (computation_) computation_->update(*effects_.start_update);
        ++updates_;
        tell_server(later(now(), options_.update_time), UpdateDone{});
    }
    if (effects_.evaluate && computation_) {
        computation_->evaluate(*effects_.evaluate);
        ++evaluations_;
        queue_.push(later(now(), options_.evaluation_time), {Kind::evaluated});
    }
    for (const RunEvent& told : effects_.events) {
        if (!begun_ && std::holds_alternative<JoinEvent>(told.body)) begin();
        if (tell_) tell_(told);
    }
    set_alarm(server_alarm_, effects_.wake_at, Kind::server_timer, 0);
    done_ = done_ || effects_.done;
}

void Cluster::to_worker(std::uint32_t id, const Event& event) {
    if (id >= seats_.size() || !seats_[id].worker) return;
    Seat& seat = seats_[id];
    if (options_.failures.random() && !seat.lifetime_set && std::holds_alternative<MessageArrived>(event)) {
        seat.lifetime_set = true;
        queue_.push(later(now(), options_.failures.lifetime(WorkerId{id}, seat.lives)), {Kind::die, id, seat.lives});
    }
    effects_.clear();
    seat.worker->handle(event, now(), effects_);
    for (Send& sent : effects_.sends) send(kUp, id, std::move(sent.message));
    if (effects_.cancel_compute && seat.computing) {
        give_up_compute(id);
        queue_.push(now(), {Kind::computed, id, seat.computation}); // it hears of that as of the end of any other
    }
    if (effects_.start_compute) start_compute(id, *effects_.start_compute);
    set_alarm(seat.alarm, effects_.done ? kNever : effects_.wake_at, Kind::worker_timer, id);
    if (effects_.done) seat.worker.reset();
}

// ---- Computations

void Cluster::start_compute(std::uint32_t worker, const ComputeJob& job) {
    Seat& seat = seats_[worker];
    CHECK(!seat.computing);
    seat.computing = true;
    seat.cancelled = false;
    seat.step = job.step;
    seat.compute_time = options_.compute_time(WorkerId{worker}, job.step);
    const Time due = later(now(), seat.compute_time);
    if (computation_) computation_->start(WorkerId{worker}, job, due);
    else seat.payload = codec_.in_place() ? job.grad : seat.buffers->payloads.lease(codec_.payload_bytes_typical());
    queue_.push(due, {Kind::computed, worker, ++seat.computation});
}

void Cluster::give_up_compute(std::uint32_t worker) {
    Seat& seat = seats_[worker];
    if (!seat.computing || seat.cancelled) return;
    seat.cancelled = true;
    ++seat.computation;
    if (computation_) computation_->cancel(WorkerId{worker});
}

void Cluster::finish_compute(std::uint32_t worker) {
    Seat& seat = seats_[worker];
    seat.computing = false;
    ComputeDone done{.step = seat.step,
                     .payload = std::exchange(seat.payload, {}),
                     .compute_seconds = seconds(seat.compute_time),
                     .cancelled = seat.cancelled};
    if (computation_ && !seat.cancelled) {
        try {
            Computation::Computed computed = computation_->finish(WorkerId{worker});
            done.loss = computed.loss;
            done.payload = std::move(computed.payload);
        } catch (...) {
            fail();
            done.failed = true;
        }
    }
    to_worker(worker, done);
}

void Cluster::finish_evaluation() {
    --evaluations_;
    try {
        if (const auto result = computation_->finish_evaluation()) to_server(EvaluationDone{*result});
    } catch (...) {
        fail(); // a run that nobody can judge is not worth going on with
    }
}

/// The exception being handled ends the run; the first one says why.
void Cluster::fail() {
    if (!failure_) failure_ = std::current_exception();
    tell_server(now(), StopRequested{});
}

// ---- Messages

void Cluster::send(std::size_t direction, std::uint32_t worker, Message&& message) {
    Direction& way_to = directions_[direction];
    if (!way_to.link) {
        deliver(direction, worker, std::move(message));
        return;
    }
    if (worker >= way_to.ways.size() || !seats_[worker].worker) return; // to nobody, or of somebody who is no more
    Way& way = way_to.ways[worker];
    if (!way.moving) {
        start_transfer(direction, worker, std::move(message));
        forecast_end(direction);
        return;
    }
    way.waiting.push_back(std::move(message));
}

void Cluster::start_transfer(std::size_t direction, std::uint32_t worker, Message&& message) {
    Direction& to = directions_[direction];
    const std::size_t bytes = options_.links.servers * kHeaderBytes + message.payload.bytes();
    to.ways[worker].moving = std::move(message);
    to.link->start(now(), worker, static_cast<double>(bytes));
}

void Cluster::forecast_end(std::size_t direction) {
    Direction& to = directions_[direction];
    if (!to.link) return;
    ++to.forecast;
    if (const auto at = to.link->next_end()) {
        queue_.push(*at, {Kind::transfer_ended, static_cast<std::uint32_t>(direction), to.forecast});
    }
}

void Cluster::end_transfers(std::size_t direction) {
    Direction& to = directions_[direction];
    while (const auto worker = to.link->take_ended(now())) {
        Way& way = to.ways[*worker];
        deliver(direction, *worker, *std::exchange(way.moving, std::nullopt));
        if (way.waiting.empty()) continue;
        Message next = std::move(way.waiting.front());
        way.waiting.pop_front();
        start_transfer(direction, *worker, std::move(next));
    }
    forecast_end(direction);
}

void Cluster::deliver(std::size_t direction, std::uint32_t worker, Message&& message) {
    const Time at = later(now(), options_.links.latency);
    if (direction == kDown) {
        if (worker >= seats_.size()) return; // to nobody
        const std::uint64_t letter =
            letters_.put(MessageArrived{.peer = kServerPeer, .message = std::move(message)}, seats_[worker].lives);
        queue_.push(at, {Kind::to_worker, worker, letter});
        return;
    }
    MessageArrived arrived{.peer = peer(worker), .message = std::move(message)};
    if (arrived.message.type == MessageType::push) {
        if (computation_) computation_->validate(arrived);
        if (options_.copies) {
            for (std::size_t i = options_.copies(arrived.message); i > 0; --i) tell_server(at, arrived);
            return;
        }
    }
    tell_server(at, std::move(arrived));
}

ClusterLoad Cluster::load() const {
    const double lasted = seconds(server_->lasted());
    if (lasted <= 0) return {};
    const LinkOptions& links = options_.links;
    const auto share = [&](const Direction& direction) {
        if (!direction.link || links.server_rate == kUnlimited) return 0.0;
        return direction.link->bytes_moved() / (links.server_rate * links.servers * lasted);
    };
    return {.receiving = share(directions_[kUp]),
            .sending = share(directions_[kDown]),
            .updating = static_cast<double>(updates_) * seconds(options_.update_time) / lasted};
}

} // namespace lategrad
