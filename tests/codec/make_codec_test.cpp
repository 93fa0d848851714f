#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"
#include "tests/codec/coding.h"

namespace lategrad {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

/// What make_codec says of a spec that it does not take; empty where it takes it.
std::string refusal(std::string_view spec) {
    try {
        make_codec(spec, setup_of(100));
        return {};
    } catch (const InputError& error) {
        return error.what();
    }
}

TEST(MakeCodec, IsCalledAsItWasAskedFor) {
    for (const char* spec :
         {"none",         "fp16",       "bf16",        "lz4",         "zstd",         "zstd:1",       "zstd:22",
          "zstd:-5",      "blosc",      "topk:0.01",   "topk:1",      "topk:1e-3",    "dgc:0.001",    "dgc:0.001,2",
          "dgc:1,1e-3",   "randk:0.05", "qsgd:2",      "qsgd:8",      "terngrad",     "signsgd",      "lowrank:1",
          "lowrank:1024", "bf16+lz4",   "fp16+zstd:9", "qsgd:8+zstd", "dgc:0.01+lz4", "signsgd+blosc"}) {
        EXPECT_EQ(make_codec(spec, setup_of(100))->name(), spec);
    }
}

TEST(MakeCodec, NamesWhatThereIs) {
    const std::string forms =
        "none; or fp16, bf16, topk:R, dgc:R[,CLIP], randk:R, qsgd:BITS, terngrad, signsgd or lowrank:RANK, each with "
        "+lz4, +zstd[:LEVEL] or +blosc behind it; or one of these three alone";
    for (const std::string spec : {"zip", "", "+lz4", "none+lz4", "fp16:3", "bf16 ", "BF16", "terngrad:", "signsgd:1",
                                   "lz4+zstd", "none:1", "lz4:1", "zip+zip", "lz4+zip"}) {
        EXPECT_EQ(refusal(spec), "--codec " + spec + ": expected " + forms);
    }
}

TEST(MakeCodec, TakesOnlyALosslessStageBehindThePlus) {
    for (const std::string spec : {"bf16+topk:0.1", "bf16+", "fp16+none", "topk:0.1+lz4+zstd", "bf16+lz4:3"}) {
        EXPECT_EQ(refusal(spec), "--codec " + spec + ": expected lz4, zstd[:LEVEL] or blosc behind the +");
    }
}

TEST(MakeCodec, SaysWhichSharesThereAre) {
    for (const std::string rule : {"topk", "randk", "dgc"}) {
        for (const std::string share : {"", ":", ":0", ":-0.1", ":1.5", ":0.01x", ":nan", ":inf", ": 0.1", ":0.1 "}) {
            EXPECT_THAT(refusal(rule + share), HasSubstr(": expected " + rule + ":R"));
            EXPECT_THAT(refusal(rule + share), HasSubstr("above 0 and at most 1, as in " + rule + ":0.0"));
        }
    }
    for (const std::string spec : {"dgc:0.1,", "dgc:0.1,0", "dgc:0.1,-1", "dgc:0.1,2x", "dgc:0.1,2,3"}) {
        EXPECT_THAT(refusal(spec), StartsWith("--codec " + spec + ": expected dgc:R,CLIP with CLIP"));
    }
    EXPECT_THAT(refusal("topk:0.1,2"), HasSubstr("expected topk:R"));
}

TEST(MakeCodec, SaysWhichNumbersThereAre) {
    for (const std::string spec :
         {"qsgd", "qsgd:", "qsgd:1", "qsgd:9", "qsgd:-2", "qsgd:8x", "qsgd:2.5", "qsgd:99999999999"}) {
        EXPECT_EQ(refusal(spec), "--codec " + spec + ": expected qsgd:BITS with BITS from 2 to 8, as in qsgd:8");
    }
    for (const std::string spec : {"lowrank", "lowrank:0", "lowrank:1025", "lowrank:-1", "lowrank:2x"}) {
        EXPECT_EQ(refusal(spec),
                  "--codec " + spec + ": expected lowrank:RANK with RANK from 1 to 1024, as in lowrank:4");
    }
    for (const std::string stage : {"zstd:", "zstd:0", "zstd:99", "zstd:3x", "zstd:-999999999"}) {
        for (const std::string& spec : {stage, "bf16+" + stage}) {
            EXPECT_EQ(refusal(spec),
                      "--codec " + spec + ": expected zstd:LEVEL with LEVEL from 1 to 22, or below 0 to go faster");
        }
    }
}

} // namespace
} // namespace lategrad
