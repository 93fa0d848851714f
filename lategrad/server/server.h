/// The server: receives gradients, holds them, asks the policy, has updates carried out, publishes parameters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "lategrad/codec/publish.h"
#include "lategrad/node/node.h"
#include "lategrad/optim/schedule.h"
#include "lategrad/policy/policy.h"
#include "lategrad/server/admission.h"
#include "lategrad/server/data_plan.h"
#include "lategrad/server/ledger.h"
#include "lategrad/server/norm_limit.h"
#include "lategrad/server/silence.h"
#include "lategrad/server/update.h"

namespace lategrad {

struct ServerOptions {
    std::size_t workers = 1;       ///< the most that take part at once
    std::size_t workers_start = 0; ///< the run begins when so many have said hello; 0: all
    std::uint64_t run = 0;         ///< names the run on the wire
    Incarnation incarnation;
    bool workers_return = false; ///< with no worker left the run waits for one to return, and does not end
    /// Where workers come as they like, and are told who they are; else each comes as the worker it is.
    std::optional<Admission> admission;

    SilenceOptions silence;
    double reject_norm = 0;             ///< gradients longer than so many times the running median are dropped; 0: none
    std::uint32_t quarantine_after = 0; ///< a worker with so many gradients that cannot be used is excluded; 0: never
    std::vector<std::uint64_t> part_sizes;     ///< of the data, in examples; empty: each worker has its own
    Duration reassign_after = Duration::max(); ///< a part without a worker is given to another after that

    double learning_rate = 0.05;
    Schedule schedule;
    std::uint64_t epoch_examples = 1; ///< the training part's size
    std::size_t trainable = 0;        ///< floats in the flat vectors (GradientSource)
    std::size_t size = 0;

    // The run ends at the first of these.
    std::optional<std::uint64_t> updates;
    std::optional<double> epochs;       ///< in applied examples / epoch_examples
    std::optional<Duration> time_limit; ///< since the workers were all there
    std::optional<double> target_accuracy;

    std::uint64_t eval_every = 0; ///< updates between snapshots for evaluation; 0: only the last version

    bool checkpoints = false;             ///< at the end, and:
    std::uint64_t checkpoint_updates = 0; ///< between two; 0: not by updates
    Duration checkpoint_time{0};          ///< between two; 0: not by time
};

/// A pure state machine (node.h). The times of its events and evaluations count from when all workers were there. While
/// an update is being carried out, what arrives waits in order and is decided on afterwards, so that updates never
/// queue. What waits is bounded: the push of each open assignment once, each worker's departure and return, and
/// what each connection asks for.
///
/// A worker that has left may come back, as a new process that says hello; its steps go on where they ended. One that
/// is silent is suspect: out of n and k, but here, until it is heard again or given up.
///
/// While fewer workers are active than the policy needs for an update to close, pushes wait in the same queue.
class Server final : public Node {
  public:
    /// `initial` is version 0. `versions` lends memory for later ones: those still being sent, one being written.
    /// `publisher` encodes what is sent; null: it travels as it is. All outlive the server.
    Server(const ServerOptions& options, std::unique_ptr<Policy> policy, const Codec& codec, Optimizer& optimizer,
           Buffer initial, BufferPool& versions, Publisher* publisher = nullptr);

    void handle(const Event& event, Time now, Effects& out) override;

    /// All of its state, between two events; for a server made with the same options.
    void persist(Archive& archive);
    /// Goes on from a checkpoint (Effects::checkpoint) as a new incarnation: what was under way is lost, and workers
    /// must come again. REQUIRES: fresh, made with the same options but for the incarnation and the end.
    void resume(Archive& archive);

