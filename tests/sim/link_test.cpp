#include "lategrad/sim/link.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {
namespace {

Time after(double s) {
    return Time{from_seconds(s)};
}

/// The workers whose transfers end, with their times, until the link is idle.
std::vector<std::pair<std::uint32_t, double>> drain(SharedLink& link) {
    std::vector<std::pair<std::uint32_t, double>> ended;
    while (const auto at = link.next_end()) {
        while (const auto worker = link.take_ended(*at)) ended.emplace_back(*worker, seconds(*at));
    }
    return ended;
}

void expect_ends(const std::vector<std::pair<std::uint32_t, double>>& ended,
                 const std::vector<std::pair<std::uint32_t, double>>& expected) {
    ASSERT_EQ(ended.size(), expected.size());
    for (std::size_t i = 0; i < ended.size(); ++i) {
        EXPECT_EQ(ended[i].first, expected[i].first);
        EXPECT_NEAR(ended[i].second, expected[i].second, 2e-9);
    }
}

// By hand, in bytes and bytes per second.

TEST(SharedLink, GivesOneTransferItsWorkersRate) {
    SharedLink link(100, 1000);
    link.start(after(1), 0, 50);
    expect_ends(drain(link), {{0, 1.5}});
}

TEST(SharedLink, SharesTheServersRateEqually) {
    SharedLink link(100, 100);
    link.start(after(0), 0, 100); // two at 50: the shorter is done at 1 s, the longer has 50 left and goes on at 100
    link.start(after(0), 1, 50);
    expect_ends(drain(link), {{1, 1.0}, {0, 1.5}});
    EXPECT_NEAR(link.bytes_moved(), 150, 1e-6);
}

TEST(SharedLink, SharesAnewWhenOneJoins) {
    SharedLink link(100, 100);
    link.start(after(0), 0, 100);   // alone until 0.5 s: 50 left, then at 50: done at 1.5 s
    link.start(after(0.5), 1, 100); // 50 by then, then alone: done at 2 s
    expect_ends(drain(link), {{0, 1.5}, {1, 2.0}});
}

TEST(SharedLink, LeavesAServerFasterThanItsWorkersIdle) {
    SharedLink link(100, 250); // two at 100 each; three at 83.3
    link.start(after(0), 0, 100);
    link.start(after(0), 1, 100);
    expect_ends(drain(link), {{0, 1.0}, {1, 1.0}});
    for (std::uint32_t worker = 0; worker < 3; ++worker) link.start(after(2), worker, 250.0 / 3);
    expect_ends(drain(link), {{0, 3.0}, {1, 3.0}, {2, 3.0}});
}

TEST(SharedLink, GivesTheShareOfACutTransferToTheOthers) {
    SharedLink link(100, 100);
    link.start(after(0), 0, 100);
    link.start(after(0), 1, 100);
    link.cut(after(1), 0); // 50 of each are through
    expect_ends(drain(link), {{1, 1.5}});
    link.start(after(3), 0, 100); // the one that was cut may begin anew
    expect_ends(drain(link), {{0, 4.0}});
}

TEST(SharedLink, EqualsASlowTwin) {
    // The twin walks from change to change and moves every transfer by its share.
    constexpr double kOwn = 3e6;
    constexpr double kTotal = 1e7;
    RandomStream random(1, Purpose::test);
    struct Begin {
        double at;
        std::uint32_t worker;
        double bytes;
    };
    std::vector<Begin> begins;
    for (std::uint32_t worker = 0; worker < 40; ++worker) {
        begins.push_back({1e-3 * static_cast<double>(random.below(1000)), worker, 1e3 + random.uniform() * 1e6});
    }
    std::sort(begins.begin(), begins.end(), [](const Begin& a, const Begin& b) { return a.at < b.at; });

    std::map<std::uint32_t, double> expected;
    std::map<std::uint32_t, double> left;
    double now = 0;
    for (std::size_t i = 0; i < begins.size() || !left.empty();) {
        const double rate = left.empty() ? 0 : std::min(kOwn, kTotal / static_cast<double>(left.size()));
        double next = i < begins.size() ? begins[i].at : 1e18;
        for (const auto& [worker, bytes] : left) next = std::min(next, now + bytes / rate);
        for (auto it = left.begin(); it != left.end();) {
            it->second -= rate * (next - now);
            if (it->second < 1e-3) expected[it->first] = next;
            it = it->second < 1e-3 ? left.erase(it) : std::next(it);
        }
        now = next;
        for (; i < begins.size() && begins[i].at <= now; ++i) left[begins[i].worker] = begins[i].bytes;
    }

    SharedLink link(kOwn, kTotal);
    std::map<std::uint32_t, double> ended;
    for (const Begin& begin : begins) {
        for (auto at = link.next_end(); at && *at <= after(begin.at); at = link.next_end()) {
            while (const auto worker = link.take_ended(*at)) ended[*worker] = seconds(*at);
        }
        link.start(after(begin.at), begin.worker, begin.bytes);
    }
    for (const auto& [worker, at] : drain(link)) ended[worker] = at;
    ASSERT_EQ(ended.size(), expected.size());
    for (const auto& [worker, at] : expected) EXPECT_NEAR(ended[worker], at, 1e-6) << worker;
}

TEST(LinkOptions, ReadRatesAndLatencies) {
    LinkOptions links;
    EXPECT_TRUE(links.unlimited());
    links.parse_link("1Gbit,100us");
    EXPECT_EQ(links.worker_rate, 125e6);
    EXPECT_EQ(links.server_rate, 125e6); // as its workers', where nothing else is said
    EXPECT_EQ(links.latency, std::chrono::microseconds(100));
    links.parse_server_link("10Gbit");
    EXPECT_EQ(links.server_rate, 1.25e9);
    links.parse_link("unlimited,2ms");
    EXPECT_TRUE(links.unlimited());
    EXPECT_EQ(links.latency, std::chrono::milliseconds(2));
}

TEST(LinkOptions, RefuseWhatIsNoLink) {
    for (const char* spec : {"", "1", "1GB", "-1Gbit", "0Gbit", "nan", "1Gbit,", "1Gbit,-1ms", "1Gbit,100", "Gbit"}) {
        LinkOptions links;
        EXPECT_THROW(links.parse_link(spec), InputError) << spec;
    }
    EXPECT_THROW(LinkOptions().parse_server_link("0bit"), InputError);
}

} // namespace
} // namespace lategrad
