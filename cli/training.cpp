#include "cli/training.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <limits>
#include <mutex>
#include <numeric>
#include <span>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "lategrad/codec/codec.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "lategrad/files/file.h"
#include "lategrad/runtime/gradient_thread.h"
#include "lategrad/runtime/job_thread.h"
#include "lategrad/runtime/node_loop.h"
#include "lategrad/server/push_check.h"
#include "lategrad/server/server.h"
#include "lategrad/torch/curvature.h"
#include "lategrad/torch/evaluator.h"
#include "lategrad/torch/fingerprint.h"
#include "lategrad/torch/torch_gradient_source.h"
#include "lategrad/transport/in_process.h"
#include "lategrad/wire/message.h"
#include "lategrad/worker/worker.h"

namespace lategrad {
namespace {

constexpr Duration kShutdown = std::chrono::seconds(10);
constexpr Duration kShutdownOfInterrupt = std::chrono::milliseconds(500);
constexpr Duration kEvaluationOfInterrupt = std::chrono::seconds(1);

std::size_t cores() {
    return std::max(1u, std::thread::hardware_concurrency());
}

/// Of every example, as a batch holds it.
std::uint64_t hash_of(const Dataset& data) {
    constexpr std::size_t kRows = 1024; // keeps the batch in cache
    const auto hash = [](const auto& values) { return payload_checksum(std::as_bytes(std::span(values))); };
    std::vector<std::uint64_t> hashes;
    std::vector<std::uint32_t> rows;
    Batch batch;
    for (std::size_t first = 0; first < data.size(); first += kRows) {
        rows.resize(std::min(kRows, data.size() - first));
        std::iota(rows.begin(), rows.end(), static_cast<std::uint32_t>(first));
        data.gather(rows, batch);
        hashes.insert(hashes.end(), {hash(batch.features), hash(batch.labels), hash(batch.targets)});
    }
    return hash(hashes);
}

std::uint64_t hash_of(const Model& model) {
    if (model.spec().kind == ModelSpec::Kind::script) {
        return payload_checksum(read_file(model.spec().file, std::numeric_limits<std::size_t>::max()));
    }
    std::vector<float> initial(model.size());
    model.initial_parameters(initial);
    return payload_checksum(std::as_bytes(std::span(initial)));
}

/// About once in an epoch's worth of examples, and five times in a run that is shorter.
std::uint64_t default_eval_every(const Problem& problem) {
    const RunOptions& o = problem.job.options;
    const PolicyOptions& policy = problem.job.policy;
    // An update applies those that close it; reuse also applies those that come late, and so everything.
    const double share =
        policy.kind == "reuse" ? 1 : static_cast<double>(policy.wait_for) / static_cast<double>(o.workers);
    const double epoch = static_cast<double>(problem.data.train->size()) / (static_cast<double>(o.batch_size) * share);
    double every = epoch;
    if (o.updates) every = std::min(every, static_cast<double>(*o.updates) / 5);
    if (o.epochs) every = std::min(every, *o.epochs * epoch / 5);
    return static_cast<std::uint64_t>(std::max(every, 1.0));
}

} // namespace

Problem make_problem(const Job& job) {
    Problem problem;
    problem.job = job;
    problem.data = load_data(job.data);
    RunOptions& o = problem.job.options;
    problem.model = make_model(job.model, *problem.data.train, o.seed);
    if (problem.model->size() * sizeof(float) > kPayloadBytesMax) {
        throw InputError(fmt::format("--model {}: {} parameters; the most that one message carries is {}", o.model,
                                     problem.model->size(), kPayloadBytesMax / sizeof(float)));
    }
    if (o.target_accuracy && problem.data.train->classes() == 0) {
        throw InputError(fmt::format("--target-accuracy {}: --data {} is a regression, which has no accuracy",
                                     *o.target_accuracy, o.data));
    }
    problem.parts = std::make_shared<const Parts>(divide(*problem.data.train, job.partition, o.workers, o.seed));
    std::vector<std::size_t> sizes;
    for (const auto& part : *problem.parts) sizes.push_back(part.size());
    problem.batches = batch_shares(o.batch_size, sizes);
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        if (problem.batches[i] > sizes[i]) {
            throw InputError(fmt::format("--batch-size {}: worker {} would take {} of the {} examples it holds; the "
                                         "data has {} to train on",
                                         o.batch_size, i, problem.batches[i], sizes[i], problem.data.train->size()));
        }
    }
    for (const bool serves : {true, false}) {
        if (received_bytes_max(problem, serves) > kPayloadBytesMax) {
            throw InputError(
                fmt::format("{}: {} parameters of --model {} could take {} bytes; the most that one message "
                            "carries is {}; take one that makes fewer",
                            serves ? "--codec " + o.codec : "--publish-codec " + o.publish_codec, problem.model->size(),
                            o.model, received_bytes_max(problem, serves), kPayloadBytesMax));
        }
    }
    problem.run = RandomStream(o.seed, Purpose::model, {o.workers, o.batch_size, problem.model->size()})();
    if (o.eval_every == 0) o.eval_every = default_eval_every(problem);
    return problem;
}

