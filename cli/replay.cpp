/// lategrad replay: computes a recorded run again, gradient by gradient, and compares the parameters bit for bit.
#include <cstring>
#include <exception>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <set>
#include <utility>
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
#include "lategrad/worker/gradient_codecs.h"

namespace lategrad {
namespace {

/// One lane computes one gradient at a time; every worker's batches can be drawn in every lane.
struct Lane {
    std::unique_ptr<GradientSource> source;
    std::map<WorkerId, Batcher> batchers;
    Batch batch;
};

/// What is computed between two updates: the gradients that arrived, in the order in which each worker made them.
struct Plan {
    struct Gradient {
        Step step;
        Version base;
        DataPosition data;
        float step_scale = 0; ///< that its worker was told
        bool begins = false;  ///< its worker's process does
        bool refunds = false; ///< the one before it is refunded
        bool held = true;     ///< for an update: it was not dropped
    };
    std::map<WorkerId, std::vector<Gradient>> gradients;
    UpdateEvent update;
};

/// With error feedback every gradient that was made counts, since what it left out joins the next; else those that were
/// applied.
std::vector<Plan> plan_of(const std::vector<RunEvent>& events, const Problem& problem, const Optimizer& optimizer,
                          bool error_feedback) {
    const auto policy = make_policy(problem.job.policy);
    std::map<std::pair<WorkerId, Step>, DataPosition> elsewhere; // than where a worker is by itself
    struct Past {
        bool begins = true;
        bool refunds = false;
    };
    std::map<WorkerId, Past> past;
    std::vector<Plan> plans;
    Plan plan;
    for (const RunEvent& event : events) {
        if (const auto* joined = std::get_if<JoinEvent>(&event.body)) past[joined->worker] = {};
        if (const auto* assigned = std::get_if<AssignEvent>(&event.body); assigned && assigned->data) {
            elsewhere[{assigned->worker, assigned->step}] = *assigned->data;
        }
        if (const auto* arrived = std::get_if<ArriveEvent>(&event.body); arrived && error_feedback) {
            Past& before = past[arrived->worker];
            plan.gradients[arrived->worker].push_back({.step = arrived->step,
                                                       .base = arrived->base,
                                                       .begins = before.begins,
                                                       .refunds = before.refunds,
                                                       .held = arrived->fate != Fate::drop});
            before = {.begins = false, .refunds = policy->refunds(arrived->fate, arrived->reason)};
        }
        if (const auto* update = std::get_if<UpdateEvent>(&event.body)) {
            if (!error_feedback) {
                for (const AppliedGradient& gradient : update->applied) {
                    Past& before = past[gradient.worker];
                    plan.gradients[gradient.worker].push_back(
                        {.step = gradient.step, .base = gradient.base, .begins = before.begins});
                    before.begins = false;
                }
            }
            plan.update = *update;
            plans.push_back(std::exchange(plan, {}));
        }
    }
    for (Plan& made : plans) {
        for (auto& [worker, gradients] : made.gradients) {
            for (Plan::Gradient& gradient : gradients) {
                // With a version it was told the scale of the update of this version.
                const double learning_rate = plans.at(gradient.base.value()).update.learning_rate;
                gradient.step_scale = optimizer.step_scale(learning_rate);
                const auto data = elsewhere.find({worker, gradient.step});
                gradient.data =
                    data != elsewhere.end() ? data->second : own_data(worker, gradient.step, problem.batch_of(worker));
            }
        }
    }
    return plans;
}

/// More payloads of a worker than ever wait for an update.
constexpr std::size_t kHeldMax = std::size_t{1} << 20;

class Replay {
  public:
    /// `path`: of the run, for what is said of it.
    Replay(const Problem& problem, const std::vector<RunEvent>& events, std::string path)
        : problem_(problem),
          path_(std::move(path)),
          pool_(std::max(1u, std::thread::hardware_concurrency())),
          setup_(codec_setup(problem, problem.model->trainable(), problem.model->size())),
          codec_(make_codec(problem.job.options.codec, setup_)),
          publish_codec_(problem.job.options.publish_codec, setup_),
          none_("none", setup_),
          optimizer_(make_optimizer(problem.job.optimizer, problem.model->trainable())),
          plans_(plan_of(events, problem, *optimizer_, codec_->error_feedback())),
          update_(*codec_, *optimizer_, problem.model->trainable(), problem.model->size()),
          buffers_(std::numeric_limits<std::size_t>::max() / 2),
          publisher_(publish_codec_, buffers_, buffers_),
          bytes_(problem.model->size() * sizeof(float)) {
        const RunOptions& o = problem.job.options;
        for (const RunEvent& event : events) {
            if (const auto* joined = std::get_if<JoinEvent>(&event.body)) workers_[joined->worker];
        }
        for (std::size_t i = 0; i < pool_.size(); ++i) {
            Lane lane{.source = make_gradient_source(problem.job.model, *problem.data.train, o.threads)};
            for (const auto& [worker, state] : workers_) lane.batchers.emplace(worker, problem.batcher(worker));
            lanes_.push_back(std::move(lane));
        }
        for (const Plan& plan : plans_) {
            for (const auto& [worker, gradients] : plan.gradients) {
                for (const Plan::Gradient& gradient : gradients) last_use_[gradient.base] = plan.update.version;
            }
        }
    }

