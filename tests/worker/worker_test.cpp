#include "lategrad/worker/worker.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace lategrad {
namespace {

constexpr std::size_t kSize = 3;

class WorkerTest : public testing::Test {
  protected:
    explicit WorkerTest(const char* codec = "none") : codec_(make_codec(codec, {.elements = kSize})) {}

    Buffer parameters(float value, std::size_t size = kSize) {
        Buffer buffer = versions_.lease(size * sizeof(float));
        std::ranges::fill(buffer.floats(), value);
        return buffer;
    }
    /// What the worker wants after this event.
    const Effects& handle(const Event& event) {
        out_.clear();
        worker_.handle(event, Time{}, out_);
        if (out_.start_compute) grad_ = out_.start_compute->grad;
        return out_;
    }
    /// The gradient asked for has been computed, and is its own payload.
    const Effects& computed(std::uint64_t step) {
        return handle(ComputeDone{.step = Step{step}, .payload = std::exchange(grad_, {})});
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
    std::unique_ptr<Codec> codec_;
    WorkerBuffers buffers_{*codec_, kSize, 1};
    Worker worker_{{.worker = WorkerId{2}, .examples = 7, .run = 99, .size = kSize}, *codec_, buffers_};
    Effects out_;
    Buffer grad_;
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

    const Effects& done =
        handle(ComputeDone{.step = Step{4}, .payload = job.grad, .loss = 2.5, .compute_seconds = 0.125});
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
    computed(0);
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
    ASSERT_TRUE(only_says(computed(1), MessageType::push));
}

TEST_F(WorkerTest, FinishesItsGradientFirstUnlessToldToGiveItUp) {
    handle(Timer{});
    receive_parameters(0, 0);
    EXPECT_TRUE(silent(receive_parameters(1, 3, false)));
    const Effects& next = computed(0);
    ASSERT_TRUE(only_says(next, MessageType::push));
    EXPECT_EQ(next.sends[0].message.step, Step{0});
    ASSERT_TRUE(next.start_compute);
    EXPECT_EQ(next.start_compute->step, Step{1});
}

TEST_F(WorkerTest, DoesNotPushAGivenUpGradientThatWasFinishedAllTheSame) {
    handle(Timer{});
    receive_parameters(0, 0);
    receive_parameters(1, 3, true);
    const Effects& next = computed(0);
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

TEST_F(WorkerTest, LeavesWhereItsParametersMustNotBeUsed) {
    // The server sends no others before it has a gradient: whoever waits for this worker would wait for ever.
    handle(Timer{});
    const Message message{.type = MessageType::parameters, .payload = parameters(1)};
    const Effects& out = handle(MessageArrived{.peer = kServerPeer, .message = message, .defect = Reason::malformed});
    EXPECT_FALSE(out.start_compute);
    EXPECT_TRUE(only_says(out, MessageType::goodbye));
    EXPECT_TRUE(out.done);
}

TEST_F(WorkerTest, WaitsForItsGoodbyeNoLongerThanAUserDoes) {
    handle(Timer{});
    receive_parameters(0, 0);
    const Effects& out = handle(StopRequested{});
    EXPECT_TRUE(only_says(out, MessageType::goodbye));
    EXPECT_TRUE(out.done);
    EXPECT_LE(out.wake_at, Time{} + std::chrono::seconds(1));
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
        held = computed(step).sends.at(0).message.payload;
    }
    EXPECT_EQ(buffers_.gradients.bytes_allocated(), 2 * kSize * sizeof(float));
}

TEST_F(WorkerTest, WaitsForABufferWhenAllItsGradientsAreStillOnTheirWay) {
    handle(Timer{});
    std::vector<Buffer> on_the_way;
    for (std::uint64_t step = 0; step < 3; ++step) { // one computed, one held, one on its way
        receive_parameters(step, step, true);
        on_the_way.push_back(computed(step).sends.at(0).message.payload);
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

class EncodingWorkerTest : public WorkerTest {
  protected:
    EncodingWorkerTest() : WorkerTest("topk:0.4") {}

    /// The job that these parameters start.
    ComputeJob job_for(std::uint64_t step, float step_scale, bool refunds = false) {
        const Effects& out = receive({.type = MessageType::parameters,
                                      .step = Step{step},
                                      .refunds = refunds,
                                      .step_scale = step_scale,
                                      .payload = parameters(1)});
        EXPECT_TRUE(out.start_compute);
        return out.start_compute.value_or(ComputeJob{});
    }
    /// It has been encoded to this many bytes; 0: not finite.
    Buffer push(std::uint64_t step, std::size_t bytes = 20) {
        grad_.reset();
        Buffer payload = bytes > 0 ? buffers_.payloads.lease(bytes) : Buffer();
        const Effects& out = handle(ComputeDone{.step = Step{step}, .payload = std::move(payload)});
        EXPECT_TRUE(only_says(out, MessageType::push));
        return out.sends.at(0).message.payload;
    }
};

TEST_F(EncodingWorkerTest, KeepsWhatItSentUntilItHearsWhatBecameOfIt) {
    handle(Timer{});
    EXPECT_FALSE(job_for(0, 0.1F).refund);
    const Buffer first = push(0);
    const Buffer refund = job_for(1, 0.1F, true).refund;
    EXPECT_EQ(refund.data(), first.data()) << "the server has dropped it";
    const Buffer second = push(1);
    EXPECT_FALSE(job_for(2, 0.1F).refund) << "applied";
    push(2, 0);
    EXPECT_FALSE(job_for(3, 0.1F, true).refund) << "there was nothing to keep";
    out_.clear();
    EXPECT_TRUE(second.unique());
}

TEST_F(EncodingWorkerTest, RescalesItsResidualByTheStepsItWasToldOf) {
    handle(Timer{});
    EXPECT_EQ(job_for(0, 0.0F).residual_scale, 1);
    push(0);
    EXPECT_LT(job_for(1, 0.5F).residual_scale, 1e-30F)
        << "a warm-up begins at 0: what it leaves out would not have moved anything";
    push(1);
    EXPECT_EQ(job_for(2, 0.25F).residual_scale, 2);
    push(2, 0); // could not be encoded: the residual is still that of 0.5
    EXPECT_EQ(job_for(3, 1.0F).residual_scale, 0.5F);
}

TEST_F(EncodingWorkerTest, SendsWhatItHasEncodedThoughItIsNoLongerWanted) {
    handle(Timer{});
    job_for(0, 0.1F);
    receive_parameters(1, 1, true);
    const Effects& out = handle(ComputeDone{.step = Step{0}, .payload = buffers_.payloads.lease(20)});
    EXPECT_TRUE(only_says(out, MessageType::push)) << "else the residual would lack what nobody has seen";
}

TEST_F(EncodingWorkerTest, WaitsWhereItsPayloadsAreAllOnTheirWay) {
    handle(Timer{});
    std::vector<Buffer> on_the_way;
    for (std::uint64_t step = 0; buffers_.payloads.has_room(codec_->payload_bytes_max()); ++step) {
        job_for(step, 0.1F);
        on_the_way.push_back(push(step, codec_->payload_bytes_max()));
    }
    EXPECT_EQ(on_the_way.size(), 4u); // one computed, one held, one on its way, one kept
    out_.clear();
    EXPECT_TRUE(silent(receive_parameters(9, 9)));
    EXPECT_NE(out_.wake_at, kNever);
    on_the_way.erase(on_the_way.begin());
    EXPECT_TRUE(handle(Timer{}).start_compute);
}

} // namespace
} // namespace lategrad