Problem certified(Problem problem) {
    LateWeight& late_weight = problem.job.policy.late_weight;
    if (!late_weight.certified() || problem.job.curvature) return problem;
    RunOptions& o = problem.job.options;
    if (!problem.data.train)
        throw InputError("--late-weight certified: --gradients none has no loss whose curvature could be estimated; "
                         "give --curvature A,B");
    const Dataset& train = *problem.data.train;
    const HessianBounds found = estimate_curvature(problem.job.model, train, o.weight_decay, o.threads, o.seed);
    late_weight.certify(found.min, found.max);
    o.curvature_estimate = fmt::format("{:.4g},{:.4g}", found.min, found.max);
    spdlog::warn(
        "--late-weight certified: no --curvature given; estimated as {} at the initial parameters on {} training "
        "examples: in an update, late gradients count for {:.2g} of the fresh ones at most",
        o.curvature_estimate, std::min(train.size(), kCurvatureExamples), late_weight.late_share);
    if (o.lr > 1 / found.max) {
        spdlog::warn("--lr {}: above 1/b of this estimate, {:.4g}: nothing is certified at this learning rate", o.lr,
                     1 / found.max);
    }
    return problem;
}

std::map<std::string, std::string> run_fingerprint(const Problem& problem) {
    auto fields = fingerprint(problem.job.options.threads).fields;
    if (problem.model) fields["model"] = fmt::format("{:016x}", hash_of(*problem.model));
    if (problem.data.train) fields["training data"] = fmt::format("{:016x}", hash_of(*problem.data.train));
    return fields;
}

void warn_of_momentum(const Job& job) {
    if (job.codec_momentum > 0) {
        spdlog::warn("--codec {}: the momentum, {}, is the workers' (momentum correction); the server has none",
                     job.options.codec, job.codec_momentum);
    }
}

void warn_of_surprises(const Problem& problem) {
    if (reference_blas()) {
        spdlog::warn(
            "libtorch computes on the reference BLAS, about 3 times slower: apt-get install libopenblas0-openmp");
    }
    warn_of_momentum(problem.job);
    if (const std::string state = problem.model->hidden_state(); !state.empty()) {
        spdlog::warn(
            "--model {}: {}: this run cannot be replayed, and repeated only by one process per worker (mpirun) "
            "and --policy sync",
            problem.job.options.model, state);
    }
}

Trained trained_by(const Server& server) {
    CHECK(server.totals().adds_up() && server.totals().open == 0);
    return {.version = server.version(),
            .ledger = server.totals(),
            .data_coverage = server.data().coverage(),
            .outcome = server.outcome(),
            .seconds = seconds(server.lasted()),
            .bytes_received = server.bytes_received(),
            .bytes_sent = server.bytes_sent()};
}

std::optional<Evaluation> judge(TorchEvaluator& evaluator, const Snapshot& snapshot, const Dataset& test,
                                const std::function<bool()>& given_up) {
    const auto score = evaluator.evaluate(snapshot.params.floats(), test, given_up);
    if (!score) return std::nullopt;
    return Evaluation{.version = snapshot.version,
                      .at = snapshot.at,
                      .examples_applied = snapshot.examples_applied,
                      .loss = score->loss,
                      .accuracy = score->accuracy};
}