    /// `shown` is called after every update.
    std::vector<float> run(const std::function<void(std::size_t)>& shown) {
        Buffer parameters = buffers_.lease(bytes_);
        problem_.model->initial_parameters(parameters.floats());
        for (std::size_t i = 0; i < plans_.size(); ++i) {
            const Version version = plans_[i].update.version;
            publisher_.publish(version, parameters, {});
            versions_[version] = publisher_.published();
            compute(plans_[i]);
            parameters = apply(plans_[i].update, parameters);
            // A version is kept until the last gradient on it has been computed.
            std::erase_if(versions_, [&](const auto& entry) {
                const auto use = last_use_.find(entry.first);
                return use == last_use_.end() || use->second <= version;
            });
            shown(i + 1);
        }
        const auto floats = parameters.floats();
        return {floats.begin(), floats.end()};
    }

  private:
    struct Worker {
        std::unique_ptr<WorkerBuffers> buffers;
        std::optional<GradientCodecs> codecs;
        ResidualScale residual_scale;
        Buffer sent;                    ///< the last payload it made
        std::map<Step, Buffer> waiting; ///< payloads that may be applied
    };

    void compute(const Plan& plan) {
        // A lane takes whole workers: each worker's encoder has its own state, so that their order decides nothing.
        std::vector<WorkerId> workers;
        for (const auto& [worker, gradients] : plan.gradients) workers.push_back(worker);
        std::vector<std::exception_ptr> failures(lanes_.size());
        pool_.run(lanes_.size(), [&](std::size_t l) {
            try {
                for (std::size_t i = l; i < workers.size(); i += lanes_.size()) {
                    for (const Plan::Gradient& gradient : plan.gradients.at(workers[i])) {
                        compute(lanes_[l], workers[i], gradient);
                    }
                }
            } catch (...) {
                failures[l] = std::current_exception();
            }
        });
        for (const std::exception_ptr& failure : failures) {
            if (failure) std::rethrow_exception(failure);
        }
    }

    /// As the worker (lategrad/worker) did.
    void compute(Lane& lane, WorkerId id, const Plan::Gradient& gradient) {
        Worker& worker = workers_.at(id);
        if (gradient.begins) {
            worker.codecs.reset();
            worker.buffers = std::make_unique<WorkerBuffers>(*codec_, problem_.model->size(), kHeldMax);
            worker.codecs.emplace(*codec_, none_, id, *worker.buffers); // versions_ are decoded
            worker.residual_scale = {};
            worker.sent.reset();
        }
        ComputeJob job{.step = gradient.step,
                       .version = gradient.base,
                       .data = gradient.data,
                       .params = versions_.at(gradient.base),
                       .grad = buffers_.lease(bytes_),
                       .residual_scale = worker.residual_scale.to(gradient.step_scale)};
        if (gradient.refunds) job.refund = std::move(worker.sent);
        lane.batchers.at(id).draw(job.data, lane.batch);
        lane.source->compute(std::as_const(job.params).floats(), job.grad.floats(), lane.batch);
        const Buffer payload = worker.codecs->encode(job);
        if (!payload) return;
        worker.residual_scale.encoded_at(gradient.step_scale);
        if (codec_->error_feedback()) worker.sent = payload;
        if (gradient.held) worker.waiting[gradient.step] = payload;
    }

