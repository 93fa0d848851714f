/// lategrad replay: computes a recorded run again, gradient by gradient, and compares the parameters bit for bit.
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "cli/commands.h"
#include "cli/options.h"
#include "cli/training.h"
#include "lategrad/codec/codec.h"
#include "lategrad/core/error.h"
#include "lategrad/core/thread_pool.h"
#include "lategrad/data/batcher.h"
#include "lategrad/server/terms.h"
#include "lategrad/telemetry/progress.h"
#include "lategrad/telemetry/run_folder.h"
#include "lategrad/torch/fingerprint.h"
#include "lategrad/torch/torch_gradient_source.h"
#include "lategrad/torch/weights.h"

namespace lategrad {
namespace {

/// One lane computes one gradient at a time; every worker's batches can be drawn in every lane.
struct Lane {
    std::unique_ptr<GradientSource> source;
    std::vector<Batcher> batchers; ///< by worker
    Batch batch;
};

class Replay {
  public:
    Replay(const Problem& problem, const std::vector<UpdateEvent>& updates)
        : problem_(problem),
          updates_(updates),
          pool_(std::max(1u, std::thread::hardware_concurrency())),
          codec_(make_codec(problem.job.options.codec)),
          optimizer_(make_optimizer(problem.job.optimizer, problem.model->trainable())),
          update_(*codec_, *optimizer_, problem.model->trainable(), problem.model->size()),
          buffers_(std::numeric_limits<std::size_t>::max() / 2),
          bytes_(problem.model->size() * sizeof(float)) {
        const RunOptions& o = problem.job.options;
        for (std::size_t i = 0; i < pool_.size(); ++i) {
            Lane lane{.source = make_gradient_source(problem.job.model, *problem.data.train, o.threads)};
            for (std::uint32_t worker = 0; worker < o.workers; ++worker) {
                lane.batchers.emplace_back(problem.data.train, problem.parts[worker], problem.batches[worker], o.seed,
                                           WorkerId{worker});
            }
            lanes_.push_back(std::move(lane));
        }
        for (const UpdateEvent& update : updates) {
            for (const AppliedGradient& gradient : update.applied) last_use_[gradient.base] = update.version;
        }
    }

    /// `shown` is called after every update.
    std::vector<float> run(const std::function<void(std::size_t)>& shown) {
        Buffer parameters = buffers_.lease(bytes_);
        problem_.model->initial_parameters(parameters.floats());
        for (std::size_t i = 0; i < updates_.size(); ++i) {
            const UpdateEvent& update = updates_[i];
            versions_[update.version] = parameters;
            parameters = apply(update);
            // A version is kept until the last gradient computed on it has been applied.
            std::erase_if(versions_, [&](const auto& entry) {
                const auto use = last_use_.find(entry.first);
                return use == last_use_.end() || use->second <= update.version;
            });
            shown(i + 1);
        }
        const auto floats = parameters.floats();
        return {floats.begin(), floats.end()};
    }

  private:
    Buffer apply(const UpdateEvent& update) {
        const std::size_t n = update.applied.size();
        std::vector<Buffer> gradients;
        for (std::size_t i = 0; i < n; ++i) gradients.push_back(buffers_.lease(bytes_));
        // Lane l computes gradients l, l + lanes, …: each by itself, so that their order and number decide nothing.
        std::vector<std::exception_ptr> failures(lanes_.size());
        pool_.run(lanes_.size(), [&](std::size_t l) {
            try {
                for (std::size_t i = l; i < n; i += lanes_.size()) compute(lanes_[l], update.applied[i], gradients[i]);
            } catch (...) {
                failures[l] = std::current_exception();
            }
        });
        for (const std::exception_ptr& failure : failures) {
            if (failure) std::rethrow_exception(failure);
        }
        const std::uint64_t least = least_staleness(update.applied, update.version);
        update_.terms.clear();
        for (std::size_t i = 0; i < n; ++i) {
            update_.terms.push_back(
                make_term(update.applied[i], update.version, update.denominator, least, codec_->encode(gradients[i])));
        }
        update_.in = versions_.at(update.version);
        update_.out = buffers_.lease(bytes_);
        update_.learning_rate = update.learning_rate;
        update_.run(pool_);
        update_.terms.clear();
        update_.in.reset();
        return std::move(update_.out);
    }

