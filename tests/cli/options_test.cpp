#include <gtest/gtest.h>

#include "cli/options.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

TEST(Options, AreReadBackAsTheyWereWritten) {
    RunOptions o;
    o.model = "mlp:3,4";
    o.data = "a \"quoted\"\n\tpath.safetensors";
    o.data_dir = "somewhere";
    o.partition = "dirichlet:0.3";
    o.workers = 7;
    o.wait_for = 3;
    o.cancel_late = true;
    o.policy = "backup";
    o.late_weight = "exp:0.1";
    o.normalize = "weights";
    o.staleness_max = 9;
    o.batch_size = 70;
    o.optimizer = "adamw";
    o.lr = 0.1 + 0.2;
    o.momentum = 0.5;
    o.nesterov = true;
    o.weight_decay = 1e-4;
    o.lr_schedule = "cosine+warmup:1";
    o.straggle = "slow:2,4";
    o.seed = 42;
    o.updates = 10;
    o.epochs = 2.5;
    o.time_limit = "90s";
    o.target_accuracy = 0.9;
    o.eval_every = 5;
    o.threads = 2;
    const TempDir dir;
    const std::string text = to_toml(o);
    EXPECT_EQ(to_toml(options_from_toml(dir.write("config.toml", text))), text);
}

TEST(Options, NameFilesFromAnywhere) {
    const TempDir dir;
    dir.write("trace.csv", "worker,step,seconds\n");
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(dir.path());
    RunOptions o;
    o.data = "arrays.safetensors";
    o.model = "net.pt";
    o.straggle = "trace:trace.csv";
    const RunOptions resolved = resolve(o).options;
    std::filesystem::current_path(before);
    const auto here = std::filesystem::canonical(dir.path());
    EXPECT_EQ(resolved.data, (here / "arrays.safetensors").string());
    EXPECT_EQ(resolved.model, (here / "net.pt").string());
    EXPECT_EQ(resolved.straggle, "trace:" + (here / "trace.csv").string());
}

TEST(Options, FillInWhatIsLeftOpen) {
    RunOptions o;
    o.workers = 8;
    EXPECT_EQ(resolve(o).options.wait_for, 6u);
    EXPECT_EQ(resolve(o).options.epochs, 5);
    o.workers = 1;
    EXPECT_EQ(resolve(o).options.wait_for, 1u);
    o.time_limit = "20";
    EXPECT_FALSE(resolve(o).options.epochs);
    EXPECT_EQ(resolve(o).time_limit, from_seconds(20));
}

} // namespace
} // namespace lategrad
