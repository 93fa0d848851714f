#include "lategrad/telemetry/progress.h"

#include <array>
#include <cstdio>
#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include "lategrad/core/error.h"
#include "tests/telemetry/example_run.h"

namespace lategrad {
namespace {

using FilePtr = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// What `use` writes to a file.
template <class Use>
std::string written(Use use) {
    const FilePtr file(std::tmpfile(), &std::fclose);
    CHECK(file != nullptr);
    use(file.get());
    std::string text(static_cast<std::size_t>(std::ftell(file.get())), '\0');
    std::rewind(file.get());
    CHECK(std::fread(text.data(), 1, text.size(), file.get()) == text.size());
    return text;
}

std::string shown(bool terminal, const ProgressGoal& goal, const std::vector<RunEvent>& events) {
    return written([&](std::FILE* out) {
        Progress progress(out, terminal, goal);
        for (const RunEvent& event : events) progress.tell(event);
        progress.finish();
    });
}

/// An update in time, of one gradient on the version before it.
RunEvent update_at(double seconds, std::uint64_t version, double loss = 1) {
    return {at(seconds), UpdateEvent{.version = Version{version},
                                     .applied = {{WorkerId{0}, Step{version}, Version{version}, 32, 1}},
                                     .loss = loss,
                                     .examples_applied = 32 * (version + 1)}};
}

TEST(Progress, elsewhere_than_on_a_terminal_one_line_per_evaluation) {
    EXPECT_EQ(shown(false, {.updates = 12}, example_run()),
              "version 1/12  loss 2.0000  accuracy 50.00 %  1.0 updates/s  late used 0  0:11 left\n"
              "version 2/12  loss 2.0000  accuracy 37.50 %  1.0 updates/s  late used 1  0:10 left\n");
}

TEST(Progress, of_a_regression_shows_the_loss_on_the_test_part) {
    EXPECT_EQ(shown(false, {}, {update_at(0.5, 0), {at(1), Evaluation{Version{1}, at(0.5), 32, 0.0625, {}}}}),
              "version 1  loss 1.0000  test loss 0.0625  late used 0\n");
}

TEST(Progress, the_loss_shown_is_a_mean_of_recent_updates) {
    EXPECT_THAT(shown(false, {}, {update_at(1, 0, 3), update_at(2, 1, 1), {at(2), Evaluation{Version{2}, at(2)}}}),
                testing::HasSubstr("  loss 2.0000  "));
}

TEST(Progress, the_time_left_is_that_of_the_goal_reached_first) {
    const auto left = [](const ProgressGoal& goal) {
        // One update per second of 32 examples; 10 s have passed.
        std::vector<RunEvent> events = {{at(0), AssignEvent{WorkerId{0}, Step{0}, Version{0}}}};
        for (int i = 0; i < 10; ++i) events.push_back(update_at(i + 1, i));
        events.push_back({at(10), Evaluation{Version{10}, at(10), 320, 1, 0.5}});
        const std::string text = shown(false, goal, events);
        const std::size_t begin = text.find("late used 0") + 11;
        return text.substr(begin);
    };
    EXPECT_EQ(left({}), "\n");
    EXPECT_EQ(left({.target_accuracy = 0.9}), "\n");
    EXPECT_EQ(left({.updates = 75}), "  1:05 left\n");
    EXPECT_EQ(left({.updates = 7}), "  0:00 left\n");
    EXPECT_EQ(left({.time_limit = std::chrono::hours(2)}), "  1:59:50 left\n");
    EXPECT_EQ(left({.epochs = 2.5, .epoch_examples = 256}), "  0:10 left\n"); // 320 of 640 examples
    EXPECT_EQ(left({.updates = 100, .time_limit = std::chrono::seconds(30)}), "  0:20 left\n");
}

TEST(Progress, a_line_is_about_the_version_that_was_evaluated) {
    // The evaluation of version 1 comes when version 2 is there.
    const std::string text = shown(false, {.updates = 9},
                                   {{at(0), AssignEvent{WorkerId{0}, Step{0}, Version{0}}},
                                    update_at(1, 0, 3),
                                    update_at(3, 1, 1),
                                    {at(3), Evaluation{Version{1}, at(1), 32, 1, 0.5}},
                                    {at(4), Evaluation{Version{2}, at(3), 64, 1, 0.75}}});
    EXPECT_EQ(text, "version 1/9  loss 3.0000  accuracy 50.00 %  1.0 updates/s  late used 0  0:08 left\n"
                    "version 2/9  loss 2.0000  accuracy 75.00 %  0.7 updates/s  late used 0  0:11 left\n");
}

TEST(Progress, where_only_the_last_version_is_evaluated_its_line_is_about_it) {
    EXPECT_THAT(shown(false, {.eval_every = 0},
                      {update_at(1, 0, 3), update_at(2, 1, 3), {at(2), Evaluation{Version{2}, at(2)}}}),
                testing::StartsWith("version 2  loss 3.0000"));
}

TEST(Progress, says_the_accuracy_it_is_after) {
    EXPECT_THAT(shown(false, {.target_accuracy = 0.85}, {{at(1), Evaluation{Version{1}, at(1), 32, 1, 0.5}}}),
                testing::HasSubstr("accuracy 50.00 % of 85 %"));
}

TEST(Progress, on_a_terminal_one_line_is_redrawn_ten_times_a_second_at_most) {
    std::vector<RunEvent> events = {{at(127 / 128.0), AssignEvent{}}};
    for (int i = 0; i < 100; ++i) events.push_back(update_at(1 + i / 128.0, i)); // 100 in 0.78 s
    const std::string text = shown(true, {}, events);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\r'), 8 + 1); // the last by finish
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
    EXPECT_THAT(text, testing::StartsWith("\rversion 0  late used 0\x1b[K\r"));
    EXPECT_THAT(text, testing::EndsWith("\rversion 100  loss 1.0000  128.0 updates/s  late used 0\x1b[K\n"));
}

TEST(Progress, fits_into_the_terminal) {
    int controller = -1, terminal = -1;
    const winsize size{.ws_row = 24, .ws_col = 20, .ws_xpixel = 0, .ws_ypixel = 0};
    ASSERT_EQ(::openpty(&controller, &terminal, nullptr, nullptr, &size), 0);
    {
        const FilePtr out(::fdopen(terminal, "w"), &std::fclose);
        EXPECT_TRUE(is_terminal(out.get()));
        Progress progress(out.get(), true, {});
        progress.tell(update_at(1, 0));
        std::array<char, 256> text{};
        ASSERT_GT(::read(controller, text.data(), text.size() - 1), 0);
        EXPECT_STREQ(text.data(), "\rv 1  loss 1.000\x1b[K"); // the rest does not fit into 19 columns
    }
    ::close(controller);
}

TEST(Progress, a_file_is_no_terminal) {
    written([](std::FILE* out) { EXPECT_FALSE(is_terminal(out)); });
}

TEST(Progress, nothing_was_drawn_nothing_is_ended) {
    EXPECT_EQ(shown(true, {}, {}), "");
    EXPECT_EQ(shown(false, {}, {update_at(1, 0)}), "");
}

TEST(HumanSummary, by_example) {
    SummaryBuilder builder({.policy = "reuse", .workers = 2, .wait_for = 1});
    for (const RunEvent& event : example_run()) builder.tell(event);
    EXPECT_EQ(human_summary(builder.summary(), "runs/1"),
              "ended by      updates\n"
              "policy        reuse, waits for 1 of 2 workers\n"
              "updates       2 in 3.0 s, 0.7 per second\n"
              "test          accuracy 37.50 % (best 50.00 %), loss 1.5000\n"
              "gradients     5: 3 applied (1 late), 1 dropped, 0 held, 1 lost\n"
              "work used     75.0 % of the gradients that were computed\n"
              "staleness     mean 0.33, max 1\n"
              "traffic       12.0 KiB received, 2.0 MiB sent\n"
              "run folder    runs/1\n");
}

TEST(HumanSummary, of_an_elastic_run_says_how_much_of_the_data_was_seen) {
    EXPECT_THAT(human_summary({.data_coverage = 0.75}, {}),
                testing::HasSubstr("coverage      75.0 % of the training examples drawn\n"));
}

TEST(HumanSummary, of_a_regression_without_a_folder) {
    EXPECT_THAT(human_summary({.loss = 0.125}, {}),
                testing::AllOf(testing::HasSubstr("test          loss 0.125\n"), testing::HasSubstr("0 B received"),
                               testing::Not(testing::HasSubstr("run folder"))));
}

} // namespace
} // namespace lategrad
