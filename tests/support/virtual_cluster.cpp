#include "tests/support/virtual_cluster.h"

#include <algorithm>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

/// Each worker computes on one version and may have the next one waiting; the server has one and makes one, and a test
/// may keep some snapshots.
std::size_t versions_max(std::size_t workers) {
    return 2 * workers + 8;
}

} // namespace

VirtualCluster::VirtualCluster(VirtualClusterOptions options)
    : options_(std::move(options)),
      codec_(make_codec("none")),
      optimizer_(make_optimizer(options_.optimizer, options_.initial.size())),
      versions_(versions_max(options_.examples.size()) * options_.initial.size() * sizeof(float)) {
    const std::size_t size = options_.initial.size();
    options_.server.workers = options_.examples.size();
    options_.server.trainable = size;
    options_.server.size = size;
    Buffer initial = versions_.lease(size * sizeof(float));
    std::ranges::copy(options_.initial, initial.floats().begin());
    server_ = std::make_unique<Server>(options_.server, make_policy(options_.policy), *codec_, *optimizer_,
                                       std::move(initial), versions_);
    schedule(Time{}, [this] { to_server(Timer{}); });
    for (std::uint32_t i = 0; i < options_.examples.size(); ++i) {
        const WorkerId id{i};
        seats_.push_back(std::make_unique<Seat>(size * sizeof(float)));
        seat(id).worker = std::make_unique<Worker>(
            WorkerOptions{.worker = id, .examples = options_.examples[i], .run = options_.server.run, .size = size},
            *codec_, seat(id).gradients);
        schedule(Time{}, [this, id] { to_worker(id, Timer{}); });
    }
}

VirtualCluster::Key VirtualCluster::schedule(Time at, std::function<void()> action) {
    const Key key{std::max(at, now_), sequence_++};
    queue_.emplace(key, std::move(action));
    return key;
}

void VirtualCluster::kill(WorkerId worker, Time at) {
    schedule(at, [this, worker] {
        if (!std::exchange(seat(worker).alive, false)) return;
        if (seat(worker).computing) queue_.erase(seat(worker).computing->ends);
        seat(worker).computing.reset();
        seat(worker).worker.reset(); // its memory goes with it
        tell_server(now_ + options_.latency, PeerLeft{peer(worker)});
    });
}

void VirtualCluster::tell_server(Time at, Event event) {
    schedule(at, [this, event = std::move(event)] { to_server(event); });
}

bool VirtualCluster::step() {
    if (done_ || queue_.empty()) return false;
    const auto next = queue_.extract(queue_.begin());
    now_ = next.key().first;
    next.mapped()();
    return true;
}

bool VirtualCluster::run(std::size_t events_max) {
    for (std::size_t i = 0; i < events_max && step(); ++i) {
    }
    return done_;
}

void VirtualCluster::to_server(const Event& event) {
    Effects effects;
    server_->handle(event, now_, effects);
    for (Send& send : effects.sends) {
        const WorkerId to{send.to.value() - 1};
        schedule(now_ + options_.latency, [this, to, message = std::move(send.message)] {
            to_worker(to, MessageArrived{.peer = kServerPeer, .message = message});
        });
    }
    if (effects.start_update) {
        effects.start_update->run(pool_);
        tell_server(now_ + options_.update_duration, UpdateDone{});
    }
    if (effects.evaluate && options_.evaluate) options_.evaluate(*effects.evaluate);
    if (options_.keep_events) events_.insert(events_.end(), effects.events.begin(), effects.events.end());
    if (timer_) queue_.erase(*timer_);
    timer_.reset();
    if (effects.wake_at != kNever) {
        timer_ = schedule(effects.wake_at, [this] {
            timer_.reset();
            to_server(Timer{});
        });
    }
    done_ = effects.done;
}

void VirtualCluster::to_worker(WorkerId id, const Event& event) {
    if (id.value() >= seats_.size() || !seat(id).alive) return;
    Effects effects;
    seat(id).worker->handle(event, now_, effects);
    for (const Send& send : effects.sends) {
        MessageArrived arrived{.peer = peer(id), .message = send.message};
        std::size_t copies = 1;
        if (send.message.type == MessageType::push) {
            const Buffer& payload = send.message.payload;
            arrived.defect = codec_->validate({payload.data(), payload.bytes()}, options_.initial.size());
            copies = options_.copies(send.message);
        }
        for (std::size_t i = 0; i < copies; ++i) tell_server(now_ + options_.latency, arrived);
    }
    if (effects.cancel_compute) cancel_compute(id);
    if (effects.start_compute) start_compute(id, *effects.start_compute);
    if (effects.wake_at != kNever) schedule(effects.wake_at, [this, id] { to_worker(id, Timer{}); });
    if (effects.done) {
        seat(id).alive = false;
        tell_server(now_ + options_.latency, PeerLeft{peer(id)});
    }
}

void VirtualCluster::start_compute(WorkerId id, const ComputeJob& job) {
    CHECK(!seat(id).computing);
    Computing computing{.job = job, .done = {.step = job.step}};
    const std::span<const float> params = std::as_const(job.params).floats();
    computing.params.assign(params.begin(), params.end());
    computing.done.loss = options_.gradient(id, job.step, params, computing.job.grad.floats());
    const Duration duration = options_.duration(id, job.step);
    computing.done.compute_seconds = seconds(duration);
    computing.ends = schedule(now_ + duration, [this, id] { finish_compute(id); });
    seat(id).computing = std::move(computing);
}

void VirtualCluster::finish_compute(WorkerId id) {
    Computing computing = *std::exchange(seat(id).computing, std::nullopt);
    // Nobody may write a version that is being computed on.
    CHECK(std::ranges::equal(computing.params, std::as_const(computing.job.params).floats(),
                             [](float a, float b) { return a == b || (a != a && b != b); }));
    computing.job = {};
    to_worker(id, computing.done);
}

void VirtualCluster::cancel_compute(WorkerId id) {
    if (!seat(id).computing) return;
    Computing& computing = *seat(id).computing;
    queue_.erase(computing.ends);
    computing.done.cancelled = true;
    computing.ends = schedule(now_, [this, id] { finish_compute(id); });
}

std::vector<float> VirtualCluster::parameters() const {
    const auto floats = server_->parameters().floats();
    return {floats.begin(), floats.end()};
}

std::size_t VirtualCluster::gradient_buffers(WorkerId worker) const {
    return seats_[worker.value()]->gradients.bytes_allocated() / (options_.initial.size() * sizeof(float));
}

std::size_t VirtualCluster::version_buffers() const {
    return versions_.bytes_allocated() / (options_.initial.size() * sizeof(float));
}

} // namespace lategrad