    const LedgerTotals& totals() const { return ledger_.totals(); }
    Version version() const { return published_; }
    /// Parameters of version(). REQUIRES: no update under way.
    const Buffer& parameters() const { return parameters_; }
    Outcome outcome() const { return outcome_; }
    /// From when all workers were there to the end; zero where they never were.
    Duration lasted() const { return ended_at_ == kNever ? Duration::zero() : since_begin(ended_at_) - Time{}; }
    std::uint64_t examples_applied() const { return examples_applied_; }
    std::uint64_t bytes_received() const { return bytes_received_; } ///< headers and payloads
    std::uint64_t bytes_sent() const { return bytes_sent_; }

    /// How far each part of the data has been walked through.
    const DataPlan& data() const { return data_; }

  private:
    static constexpr std::size_t kWordsBytesMax = 256 * 1024;
    static constexpr std::size_t kBannedMax = 64;
    enum class State { gathering, running, ending, ended };
    struct Member {
        Peer peer;
        std::uint64_t process = 0; ///< of who was welcomed last
        std::string from = {};     ///< where it runs, by its own words
        std::uint32_t examples = 0;
        bool here = false;
        bool welcomed = false;  ///< this place is kept for `process`, which has not said hello yet
        bool leaving = false;   ///< its departure is among waiting_
        bool joining = false;   ///< its hello is among waiting_
        bool entering = false;  ///< here, and its joining is among waiting_
        bool suspect = false;   ///< here, but not among the policy's active
        Fate fate = Fate::lost; ///< of its last gradient, to be told with its next parameters
        Reason reason = Reason::none;
        template <class A>
        void archive(A& archive);
        std::optional<Version> has; ///< parameters that it is known to have: its last gradient was computed on them
        Step next_to_wait;          ///< steps before it have been among waiting_, and are not taken there again
        std::uint32_t unusable = 0; ///< its gradients rejected since the last usable one of any worker
        std::uint32_t rejected = 0; ///< its process's gradients that could not be used
        Time welcomed_at{};
    };
    struct Held {
        WorkerId worker;
        Step step;
        double loss = 0;
        Buffer payload;
        template <class A>
        void archive(A& archive);
    };

    /// What start_update asks for.
    struct Update final : UpdateTask {
        Update(const Codec& codec, Optimizer& optimizer, const ServerOptions& options, Publisher* publisher)
            : optimizer(optimizer),
              sum(codec, optimizer, options.trainable, options.size),
              publisher(publisher) {}
        void run(ThreadPool& pool) override {
            sum.run(pool);
            if (publisher) publisher->publish(makes, sum.out, bases, newcomers);
            if (checkpoint) persist_state(*checkpoint);
        }
        /// Of what it changes beside the parameters.
        void persist_state(Archive& archive);
        Optimizer& optimizer;
        FusedUpdate sum;
        Publisher* publisher;
        Version makes;
        std::vector<Version> bases;              ///< that those have who will be sent it; ascending
        bool newcomers = false;                  ///< some who will be sent it are not known to have any
        std::optional<ArchiveWriter> checkpoint; ///< of what this leaves behind, where one is due
    };

    struct HeldPlace {
        WorkerId worker;
        Step step;
        std::uint32_t place;
        friend auto operator<=>(const HeldPlace&, const HeldPlace&) = default;
    };

    void on_message(const MessageArrived& arrived, Time now, Effects& out);
    void on_join(const MessageArrived& arrived, Time now, Effects& out);
    void on_hello(const MessageArrived& arrived, Time now, Effects& out);
    void on_heard(Peer peer, Time now, Effects& out);
    void let_in(WorkerId worker, std::uint32_t examples, Time now, Effects& out);
    void begin(Time now, Effects& out);
    void join(WorkerId worker, Time now, Effects& out);
    void on_push(const MessageArrived& arrived, Time now, Effects& out);
    void on_peer_left(Peer peer, Time now, Effects& out);
    void on_update_done(Time now, Effects& out);
    void on_evaluation(const Evaluation& result, Time now, Effects& out);

