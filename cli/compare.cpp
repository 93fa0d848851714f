/// lategrad compare: several policies, or several codecs, on one problem and one straggler pattern, stopped at equal
/// time or equal applied examples.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <sstream>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/recorder.h"
#include "cli/signals.h"
#include "cli/training.h"
#include "lategrad/codec/codec.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/files/file.h"
#include "lategrad/telemetry/progress.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/telemetry/table.h"

namespace lategrad {
namespace {

struct Compared {
    std::string label;
    Summary summary;
    std::vector<Evaluation> evaluations; ///< in the order of versions
};

/// One policy of the list: `reuse`, `ssp:3`, or with a quorum of its own, `reuse@4`.
RunOptions with_policy(RunOptions options, const std::string& item) {
    const auto at = item.find('@');
    options.policy = item.substr(0, at);
    if (at != std::string::npos) {
        const auto k = parse_number<std::size_t>(item.substr(at + 1));
        if (!k || *k == 0)
            throw InputError(fmt::format("--policies {}: expected POLICY or POLICY@K, as in reuse@4", item));
        PolicyOptions policy;
        policy.parse_kind(options.policy);
        if (!policy.has_quorum()) {
            throw InputError(
                fmt::format("--policies {}: {} has no quorum; @K goes with backup, reuse, kasync and kbatch", item,
                            options.policy));
        }
        options.wait_for = *k;
    }
    return options;
}

/// What is compared: every policy with every codec.
struct Lists {
    std::vector<std::string> policies; ///< empty: sync, backup and reuse, or with codecs reuse alone
    std::vector<std::string> codecs;   ///< empty: --codec
};

std::string label_of(const Job& job, const Lists& lists) {
    const std::string policy =
        job.policy.has_quorum() ? fmt::format("{} k={}", job.options.policy, job.policy.wait_for) : job.options.policy;
    if (lists.codecs.empty()) return policy;
    return lists.policies.size() == 1 ? job.options.codec : policy + " " + job.options.codec;
}

std::optional<double> time_to(const Compared& run, double accuracy) {
    for (const Evaluation& evaluation : run.evaluations) {
        if (evaluation.accuracy && *evaluation.accuracy >= accuracy) return seconds(evaluation.at);
    }
    return std::nullopt;
}

/// The highest of these that every run reached, three at most, ascending.
std::vector<double> common_accuracies(const std::vector<Compared>& runs) {
    static constexpr double kMarks[] = {0.01, 0.02, 0.05, 0.1,  0.15, 0.2,  0.25, 0.3,  0.4,  0.5,  0.6,  0.65, 0.7,
                                        0.75, 0.8,  0.82, 0.84, 0.86, 0.88, 0.9,  0.92, 0.94, 0.96, 0.97, 0.98, 0.99};
    std::vector<double> reached;
    for (const double mark : kMarks) {
        if (std::all_of(runs.begin(), runs.end(),
                        [&](const Compared& run) { return time_to(run, mark).has_value(); })) {
            reached.push_back(mark);
        }
    }
    if (reached.size() > 3) reached.erase(reached.begin(), reached.end() - 3);
    return reached;
}

std::string table_of(const std::vector<Compared>& runs, const char* what) {
    const auto marks = common_accuracies(runs);
    std::vector<Column> columns = {{what, Align::left}, {"updates"}, {"seconds"}};
    for (const double mark : marks) columns.push_back({fmt::format("s to {:g} %", 100 * mark)});
    const bool classifies = !runs.empty() && runs.front().summary.accuracy.has_value();
    columns.push_back({classifies ? "accuracy" : "loss"});
    for (const char* name : {"received", "sent", "applied", "dropped", "held", "work used", "staleness mean", "max"})
        columns.push_back({name});
    Table table(columns);
    for (const Compared& run : runs) {
        const Summary& s = run.summary;
        std::vector<std::string> row = {run.label, fmt::format("{}", s.updates), fmt::format("{:.1f}", s.seconds)};
        for (const double mark : marks) row.push_back(fmt::format("{:.1f}", *time_to(run, mark)));
        if (classifies) row.push_back(s.accuracy ? fmt::format("{:.4f}", *s.accuracy) : "-");
        else row.push_back(s.loss ? fmt::format("{:.4g}", *s.loss) : "-");
        row.push_back(bytes_text(s.bytes_received));
        row.push_back(bytes_text(s.bytes_sent));
        row.push_back(fmt::format("{}", s.applied));
        row.push_back(fmt::format("{}", s.dropped));
        row.push_back(fmt::format("{}", s.held));
        row.push_back(fmt::format("{:.1f} %", 100 * s.work_used));
        row.push_back(fmt::format("{:.2f}", s.staleness_mean));
        row.push_back(fmt::format("{}", s.staleness_max));
        table.add_row(std::move(row));
    }
    return table.text();
}

std::string indented(const std::string& json) {
    std::string out;
    std::istringstream lines(json);
    for (std::string line; std::getline(lines, line);) out += (out.empty() ? "  " : "\n  ") + line;
    return out;
}

int compare(Lists lists, RunOptions options, bool policy_given, bool codec_given) {
    if (!options.resume.empty()) {
        throw InputError(
            fmt::format("--resume {}: compare makes runs of its own; resume one of them by train", options.resume));
    }
    Signals signals;
    if (policy_given) throw InputError("--policy: compare takes several: --policies sync,backup,reuse");
    if (codec_given && !lists.codecs.empty())
        throw InputError("--codec: --codecs is given, a list that it may join: --codecs none,bf16,topk:0.01");
    if (lists.policies.empty()) {
        lists.policies = lists.codecs.empty() ? std::vector<std::string>{"sync", "backup", "reuse"}
                                              : std::vector<std::string>{"reuse"};
    }
    if (options.target_accuracy) {
        throw InputError(
            "--target-accuracy: compare evaluates after each run; give --time-limit or --epochs, and read the "
            "times to each accuracy from the table");
    }
    if (options.updates) {
        throw InputError("--updates: policies apply different numbers of gradients in an update; compare stops them at "
                         "equal time, --time-limit, or equal applied examples, --epochs");
    }
    lists.codecs = codec_list(lists.codecs);
    for (const std::string& codec : lists.codecs) make_codec(codec, {.elements = 1}, "--codecs");
    const bool codec_twice = std::set(lists.codecs.begin(), lists.codecs.end()).size() < lists.codecs.size();
    std::vector<Job> jobs; // all of them first: a typing error in the last must not cost the first one's time
    const auto add = [&](const RunOptions& one) {
        Job job = resolve(one);
        // Many versions are kept and thinned out, so that curves have points whatever the number of updates is.
        if (options.eval_every == 0) job.options.eval_every = 5;
        for (const Job& other : jobs) {
            if (label_of(other, lists) == label_of(job, lists)) {
                throw InputError(fmt::format("{}: {} is there twice", codec_twice ? "--codecs" : "--policies",
                                             label_of(job, lists)));
            }
        }
        jobs.push_back(std::move(job));
    };
    for (const std::string& policy : lists.policies) {
        RunOptions one = with_policy(options, policy);
        if (one.policy != "backup") one.cancel_late = false; // it says nothing about the others
        if (lists.codecs.empty()) add(one);
        for (const std::string& codec : lists.codecs) {
            one.codec = codec;
            add(one);
        }
    }
    const std::filesystem::path folder =
        options.out.empty() ? new_run_path(jobs.front().options.model, "compare") : std::filesystem::path(options.out);
    if (std::filesystem::exists(folder) && !std::filesystem::is_empty(folder)) {
        throw InputError(fmt::format("--out {}: is not empty; choose another folder or remove it", folder.string()));
    }

    std::vector<Compared> runs;
    bool all_ended = true;
    for (const Job& job : jobs) {
        if (signals.count() > 0) break; // came while the last one was evaluated
        const Problem problem = certified(make_problem(job));
        const std::string label = label_of(job, lists);
        std::string name = label;
        std::replace_if(
            name.begin(), name.end(), [](char c) { return c == ' ' || c == ':' || c == '='; }, '-');
        warn_of_momentum(job);
        if (!options.quiet) fmt::print(stderr, "{} ({} of {})\n", label, runs.size() + 1, jobs.size());
        Recorder recorder(problem, folder / name, {.transport = "threads", .progress = !options.quiet});
        RunHooks hooks = recorder.hooks();
        std::vector<Evaluation> evaluations;
        hooks.tell = [&, record = std::move(hooks.tell)](const RunEvent& event) {
            record(event);
            if (const auto* evaluation = std::get_if<Evaluation>(&event.body)) evaluations.push_back(*evaluation);
        };
        hooks.evaluate = EvaluationThread::When::after;
        hooks.snapshots_max = 32;
        hooks.stop_with = [&](std::function<void()> stop) { signals.on_first(std::move(stop)); };
        const Trained trained = train_in_threads(problem, hooks);
        const Summary& summary = recorder.finish(trained);
        runs.push_back({label, summary, std::move(evaluations)});
        if (trained.outcome == Outcome::diverged) spdlog::warn("{} diverged; try a smaller --lr", label);
        if (trained.failure) std::rethrow_exception(trained.failure);
        all_ended = all_ended && reached_end(trained.outcome);
    }

    const bool whole = all_ended && runs.size() == jobs.size();
    if (!whole) {
        fmt::print(stderr, "not a whole comparison: {} of {} runs were made{}\n", runs.size(), jobs.size(),
                   all_ended ? "" : ", not all of them to their end");
    }
    const std::string table = table_of(runs, lists.codecs.empty()         ? "policy"
                                             : lists.policies.size() == 1 ? "codec"
                                                                          : "run");
    write_file_atomically(folder / "table.txt", table);
    if (options.json) {
        std::string array;
        for (const Compared& run : runs) array += (array.empty() ? "" : ",\n") + indented(to_json(run.summary));
        fmt::print("[\n{}\n]\n", array);
    } else {
        fmt::print("{}\nruns in {}\n", table, folder.string());
    }
    return whole ? 0 : 1;
}

} // namespace

void add_compare(CLI::App& program, Command& chosen) {
    auto options = std::make_shared<RunOptions>();
    auto lists = std::make_shared<Lists>();
    CLI::App* command = program.add_subcommand("compare", "Several policies, or several codecs, on one problem and one "
                                                          "straggler pattern: a table of what each came to");
    command
        ->add_option("--policies", lists->policies,
                     "list, each with a quorum of its own if wanted, as reuse@4; default sync,backup,reuse, or with "
                     "--codecs reuse")
        ->delimiter(',')
        ->type_name("P1,P2,...");
    command->add_option("--codecs", lists->codecs, "list of gradient codecs, each with every policy")
        ->delimiter(',')
        ->type_name("C1,C2,...");
    add_run_options(*command, *options);
    // Hidden: refused here with a word on what to do instead.
    for (const char* name : {"--policy", "--updates", "--target-accuracy"}) command->get_option(name)->group("");
    command->get_option("--quiet")->description("no progress");
    command->get_option("--json")->description("an array of the runs' summaries, in place of the table");
    command->get_option("--out")->description("folder of the runs' folders; default runs/TIME-MODEL-compare");
    command->get_option("--eval-every")->description("updates between kept versions, thinned out to 32; default 5");
    command->footer(
        "Stops each at equal time (--time-limit) or equal applied examples (--epochs), and evaluates\n"
        "afterwards, so that evaluating takes no time from training.\n\nExamples:\n"
        "  lategrad compare --policies sync,backup,reuse --workers 8 --time-limit 30 --straggle exp:20ms\n"
        "  lategrad compare --policies backup,reuse,reuse@4 --workers 8 --partition label --straggle slow:2,4\n"
        "  lategrad compare --codecs none,bf16,topk:0.01,signsgd --workers 8 --epochs 2\n");
    command->callback([command, lists, options, &chosen] {
        chosen = [command, lists, options] {
            return compare(*lists, *options, command->get_option("--policy")->count() > 0,
                           command->get_option("--codec")->count() > 0);
        };
    });
}

} // namespace lategrad
