#include "lategrad/worker/worker.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lategrad {
namespace {

constexpr std::size_t kSize = 3;

class WorkerTest : public testing::Test {
  protected:
    Buffer parameters(float value, std::size_t size = kSize) {
        Buffer buffer = versions_.lease(size * sizeof(float));
        std::ranges::fill(buffer.floats(), value);
        return buffer;
    }
    /// What the worker wants after this event.
    const Effects& handle(const Event& event) {
        out_.clear();
        worker_.handle(event, Time{}, out_);
        return out_;
    }
    const Effects& receive(Message message) {
        return handle(MessageArrived{.peer = kServerPeer, .message = std::move(message)});
    }
    const Effects& receive_parameters(std::uint64_t step, std::uint64_t version, bool cancels = false) {
        return receive({.type = MessageType::parameters,
                        .worker = WorkerId{2},
                        .step = Step{step},
                        .version = Version{version},
                        .cancels = cancels,
                        .payload = parameters(static_cast<float>(version))});
    }
    /// True where nothing was said, begun or given up.
    static bool silent(const Effects& out) {
        return out.sends.empty() && !out.start_compute && !out.cancel_compute && !out.done;
    }
    static bool only_says(const Effects& out, MessageType type) {
        return out.sends.size() == 1 && out.sends[0].to == kServerPeer && out.sends[0].message.type == type;
    }

