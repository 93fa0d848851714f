/// Whatever state a server of a run is resumed from, it can be served from to the end.
#include <algorithm>
#include <limits>
#include <optional>
#include <sstream>
#include <utility>

#include "lategrad/core/random.h"
#include "lategrad/server/push_check.h"
#include "lategrad/server/server.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/input.h"
#include "tests/testing/stored.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kTrainable = 24;
constexpr std::size_t kSize = kTrainable + 2;
constexpr std::uint32_t kWorkers = 4;
constexpr std::uint32_t kExamples = 5;
constexpr std::size_t kPoolBytes = std::size_t{1} << 20;
/// An input begins with the length of the state; behind it are the buffers.
constexpr std::size_t kLengthBytes = sizeof(std::uint32_t);

/// What is the same for all servers of a target: `POLICY CODEC PUBLISH-CODEC OPTIMIZER`.
struct Run {
    explicit Run(const std::string& spec) {
        std::istringstream words(spec);
        std::string kind, codec_name, publish_name;
        CHECK(words >> kind >> codec_name >> publish_name >> optimizer.kind);
        policy.parse_kind(kind);
        policy.wait_for = kWorkers / 2;
        policy.cancel_late = kind == "backup";
        policy.late_weight = LateWeight::parse(kind == "kbatch" ? "span" : "one");
        optimizer.momentum = optimizer.kind == "sgd" ? 0.9 : 0;
        setup = {.elements = kTrainable,
                 .tail = kSize - kTrainable,
                 .tensors = {{4, 5}, {1, 4}},
                 .seed = 11,
                 .workers = kWorkers};
        codec = make_codec(codec_name, setup);
        publish_codec.emplace(publish_name, setup);
    }

    PolicyOptions policy;
    OptimizerOptions optimizer;
    CodecSetup setup;
    std::unique_ptr<Codec> codec;
    std::optional<PublishCodec> publish_codec;
};

ServerOptions server_options() {
    ServerOptions options;
    options.workers = kWorkers;
    options.workers_return = true;
    options.reject_norm = 50;
    options.quarantine_after = 3;
    options.part_sizes = {70, 30};
    options.reassign_after = std::chrono::seconds(1);
    options.silence = {.heartbeat = std::chrono::milliseconds(10), .dead_after = std::chrono::seconds(2)};
    options.epoch_examples = 100;
    options.trainable = kTrainable;
    options.size = kSize;
    options.epochs = 1e6;
    options.eval_every = 3;
    options.checkpoints = true;
    options.checkpoint_updates = 2;
    return options;
}

/// A server and, in one, its workers, updates and evaluations. The same calls do the same.
class Serving {
  public:
    explicit Serving(const Run& run)
        : optimizer_(make_optimizer(run.optimizer, kTrainable)),
          check_(*run.codec, kTrainable, true),
          random_(1, Purpose::test) {
        if (!run.publish_codec->in_place()) publisher_.emplace(*run.publish_codec, memory_, memory_);
        for (std::uint32_t i = 0; i < kWorkers; ++i) {
            encoders_.push_back(run.codec->make_encoder(WorkerId{i}, memory_));
        }
        Buffer initial = memory_.lease(kSize * sizeof(float));
        std::ranges::fill(initial.floats(), 1.0F);
        server_.emplace(server_options(), make_policy(run.policy), *run.codec, *optimizer_, std::move(initial), memory_,
                        publisher_ ? &*publisher_ : nullptr);
    }

    void resume(std::span<const std::byte> state, std::span<const std::byte> blobs) {
        BufferPool unnamed(std::numeric_limits<std::size_t>::max() / 2);
        ArchiveReader reader(state, blobs, unnamed);
        server_->resume(reader);
        reader.finish();
    }

    /// All workers come, push so many gradients, and the user ends the run. What checkpoints there were.
    std::vector<Stored> serve(int pushes) {
        tell(Timer{});
        for (std::uint32_t i = 0; i < kWorkers; ++i) enter(i);
        for (int i = 0; i < pushes && !done_; ++i) {
            // Another comes while an update is carried out, or one leaves and comes back.
            if (i == pushes / 2 && !update_) {
                tell(PeerLeft{peer(0)});
                std::erase_if(asked_, [](const Message& parameters) { return parameters.worker == WorkerId{0}; });
                enter(0);
            }
            if (update_ && (asked_.empty() || random_.below(2) == 0)) end_update();
            else if (!asked_.empty()) push();
        }
        while (update_) end_update();
        tell(StopRequested{});
        now_ += std::chrono::seconds(60); // for goodbyes
        tell(Timer{});
        CHECK(done_ && server_->totals().adds_up() && server_->totals().open == 0);
        return std::move(checkpoints_);
    }

