#include <gtest/gtest.h>

#include <fmt/format.h>

#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/theory/multi_step.h"
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
    o.curvature = "0.5,8";
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

TEST(Options, CertifyByTheConditionOfTheTheory) {
    for (const double b : {1.0, 10.0, 1e4}) {
        LateWeight weight;
        weight.certify(1, b);
        EXPECT_EQ(weight.late_share, certified_late_share({.a = 1, .b = b}));
    }
}

TEST(Options, GiveTheMomentumToTheCodecThatHasIt) {
    RunOptions o;
    o.momentum = 0.9;
    o.codec = "topk:0.1";
    EXPECT_EQ(resolve(o).optimizer.momentum, 0.9);
    EXPECT_EQ(resolve(o).codec_momentum, 0);
    o.codec = "dgc:0.1";
    EXPECT_EQ(resolve(o).optimizer.momentum, 0) << "it would count twice";
    EXPECT_EQ(resolve(o).codec_momentum, 0.9);
    o.nesterov = true;
    EXPECT_THROW(resolve(o), InputError);
}

TEST(Options, PutTogetherACodecThatHasACommaInIt) {
    EXPECT_EQ(codec_list({"none", "dgc:0.01", "2", "qsgd:4", "dgc:0.1", "bf16"}),
              (std::vector<std::string>{"none", "dgc:0.01,2", "qsgd:4", "dgc:0.1", "bf16"}));
    EXPECT_EQ(codec_list({"dgc:0.01", "2+lz4", "dgc:0.1+lz4", "3"}),
              (std::vector<std::string>{"dgc:0.01,2+lz4", "dgc:0.1+lz4", "3"}));
    EXPECT_EQ(codec_list({"7", "none", "8"}), (std::vector<std::string>{"7", "none", "8"})) << "to be refused";
}

TEST(Options, NameFilesFromAnywhere) {
    const TempDir dir;
    dir.write("trace.csv", "worker,step,seconds\n0,0,1\n1,0,1\n2,0,1\n3,0,1\n");
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

TEST(Options, CertifiedTakesBoundsOfTheCurvatureAndPlainSgd) {
    const auto message = [](const RunOptions& o) -> std::string {
        try {
            resolve(o);
            return "";
        } catch (const InputError& error) {
            return error.what();
        }
    };
    RunOptions certified;
    certified.late_weight = "certified";
    certified.lr = 0.25;
    EXPECT_FALSE(resolve(certified).curvature) << "to be estimated";
    certified.curvature = "1,4";
    EXPECT_EQ(resolve(certified).policy.late_weight.late_share, 0.125);

    for (const char* bounds : {"4", "4,1", "0,4", "-1,4", "1,4,9", "1,inf", ","}) {
        RunOptions o = certified;
        o.curvature = bounds;
        EXPECT_EQ(message(o), fmt::format("--curvature {}: expected A,B, the bounds of the Hessian's eigenvalues, "
                                          "0 < A <= B",
                                          bounds));
    }
    RunOptions o = certified;
    o.late_weight = "one";
    EXPECT_EQ(message(o), "--curvature 1,4: only for --late-weight certified");
    o = certified;
    o.momentum = 0.9;
    EXPECT_EQ(message(o), "--momentum 0.9: --late-weight certified holds for plain sgd alone; set it to 0");
    o = certified;
    o.optimizer = "adam";
    EXPECT_EQ(message(o), "--optimizer adam: --late-weight certified holds for plain sgd alone");
    o = certified;
    o.lr_schedule = "step:1,2";
    EXPECT_EQ(message(o), "--lr-schedule step:1,2: rises above --lr, which --late-weight certified bounds");
    o.lr_schedule = "step:1,0.5+warmup:1";
    EXPECT_EQ(message(o), "");
}

} // namespace
} // namespace lategrad
