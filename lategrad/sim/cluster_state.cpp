/// What a checkpoint of a simulation keeps: everything.
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/sim/cluster.h"

namespace lategrad {

void Cluster::Letters::persist(Archive& archive) {
    std::size_t slots = slots_.size();
    archive(slots);
    if (archive.reading()) slots_.clear();
    for (std::size_t i = 0; i < slots; ++i) {
        if (archive.reading()) slots_.emplace_back();
        lategrad::persist(archive, slots_[i].event);
        archive(slots_[i].life);
    }
    archive(free_);
    for (const std::uint64_t slot : free_) archive.require(slot < slots_.size(), "a free slot that there is not");
}

void Cluster::persist(Archive& archive) {
    archive.section("cluster");
    archive.expect(seats_.size(), "the number of workers");
    effects_.clear(); // of the last event, which may hold buffers of a worker that has died since
    // A life's memory before what is in it.
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) {
        Seat& seat = seats_[worker];
        bool alive = seat.worker.has_value();
        archive(alive, seat.lives);
        if (archive.reading()) {
            seat.worker.reset();
            make_buffers(worker);
            if (alive) make_worker(worker);
        }
        archive.pools({&seat.buffers->params, &seat.buffers->gradients, &seat.buffers->payloads});
    }
    server_->persist(archive);
    for (std::uint32_t worker = 0; worker < seats_.size(); ++worker) persist_seat(archive, worker);
    letters_.persist(archive);
    archive(queue_, server_alarm_, updates_, evaluations_, begun_, done_);
    for (Direction& direction : directions_) {
        bool limited = direction.link.has_value();
        archive.expect(limited, "whether links are limited");
        if (!limited) continue;
        archive(*direction.link, direction.forecast);
        for (Way& way : direction.ways) {
            bool moving = way.moving.has_value();
            std::size_t waiting = way.waiting.size();
            archive(moving, waiting);
            if (archive.reading()) {
                way = {};
                if (moving) way.moving.emplace();
            }
            if (moving) lategrad::persist(archive, *way.moving);
            for (std::size_t i = 0; i < waiting; ++i) {
                if (archive.reading()) way.waiting.emplace_back();
                lategrad::persist(archive, way.waiting[i]);
            }
        }
    }
    if (computation_) computation_->persist(archive);
    CHECK(!failure_);
}

void Cluster::persist_seat(Archive& archive, std::uint32_t worker) {
    Seat& seat = seats_[worker];
    if (seat.worker) seat.worker->persist(archive);
    archive(seat.lifetime_set, seat.frozen, seat.missed, seat.missed_at, seat.computing, seat.cancelled,
            seat.computation, seat.step, seat.payload, seat.compute_time, seat.alarm);
}

} // namespace lategrad