    void decide(const PolicyEvent& event, Time now, Effects& out);
    void decide_push(const MessageArrived& push, Time now, Effects& out);
    void decide_left(WorkerId worker, Reason lost, Time now, Effects& out);
    void decide_suspect(WorkerId worker, bool overdue, Time now, Effects& out);
    void decide_return(WorkerId worker, Time now, Effects& out);
    template <class Which>
    void erase_waiting(Which which);
    void drain(Time now, Effects& out);
    void decide_waiting(Event& event, Time now, Effects& out);
    void check_silence(Time now, Effects& out);
    void check_pause(Time now, Effects& out);
    void reassign(Time now, Effects& out);
    void exclude(WorkerId worker, Reason reason, Time now, Effects& out);
    bool place_is_free(const Member& member) const;
    std::optional<WorkerId> place_for(const Message& join, Time now, Effects& out);
    void bind(Peer peer, WorkerId worker);
    void unbind(WorkerId worker);
    void refuse(Peer peer, Reason reason, const std::string& words, Effects& out);
    void start_update(Time now, Effects& out);
    void send_parameters(Time now, Effects& out);
    bool hopeless(WorkerId worker, bool usable);
    void lose_open(WorkerId worker, Reason reason, Time now, Effects& out);
    void snapshot_if_due(Time now, Effects& out);
    void snapshot(Time now, Effects& out);
    void checkpoint(Time now, Effects& out);
    void capture(ArchiveWriter& archive, Time now, Effects& out);
    void persist_settled(Archive& archive);
    void check_read(Archive& archive) const;
    void end_if_reached(Time now, Effects& out);
    void end(Outcome outcome, Time now, Effects& out);
    void tell_of_end(const Event& waited, Effects& out);
    void finish(Time now, Effects& out);
    void send(Peer to, Message message, Effects& out);
    double learning_rate() const;
    Time since_begin(Time now) const { return began_at_ ? Time{now - *began_at_} : Time{elapsed_}; }
    std::optional<WorkerId> worker_at(Peer peer) const;
    std::optional<WorkerId> known_at(Peer peer) const;

    ServerOptions options_;
    const Codec& codec_;
    std::unique_ptr<Policy> policy_;
    BufferPool& versions_;
    Update update_;
    Ledger ledger_;
    Silence silence_;
    NormLimit norms_;
    DataPlan data_;

    State state_ = State::gathering;
    Outcome outcome_ = Outcome::running;
    bool updating_ = false;
    std::vector<Member> members_; ///< by worker
    std::vector<std::optional<WorkerId>> by_peer_;
    std::size_t here_ = 0;
    Version published_; ///< the version of parameters_
    Buffer parameters_;
    std::optional<Version> snapshot_; ///< the last version given out for evaluation
    std::vector<Held> held_;
    std::vector<HeldPlace> held_order_; ///< of the update that closes
    std::vector<Event> waiting_;        ///< arrived during an update: pushes, departures and hellos, in order
    std::vector<Event> drained_;        ///< of these, those that are being decided on
    std::size_t deciding_ = 0;          ///< which of them
    bool draining_ = false, drain_again_ = false;
    bool paused_ = false;                   ///< too few are active
    std::vector<std::uint64_t> banned_;     ///< processes that were excluded, the last few
    BufferPool words_{kWordsBytesMax};      ///< of refusals
    std::vector<DataPlan::Change> changes_; ///< reused
    Decision decision_;
    std::vector<WorkerId> send_, cancel_; ///< of the update under way
    UpdateEvent update_event_;
    std::uint64_t examples_applied_ = 0;
    bool any_unusable_ = false; ///< some member's `unusable` is above 0
    std::uint64_t bytes_received_ = 0, bytes_sent_ = 0;
    std::uint64_t events_told_ = 0;
    std::vector<RunEvent> restored_; ///< what resuming comes to, to be told first
    Duration elapsed_{0};            ///< of the run before this server, or up to the checkpoint being taken
    Time checkpoint_at_{};           ///< the last one
    std::optional<Time> began_at_;   ///< as if this server had served all of the run
    Time ended_at_ = kNever;
};

} // namespace lategrad