std::vector<MatrixShape> matrices_of(const Model& model) {
    std::vector<MatrixShape> matrices;
    for (const FlatTensor& tensor : model.tensors()) {
        if (!tensor.trainable) continue;
        // A row per output: of a convolution's weight [out, in, height, width] too.
        const std::size_t rows = tensor.shape.size() < 2 ? 1 : static_cast<std::size_t>(tensor.shape.front());
        matrices.push_back({.rows = rows, .columns = rows > 0 ? tensor.elements / rows : 0});
    }
    return matrices;
}

CodecSetup codec_setup(const Problem& problem, std::size_t trainable, std::size_t size) {
    const RunOptions& o = problem.job.options;
    CodecSetup setup{.elements = trainable,
                     .tail = size - trainable,
                     .seed = o.seed,
                     .workers = o.workers,
                     .steps_per_epoch =
                         static_cast<double>(problem.epoch_examples()) / static_cast<double>(o.batch_size),
                     .momentum = problem.job.codec_momentum};
    if (problem.model) setup.tensors = matrices_of(*problem.model);
    return setup;
}

std::size_t received_bytes_max(const Problem& problem, bool serves) {
    const RunOptions& o = problem.job.options;
    const CodecSetup setup = codec_setup(problem, problem.model->trainable(), problem.model->size());
    return serves ? make_codec(o.codec, setup)->payload_bytes_max()
                  : PublishCodec(o.publish_codec, setup).payload_bytes_max();
}

ServerOptions server_options(const Problem& problem, std::size_t trainable, std::size_t size) {
    const RunOptions& o = problem.job.options;
    return {.workers = o.workers,
            .run = problem.run,
            .reject_norm = problem.pretend ? 0 : o.reject_norm,
            .quarantine_after = static_cast<std::uint32_t>(o.quarantine_after),
            .learning_rate = o.lr,
            .schedule = problem.job.schedule,
            .epoch_examples = problem.epoch_examples(),
            .trainable = trainable,
            .size = size,
            .updates = o.updates,
            .epochs = o.epochs,
            .time_limit = problem.job.time_limit,
            .target_accuracy = o.target_accuracy,
            .eval_every = o.eval_every};
}

