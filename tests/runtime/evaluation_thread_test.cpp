#include "lategrad/runtime/evaluation_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <optional>
#include <stdexcept>
#include <thread>

namespace lategrad {
namespace {

using testing::ElementsAre;

Snapshot snapshot(std::uint64_t version, Buffer params = {}) {
    return {.version = Version{version}, .params = std::move(params)};
}

/// Collects what was answered. Read it after finish().
struct Answers {
    std::vector<std::uint64_t> versions;
    void operator()(const Evaluation& evaluation) { versions.push_back(evaluation.version.value()); }
};

Evaluation evaluated(const Snapshot& of) {
    return {.version = of.version};
}

TEST(EvaluationThread, LetsOnlyTheNewestSnapshotWait) {
    Answers answers;
    std::promise<void> begun, released;
    EvaluationThread thread(
        EvaluationThread::When::beside, 2,
        [&](const Snapshot& of) {
            if (of.version == Version{1}) {
                begun.set_value();
                released.get_future().wait();
            }
            return evaluated(of);
        },
        std::ref(answers));
    thread.submit(snapshot(1));
    begun.get_future().wait();
    for (std::uint64_t version = 2; version <= 5; ++version) thread.submit(snapshot(version));
    released.set_value();
    thread.finish();
    EXPECT_THAT(answers.versions, ElementsAre(1, 5));
}

TEST(EvaluationThread, GivesUpWhatTakesTooLong) {
    Answers answers;
    EvaluationThread* of_test = nullptr;
    std::promise<void> known;
    EvaluationThread thread(
        EvaluationThread::When::after, 5,
        [&](const Snapshot& of) -> std::optional<Evaluation> {
            if (of.version == Version{1}) return evaluated(of);
            known.get_future().wait();
            while (!of_test->given_up()) std::this_thread::yield();
            return std::nullopt;
        },
        std::ref(answers));
    of_test = &thread;
    for (std::uint64_t version = 1; version <= 3; ++version) thread.submit(snapshot(version));
    known.set_value();
    thread.finish(Duration{1});
    EXPECT_THAT(answers.versions, testing::AnyOf(ElementsAre(1), ElementsAre()));
}

TEST(EvaluationThread, EvaluatesBesideTheRun) {
    std::promise<std::uint64_t> answer;
    EvaluationThread thread(EvaluationThread::When::beside, 2, evaluated,
                            [&](const Evaluation& of) { answer.set_value(of.version.value()); });
    thread.submit(snapshot(3));
    EXPECT_EQ(answer.get_future().get(), 3u); // without a finish()
    thread.finish();
}

TEST(EvaluationThread, EvaluatesNothingDuringARunItMustNotDisturb) {
    Answers answers;
    EvaluationThread thread(EvaluationThread::When::after, 10, evaluated, std::ref(answers));
    for (std::uint64_t version = 0; version < 5; ++version) thread.submit(snapshot(version));
    thread.finish();
    EXPECT_THAT(answers.versions, ElementsAre(0, 1, 2, 3, 4));
}

TEST(EvaluationThread, KeepsEvenlySpacedSnapshotsAndTheNewest) {
    for (std::size_t kept_max = 2; kept_max < 8; ++kept_max) {
        for (std::uint64_t count = 1; count < 70; ++count) {
            SCOPED_TRACE(testing::Message() << count << " snapshots, at most " << kept_max);
            Answers answers;
            BufferPool pool((kept_max + 1) * sizeof(float)); // those kept and one being handed over, or a failed CHECK
            {
                EvaluationThread thread(EvaluationThread::When::after, kept_max, evaluated, std::ref(answers));
                for (std::uint64_t version = 0; version < count; ++version) {
                    thread.submit(snapshot(version, pool.lease(sizeof(float))));
                }
                thread.finish();
            }
            const auto& kept = answers.versions;
            ASSERT_FALSE(kept.empty());
            EXPECT_EQ(kept.front(), 0u);
            EXPECT_EQ(kept.back(), count - 1);
            EXPECT_GE(2 * kept.size() + 1, std::min<std::size_t>(kept_max, count));
            for (std::size_t i = 2; i < kept.size(); ++i) {
                const auto last_gap = kept[i] - kept[i - 1];
                if (i + 1 < kept.size()) EXPECT_EQ(last_gap, kept[1]);
                else EXPECT_LE(last_gap, kept[1]);
            }
        }
    }
}

TEST(EvaluationThread, TellsWhatWentWrongAtTheEnd) {
    EvaluationThread thread(
        EvaluationThread::When::beside, 2,
        [](const Snapshot&) -> Evaluation { throw std::runtime_error("no test part"); }, [](const Evaluation&) {});
    thread.submit(snapshot(1));
    EXPECT_THROW(thread.finish(), std::runtime_error);
}

TEST(EvaluationThread, HoldsNoSnapshotItHasEvaluated) {
    BufferPool pool(sizeof(float));
    Buffer params = pool.lease(sizeof(float));
    EvaluationThread thread(EvaluationThread::When::beside, 2, evaluated, [](const Evaluation&) {});
    thread.submit(snapshot(1, params));
    thread.finish();
    EXPECT_TRUE(params.unique());
}

} // namespace
} // namespace lategrad