  private:
    static Peer peer(std::uint32_t worker) { return Peer{worker + 1}; }

    void tell(const Event& event) {
        now_ += std::chrono::milliseconds(1);
        effects_.clear();
        server_->handle(event, now_, effects_);
        for (Send& sent : effects_.sends) {
            run_number_ = sent.message.run;
            if (sent.message.type == MessageType::parameters) asked_.push_back(std::move(sent.message));
        }
        if (effects_.start_update) update_ = effects_.start_update;
        if (effects_.checkpoint) {
            checkpoints_.emplace_back(effects_.checkpoint->state);
        }
        done_ = done_ || effects_.done;
    }
    /// A server that was resumed may know the run by another number, and says so.
    void enter(std::uint32_t worker) {
        const std::uint64_t number = run_number_;
        say_hello(worker);
        if (run_number_ != number) say_hello(worker);
    }
    void say_hello(std::uint32_t worker) {
        tell(MessageArrived{.peer = peer(worker),
                            .message = {.type = MessageType::hello,
                                        .worker = WorkerId{worker},
                                        .run = run_number_,
                                        .examples = kExamples,
                                        .elements = kSize}});
    }
    void end_update() {
        ThreadPool pool(1);
        std::exchange(update_, nullptr)->run(pool);
        tell(UpdateDone{});
    }
    /// Of one of those who compute.
    void push() {
        const auto at = asked_.begin() + static_cast<std::ptrdiff_t>(random_.below(asked_.size()));
        const Message asked = std::move(*at);
        asked_.erase(at);
        Buffer gradient = memory_.lease(kSize * sizeof(float));
        for (float& value : gradient.floats()) value = static_cast<float>(random_.uniform() - 0.5);
        MessageArrived push{.peer = peer(asked.worker.value()),
                            .message = {.type = MessageType::push,
                                        .worker = asked.worker,
                                        .incarnation = asked.incarnation,
                                        .run = asked.run,
                                        .step = asked.step,
                                        .version = asked.version,
                                        .examples = kExamples,
                                        .loss = 1,
                                        .payload = encoders_[asked.worker.value()]->encode(gradient, {})}};
        check_(push);
        tell(push);
    }

    BufferPool memory_{kPoolBytes};
    std::unique_ptr<Optimizer> optimizer_;
    std::optional<Publisher> publisher_;
    std::vector<std::unique_ptr<Encoder>> encoders_;
    PushCheck check_;
    std::optional<Server> server_;
    RandomStream random_;
    Time now_{};
    Effects effects_;
    std::uint64_t run_number_ = 0;
    std::vector<Message> asked_; ///< parameters that no gradient was pushed for
    UpdateTask* update_ = nullptr;
    std::vector<Stored> checkpoints_;
    bool done_ = false;
};

class StateTarget final : public Target {
  public:
    explicit StateTarget(const std::string& spec) : run_(spec) {}

    bool run(unsigned, Bytes bytes) const override {
        if (bytes.size() < kLengthBytes) return false;
        const auto rest = std::span(bytes).subspan(kLengthBytes);
        const std::size_t length = std::min<std::size_t>(load<std::uint32_t>(bytes, 0), rest.size());
        const auto state = rest.first(length), blobs = rest.subspan(length);
        Serving serving(run_);
        if (!passes("at byte ", [&] { serving.resume(state, blobs); })) return false;
        serving.serve(16);
        return true;
    }

    /// Between two updates, and at the end, where gradients may be held.
    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out;
        for (const int pushes : {0, 5, 24}) {
            for (const Stored& stored : Serving(run_).serve(pushes)) {
                Bytes bytes(kLengthBytes);
                store(bytes, 0, static_cast<std::uint32_t>(stored.state.size()));
                bytes.insert(bytes.end(), stored.state.begin(), stored.state.end());
                bytes.insert(bytes.end(), stored.blobs.begin(), stored.blobs.end());
                out.push_back(std::move(bytes));
            }
        }
        return out;
    }

  private:
    Run run_;
};

} // namespace

std::unique_ptr<Target> make_state_target(const std::string& spec) {
    return std::make_unique<StateTarget>(spec);
}

} // namespace lategrad::fuzz
