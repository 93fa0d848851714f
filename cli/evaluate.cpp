/// lategrad evaluate: loss and accuracy of a run's weights, or of a weights file, on the test part.
#include <cmath>
#include <filesystem>
#include <memory>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "lategrad/core/error.h"
#include "lategrad/files/safetensors.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/torch/evaluator.h"
#include "lategrad/torch/weights.h"

namespace lategrad {
namespace {

struct EvaluateOptions {
    std::string path;
    std::string model;
    std::string data;
    std::string data_dir;
    std::optional<std::uint64_t> seed;
    int threads = 1;
    bool json = false;
};

int evaluate(const EvaluateOptions& given) {
    const std::filesystem::path path = given.path;
    const bool folder = std::filesystem::is_directory(path);
    const auto weights = folder ? weights_of_run(path) : path;
    // What the weights belong to: the folder's options, or those of the command line over the defaults.
    RunOptions options;
    const auto config = (folder ? path : path.parent_path()) / "config.toml";
    if (std::filesystem::exists(config)) {
        options = options_from_toml(config);
    } else {
        const auto metadata = SafetensorsFile(weights).metadata();
        if (const auto model = metadata.find("model"); model != metadata.end()) options.model = model->second;
    }
    if (!given.model.empty()) options.model = given.model;
    if (!given.data.empty()) {
        options.data = given.data;
        options.data_dir.clear(); // that of the run's own data
    }
    if (!given.data_dir.empty()) {
        options.data_dir = given.data_dir;
        if (given.data.empty() && !is_named_data_set(options.data)) options.data.clear();
    }
    if (given.seed) options.seed = *given.seed;
    settle_paths(options);

    const DataSplit data = load_data({.data = options.data, .data_dir = options.data_dir, .seed = options.seed});
    const auto spec = ModelSpec::parse(options.model);
    const auto model = make_model(spec, *data.train, options.seed);
    const auto parameters = load_weights(weights, *model);
    TorchEvaluator evaluator(spec, *data.train, given.threads);
    const auto score = evaluator.evaluate(parameters, *data.test);
    if (given.json) {
        fmt::print("{{\"loss\": {}, \"accuracy\": {}, \"examples\": {}}}\n",
                   std::isfinite(score.loss) ? fmt::format("{}", score.loss) : "null",
                   score.accuracy ? fmt::format("{}", *score.accuracy) : "null", data.test->size());
    } else {
        fmt::print("{} on {} ({} test examples): ", weights.string(), data.name, data.test->size());
        if (score.accuracy) fmt::print("accuracy {:.4f}, ", *score.accuracy);
        fmt::print("loss {:.4f}\n", score.loss);
    }
    return 0;
}

} // namespace

void add_evaluate(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<EvaluateOptions>();
    CLI::App* command = program.add_subcommand("evaluate", "Loss and accuracy of trained weights on the test part");
    command->add_option("weights", options->path, "run folder, or a weights file (.safetensors)")
        ->required()
        ->type_name("RUN");
    command
        ->add_option("--model", options->model,
                     "of the weights; default: what config.toml beside them, or the file itself, says")
        ->type_name("MODEL");
    command->add_option("--data", options->data, "to evaluate on; default likewise")->type_name("DATA");
    command->add_option("--data-dir", options->data_dir, "folder of IDX files")->type_name("DIR");
    command->add_option("--seed", options->seed, "of a split made from one file");
    command->add_option("--threads", options->threads, "libtorch's intra-op threads")
        ->capture_default_str()
        ->check(CLI::Range(1, kThreadsMax).name(""));
    command->add_flag("--json", options->json, "as JSON");
    command->footer("Examples:\n"
                    "  lategrad evaluate runs/20260101-120000-lenet-reuse\n"
                    "  lategrad evaluate weights.safetensors --model lenet --data fashion-mnist\n");
    command->callback([options, &chosen] { chosen = [options] { return evaluate(*options); }; });
}

} // namespace lategrad
