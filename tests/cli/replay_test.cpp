/// lategrad replay: the same bits again, or what differs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/files/file.h"
#include "tests/cli/small_run.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

TEST(Replay, ReproducesARunOfEightWorkersInThreads) {
    const TempDir dir;
    const std::string run = (dir / "run").string();
    const json summary = summary_of(run_program(small_run(
        dir, "run", {"--workers", "8", "--straggle", "exp:2ms", "--momentum", "0.9", "--late-weight", "inverse"})));
    EXPECT_GT(summary["late_applied"], 0);
    const Ran replayed = run_program({"replay", run});
    EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    EXPECT_THAT(replayed.out, HasSubstr("the same, bit for bit"));

    // Other weights are found out.
    const std::string weights = text_in(dir / "run/weights.safetensors");
    std::string changed = weights;
    changed.back() = static_cast<char>(changed.back() ^ 1);
    write_file_atomically(dir / "run/weights.safetensors", changed);
    const Ran differs = run_program({"replay", run});
    EXPECT_EQ(differs.status, 1);
    EXPECT_THAT(differs.out, HasSubstr("1 of "));

    // Other data, or another build or machine, is refused, with the difference named.
    std::string data = text_in(dir / "blobs.safetensors");
    data[data.size() - 400 * 8 - 1] ^= 1; // the last of x
    write_file_atomically(dir / "blobs.safetensors", data);
    const Ran other_data = run_program({"replay", run});
    EXPECT_EQ(other_data.status, 2);
    EXPECT_THAT(other_data.err, HasSubstr("training data: "));
    write_blobs(dir);
    json fingerprint = json::parse(text_in(dir / "run/fingerprint.json"));
    fingerprint.begin().value() = "something else";
    write_file_atomically(dir / "run/fingerprint.json", fingerprint.dump());
    const Ran refused = run_program({"replay", run});
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, HasSubstr("something else"));
}

TEST(Replay, ReproducesEveryPolicyOptimizerAndSchedule) {
    const TempDir dir;
    const std::vector<std::vector<std::string>> variants = {
        {"--policy", "sync", "--lr-schedule", "step:1,0.5", "--momentum", "0.9", "--nesterov"},
        {"--policy", "backup", "--wait-for", "2", "--cancel-late", "--weight-decay", "0.01"},
        {"--policy", "kasync", "--optimizer", "adamw", "--lr", "0.01", "--lr-schedule", "cosine+warmup:1"},
        {"--policy", "async", "--optimizer", "adam", "--lr", "0.01", "--late-weight", "sqrt"},
        {"--policy", "ssp:1", "--late-weight", "span"},
        {"--policy", "reuse", "--normalize", "weights", "--staleness-max", "1", "--partition", "dirichlet:0.3"}};
    for (std::size_t i = 0; i < variants.size(); ++i) {
        const std::string name = "run-" + std::to_string(i);
        SCOPED_TRACE(testing::PrintToString(variants[i]));
        auto arguments = small_run(dir, name, {"--straggle", "exp:2ms"});
        arguments.insert(arguments.end(), variants[i].begin(), variants[i].end());
        summary_of(run_program(arguments));
        const Ran replayed = run_program({"replay", (dir / name).string()});
        EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    }
}

/// What an encoder left out, and what came back to it, is recorded by what arrived.
TEST(Replay, ReproducesEveryCodecWhateverBecameOfItsGradients) {
    const TempDir dir;
    const std::vector<std::vector<std::string>> variants = {
        {"--codec", "topk:0.05", "--staleness-max", "0", "--lr-schedule", "step:1,0.5"},
        {"--codec", "signsgd+zstd", "--policy", "backup", "--wait-for", "2", "--cancel-late"},
        {"--codec", "dgc:0.01", "--momentum", "0.9", "--policy", "kbatch", "--lr-schedule", "constant+warmup:1"},
        {"--codec", "lowrank:2", "--policy", "async", "--staleness-max", "1"},
        {"--codec", "randk:0.1", "--policy", "ssp:1", "--publish-codec", "delta:topk:0.1"},
        {"--codec", "qsgd:4", "--publish-codec", "fp16"},
        {"--codec", "bf16+lz4", "--policy", "kasync", "--publish-codec", "delta:qsgd:8"},
        {"--codec", "terngrad", "--optimizer", "adam", "--lr", "0.01", "--publish-codec", "bf16+zstd"}};
    for (std::size_t i = 0; i < variants.size(); ++i) {
        const std::string name = "run-" + std::to_string(i);
        SCOPED_TRACE(testing::PrintToString(variants[i]));
        auto arguments = small_run(dir, name, {"--straggle", "exp:2ms"});
        arguments.insert(arguments.end(), variants[i].begin(), variants[i].end());
        summary_of(run_program(arguments));
        const Ran replayed = run_program({"replay", (dir / name).string()});
        EXPECT_EQ(replayed.status, 0) << replayed.out << replayed.err;
    }
}

} // namespace
} // namespace lategrad
