/// A cluster in virtual time: a server and its workers, the production nodes, driven event by event on one thread over
/// models of computation, links and failures. docs/simulator.md states the models.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/buffer.h"
#include "lategrad/node/node.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/policy/policy.h"
#include "lategrad/server/server.h"
#include "lategrad/sim/computation.h"
#include "lategrad/sim/event_queue.h"
#include "lategrad/sim/failures.h"
#include "lategrad/sim/link.h"
#include "lategrad/worker/worker.h"

namespace lategrad {

struct ClusterOptions {
    ServerOptions server; ///< `workers` follows from `examples`
    PolicyOptions policy;
    std::vector<std::uint32_t> examples; ///< each worker's batch size
    /// How long gradient (worker, step) takes.
    std::function<Duration(WorkerId, Step)> compute_time = [](WorkerId, Step) { return Duration(1); };
    Duration update_time{0};     ///< of every update, on each of the servers
    Duration evaluation_time{0}; ///< after that the server hears of an evaluation
    LinkOptions links;
    FailureModel failures;
    Publisher* publisher = nullptr; ///< of the server (Server)
    /// How often a push arrives; 2 is a duplicate. A fault to be injected; empty: once.
    std::function<std::size_t(const Message&)> copies;
};

/// How much the servers had to do, in shares of the run's time: what went over their links of what could have, in each
/// direction, and updates.
struct ClusterLoad {
    double receiving = 0;
    double sending = 0;
    double updating = 0;
};

class Cluster {
  public:
    /// `initial` is version 0; `versions` lends memory for the later ones. `computation` may be null: nothing is
    /// computed, and payloads and versions may be nominal (BufferPool::Memory). `tell` hears every event of the run.
    /// All references outlive the cluster.
    Cluster(ClusterOptions options, const Codec& codec, Optimizer& optimizer, Buffer initial, BufferPool& versions,
            Computation* computation, std::function<void(const RunEvent&)> tell);
    Cluster(const Cluster&) = delete;
    Cluster& operator=(const Cluster&) = delete;

    /// From then on the worker does and hears nothing; the server is told that its peer is gone.
    void kill(WorkerId worker, Time at);
    /// The worker's process is stopped (SIGSTOP): it does nothing until it goes on. What is on its way stays there.
    void freeze(WorkerId worker, Time at);
    void thaw(WorkerId worker, Time at);
    /// A new process of a worker that died says hello, at the earliest when the server has noticed its death.
    void revive(WorkerId worker, Time at);
    /// Gives the server an event of the caller's own.
    template <class T>
    void tell_server(Time at, T&& event) {
        queue_.push(at, {Kind::to_server, 0, letters_.put(std::forward<T>(event))});
    }

    /// Handles the next event. False when the server is done, or when nothing is left to happen.
    bool step();
    /// What has been asked to be evaluated when the server is done. REQUIRES: done().
    void finish_evaluations();
    /// Until the server is done and every evaluation is in. False where that takes more than `events_max` events or
    /// never happens: virtual time has ended, or all workers are gone and none comes back. Where a computation fails,
    /// the run ends; `failure` says why.
    bool run(std::uint64_t events_max = UINT64_MAX);

    /// All of the cluster's state, nodes, messages and computations, between two steps; for one made with the same
    /// options. What was to be told of is told already. REQUIRES: no kill, revive, freeze, thaw or event of the
    /// caller's own is asked for before it is read. The pools of `versions`, and the publisher's, are the caller's to
    /// name before.
    void persist(Archive& archive);

    bool done() const { return done_; }
    Time now() const { return queue_.now(); }
    const Server& server() const { return *server_; }
    std::exception_ptr failure() const { return failure_; }
    ClusterLoad load() const;
    /// Of this worker's gradients, since its process began. REQUIRES: worker < workers.
    const WorkerBuffers& buffers(WorkerId worker) const { return *seats_[worker.value()].buffers; }

  private:
    enum class Kind : std::uint32_t {
        to_server,      ///< slot: the letter
        to_worker,      ///< worker; slot: the letter
        computed,       ///< worker; slot: which of its computations
        worker_timer,   ///< worker; slot: which of its timers
        server_timer,   ///< slot: which of its timers
        transfer_ended, ///< worker: the direction, not a worker; slot: which forecast
        die,            ///< worker; slot: which of its lives, or kAnyLife
        freeze,         ///< worker
        thaw,           ///< worker
        beat,           ///< worker; slot: which of its lives
        revive,         ///< worker
        evaluated,
    };
    struct Happening {
        Kind kind = Kind::evaluated;
        std::uint32_t worker = 0;
        std::uint64_t slot = 0;
        template <class A>
        void archive(A& archive) {
            archive.enumerator(kind, Kind::evaluated);
            archive(worker, slot);
        }
    };
    static constexpr std::uint64_t kAnyLife = UINT64_MAX;

