#include "lategrad/telemetry/table.h"

#include <gtest/gtest.h>

namespace lategrad {
namespace {

TEST(Table, aligns_its_columns) {
    Table table({{"policy", Align::left}, {"updates"}, {"note", Align::left}});
    table.add_row({"reuse", "12", "±1"});
    table.add_row({"ssp:BOUND", "12345678", ""});
    EXPECT_EQ(table.text(), "policy      updates  note\n"
                            "---------  --------  ----\n"
                            "reuse            12  ±1\n"
                            "ssp:BOUND  12345678\n");
}

TEST(Table, counts_characters_rather_than_bytes) {
    Table table({{"a", Align::left}, {"b"}});
    table.add_row({"±±", "x"});
    table.add_row({"ab", "y"});
    EXPECT_EQ(table.text(), "a   b\n"
                            "--  -\n"
                            "±±  x\n"
                            "ab  y\n");
}

} // namespace
} // namespace lategrad
