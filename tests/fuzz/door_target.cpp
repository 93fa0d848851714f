/// Whatever those who connect to the server of an elastic run say, and in whatever order they come and go, it serves to
/// the end, and every gradient has one fate.
#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <utility>

#include "lategrad/server/push_check.h"
#include "lategrad/server/server.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/header.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kSize = 6;
constexpr std::uint32_t kPlaces = 3;
constexpr std::uint32_t kPeers = 4;
constexpr std::uint64_t kRun = 77;
constexpr std::array<std::uint32_t, 2> kBatches{8, 7};
constexpr std::size_t kPoolBytes = std::size_t{1} << 20;

/// An input is what happens, one behind the other: what (1), then of a message the bytes of its payload (1), header and
/// payload.
enum What : unsigned { kSays, kLeaves, kIsHeard, kSilence, kUpdateEnds, kWhats };
constexpr unsigned kPeerBits = 2;
static_assert(kPeers == 1U << kPeerBits);

Traits traits() {
    return {{"model", "f00d"}};
}

ServerOptions server_options() {
    ServerOptions options;
    options.workers = kPlaces;
    options.workers_start = 2;
    options.run = kRun;
    options.admission = Admission{.traits = traits(), .batches = {kBatches.begin(), kBatches.end()}};
    options.silence = {.heartbeat = std::chrono::milliseconds(250),
                       .suspect_after = std::chrono::seconds(1),
                       .dead_after = std::chrono::seconds(5)};
    options.reject_norm = 50;
    options.quarantine_after = 2;
    options.part_sizes = {50, 50};
    options.reassign_after = std::chrono::seconds(3);
    options.epoch_examples = 100;
    options.trainable = options.size = kSize;
    options.updates = 1000;
    options.checkpoints = true;
    options.checkpoint_updates = 2;
    return options;
}

class Door {
  public:
    explicit Door(const PolicyOptions& policy)
        : codec_(make_codec("none", {.elements = kSize})),
          optimizer_(make_optimizer({.momentum = 0.9}, kSize)),
          check_(*codec_, kSize, true) {
        Buffer initial = memory_.lease(kSize * sizeof(float));
        std::ranges::fill(initial.floats(), 1.0F);
        server_.emplace(server_options(), make_policy(policy), *codec_, *optimizer_, std::move(initial), memory_);
        tell(Timer{});
    }

    /// Whether anything said was a message.
    bool happen(std::span<const std::byte> input, unsigned control) {
        bool any = false;
        while (!input.empty() && !done_) {
            const auto byte = static_cast<unsigned>(input[0]);
            const Peer peer{1 + byte % kPeers};
            input = input.subspan(1);
            switch ((byte >> kPeerBits) % kWhats) {
            case kSays: any = say(peer, input, control) || any; break;
            case kLeaves: tell(PeerLeft{peer}); break;
            case kIsHeard: tell(PeerHeard{peer}); break;
            case kSilence:
                now_ += std::chrono::milliseconds(900);
                tell(Timer{});
                break;
            case kUpdateEnds: end_update(); break;
            }
        }
        return any;
    }

    /// The user ends the run, and nobody says goodbye.
    void end() {
        end_update();
        tell(StopRequested{});
        end_update();
        now_ += std::chrono::seconds(60);
        tell(Timer{});
        CHECK(done_ && server_->totals().adds_up() && server_->totals().open == 0);
    }

  private:
    bool say(Peer peer, std::span<const std::byte>& input, unsigned control) {
        if (input.size() < 1 + kHeaderBytes) {
            input = {};
            return false;
        }
        Bytes header(input.begin() + 1, input.begin() + 1 + kHeaderBytes);
        const auto announced = static_cast<std::size_t>(input[0]);
        input = input.subspan(1 + kHeaderBytes);
        const auto payload = input.first(std::min(announced, input.size()));
        input = input.subspan(payload.size());
        if ((control & kSealAsIs) == 0) put_header_right(header);
        DecodedHeader decoded;
        if (decode_header(header, decoded) != WireFault::none) return false;
        if (decoded.message.type == MessageType::beat) return false; // transports keep these
        MessageArrived arrived{.peer = peer, .message = std::move(decoded.message)};
        if (!payload.empty()) {
            arrived.message.payload = memory_.try_lease(payload.size());
            if (!arrived.message.payload) return false;
            std::ranges::copy(payload, arrived.message.payload.data());
        }
        if (arrived.message.type == MessageType::push) check_(arrived);
        tell(arrived);
        return true;
    }