Trained serve(const Problem& problem, Transport& transport, const Clock& clock, const RunHooks& hooks,
              ServeSetup setup) {
    const Job& job = problem.job;
    const RunOptions& o = job.options;
    const Model& model = *problem.model;

    ServerOptions options = server_options(problem, model.trainable(), model.size());
    if (setup.heartbeats) options.silence = job.silence;
    options.checkpoints = job.checkpoints && hooks.checkpoint;
    options.checkpoint_updates = job.checkpoint_updates;
    options.checkpoint_time = job.checkpoint_time;
    options.incarnation = hooks.incarnation;
    if (setup.admission) {
        options.admission = std::move(setup.admission);
        options.run = setup.run;
        options.workers = setup.places;
        options.workers_start = job.policy.workers_min;
        options.reassign_after = setup.reassign_after;
        for (const auto& part : *problem.parts) options.part_sizes.push_back(part.size());
    }
    const CodecSetup coding = codec_setup(problem, model.trainable(), model.size());
    const auto codec = make_codec(o.codec, coding);
    const auto optimizer = make_optimizer(job.optimizer, model.trainable());
    // The most that can be alive at once, not what is: one current, one being written, some waiting for their
    // evaluation, and per worker those on the way (with --cancel-late several), one computed on and one that waits.
    // Of checkpoints one is being written, and one waits.
    constexpr std::size_t kCheckpoints = 2;
    const std::size_t snapshots =
        kCheckpoints + (hooks.evaluate == EvaluationThread::When::after ? hooks.snapshots_max + 1 : 2);
    const std::size_t peers = options.workers + setup.spare_peers; // who has left keeps what it has not taken yet
    const std::size_t on_their_way = (InProcessHub::kQueuedMax + 3) * peers + 2;
    const std::size_t bytes = model.size() * sizeof(float);
    BufferPool versions((on_their_way + snapshots) * bytes);
    Buffer initial = versions.lease(bytes);
    model.initial_parameters(initial.floats());

    const PublishCodec publish_codec(o.publish_codec, coding);
    BufferPool published((2 + kCheckpoints) * bytes);
    BufferPool payloads((on_their_way + peers + 2) * publish_codec.payload_bytes_max());
    std::optional<Publisher> publisher;
    if (!publish_codec.in_place()) publisher.emplace(publish_codec, published, payloads);
    Server server(options, make_policy(job.policy), *codec, *optimizer, std::move(initial), versions,
                  publisher ? &*publisher : nullptr);

    if (hooks.resume) {
        BufferPool restored(std::numeric_limits<std::size_t>::max() / 2);
        hooks.resume->read_state(restored, [&](Archive& archive) { server.resume(archive); });
    }
    Mailbox mailbox(transport);
    // After the run nobody else needs the cores.
    const bool after = hooks.evaluate == EvaluationThread::When::after;
    TorchEvaluator evaluator(job.model, *problem.data.train, after ? static_cast<int>(cores()) : o.threads);
    const Dataset& test = *problem.data.test;
    EvaluationThread evaluation(
        hooks.evaluate, std::max<std::size_t>(2, hooks.snapshots_max),
        [&](const Snapshot& snapshot) {
            try {
                return judge(evaluator, snapshot, test, [&] { return evaluation.given_up(); });
            } catch (...) {
                mailbox.post(StopRequested{}); // a run that nobody can judge is not worth going on with
                throw;
            }
        },
        [&](const Evaluation& result) { mailbox.post(EvaluationDone{result}); });

    ThreadPool pool(cores());
    JobThread<UpdateTask*> updates([&](UpdateTask*& task) {
        task->run(pool);
        mailbox.post(UpdateDone{});
    });
    NodeLoop loop(server, transport, clock, mailbox,
                  {.start_update = [&](UpdateTask& task) { updates.start(&task); },
                   .evaluate =
                       [&](const Snapshot& snapshot) {
                           if (!problem.pretend) evaluation.submit(snapshot);
                       },
                   .tell = hooks.tell,
                   .checkpoint = hooks.checkpoint,
                   .validate = PushCheck(*codec, model.trainable(), options.reject_norm > 0)});
    {
        const StopAsked asked(hooks, [&mailbox] { mailbox.post(StopRequested{}); });
        loop.run();
    }
    // Who ends a run does not wait for a worker that is stopped or cut off, which does not say goodbye, nor for long
    // for what the last version is worth.
    const bool interrupted = server.outcome() == Outcome::interrupted;
    const Time ended = clock.now();
    transport.shutdown(ended + (interrupted && options.admission ? kShutdownOfInterrupt : kShutdown));

    std::exception_ptr failure;
    try {
        const Duration left = std::max(Duration::zero(), ended + kEvaluationOfInterrupt - clock.now());
        evaluation.finish(interrupted ? std::optional(left) : std::nullopt);
    } catch (...) {
        failure = std::current_exception();
    }
    std::vector<Event> late;
    mailbox.take(late);
    for (const Event& event : late) loop.handle(event);

    Trained trained = trained_by(server);
    const auto parameters = server.parameters().floats();
    trained.parameters.assign(parameters.begin(), parameters.end());
    trained.failure = failure;
    return trained;
}