    BufferPool versions_{1024};
    BufferPool gradients_{Worker::gradient_buffers(1) * kSize * sizeof(float)};
    std::unique_ptr<Codec> codec_ = make_codec("none");
    Worker worker_{{.worker = WorkerId{2}, .examples = 7, .run = 99, .size = kSize}, *codec_, gradients_};
    Effects out_;
};

TEST_F(WorkerTest, SaysHelloFirstAndOnce) {
    const Effects& out = handle(Timer{});
    ASSERT_TRUE(only_says(out, MessageType::hello));
    const Message& hello = out.sends[0].message;
    EXPECT_EQ(hello.worker, WorkerId{2});
    EXPECT_EQ(hello.examples, 7u);
    EXPECT_EQ(hello.elements, kSize);
    EXPECT_EQ(hello.run, 99u);
    EXPECT_TRUE(silent(handle(Timer{})));
}

TEST_F(WorkerTest, PushesTheGradientUnderTheStepAndVersionItWasAskedFor) {
    handle(Timer{});
    const Effects& asked = receive_parameters(4, 17);
    ASSERT_TRUE(asked.start_compute);
    EXPECT_TRUE(asked.sends.empty());
    ComputeJob job = *asked.start_compute;
    EXPECT_EQ(job.step, Step{4});
    EXPECT_EQ(job.version, Version{17});
    EXPECT_EQ(std::as_const(job.params).floats()[1], 17.0f);
    ASSERT_EQ(job.grad.floats().size(), kSize);
    std::ranges::fill(job.grad.floats(), 0.5f);

    const Effects& done = handle(ComputeDone{.step = Step{4}, .loss = 2.5, .compute_seconds = 0.125});
    ASSERT_TRUE(only_says(done, MessageType::push));
    const Message& push = done.sends[0].message;
    EXPECT_EQ(push.worker, WorkerId{2});
    EXPECT_EQ(push.run, 99u);
    EXPECT_EQ(push.step, Step{4});
    EXPECT_EQ(push.version, Version{17});
    EXPECT_EQ(push.examples, 7u);
    EXPECT_EQ(push.loss, 2.5);
    EXPECT_EQ(push.compute_seconds, 0.125);
    EXPECT_EQ(push.payload.data(), std::as_const(job.grad).data()) << "raw floats are not copied";
    EXPECT_FALSE(done.start_compute);
}

TEST_F(WorkerTest, LetsGoOfTheParametersItHasComputedOn) {
    handle(Timer{});
    Buffer held = parameters(1);
    receive({.type = MessageType::parameters, .payload = held});
    handle(ComputeDone{});
    out_.clear();
    EXPECT_TRUE(held.unique());
}

TEST_F(WorkerTest, GivesUpTheOldGradientForNewerParameters) {
    handle(Timer{});
    receive_parameters(0, 0);
    const Effects& newer = receive_parameters(1, 3, true);
    EXPECT_TRUE(newer.cancel_compute);
    EXPECT_TRUE(newer.sends.empty());
    EXPECT_FALSE(newer.start_compute) << "the old one is still being computed";

    const Effects& next = handle(ComputeDone{.step = Step{0}, .cancelled = true});
    EXPECT_TRUE(next.sends.empty());
    ASSERT_TRUE(next.start_compute);
    EXPECT_EQ(next.start_compute->step, Step{1});
    EXPECT_EQ(next.start_compute->version, Version{3});
    ASSERT_TRUE(only_says(handle(ComputeDone{.step = Step{1}}), MessageType::push));
}

TEST_F(WorkerTest, FinishesItsGradientFirstUnlessToldToGiveItUp) {
    handle(Timer{});
    receive_parameters(0, 0);
    EXPECT_TRUE(silent(receive_parameters(1, 3, false)));
    const Effects& next = handle(ComputeDone{.step = Step{0}});
    ASSERT_TRUE(only_says(next, MessageType::push));
    EXPECT_EQ(next.sends[0].message.step, Step{0});
    ASSERT_TRUE(next.start_compute);
    EXPECT_EQ(next.start_compute->step, Step{1});
}

TEST_F(WorkerTest, DoesNotPushAGivenUpGradientThatWasFinishedAllTheSame) {
    handle(Timer{});
    receive_parameters(0, 0);
    receive_parameters(1, 3, true);
    const Effects& next = handle(ComputeDone{.step = Step{0}});
    EXPECT_TRUE(next.sends.empty());
    ASSERT_TRUE(next.start_compute);
    EXPECT_EQ(next.start_compute->step, Step{1});
}

TEST_F(WorkerTest, ComputesOnTheNewestOfSeveralParameters) {
    handle(Timer{});
    receive_parameters(0, 0);
    receive_parameters(1, 3, true);
    receive_parameters(2, 5, true);
    const Effects& next = handle(ComputeDone{.step = Step{0}, .cancelled = true});
    ASSERT_TRUE(next.start_compute);
    EXPECT_EQ(next.start_compute->step, Step{2});
}

TEST_F(WorkerTest, LeavesAtOnceWhenStoppedWhileIdle) {
    handle(Timer{});
    const Effects& out = receive({.type = MessageType::stop});
    EXPECT_TRUE(only_says(out, MessageType::goodbye));
    EXPECT_TRUE(out.done);
}

TEST_F(WorkerTest, LeavesOnlyWhenTheGradientBeingComputedHasEnded) {
    handle(Timer{});
    receive_parameters(0, 0);
    const Effects& stopped = receive({.type = MessageType::stop});
    EXPECT_TRUE(stopped.cancel_compute);
    EXPECT_TRUE(stopped.sends.empty());
    EXPECT_FALSE(stopped.done);
    EXPECT_FALSE(receive_parameters(1, 1).start_compute) << "too late for that";

    const Effects& out = handle(ComputeDone{.step = Step{0}, .cancelled = true});
    EXPECT_TRUE(only_says(out, MessageType::goodbye));
    EXPECT_TRUE(out.done);
}

TEST_F(WorkerTest, LeavesWithoutTheParametersThatWaited) {
    handle(Timer{});
    receive_parameters(0, 0);
    receive_parameters(1, 3, true);
    receive({.type = MessageType::stop});
    const Effects& out = handle(ComputeDone{.step = Step{0}, .cancelled = true});
    EXPECT_FALSE(out.start_compute);
    EXPECT_TRUE(out.done);
}

TEST_F(WorkerTest, LeavesWhenTheServerIsGone) {
    handle(Timer{});
    receive_parameters(0, 0);
    EXPECT_TRUE(handle(PeerLeft{kServerPeer}).cancel_compute);
    EXPECT_TRUE(handle(ComputeDone{.step = Step{0}, .cancelled = true}).done);
}

TEST_F(WorkerTest, LeavesWhenItsGradientCannotBeComputed) {
    handle(Timer{});
    receive_parameters(0, 0);
    const Effects& out = handle(ComputeDone{.step = Step{0}, .failed = true});
    EXPECT_TRUE(only_says(out, MessageType::goodbye));
    EXPECT_TRUE(out.done);
}

TEST_F(WorkerTest, IgnoresParametersOfAnotherSize) {
    handle(Timer{});
    for (const std::size_t size : {kSize - 1, kSize + 1}) {
        EXPECT_TRUE(silent(receive({.type = MessageType::parameters, .payload = parameters(1, size)})));
    }
    EXPECT_TRUE(silent(receive({.type = MessageType::parameters})));
    EXPECT_TRUE(receive_parameters(0, 0).start_compute);
}

TEST_F(WorkerTest, IgnoresWhatOnlyWorkersSay) {
    handle(Timer{});
    for (const MessageType type : {MessageType::hello, MessageType::push, MessageType::goodbye}) {
        EXPECT_TRUE(silent(receive({.type = type})));
    }
}

TEST_F(WorkerTest, ReusesItsGradientBuffersStepAfterStep) {
    // As the server does with late gradients: one held while the next one is computed.
    handle(Timer{});
    Buffer held;
    for (std::uint64_t step = 0; step < 20; ++step) {
        receive_parameters(step, step);
        held = handle(ComputeDone{.step = Step{step}}).sends.at(0).message.payload;
    }
    EXPECT_EQ(gradients_.bytes_allocated(), 2 * kSize * sizeof(float));
}

TEST_F(WorkerTest, WaitsForABufferWhenAllItsGradientsAreStillOnTheirWay) {
    handle(Timer{});
    std::vector<Buffer> on_the_way;
    for (std::uint64_t step = 0; step < Worker::gradient_buffers(1); ++step) {
        receive_parameters(step, step, true);
        on_the_way.push_back(handle(ComputeDone{.step = Step{step}}).sends.at(0).message.payload);
    }
    out_.clear();
    const Effects& waits = receive_parameters(3, 3, true);
    EXPECT_TRUE(silent(waits));
    EXPECT_NE(waits.wake_at, kNever);
    EXPECT_NE(handle(Timer{}).wake_at, kNever);
    receive_parameters(4, 4, true); // newer ones take their place

    on_the_way.pop_back();
    const Effects& goes_on = handle(Timer{});
    ASSERT_TRUE(goes_on.start_compute);
    EXPECT_EQ(goes_on.start_compute->step, Step{4});
    EXPECT_EQ(goes_on.wake_at, kNever);
}

} // namespace
} // namespace lategrad