    void tell(const Event& event) {
        now_ += std::chrono::milliseconds(1);
        effects_.clear();
        server_->handle(event, now_, effects_);
        if (effects_.start_update) {
            CHECK(!update_);
            update_ = effects_.start_update;
        }
        done_ = done_ || effects_.done;
    }
    /// Where what waited for it closes the next one, that ends too.
    void end_update() {
        ThreadPool pool(1);
        while (update_) {
            std::exchange(update_, nullptr)->run(pool);
            tell(UpdateDone{});
        }
    }

    BufferPool memory_{kPoolBytes};
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_;
    PushCheck check_;
    std::optional<Server> server_;
    Time now_{};
    Effects effects_;
    UpdateTask* update_ = nullptr;
    bool done_ = false;
};

class DoorTarget final : public Target {
  public:
    explicit DoorTarget(const std::string& spec) {
        policy_.parse_kind(spec);
        policy_.wait_for = 1;
        policy_.cancel_late = spec == "backup";
    }

    bool run(unsigned control, Bytes bytes) const override {
        Door door(policy_);
        const bool any = door.happen(bytes, control);
        door.end();
        return any;
    }

    /// Two come, push, and one comes back over another connection.
    std::vector<Bytes> payloads() const override {
        Bytes input;
        for (std::uint32_t i = 0; i < 2; ++i) {
            enter(input, i, i, 100 + i);
        }
        for (const std::uint64_t version : {0, 1}) {
            for (std::uint32_t i = 0; i < 2; ++i) push(input, i, i, version, version);
            happens(input, 0, kUpdateEnds);
        }
        happens(input, 0, kSilence);
        happens(input, 1, kIsHeard);
        happens(input, 0, kSilence);
        enter(input, 2, 0, 100);
        happens(input, 1, kLeaves);
        enter(input, 3, 1, 5);
        return {input};
    }

  private:
    static void happens(Bytes& input, std::uint32_t peer, What what) {
        input.push_back(static_cast<std::byte>(peer | what << kPeerBits));
    }
    static void says(Bytes& input, std::uint32_t peer, const Message& message, std::span<const std::byte> payload) {
        happens(input, peer, kSays);
        input.push_back(static_cast<std::byte>(payload.size()));
        const Header header = encode_header(message);
        input.insert(input.end(), header.begin(), header.end());
        input.insert(input.end(), payload.begin(), payload.end());
    }
    static void enter(Bytes& input, std::uint32_t peer, std::uint32_t place, std::uint64_t process) {
        says(input, peer, {.type = MessageType::join, .process = process}, {});
        says(input, peer,
             {.type = MessageType::hello,
              .worker = WorkerId{place},
              .run = kRun,
              .examples = kBatches[place],
              .process = process,
              .elements = kSize},
             bytes_in(traits_text(traits())));
    }
    static void push(Bytes& input, std::uint32_t peer, std::uint32_t place, std::uint64_t step, std::uint64_t version) {
        const std::array<float, kSize> gradient{1, 2, 3, 4, 5, 6};
        says(input, peer,
             {.type = MessageType::push,
              .worker = WorkerId{place},
              .run = kRun,
              .step = Step{step},
              .version = Version{version},
              .examples = kBatches[place]},
             std::as_bytes(std::span(gradient)));
    }

    PolicyOptions policy_;
};

} // namespace

std::unique_ptr<Target> make_door_target(const std::string& spec) {
    return std::make_unique<DoorTarget>(spec);
}

} // namespace lategrad::fuzz
