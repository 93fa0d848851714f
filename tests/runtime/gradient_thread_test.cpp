#include "lategrad/runtime/gradient_thread.h"

#include <gtest/gtest.h>

#include <numeric>

#include "lategrad/transport/in_process.h"
#include "tests/data/numbered_data.h"
#include "tests/runtime/parabola.h"

namespace lategrad {
namespace {

/// One gradient thread of worker 1 of 2, whose part is the examples 0 … 9 in batches of 10, and its mailbox.
class GradientThreadTest : public testing::Test {
  protected:
    GradientThread& start(GradientSource& source, const char* straggle = "none") {
        straggle_ = StraggleModel::parse(straggle, 1);
        auto parts = std::make_shared<Parts>(1, std::vector<std::uint32_t>(10));
        std::iota(parts->front().begin(), parts->front().end(), 0u);
        thread_.emplace(WorkerId{1}, 2, Batcher(data_, parts, 10, 1), source,
                        GradientCodecs(*codec_, publish_codec_, WorkerId{1}, buffers_), straggle_, mailbox_);
        thread_->start({.step = Step{3}, .version = Version{2}, .params = params_, .grad = grad_});
        return *thread_;
    }

    ComputeDone answer() {
        std::vector<Event> events;
        while (events.empty()) {
            transport_->receive(kNever);
            mailbox_.take(events);
        }
        EXPECT_EQ(events.size(), 1u);
        return std::get<ComputeDone>(events[0]);
    }

    static constexpr std::size_t kBytes = Parabola::kSize * sizeof(float);

    SteadyClock clock_;
    std::unique_ptr<Transport> transport_ = InProcessHub(1, clock_).endpoint(kServerPeer);
    Mailbox mailbox_{*transport_};
    std::shared_ptr<const Dataset> data_ = std::make_shared<NumberedData>(10);
    BufferPool pool_{2 * kBytes};
    Buffer params_ = [this] {
        Buffer buffer = pool_.lease(kBytes);
        std::fill_n(buffer.floats().begin(), Parabola::kSize, 1.0f);
        return buffer;
    }();
    Buffer grad_ = pool_.lease(kBytes);
    std::unique_ptr<Codec> codec_ = make_codec("none", {.elements = Parabola::kSize});
    PublishCodec publish_codec_{"none", {.elements = Parabola::kSize}};
    WorkerBuffers buffers_{*codec_, Parabola::kSize, 1};
    StraggleModel straggle_;
    std::optional<GradientThread> thread_;
};

TEST_F(GradientThreadTest, ComputesTheGradientOfItsBatch) {
    Parabola parabola;
    start(parabola);
    const ComputeDone done = answer();
    EXPECT_EQ(done.step, Step{3});
    EXPECT_FALSE(done.cancelled);
    EXPECT_FALSE(done.failed);
    EXPECT_GE(done.compute_seconds, 0);
    // The mean of 0 … 9 is 4.5.
    EXPECT_EQ(grad_.floats()[0], -3.5f);
    EXPECT_EQ(grad_.floats()[1], -8.0f);
    EXPECT_EQ(grad_.floats()[2], -12.5f);
    EXPECT_EQ(done.loss, 0.5 * (3.5 * 3.5 + 8.0 * 8.0 + 12.5 * 12.5));
}

TEST_F(GradientThreadTest, LetsGoOfTheJobBeforeItAnswers) {
    Parabola parabola;
    start(parabola);
    answer();
    EXPECT_TRUE(params_.unique());
    EXPECT_TRUE(grad_.unique());
}

TEST_F(GradientThreadTest, EndsAStragglersSleepWhenItsGradientIsGivenUp) {
    Parabola parabola;
    GradientThread& thread = start(parabola, "shifted-exp:100h,1ms");
    thread.cancel();
    EXPECT_TRUE(answer().cancelled);

    // The next one is not cancelled by that.
    straggle_ = StraggleModel::parse("none", 1);
    thread.start({.step = Step{4}, .params = params_, .grad = grad_});
    EXPECT_FALSE(answer().cancelled);
}

TEST_F(GradientThreadTest, EndsAStragglersSleepWithTheRun) {
    Parabola parabola;
    start(parabola, "shifted-exp:100h,1ms");
    thread_.reset();
}

TEST_F(GradientThreadTest, SleepsAsLongAsTheModelSays) {
    Parabola parabola;
    start(parabola, "shifted-exp:20ms,1us");
    EXPECT_GE(answer().compute_seconds, 0.02);
}

TEST_F(GradientThreadTest, KeepsWhatWentWrong) {
    BrokenSource broken;
    const GradientThread& thread = start(broken);
    const ComputeDone done = answer();
    EXPECT_TRUE(done.failed);
    ASSERT_TRUE(thread.failure());
    EXPECT_THROW(std::rethrow_exception(thread.failure()), std::runtime_error);
}

} // namespace
} // namespace lategrad