WorkEnd work(const Problem& problem, WorkerId worker, Transport& transport, const Clock& clock,
             const std::optional<ElasticWorker>& elastic) {
    const Job& job = problem.job;
    const RunOptions& o = job.options;
    const std::size_t size = problem.model->size();
    const std::size_t trainable = problem.model->trainable();
    const std::uint32_t examples = problem.batch_of(worker);

    const CodecSetup setup = codec_setup(problem, trainable, size);
    const auto codec = make_codec(o.codec, setup);
    const PublishCodec publish_codec(o.publish_codec, setup);
    WorkerBuffers buffers(*codec, size, job.policy.held_of_one_worker_max());
    Worker node({.worker = worker,
                 .examples = examples,
                 .run = elastic ? elastic->run : problem.run,
                 .size = size,
                 .process = elastic ? elastic->process : 0,
                 .traits = elastic ? elastic->traits : Buffer{}},
                *codec, buffers);
    GradientCodecs codecs(*codec, publish_codec, worker, buffers);
    std::unique_ptr<GradientSource> source;

    Mailbox mailbox(transport);
    std::optional<GradientThread> thread;
    if (problem.pretend) {
        thread.emplace(worker, o.workers, problem.pretend->of(examples), std::move(codecs), job.straggle, mailbox);
    } else {
        source = make_gradient_source(job.model, *problem.data.train, o.threads, o.seed + worker.value());
        // Who straggles is said of the first so many; others do as these.
        thread.emplace(WorkerId{static_cast<std::uint32_t>(worker.value() % o.workers)}, o.workers,
                       problem.batcher(worker), *source, std::move(codecs), job.straggle, mailbox);
    }
    std::optional<Version> damaged;
    NodeLoop loop(node, transport, clock, mailbox,
                  {.start_compute = [&](const ComputeJob& compute) { thread->start(compute); },
                   .cancel_compute = [&] { thread->cancel(); },
                   .validate =
                       [&](MessageArrived& arrived) {
                           const Message& message = arrived.message;
                           arrived.defect = publish_codec.validate({message.payload.data(), message.payload.bytes()});
                           // A batch of a part that there is not cannot be drawn.
                           if (problem.parts && message.data.part >= problem.parts->size()) {
                               arrived.defect = Reason::malformed;
                           }
                           if (arrived.defect != Reason::none) damaged = message.version;
                       }});
    std::atomic<bool> interrupted = false;
    if (elastic && elastic->stop_with) {
        elastic->stop_with([&] {
            interrupted = true;
            mailbox.post(StopRequested{});
        });
    }
    loop.run();
    if (elastic && elastic->stop_with) elastic->stop_with({});
    transport.shutdown(clock.now() + (interrupted ? kShutdownOfInterrupt : kShutdown));
    if (interrupted && elastic->stopped) elastic->stopped();
    if (damaged) {
        throw EnvironmentError(fmt::format("worker {}: the parameters of version {} arrived damaged; it has left",
                                           worker.value(), damaged->value()));
    }
    if (thread->failure()) std::rethrow_exception(thread->failure());
    return {.told_to_stop = node.told_to_stop(), .refusal = node.refusal()};
}

namespace {

/// The error being handled, with the system's refusal of a thread in words that help.
std::exception_ptr in_words(const std::system_error& error, std::size_t workers) {
    if (error.code() != std::errc::resource_unavailable_try_again) return std::current_exception();
    return std::make_exception_ptr(
        EnvironmentError(fmt::format("--workers {}: the system gives no more threads (a worker has two); use fewer "
                                     "workers, or raise the limit (ulimit -u)",
                                     workers)));
}

} // namespace

Trained train_in_threads(const Problem& problem, const RunHooks& hooks) {
    const std::size_t n = problem.job.options.workers;
    const SteadyClock clock;
    InProcessHub hub(n, clock);
    std::mutex mutex;
    std::exception_ptr failure;
    std::function<void()> stop; // what asks the server for the end, while there is one
    const auto fail = [&](std::exception_ptr why) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::move(why);
        if (stop) stop();
    };
    try {
        std::vector<std::jthread> workers;
        const auto server_end = hub.endpoint(kServerPeer); // goes before the workers: whatever happens, they see it go
        for (std::uint32_t i = 0; i < n; ++i) {
            workers.emplace_back([&, i, end = hub.endpoint(Peer{i + 1})] {
                try {
                    work(problem, WorkerId{i}, *end, clock);
                } catch (const std::system_error& error) {
                    fail(in_words(error, n));
                } catch (...) {
                    fail(std::current_exception());
                }
            });
        }
        RunHooks with_stop = hooks;
        with_stop.stop_with = [&](const std::function<void()>& ask) {
            if (hooks.stop_with) hooks.stop_with(ask);
            const std::lock_guard lock(mutex);
            stop = ask;
            if (stop && failure) stop();
        };
        Trained trained = serve(problem, *server_end, clock, with_stop);
        for (std::jthread& worker : workers) worker.join();
        if (failure) trained.failure = failure;
        return trained;
    } catch (const std::system_error& error) {
        std::rethrow_exception(in_words(error, n));
    }
}

} // namespace lategrad