    Buffer apply(const UpdateEvent& update, const Buffer& parameters) {
        const std::uint64_t least = least_staleness(update.applied, update.version);
        update_.terms.clear();
        for (const AppliedGradient& gradient : update.applied) {
            auto& waiting = workers_.at(gradient.worker).waiting;
            const auto payload = waiting.find(gradient.step);
            if (payload == waiting.end()) {
                throw InputError(
                    fmt::format("{}/events.jsonl: update {} applies gradient {} of worker {}, which did not "
                                "arrive before it or is not finite",
                                path_, update.version.value(), gradient.step.value(), gradient.worker.value()));
            }
            update_.terms.push_back(
                make_term(gradient, update.version, update.denominator, least, std::move(payload->second)));
            // It pushes in the order of its steps: what is older was dropped.
            waiting.erase(waiting.begin(), std::next(payload));
        }
        update_.in = parameters;
        update_.out = buffers_.lease(bytes_);
        update_.learning_rate = update.learning_rate;
        update_.run(pool_);
        update_.terms.clear();
        update_.in.reset();
        return std::move(update_.out);
    }

    const Problem& problem_;
    std::string path_;
    ThreadPool pool_;
    CodecSetup setup_;
    std::unique_ptr<Codec> codec_;
    PublishCodec publish_codec_, none_;
    std::unique_ptr<Optimizer> optimizer_;
    std::vector<Plan> plans_;
    FusedUpdate update_;
    BufferPool buffers_;
    Publisher publisher_;
    std::size_t bytes_;
    std::vector<Lane> lanes_;
    std::map<WorkerId, Worker> workers_;
    std::map<Version, Buffer> versions_;  ///< as they were published
    std::map<Version, Version> last_use_; ///< base version → the update before which its last gradient is computed
};

std::vector<UpdateEvent> updates_of(const RecordedRun& run, const Problem& problem, const std::string& path) {
    std::vector<UpdateEvent> updates;
    std::set<WorkerId> joined;
    for (const RunEvent& event : run.events) {
        if (const auto* join = std::get_if<JoinEvent>(&event.body)) {
            if (join->examples != problem.batch_of(join->worker)) {
                throw InputError(fmt::format("{}/events.jsonl: worker {} joins with batches of {}, not {}", path,
                                             join->worker.value(), join->examples, problem.batch_of(join->worker)));
            }
            joined.insert(join->worker);
        }
        if (const auto* assigned = std::get_if<AssignEvent>(&event.body)) {
            if (assigned->data && assigned->data->part >= problem.parts->size()) {
                throw InputError(fmt::format("{}/events.jsonl: gradient {} of worker {} is of part {} of {}", path,
                                             assigned->step.value(), assigned->worker.value(), assigned->data->part,
                                             problem.parts->size()));
            }
        }
        if (const auto* arrived = std::get_if<ArriveEvent>(&event.body)) {
            if (arrived->base.value() > updates.size() || !joined.contains(arrived->worker)) {
                throw InputError(fmt::format("{}/events.jsonl: gradient {} of worker {} arrives out of order", path,
                                             arrived->step.value(), arrived->worker.value()));
            }
        }
        const auto* update = std::get_if<UpdateEvent>(&event.body);
        if (!update) continue;
        bool good = update->version.value() == updates.size() && !update->applied.empty();
        for (const AppliedGradient& gradient : update->applied) {
            good = good && gradient.base <= update->version && joined.contains(gradient.worker);
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
    Replay again(problem, run.events, path);
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
