#include "lategrad/codec/change_history.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace lategrad {
namespace {

RC_GTEST_PROP(ChangeHistory, KeepsTheNewestThatFit, ()) {
    const auto words_max = *rc::gen::inRange<std::size_t>(1, 60);
    ChangeHistory history(words_max);
    const std::uint64_t oldest = *rc::gen::inRange<std::uint64_t>(0, 5);
    history.clear(Version{oldest});
    std::vector<std::vector<std::uint32_t>> model;
    std::uint32_t next = 0;
    for (const auto size : *rc::gen::container<std::vector<std::size_t>>(rc::gen::inRange<std::size_t>(0, 25))) {
        std::vector<std::uint32_t> words(size);
        for (auto& word : words) word = next++;
        const auto head = std::span<const std::uint32_t>(words).first(size / 3);
        history.add(head, std::span<const std::uint32_t>(words).subspan(size / 3));
        model.push_back(words);
        std::vector<std::uint32_t> expected;
        const Version newest{oldest + model.size()};
        RC_ASSERT(history.reaches(newest));
        RC_ASSERT(!history.reaches(newest.next()));
        for (std::size_t i = model.size(); i-- > 0;) {
            expected.insert(expected.begin(), model[i].begin(), model[i].end());
            const Version from{oldest + i};
            RC_ASSERT(history.reaches(from) == (expected.size() <= words_max));
            if (!history.reaches(from)) break;
            std::vector<std::uint32_t> copied(history.words(from, newest));
            history.copy(from, newest, copied);
            RC_ASSERT(copied == expected);
        }
    }
}

TEST(ChangeHistory, KeepsSoManyVersionsAtMost) {
    ChangeHistory history(8);
    for (std::size_t i = 0; i < 3 * ChangeHistory::kVersionsMax; ++i) history.add({}, {});
    EXPECT_TRUE(history.reaches(Version{3 * ChangeHistory::kVersionsMax}));
    EXPECT_TRUE(history.reaches(Version{2 * ChangeHistory::kVersionsMax + 1}));
    EXPECT_FALSE(history.reaches(Version{2 * ChangeHistory::kVersionsMax - 1}));
}

} // namespace
} // namespace lategrad
