#include "lategrad/core/quantity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using namespace std::chrono_literals;
using testing::EndsWith;

TEST(Quantity, IsANumberWithAUnit) {
    EXPECT_EQ(parse_quantity("1.5kB", {{"B", 1}, {"kB", 1000}}), 1500);
    EXPECT_EQ(parse_quantity("0B", {{"B", 1}}), 0);
    for (const char* text : {"", "B", "1", "1MB", "-1B", "1 B", "1BB", "nanB", "infB", "1e3"}) {
        EXPECT_EQ(parse_quantity(text, {{"B", 1}, {"kB", 1000}}), std::nullopt) << text;
    }
}

TEST(ParseDuration, Units) {
    EXPECT_EQ(parse_duration("20ms", "--x"), 20ms);
    EXPECT_EQ(parse_duration("1.5s", "--x"), 1500ms);
    EXPECT_EQ(parse_duration("2m", "--x"), 2min);
    EXPECT_EQ(parse_duration("1h", "--x"), 1h);
    EXPECT_EQ(parse_duration("100us", "--x"), 100us);
    EXPECT_EQ(parse_duration("0s", "--x"), 0s);
    EXPECT_EQ(parse_duration("90", "--x", true), 90s);
    EXPECT_EQ(parse_duration("2m", "--x", true), 2min);
}

TEST(ParseDuration, ErrorsNameTheOptionAndItsWholeValue) {
    for (const char* text :
         {"", "20", "ms", "-1s", "1 s", "1e99s", "infs", "nans", "1d", "1sx", "1..5s", "2000000000s"})
        EXPECT_EQ(message_of([&] { parse_duration(text, "--heartbeat"); }),
                  "--heartbeat " + std::string(text) +
                      ": expected a time with a unit, up to 1e9 s, as in 20ms, 1.5s, 2m or 100us");
    EXPECT_THAT(message_of([] { parse_duration("-1", "--time-limit", true); }), EndsWith("as in 90, 20ms or 2m"));
    EXPECT_EQ(message_of([] { parse_duration("1", "--link", false, "1Gbit,1"); }),
              "--link 1Gbit,1: expected a time with a unit, up to 1e9 s, as in 20ms, 1.5s, 2m or 100us, not '1'");
}

} // namespace
} // namespace lategrad
