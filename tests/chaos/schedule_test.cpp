#include "tests/chaos/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "lategrad/core/error.h"

namespace lategrad::chaos {
namespace {

using namespace std::chrono_literals;

ScheduleOptions all_kinds(std::uint64_t seed) {
    return {.length = 10min,
            .calm = 10s,
            .seed = seed,
            .kinds = {Kind::kill, Kind::stop, Kind::join, Kind::corrupt, Kind::cut, Kind::server}};
}

TEST(Schedule, IsTheSameForTheSameSeed) {
    const auto schedule = make_schedule(all_kinds(7));
    EXPECT_GT(schedule.size(), 200u);
    EXPECT_EQ(schedule, make_schedule(all_kinds(7)));
    EXPECT_NE(schedule, make_schedule(all_kinds(8)));
}

TEST(Schedule, DoesNotMoveAKindForTheSakeOfAnother) {
    ScheduleOptions options = all_kinds(7);
    std::vector<Disturbance> kills = make_schedule(options);
    std::erase_if(kills, [](const Disturbance& disturbance) { return disturbance.kind != Kind::kill; });
    options.kinds = {Kind::kill};
    EXPECT_EQ(make_schedule(options), kills);
}

TEST(Schedule, HasOneKillInEveryInterval) {
    ScheduleOptions options = all_kinds(3);
    options.kinds = {Kind::kill};
    options.kill_every = 5s;
    const auto kills = make_schedule(options);
    ASSERT_EQ(kills.size(), 118u); // 590 s
    for (std::size_t i = 0; i < kills.size(); ++i) {
        EXPECT_EQ(kills[i].at / Duration(5s), static_cast<std::int64_t>(i));
    }
}

TEST(Schedule, IsOverBeforeTheCalm) {
    const auto schedule = make_schedule(all_kinds(5));
    EXPECT_TRUE(std::ranges::is_sorted(schedule, {}, &Disturbance::at));
    for (const Disturbance& disturbance : schedule) {
        EXPECT_LE(disturbance.at + disturbance.lasts, Duration(590s));
        if (disturbance.kind == Kind::stop) {
            EXPECT_GE(disturbance.lasts, Duration(200ms));
            EXPECT_LE(disturbance.lasts, Duration(15s));
        }
        if (disturbance.kind == Kind::cut) {
            EXPECT_GE(disturbance.lasts, Duration(1s));
            EXPECT_LE(disturbance.lasts, Duration(10s));
        }
    }
}

TEST(Schedule, ReadsItsKinds) {
    EXPECT_EQ(parse_kinds("kill, server"), (std::set<Kind>{Kind::kill, Kind::server}));
    EXPECT_THROW(parse_kinds("kill,maim"), InputError);
    EXPECT_THROW(parse_kinds(""), InputError);
}

TEST(Schedule, IsReadable) {
    EXPECT_EQ(to_string({.at = 12300ms, .kind = Kind::stop, .pick = 12, .lasts = 2100ms}, 8),
              "  12.30 s: stop worker 4 for 2.10 s");
}

} // namespace
} // namespace lategrad::chaos
