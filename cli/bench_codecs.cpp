/// lategrad bench codecs: what each codec costs on this machine, on gradients of a model of the user's, and which one
/// is the fastest end to end over a link of a given speed.
#include <algorithm>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/config.h"
#include "cli/options.h"
#include "cli/training.h"
#include "lategrad/codec/codec.h"
#include "lategrad/codec/finite.h"
#include "lategrad/codec/publish.h"
#include "lategrad/core/error.h"
#include "lategrad/sim/link.h"
#include "lategrad/telemetry/table.h"
#include "lategrad/torch/torch_gradient_source.h"
#include "lategrad/wire/message.h"

namespace lategrad {
namespace {

// Medians are shown: of the gradients' repeats, and of the versions but the first.
constexpr std::size_t kGradients = 6; ///< that are encoded, in turns, and lead from version to version
constexpr std::size_t kRepeats = 9;
constexpr std::size_t kWarmUp = 3; ///< before these repeats

struct BenchCodecsOptions {
    RunOptions run;
    std::string link;
    std::vector<std::string> codecs = {"none",     "fp16",      "bf16",       "lz4",       "zstd",
                                       "bf16+lz4", "bf16+zstd", "qsgd:8",     "qsgd:4",    "terngrad",
                                       "signsgd",  "lowrank:4", "randk:0.05", "topk:0.01", "dgc:0.001"};
    std::vector<std::string> publish_codecs = {
        "none", "fp16", "bf16", "lz4", "bf16+zstd", "delta:bf16+zstd", "delta:qsgd:8", "delta:topk:0.05"};
    bool json = false;
};

/// Gradients of a few steps of plain SGD, and the parameters they lead to.
struct Steps {
    BufferPool pool{std::numeric_limits<std::size_t>::max() / 2};
    std::vector<Buffer> gradients;
    std::vector<Buffer> params; ///< one more
};

void take_steps(const Problem& problem, Steps& steps) {
    const RunOptions& o = problem.job.options;
    const Model& model = *problem.model;
    const std::size_t bytes = model.size() * sizeof(float);
    const auto source = make_gradient_source(problem.job.model, *problem.data.train, o.threads, o.seed);
    Batcher batcher = problem.batcher(WorkerId{0});
    Batch batch;
    steps.params.push_back(steps.pool.lease(bytes));
    model.initial_parameters(steps.params[0].floats());
    for (std::size_t i = 0; i < kGradients; ++i) {
        batcher.draw({.position = i * batcher.batch_size()}, batch);
        Buffer& grad = steps.gradients.emplace_back(steps.pool.lease(bytes));
        const auto before = std::as_const(steps.params[i]).floats();
        source->compute(before, grad.floats(), batch);
        if (!all_finite(std::as_const(grad).floats())) {
            throw InputError(fmt::format(
                "--model {}: its gradient is not finite in step {}; there is nothing to encode", o.model, i));
        }
        const auto after = steps.params.emplace_back(steps.pool.lease(bytes)).floats();
        std::ranges::copy(std::as_const(grad).floats(), after.begin()); // its tail is the next version's
        for (std::size_t j = 0; j < model.trainable(); ++j) after[j] = before[j] - static_cast<float>(o.lr) * after[j];
    }
}

double seconds_of(const auto& work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

/// What one way, gradients up or parameters down, costs with one codec.
struct Cost {
    std::string codec;
    double bytes = 0;
    double encode = 0;   ///< seconds
    double validate = 0; ///< seconds
    double decode = 0;   ///< seconds
    double update = 0;   ///< seconds of an update with all workers, one after the other: computing and the link
};

/// Of what was measured several times, each number's median.
Cost median_of(const std::vector<Cost>& measured) {
    Cost cost = measured.front();
    for (double Cost::*const number : {&Cost::bytes, &Cost::encode, &Cost::validate, &Cost::decode}) {
        std::vector<double> values;
        for (const Cost& once : measured) values.push_back(once.*number);
        cost.*number = median(values);
    }
    return cost;
}

Cost cost_of_gradients(const std::string& spec, const CodecSetup& setup, Steps& steps) {
    const auto codec = make_codec(spec, setup);
    const auto encoder = codec->make_encoder(WorkerId{0}, steps.pool);
    std::vector<float> sum(codec->chunk());
    std::vector<Cost> measured;
    for (std::size_t i = 0; i < kWarmUp + kRepeats; ++i) {
        Buffer payload;
        const double encoding =
            seconds_of([&] { payload = encoder->encode(steps.gradients[i % kGradients], {.step = Step{i}}); });
        if (!payload) throw InputError(fmt::format("--codecs {}: a gradient of this model is too large for it", spec));
        const std::span<const std::byte> all(payload.data(), payload.bytes());
        const double validating = seconds_of([&] { CHECK(codec->validate(all) == Reason::none); });
        const EncodedTerm term{all, 1};
        const double decoding = seconds_of([&] {
            for (std::size_t first = 0; first < setup.elements; first += sum.size()) {
                const std::size_t size = std::min(sum.size(), setup.elements - first);
                codec->weighted_sum({&term, 1}, first, std::span(sum).first(size));
            }
        });
        if (i < kWarmUp) continue;
        measured.push_back({.codec = spec,
                            .bytes = static_cast<double>(payload.bytes()),
                            .encode = encoding,
                            .validate = validating,
                            .decode = decoding});
    }
    return median_of(measured);
}

Cost cost_of_parameters(const std::string& spec, const CodecSetup& setup, Steps& steps) {
    const PublishCodec codec(spec, setup);
    Publisher publisher(codec, steps.pool, steps.pool);
    Subscriber subscriber(codec, steps.pool);
    publisher.publish(Version{0}, steps.params[0], {});
    (void)subscriber.decode(publisher.payload(std::nullopt), Version{0});
    std::vector<Cost> measured;
    for (std::uint64_t version = 1; version <= kGradients; ++version) {
        const Version base{version - 1};
        Buffer payload;
        const double encoding = seconds_of([&] {
            publisher.publish(Version{version}, steps.params[version], std::span(&base, 1));
            payload = publisher.payload(base);
        });
        const double validating = seconds_of([&] {
            CHECK(codec.validate({payload.data(), payload.bytes()}) == Reason::none);
        });
        const double decoding = seconds_of([&] { CHECK(subscriber.decode(payload, Version{version})); });
        if (version == 1) continue; // touches memory for the first time
        measured.push_back({.codec = spec,
                            .bytes = static_cast<double>(payload.bytes()),
                            .encode = encoding,
                            .validate = validating,
                            .decode = decoding});
    }
    return median_of(measured);
}

std::string bytes_text_of(double bytes) {
    return fmt::format("{:.0f}", bytes);
}

const Cost& fastest_of(const std::vector<Cost>& costs) {
    return *std::ranges::min_element(costs, {}, &Cost::update);
}

nlohmann::ordered_json as_json(const Cost& cost, double whole, bool linked) {
    nlohmann::ordered_json json = {{"codec", cost.codec},
                                   {"bytes", cost.bytes},
                                   {"ratio", whole / cost.bytes},
                                   {"encode_seconds", cost.encode},
                                   {"validate_seconds", cost.validate},
                                   {"decode_seconds", cost.decode}};
    if (linked) json["update_seconds"] = cost.update;
    return json;
}

int bench_codecs(BenchCodecsOptions o) {
    o.codecs = codec_list(o.codecs);
    std::optional<LinkOptions> link;
    if (!o.link.empty()) {
        link.emplace();
        link->parse_link(o.link);
    }
    const Problem problem = make_problem(resolve(o.run));
    const CodecSetup setup = [&] {
        CodecSetup made = codec_setup(problem, problem.model->trainable(), problem.model->size());
        made.steps_per_epoch = 0.1; // dgc is measured after its warm-up
        return made;
    }();
    // A typing error in the last: before anything else.
    for (const std::string& spec : o.codecs) make_codec(spec, setup, "--codecs");
    for (const std::string& spec : o.publish_codecs) PublishCodec(spec, setup, "--publish-codecs");
    Steps steps;
    take_steps(problem, steps);

    // An update: every worker encodes at the same time; the gradients share the server's link; the communication thread
    // validates one after the other, and all cores decode. Back, the server encodes once, and sends to all.
    const double n = static_cast<double>(o.run.workers);
    const double cores = std::max(1u, std::thread::hardware_concurrency());
    const double whole = static_cast<double>(problem.model->size() * sizeof(float));
    const auto transfers = [&](double bytes) {
        if (!link) return 0.0;
        bytes += kHeaderBytes;
        return seconds(link->latency) + std::max(bytes / link->worker_rate, n * bytes / link->server_rate);
    };
    std::vector<Cost> up, down;
    for (const std::string& spec : o.codecs) {
        Cost cost = cost_of_gradients(spec, setup, steps);
        cost.update = cost.encode + transfers(cost.bytes) + n * cost.validate + n * cost.decode / cores;
        up.push_back(cost);
    }
    for (const std::string& spec : o.publish_codecs) {
        Cost cost = cost_of_parameters(spec, setup, steps);
        cost.update = cost.encode + transfers(cost.bytes) + cost.validate + cost.decode;
        down.push_back(cost);
    }

    if (o.json) {
        nlohmann::ordered_json json = {
            {"model", o.run.model}, {"parameters", problem.model->size()}, {"workers", o.run.workers}};
        for (const Cost& cost : up) json["codecs"].push_back(as_json(cost, whole, link.has_value()));
        for (const Cost& cost : down) json["publish_codecs"].push_back(as_json(cost, whole, link.has_value()));
        if (link) {
            json["fastest_codec"] = fastest_of(up).codec;
            json["fastest_publish_codec"] = fastest_of(down).codec;
        }
        fmt::print("{}\n", json.dump(2));
        return 0;
    }
    const auto print = [&](const char* what, const std::vector<Cost>& costs) {
        std::vector<Column> columns = {{what, Align::left}, {"bytes"},    {"ratio"},
                                       {"encode ms"},       {"check ms"}, {"decode ms"}};
        if (link) columns.push_back({"ms per update"});
        Table table(columns);
        for (const Cost& cost : costs) {
            std::vector<std::string> row = {cost.codec,
                                            bytes_text_of(cost.bytes),
                                            fmt::format("{:.1f}", whole / cost.bytes),
                                            fmt::format("{:.3f}", 1e3 * cost.encode),
                                            fmt::format("{:.3f}", 1e3 * cost.validate),
                                            fmt::format("{:.3f}", 1e3 * cost.decode)};
            if (link) row.push_back(fmt::format("{:.2f}", 1e3 * cost.update));
            table.add_row(std::move(row));
        }
        fmt::print("{}\n", table.text());
    };
    fmt::print("{}: {} parameters, {:.0f} bytes as float32; {} workers; medians on one core\n\n", o.run.model,
               problem.model->size(), whole, o.run.workers);
    print("--codec", up);
    print("--publish-codec", down);
    if (link) {
        const Cost& best_up = fastest_of(up);
        const Cost& best_down = fastest_of(down);
        const double plain = transfers(whole);
        fmt::print(
            "Fastest over {}: --codec {} --publish-codec {}, {:.2f} ms per update; as float32 {:.2f} ms of transfers\n"
            "alone. Computing gradients comes on top. What it costs in accuracy: docs/codecs.md\n",
            o.link, best_up.codec, best_down.codec, 1e3 * (best_up.update + best_down.update), 2e3 * plain);
    } else {
        fmt::print("With --link RATE, such as --link 100Mbit: which is the fastest end to end\n");
    }
    return 0;
}

} // namespace

void add_bench(CLI::App& program, Command& chosen) {
    CLI::App* bench = program.add_subcommand("bench", "What this machine makes of it: codecs");
    bench->require_subcommand(1);
    auto options = std::make_shared<BenchCodecsOptions>();
    BenchCodecsOptions& o = *options;
    CLI::App* command = bench->add_subcommand(
        "codecs", "What each codec costs on gradients of a model, and which is the fastest over a given link");
    const auto add = [&](const char* name, auto& value, const char* help, const char* type) {
        CLI::Option* option = command->add_option(name, value, help)
                                  ->multi_option_policy(CLI::MultiOptionPolicy::TakeLast)
                                  ->type_name(type)
                                  ->capture_default_str();
        if constexpr (std::is_integral_v<std::remove_reference_t<decltype(value)>>) take_whole_numbers(*option);
    };
    add("--model", o.run.model, "as of train", "MODEL");
    add("--data", o.run.data, "as of train; default fashion-mnist", "NAME");
    add("--data-dir", o.run.data_dir, "folder with the data", "DIR");
    add("--workers", o.run.workers, "that share the server's link", "N");
    add("--batch-size", o.run.batch_size, "global; each worker takes a share", "N");
    add("--link", o.link, "each worker's and the server's, in each direction, as 100Mbit or 1Gbit,100us",
        "RATE[,LATENCY]");
    const auto add_list = [&](const char* name, std::vector<std::string>& list, const char* what) {
        command->add_option(name, list, fmt::format("{}; default {}", what, fmt::join(list, ",")))
            ->delimiter(',')
            ->type_name("C1,C2,...");
    };
    add_list("--codecs", o.codecs, "gradient codecs to measure");
    add_list("--publish-codecs", o.publish_codecs, "codecs of parameters to measure");
    command->add_flag("--json", o.json, "as JSON, with times in seconds");
    command->footer(
        "An update, without the gradients: workers encode side by side, their payloads share the server's\n"
        "link, the server checks them one by one and decodes them on all cores; and back. delta: is measured for\n"
        "workers that hold the version before; those that come late are sent more.\n\nExamples:\n"
        "  lategrad bench codecs --link 100Mbit\n"
        "  lategrad bench codecs --model mlp:800,500 --workers 16 --link 1Gbit --codecs none,bf16,signsgd\n");
    command->callback([options, &chosen] { chosen = [options] { return bench_codecs(*options); }; });
}

} // namespace lategrad