    void compute(Lane& lane, const AppliedGradient& gradient, Buffer& out) {
        lane.batchers[gradient.worker.value()].draw(gradient.step, lane.batch);
        const Buffer& base = versions_.at(gradient.base);
        lane.source->compute(base.floats(), out.floats(), lane.batch);
    }

    const Problem& problem_;
    const std::vector<UpdateEvent>& updates_;
    ThreadPool pool_;
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_;
    FusedUpdate update_;
    BufferPool buffers_;
    std::size_t bytes_;
    std::vector<Lane> lanes_;
    std::map<Version, Buffer> versions_;
    std::map<Version, Version> last_use_; ///< base version → the update that applies its last gradient
};

std::vector<UpdateEvent> updates_of(const RecordedRun& run, const Problem& problem, const std::string& path) {
    std::vector<UpdateEvent> updates;
    for (const RunEvent& event : run.events) {
        const auto* update = std::get_if<UpdateEvent>(&event.body);
        if (!update) continue;
        bool good = update->version.value() == updates.size() && !update->applied.empty();
        for (const AppliedGradient& gradient : update->applied) {
            good = good && gradient.base <= update->version && gradient.worker.value() < problem.parts.size();
        }
        if (!good)
            throw InputError(
                fmt::format("{}/events.jsonl: update {} does not follow from those before it", path, updates.size()));
        updates.push_back(*update);
    }
    return updates;
}

int replay(const std::string& path, bool quiet) {
    const RecordedRun run = read_run(path);
    RunOptions options = options_from_toml(std::filesystem::path(path) / "config.toml");
    options.straggle = "none"; // who came late is in the events
    const Problem problem = make_problem(resolve(options));
    const auto differing = differences({run.fingerprint}, {run_fingerprint(problem)});
    if (!differing.empty()) {
        throw InputError(fmt::format("{}: not what was recorded, so its bits cannot be reproduced here: {}", path,
                                     fmt::join(differing, "; ")));
    }
    if (const std::string state = problem.model->hidden_state(); !state.empty()) {
        throw InputError(
            fmt::format("{}: its model {}, which is not recorded; such a run cannot be replayed", path, state));
    }
    const auto updates = updates_of(run, problem, path);
    if (run.summary && run.summary->updates != updates.size()) {
        throw InputError(fmt::format("{}/events.jsonl: has {} updates, but the run made {}", path, updates.size(),
                                     run.summary->updates));
    }
    const auto recorded = load_weights(weights_of_run(path), *problem.model);

    const bool terminal = !quiet && is_terminal(stderr);
    Replay again(problem, updates);
    const auto replayed = again.run([&](std::size_t done) {
        if (terminal && (done % 10 == 0 || done == updates.size())) {
            fmt::print(stderr, "\rreplayed {} of {} updates{}", done, updates.size(),
                       done == updates.size() ? "\n" : "");
        }
    });
    std::size_t different = 0;
    for (std::size_t i = 0; i < replayed.size(); ++i) {
        different += std::memcmp(&replayed[i], &recorded[i], sizeof(float)) != 0 ? 1 : 0;
    }
    if (different > 0) {
        fmt::print("{}: {} updates replayed; {} of {} parameters differ\n", path, updates.size(), different,
                   replayed.size());
        return 1;
    }
    fmt::print("{}: {} updates replayed; all {} parameters are the same, bit for bit\n", path, updates.size(),
               replayed.size());
    return 0;
}

} // namespace

void add_replay(CLI::App& program, Command& chosen) {
    auto path = std::make_shared<std::string>();
    auto quiet = std::make_shared<bool>(false);
    CLI::App* command = program.add_subcommand(
        "replay", "Compute a recorded run again and compare its final parameters bit for bit (0: the same, 1: not)");
    command->add_option("run", *path, "run folder")->required()->type_name("RUN");
    command->add_flag("--quiet", *quiet, "no progress");
    command->footer("Example:\n  lategrad replay runs/20260101-120000-lenet-reuse\n");
    command->callback([path, quiet, &chosen] { chosen = [path, quiet] { return replay(*path, *quiet); }; });
}

} // namespace lategrad
