/// A server whose workers come as they like, in tests.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lategrad/codec/codec.h"
#include "lategrad/core/archive.h"
#include "lategrad/optim/optimizer.h"
#include "lategrad/server/server.h"

namespace lategrad::elastic_scene {

using namespace std::chrono_literals;

inline constexpr std::size_t kSize = 2;
inline constexpr std::uint64_t kRun = 77;
inline const Traits kTraits{{"model", "a lenet"}, {"training data", "mnist"}};

inline ServerOptions elastic(std::size_t places = 3, std::size_t start = 1) {
    ServerOptions options;
    options.workers = places;
    options.workers_start = start;
    options.run = kRun;
    options.incarnation = Incarnation{4};
    options.trainable = options.size = kSize;
    options.epoch_examples = 100;
    options.part_sizes = {50, 50};
    options.reassign_after = 10s;
    options.admission = Admission{.traits = kTraits, .batches = {8, 7}};
    options.silence = {.heartbeat = 250ms, .suspect_after = 1s, .dead_after = 5s, .overdue_after = 60s};
    return options;
}

/// The server, and its workers as what they say.
class Scene {
  public:
    explicit Scene(ServerOptions options, const char* policy = "reuse", std::size_t wait_for = 1,
                   std::size_t workers_min = 1)
        : codec_(make_codec("none", {.elements = kSize})),
          optimizer_(make_optimizer({}, kSize)) {
        PolicyOptions policy_options;
        policy_options.parse_kind(policy);
        policy_options.wait_for = wait_for;
        policy_options.workers_min = workers_min;
        Buffer initial = memory_.lease(kSize * sizeof(float));
        std::ranges::fill(initial.floats(), 1.0F);
        server_.emplace(options, make_policy(policy_options), *codec_, *optimizer_, std::move(initial), memory_);
        tell(Timer{});
    }

    void tell(const Event& event) {
        effects_.clear();
        server_->handle(event, now, effects_);
        sent.clear();
        for (const Send& send : effects_.sends) sent[send.to.value()] = send.message;
        for (const RunEvent& told : effects_.events) events.push_back(told);
        if (effects_.checkpoint) checkpoint = effects_.checkpoint;
        if (!effects_.start_update) return;
        update_ = effects_.start_update;
        if (hold_updates) return;
        const auto before = sent;
        finish_update();
        sent.insert(before.begin(), before.end());
    }
    /// REQUIRES: an update is held.
    void finish_update() {
        ThreadPool pool(1);
        std::exchange(update_, nullptr)->run(pool);
        tell(UpdateDone{});
    }
    bool updating() const { return update_ != nullptr; }
    /// REQUIRES: nothing was said yet.
    void resume(const CheckpointDue& from) {
        std::vector<std::byte> blobs;
        for (const auto blob : from.state.blobs()) blobs.insert(blobs.end(), blob.begin(), blob.end());
        ArchiveReader reader(from.state.state, blobs, memory_);
        server_->resume(reader);
        reader.finish();
    }
    void say(std::uint32_t peer, Message message) {
        tell(MessageArrived{.peer = Peer{peer}, .message = std::move(message)});
    }

    void join(std::uint32_t peer, std::uint64_t process) { say(peer, {.type = MessageType::join, .process = process}); }
    /// What a worker says that was welcomed as this one.
    Message hello(std::uint32_t worker, std::uint64_t process, const Traits& traits = kTraits) {
        const std::string text = traits_text(traits);
        Buffer payload = memory_.lease(text.size());
        std::memcpy(payload.data(), text.data(), text.size());
        return {.type = MessageType::hello,
                .worker = WorkerId{worker},
                .run = kRun,
                .examples = worker % 2 == 0 ? 8U : 7U,
                .process = process,
                .elements = kSize,
                .payload = payload};
    }
    /// Both. The parameters that it is sent.
    Message enter(std::uint32_t peer, std::uint64_t process) {
        join(peer, process);
        EXPECT_EQ(type_to(peer), MessageType::welcome);
        const std::uint32_t worker = sent.at(peer).worker.value();
        say(peer, hello(worker, process));
        return sent.contains(peer) ? sent.at(peer) : Message{};
    }
    Message push(const Message& parameters, float value = 1) {
        Message push{.type = MessageType::push,
                     .worker = parameters.worker,
                     .incarnation = parameters.incarnation,
                     .run = kRun,
                     .step = parameters.step,
                     .version = parameters.version,
                     .examples = 8};
        push.payload = memory_.lease(kSize * sizeof(float));
        std::ranges::fill(push.payload.floats(), value);
        return push;
    }

    std::optional<MessageType> type_to(std::uint32_t peer) const {
        return sent.contains(peer) ? std::optional(sent.at(peer).type) : std::nullopt;
    }
    std::string words_to(std::uint32_t peer) const {
        const Buffer& words = sent.at(peer).payload;
        return {reinterpret_cast<const char*>(words.data()), words.bytes()};
    }
    template <class Body>
    std::vector<Body> all() const {
        std::vector<Body> bodies;
        for (const RunEvent& event : events) {
            if (const Body* body = std::get_if<Body>(&event.body)) bodies.push_back(*body);
        }
        return bodies;
    }
    const Server& server() const { return *server_; }
    const Effects& effects() const { return effects_; }

    Time now{};
    bool hold_updates = false;             ///< an update takes until finish_update; else no time
    std::map<std::uint32_t, Message> sent; ///< by the last event, to each peer
    std::vector<RunEvent> events;
    std::optional<CheckpointDue> checkpoint; ///< the last one

  private:
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_;
    BufferPool memory_{std::size_t{1} << 20};
    std::optional<Server> server_;
    Effects effects_;
    UpdateTask* update_ = nullptr; ///< being carried out
};

} // namespace lategrad::elastic_scene