    /// An event that waits for its time.
    struct Letter {
        Event event;
        std::uint64_t life = 0; ///< of the worker it is for; another of its lives does not hear of it
    };

    /// The memory of what has happened is used again. What is in a slot stays where it is until the slot is freed.
    class Letters {
      public:
        template <class T>
        std::uint64_t put(T&& event, std::uint64_t life = 0) {
            if (free_.empty()) {
                free_.push_back(slots_.size());
                slots_.emplace_back();
            }
            const std::uint64_t slot = free_.back();
            free_.pop_back();
            slots_[slot].event = std::forward<T>(event);
            slots_[slot].life = life;
            return slot;
        }
        void persist(Archive& archive);
        const Letter& at(std::uint64_t slot) const { return slots_[slot]; }
        void free(std::uint64_t slot) {
            slots_[slot].event = Timer{}; // lets go of its buffers
            free_.push_back(slot);
        }

      private:
        std::deque<Letter> slots_;
        std::vector<std::uint64_t> free_;
    };

    /// The messages from one node to another over a limited link: one moves, the others wait.
    struct Way {
        std::optional<Message> moving;
        std::deque<Message> waiting;
    };
    struct Direction {
        std::optional<SharedLink> link; ///< none where links are unlimited
        std::vector<Way> ways;          ///< by worker
        std::uint64_t forecast = 0;     ///< the current one
    };
    enum : std::size_t { kUp = 0, kDown = 1 };

    /// What a node asks to be woken at: the last word counts.
    struct Alarm {
        Time at = kNever;
        std::uint64_t number = 0; ///< of the one that is set
        template <class A>
        void archive(A& archive) {
            archive(at, number);
        }
    };

    struct Seat {
        /// Of this life: what a former one has out, held for an update, is not this one's.
        std::unique_ptr<WorkerBuffers> buffers;
        std::optional<Worker> worker; ///< none while dead
        std::uint64_t lives = 0;      ///< begun so far
        bool lifetime_set = false;    ///< in this life, by its first parameters
        bool frozen = false;
        std::vector<Happening> missed; ///< while it was
        Time missed_at{};              ///< when the server notices its last death
        // The gradient being computed.
        bool computing = false;
        bool cancelled = false;
        std::uint64_t computation = 0; ///< how many times one was started or given up: what is scheduled names its own
        Step step;
        Buffer payload; ///< where nothing is computed
        Duration compute_time{0};
        Alarm alarm;
    };

    void persist_seat(Archive& archive, std::uint32_t worker);
    void make_buffers(std::uint32_t worker);
    void make_worker(std::uint32_t worker);
    void start_life(std::uint32_t worker);
    void begin();
    void happen(const Happening& what);
    void to_server(const Event& event);
    void to_worker(std::uint32_t worker, const Event& event);
    void send(std::size_t direction, std::uint32_t worker, Message&& message);
    void start_transfer(std::size_t direction, std::uint32_t worker, Message&& message);
    void forecast_end(std::size_t direction);
    void set_alarm(Alarm& alarm, Time at, Kind kind, std::uint32_t worker);
    void end_transfers(std::size_t direction);
    void deliver(std::size_t direction, std::uint32_t worker, Message&& message);
    void start_compute(std::uint32_t worker, const ComputeJob& job);
    void give_up_compute(std::uint32_t worker);
    void finish_compute(std::uint32_t worker);
    void finish_evaluation();
    void fail();
    void die(std::uint32_t worker);
    void beat(std::uint32_t worker);
    void thaw(std::uint32_t worker);
    static Peer peer(std::uint32_t worker) { return Peer{worker + 1}; }

    ClusterOptions options_;
    const Codec& codec_;
    Computation* computation_;
    std::function<void(const RunEvent&)> tell_;
    std::unique_ptr<Server> server_;
    std::deque<Seat> seats_; ///< by worker
    std::array<Direction, 2> directions_;
    EventQueue<Happening> queue_;
    Letters letters_;
    Effects effects_; ///< of the event being handled
    Alarm server_alarm_;
    std::uint64_t updates_ = 0;
    std::size_t evaluations_ = 0; ///< under way
    bool begun_ = false;          ///< all workers were there
    bool done_ = false;
    std::exception_ptr failure_;
};

} // namespace lategrad
