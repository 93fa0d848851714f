/// Wrong input ends with one clear line, exit status 2, and nothing overwritten.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/mount.h>
#include <unistd.h>

#include <fmt/format.h>

#include "tests/cli/program.h"
#include "tests/data/idx_files.h"

namespace lategrad {
namespace {

using testing::HasSubstr;

/// The program refuses these arguments with one line that says `says`.
void expect_refused(const std::vector<std::string>& arguments, const std::string& says) {
    std::string shown;
    for (const auto& argument : arguments) shown += argument + " ";
    SCOPED_TRACE(shown);
    const Ran ran = run_program(arguments);
    EXPECT_EQ(ran.status, 2);
    EXPECT_THAT(ran.err, HasSubstr(says));
    EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
    EXPECT_EQ(ran.out, "");
}

TEST(WrongInput, OptionValues) {
    const TempDir dir;
    const auto train = [&](std::vector<std::string> rest, const std::string& says) {
        std::vector<std::string> arguments = {"train", "--out", (dir / "run").string()};
        arguments.insert(arguments.end(), rest.begin(), rest.end());
        expect_refused(arguments, says);
        EXPECT_FALSE(std::filesystem::exists(dir / "run"));
    };
    train({"--model", "resnet"}, "--model resnet");
    train({"--policy", "hogwild"},
          "--policy hogwild: expected sync, backup, reuse, kasync, kbatch, async or ssp:BOUND");
    train({"--policy", "ssp:many"}, "--policy ssp:many");
    train({"--late-weight", "exp:-1"}, "--late-weight exp:-1");
    train({"--late-weight", "certified", "--curvature", "4,1"}, "--curvature 4,1: expected A,B");
    train({"--late-weight", "certified", "--curvature", "1,4", "--lr", "0.3"},
          "--lr 0.3: --late-weight certified needs at most 1/B, which is 0.25");
    train({"--late-weight", "certified", "--policy", "kasync"}, "--late-weight certified goes with --policy sync");
    train({"--normalize", "none"}, "--normalize none: expected workers, quorum or weights");
    train({"--optimizer", "lion"}, "lion");
    train({"--lr", "0"}, "--lr 0");
    train({"--lr", "fast"}, "--lr: fast: expected a number");
    train({"--momentum", "1.5"}, "momentum");
    train({"--lr-schedule", "cosine", "--time-limit", "1"}, "--lr-schedule cosine: needs an end");
    train({"--codec", "zip"}, "--codec zip: expected none; or fp16, ");
    train({"--codec", "topk:2"}, "--codec topk:2");
    train({"--codec", "bf16+zip"}, "--codec bf16+zip");
    train({"--codec", "dgc:0.01", "--momentum", "0.9", "--nesterov"}, "--nesterov: --codec dgc:0.01 has the momentum");
    train(
        {"--codec", "bf16+lz4", "--late-weight", "certified"},
        "--codec bf16+lz4: --late-weight certified holds for gradients and parameters as they are; take one that keeps "
        "every bit: none, lz4, zstd or blosc");
    train({"--publish-codec", "delta:lz4", "--codec", "zstd", "--late-weight", "certified"},
          "--publish-codec delta:lz4: --late-weight certified holds for");
    train({"--publish-codec", "signsgd"}, "--publish-codec signsgd");
    train({"--publish-codec", "delta:none"}, "--publish-codec delta:none: expected none, fp16, ");
    train({"--publish-codec", "delta:topk:"}, "--publish-codec delta:topk:: expected topk:R with R");
    train({"--straggle", "slow:9,4", "--workers", "8"}, "--straggle slow:9,4: there are only 8 workers");
    train({"--straggle", "exp:20"}, "--straggle");
    train({"--partition", "random"}, "--partition random");
    train({"--workers", "4", "--wait-for", "5"}, "--wait-for 5: there are only 4 workers");
    train({"--workers", "0"}, "--workers 0");
    train({"--workers", "-1"}, "--workers: -1: expected a whole number");
    train({"--wait-for", "0"}, "--wait-for: 0: expected 1 or more");
    train({"--wait-for", "two"}, "--wait-for: two: expected a whole number");
    train({"--seed", "99999999999999999999"},
          "--seed: 99999999999999999999: expected a whole number, 0 or more and below");
    train({"--threads", "100000"}, "--threads 100000: expected 1 to");
    train({"--batch-size", "1000000", "--workers", "2"},
          "--batch-size 1000000: worker 0 would take 500000 of the 30000");
    train({"--optimizer", "adam", "--momentum", "0.9"}, "--momentum 0.9: only for --optimizer sgd");
    train({"--workers", "8", "--batch-size", "4"}, "--batch-size 4: smaller than the 8 workers");
    train({"--cancel-late"}, "--cancel-late goes with --policy backup");
    train({"--device", "tpu"}, "--device tpu");
    train({"--time-limit", "soon"}, "--time-limit");
    train({"--updates", "-3"}, "--updates: -3: expected a whole number");
    train({"--epochs", "nan"}, "--epochs: nan: expected a number");
    train({"--epochs", "0"}, "--epochs 0: expected a number above 0");
    train({"--target-accuracy", "85"}, "--target-accuracy 85: expected a share");
    train({"--colour", "red"}, "--colour");
    expect_refused({"trian"}, "trian: there is no such command");
    expect_refused({"--verbos"}, "--verbos: there is no such option");
    train({"--wokers", "3"}, "--wokers: there is no such option");
    expect_refused({}, "subcommand");
    expect_refused({"compare", "--policies", "reuse@none"}, "--policies reuse@none");
    expect_refused({"compare", "--target-accuracy", "0.9"}, "--target-accuracy");
    expect_refused({"compare", "--updates", "9"}, "--updates");
    expect_refused({"compare", "--codecs", "none,zip"}, "--codecs zip");
    expect_refused({"compare", "--codecs", "none,none"}, "--codecs: none is there twice");
    expect_refused({"compare", "--codecs", "none", "--policies", "reuse,reuse"},
                   "--policies: reuse k=3 none is there twice");
    expect_refused({"compare", "--codecs", "none", "--codec", "bf16"}, "--codec: --codecs is given");
    expect_refused({"compare", "--policy", "sync"}, "--policies sync,backup,reuse");
    expect_refused({"compare", "--policies", "reuse,async@4"}, "--policies async@4: async has no quorum");
}

TEST(WrongInput, ElasticRuns) {
    const TempDir dir;
    expect_refused({"serve", "--listen", "tcp://0.0.0.0:0"}, "make keys (lategrad keys new DIR) and give --keys DIR");
    expect_refused({"serve", "--listen", "somewhere"}, "somewhere");
    expect_refused({"serve", "--keys", (dir / "absent").string()}, "absent");
    expect_refused({"work", "--connect", "somewhere"}, "somewhere: it should read tcp://HOST:PORT");
    expect_refused({"work", "--key", (dir / "absent").string()}, "absent");
    expect_refused({"work", "--key", dir.write("worker.key", "no key").string()}, "worker.key");
    expect_refused({"work", "--reconnect-for", "soon"}, "--reconnect-for soon");
    expect_refused({"work", "--heartbeat", "1m"}, "--heartbeat 1m: expected");
    const std::string keys = (dir / "keys").string();
    ASSERT_EQ(run_program({"keys", "new", keys}).status, 0);
    const std::string before = text_in(dir / "keys/server.key");
    EXPECT_NE(run_program({"keys", "new", keys}).status, 0) << "keys that are in use are not overwritten";
    EXPECT_EQ(text_in(dir / "keys/server.key"), before);
}

TEST(WrongInput, ConfigFile) {
    const TempDir dir;
    const auto config = [&](const std::string& text, const std::string& says) {
        expect_refused({"train", "--config", dir.write("c.toml", text).string()}, says);
    };
    config("lr = 0.1\nlearning-rate = 0.2\n", "c.toml:2: learning-rate: there is no such option");
    config("lr = \n", "c.toml:1");
    config("workers = [1, 2]\n", "c.toml:1: workers: expected");
    config("quiet = \"yes\"\n", "c.toml:1: quiet: expected true or false");
    dir.write("config.toml", "workers = \"four\"\n"); // a folder stands for the config.toml in it
    expect_refused({"train", "--config", dir.path().string()}, "--workers: four: expected a whole number");
    config("lr = true\n", "c.toml:1: lr: expected a value");
    expect_refused({"train", "--config", (dir / "absent.toml").string()}, "absent.toml");
}

TEST(WrongInput, DataFiles) {
    const TempDir dir;
    const auto data = [&](const std::string& name, const std::string& says) {
        expect_refused({"train", "--data", name, "--data-dir", dir.path().string()}, says);
    };
    expect_refused({"train", "--data", "imagenet"}, "imagenet");
    expect_refused({"train", "--data-dir", (dir / "absent").string()}, "absent: there is no such folder");
    expect_refused({"train", "--data", write_blobs(dir).string(), "--data-dir", dir.path().string()}, "--data-dir");
    expect_refused({"train", "--data", (dir / "absent.safetensors").string()}, "absent.safetensors");
    expect_refused({"train", "--data", dir.write("bad.safetensors", "no header").string()}, "bad.safetensors");
    data("mnist", "train-images-idx3-ubyte");
    dir.write("train-images-idx3-ubyte", "this is no IDX file");
    dir.write("train-labels-idx1-ubyte", idx_file({2}, bytes_of({1, 2})));
    data("mnist", "train-images-idx3-ubyte: offset 0: not an IDX file");
    dir.write("train-images-idx3-ubyte", idx_file({2, 2, 2}, bytes_of({1, 2, 3})));
    data("mnist", "train-images-idx3-ubyte: truncated");
    dir.write("train-images-idx3-ubyte", idx_file({3, 1, 1}, bytes_of({1, 2, 3})));
    data("mnist", "holds 3 images");
    dir.write("train-images-idx3-ubyte", idx_file({2, 1, 1}, bytes_of({1, 2})));
    dir.write("train-labels-idx1-ubyte", idx_file({2}, bytes_of({1, 11})));
    data("mnist", "label 11");
}

TEST(WrongInput, ModelFiles) {
    const TempDir dir;
    const std::string data = write_blobs(dir).string();
    expect_refused({"train", "--data", data, "--model", (dir / "absent.pt").string()}, "absent.pt");
    expect_refused({"train", "--data", data, "--model", dir.write("bad.pt", "no module").string()}, "bad.pt");
    expect_refused({"train", "--data", data, "--model", "lenet"}, "--model lenet");
    expect_refused({"train", "--data", data, "--model", "ridge"}, "--model ridge");
    expect_refused({"train", "--data", data, "--model", "mlp:20", "--late-weight", "certified"},
                   "the Hessian of --model mlp:20 has an eigenvalue of -");
}

TEST(WrongInput, AFolderThatHoldsARunStaysAsItIs) {
    const TempDir dir;
    const std::string out = (dir / "run").string();
    const std::vector<std::string> arguments = {
        "train", "--data", write_blobs(dir).string(), "--model", "logistic", "--out", out, "--updates", "3", "--quiet"};
    ASSERT_EQ(run_program(arguments).status, 0);
    const std::string before = text_in(dir / "run/events.jsonl") + text_in(dir / "run/weights.safetensors");
    expect_refused(arguments, "already holds a run");
    EXPECT_EQ(text_in(dir / "run/events.jsonl") + text_in(dir / "run/weights.safetensors"), before);

    expect_refused({"evaluate", out, "--model", "mlp:7"}, "weights.safetensors");
    expect_refused({"evaluate", (dir / "nowhere").string()}, "nowhere");
    expect_refused({"inspect", (dir / "nowhere").string()}, "nowhere");
    expect_refused({"inspect", std::string(300, 'x')}, "File name too long");
    expect_refused({"inspect", (dir / "run/config.toml").string()}, "not a safetensors file");
    std::filesystem::rename(dir / "run/weights.safetensors", dir / "alone.safetensors");
    expect_refused({"evaluate", out}, "the run did not end");
    expect_refused({"replay", out}, "the run did not end");
    expect_refused({"replay", dir.path().string()}, dir.path().string());
}

TEST(WrongInput, AFullDisk) {
    if (geteuid() != 0) GTEST_SKIP() << "mounting a small disk needs root";
    const TempDir dir;
    const auto disk = dir / "disk";
    std::filesystem::create_directory(disk);
    if (mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=128k") != 0)
        GTEST_SKIP() << "no permission to mount a small disk";
    expect_refused({"train", "--data", write_blobs(dir).string(), "--model", "mlp", "--out", (disk / "run").string()},
                   "free");
    EXPECT_TRUE(std::filesystem::is_empty(disk));
    umount(disk.c_str());
}

TEST(WrongInput, OfASimulation) {
    const TempDir dir;
    const auto simulate = [&](std::vector<std::string> rest, const std::string& says) {
        std::vector<std::string> arguments = {"simulate", "--out", (dir / "run").string()};
        arguments.insert(arguments.end(), rest.begin(), rest.end());
        expect_refused(arguments, says);
        EXPECT_FALSE(std::filesystem::exists(dir / "run"));
    };
    simulate({"--compute", "-5ms"}, "--compute -5ms: expected a time with a unit");
    simulate({"--compute", "20"}, "--compute 20: expected a time with a unit");
    simulate({"--compute-per-example", "x"}, "--compute-per-example x: expected a time");
    simulate({"--update-time", "-1s"}, "--update-time -1s: expected a time");
    simulate({"--link", "0Mbit"}, "--link 0Mbit: nothing would ever arrive");
    simulate({"--link", "0.1bit"}, "--link 0.1bit: nothing would ever arrive");
    simulate({"--link", "1Gbit,"}, "--link 1Gbit,: expected a time");
    const std::string still =
        "trace:" + dir.write("z.csv", "worker,step,seconds\n0,0,0\n1,0,0\n2,0,0\n3,0,0\n").string();
    for (const std::string& straggle :
         {std::string("none"), std::string("slow:1,4"), std::string("bimodal:0.5,2"), std::string("exp:0ms"),
          std::string("shifted-exp:0ms,0ms"), std::string("pareto:1,0ms"), still}) {
        simulate({"--compute", "0ms", "--straggle", straggle, "--time-limit", "1"}, "--compute 0: time would not pass");
    }
    simulate({"--link", "1GB"}, "--link 1GB: expected bits per second with a unit");
    simulate({"--link", "1Gbit,-2ms"},
             "--link 1Gbit,-2ms: expected a time with a unit, up to 1e9 s, as in 20ms, 1.5s, 2m or 100us, not '-2ms'");
    simulate({"--server-link", "1e299Gbit", "--servers", "1024"}, "--server-link 1e299Gbit: expected 1e9Gbit at most");
    simulate({"--server-link", "fast"}, "--server-link fast: expected bits per second");
    simulate({"--servers", "0"}, "--servers 0: expected 1 to 1024");
    simulate({"--servers", "4000000"}, "--servers 4000000: expected 1 to 1024");
    simulate({"--payload", "4MB"}, "--payload: goes with --gradients none");
    simulate({"--gradients", "none", "--payload", "4"}, "--payload 4: expected a size");
    simulate({"--gradients", "none", "--payload", "2GiB"}, "--payload 2GiB: expected a size from 4B to 1GiB");
    simulate({"--gradients", "some"}, "--gradients some: expected real or none");
    simulate({"--gradients", "none", "--epochs", "2"}, "--epochs: --gradients none learns nothing");
    simulate({"--gradients", "none", "--target-accuracy", "0.5"}, "--target-accuracy: --gradients none");
    simulate({"--gradients", "none", "--workers", "1000"}, "--batch-size 256: smaller than the 1000 workers");
    simulate({"--failures", "mtbf:60s"}, "--failures mtbf:60s: expected none, mtbf:MEAN,rejoin:TIME");
    simulate({"--failures", "script:" + dir.write("f.csv", "seconds,worker,event\n1,7,leave\n").string()},
             "names worker 7, but there are only 4");
    simulate({"--failures", "script:" + dir.write("g.csv", "seconds,worker\n1,7\n").string()},
             "g.csv:1: no column event");
    simulate({"--straggle", "trace:" + dir.write("t.csv", "worker,step,seconds\n9,0,1\n").string()},
             "there are only 4 workers");
    simulate(
        {"--straggle", "trace:" + dir.write("u.csv", "worker,step,seconds\n0,0,1\n2,0,1\n").string(), "--workers", "3"},
        "u.csv: has no line for worker 1; each of the 3 workers needs one");
    simulate({"--log", "everything"}, "--log everything: expected events or summary");
    simulate({"--jobs", "-1"}, "--jobs");
    simulate({"--jobs", "5000"}, "--jobs 5000: expected 1 to 1024");
    simulate({"--failures", "mtbf:1ms,rejoin:0s"}, "less than a tenth of the 0.02 s that a gradient takes");
    simulate({"--failures", "script:" + dir.write("h.csv", "seconds,worker,event\n1,1,join\n").string()},
             "at 1 s worker 1 joins and is there");
    simulate({"--failures", "script:" + dir.write("i.csv", "seconds,worker,event\n1,1,leave\n2,1,leave\n").string()},
             "at 2 s worker 1 leaves and has left before");
    simulate({"--time-limit", ""}, "--time-limit: expected a value, and it is empty");
    simulate({"--link="}, "--link=: expected a value, and it is empty");
    expect_refused({"train", "--compute", "5ms", "--out", (dir / "run").string()}, "--compute: real gradients take");
    const std::string config = dir.write("c.toml", "workers = 4\n[simulate]\nlinks = \"1Gbit\"\n").string();
    simulate({"--config", config}, "c.toml:3: links: there is no such option");
    const std::string table = dir.write("d.toml", "workers = 4\n[cluster]\nlink = \"1Gbit\"\n").string();
    simulate({"--config", table}, "d.toml:2: cluster: there is no command of that name with options of its own");
}

TEST(WrongInput, IsSaidByTheFirstTaskOfSrunAlone) {
    const std::vector<std::string> wrong = {"train", "--polcy", "sync"};
    const Ran first = run_program(wrong, "env SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=2");
    EXPECT_EQ(first.status, 2);
    EXPECT_THAT(first.err, HasSubstr("lategrad: --polcy: there is no such option"));
    // srun does not end the others: they would say it too.
    const Ran second = run_program(wrong, "env SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2");
    EXPECT_EQ(second.status, 2);
    EXPECT_EQ(second.err, "");
}

} // namespace
} // namespace lategrad
