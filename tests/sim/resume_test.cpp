/// A simulation that is stopped anywhere and goes on from its checkpoint is the one that never stopped.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <string>

#include "lategrad/core/archive.h"
#include "lategrad/core/random.h"
#include "lategrad/telemetry/event_json.h"
#include "tests/support/virtual_cluster.h"

namespace lategrad {
namespace {

constexpr std::size_t kFloats = 24;

struct Case {
    std::uint64_t seed;
    std::string policy, codec, publish_codec, optimizer;
    std::size_t workers;
    bool cancel_late, limited_links, deaths, stops;
    int update_duration, latency;

    friend std::ostream& operator<<(std::ostream& out, const Case& c) {
        return out << "seed " << c.seed << ", " << c.workers << " workers, " << c.policy << ", " << c.codec << ", "
                   << c.publish_codec << ", " << c.optimizer << (c.cancel_late ? ", cancel-late" : "")
                   << (c.limited_links ? ", limited links" : "") << (c.deaths ? ", deaths" : "")
                   << (c.stops ? ", stops" : "") << ", update " << c.update_duration << ", latency " << c.latency;
    }
};

Case draw_case() {
    Case c;
    c.seed = *rc::gen::arbitrary<std::uint64_t>();
    c.policy = *rc::gen::element<std::string>("sync", "backup", "reuse", "kasync", "kbatch", "async", "ssp:0", "ssp:2");
    c.codec = *rc::gen::element<std::string>("none", "bf16", "topk:0.2", "dgc:0.2", "signsgd", "lowrank:2", "qsgd:4",
                                             "randk:0.2", "topk:0.2+zstd");
    c.publish_codec = *rc::gen::element<std::string>("none", "bf16", "delta:topk:0.3", "delta:qsgd:4", "delta:signsgd");
    c.optimizer = *rc::gen::element<std::string>("sgd", "adam", "adamw");
    c.workers = *rc::gen::inRange<std::size_t>(1, 6);
    c.cancel_late = c.policy == "backup" && *rc::gen::arbitrary<bool>();
    c.limited_links = *rc::gen::arbitrary<bool>();
    c.deaths = *rc::gen::arbitrary<bool>();
    c.stops = *rc::gen::arbitrary<bool>();
    c.update_duration = *rc::gen::element(0, 3, 15);
    c.latency = *rc::gen::element(0, 4);
    return c;
}

VirtualClusterOptions options_of(const Case& c) {
    VirtualClusterOptions options;
    options.policy.parse_kind(c.policy);
    options.policy.wait_for = (c.workers + 1) / 2;
    options.policy.cancel_late = c.cancel_late;
    options.optimizer = {.kind = c.optimizer, .momentum = c.optimizer == "sgd" && c.codec != "dgc:0.2" ? 0.9 : 0};
    options.codec = c.codec;
    options.publish_codec = c.publish_codec;
    options.codec_momentum = c.codec == "dgc:0.2" ? 0.5 : 0;
    options.tensors = {{4, 5}, {1, 4}};
    options.examples.assign(c.workers, 2);
    options.initial.assign(kFloats, 1);
    options.server.updates = 40;
    options.server.epoch_examples = 100;
    options.server.learning_rate = 0.05;
    options.server.eval_every = 5;
    options.server.reject_norm = 50;
    options.update_duration = Duration(c.update_duration);
    options.latency = Duration(c.latency);
    if (c.limited_links) options.links = {.worker_rate = 2e10, .server_rate = 3e10};
    if (c.deaths) {
        options.failures = FailureModel::parse("mtbf:0.1us,rejoin:0.02us,detect:0.005us", c.seed);
    }
    if (c.stops) {
        options.server.silence = {.heartbeat = Duration(5),
                                  .suspect_after = Duration(12),
                                  .dead_after = Duration(60),
                                  .overdue_after = Duration(500)};
    }
    options.gradient = [c](WorkerId worker, Step step, std::span<const float> params, std::span<float> grad) {
        RandomStream random(c.seed, Purpose::test, {worker.value(), step.value()});
        for (std::size_t i = 0; i < grad.size(); ++i) {
            grad[i] = params[i] + static_cast<float>(random.uniform() - 0.5);
        }
        if (random.below(20) == 0) grad[3] = std::numeric_limits<float>::quiet_NaN();
        return random.uniform();
    };
    options.duration = [c](WorkerId worker, Step step) {
        const auto range = worker.value() == 0 ? 30u : 10u;
        return Duration(1 + RandomStream(c.seed, Purpose::test, {7, worker.value(), step.value()}).below(range));
    };
    return options;
}

/// What is asked for from outside, before the first event.
void disturb(VirtualCluster& cluster, const Case& c) {
    RandomStream random(c.seed, Purpose::test, {8});
    for (int i = 0; c.stops && i < 4; ++i) {
        const WorkerId worker{static_cast<std::uint32_t>(random.below(c.workers))};
        const Duration at(c.latency + 50 + static_cast<int>(random.below(200)));
        cluster.freeze(worker, Time{at});
        cluster.thaw(worker, Time{at + Duration(random.below(90))});
    }
}

std::vector<std::byte> all_of(const std::vector<std::span<const std::byte>>& blobs) {
    std::vector<std::byte> bytes;
    for (const auto& blob : blobs) bytes.insert(bytes.end(), blob.begin(), blob.end());
    return bytes;
}

RC_GTEST_PROP(Resume, GoesOnAsIfItHadNeverStopped, ()) {
    const Case c = draw_case();
    RC_LOG() << c;
    VirtualCluster whole(options_of(c));
    disturb(whole, c);
    const auto stop_after = *rc::gen::inRange<std::size_t>(0, 600);
    std::optional<ArchiveWriter::Captured> captured;
    std::vector<std::byte> blobs;
    std::size_t told = 0;
    for (std::size_t i = 0; i < 100'000; ++i) {
        if (i == stop_after && !whole.done()) {
            ArchiveWriter writer;
            whole.persist(writer);
            captured = writer.finish();
            blobs = all_of(captured->blobs()); // as they are now; the buffers go on
            captured->buffers.clear();
            told = whole.events().size();
        }
        if (!whole.step()) break;
    }
    RC_ASSERT(whole.done());
    if (!captured) return;

    VirtualCluster resumed(options_of(c));
    BufferPool unnamed(std::size_t{1} << 24);
    ArchiveReader reader(captured->state, blobs, unnamed);
    resumed.persist(reader);
    RC_ASSERT(reader.finish()); // pools lend what they would have lent
    RC_ASSERT(resumed.run());
    RC_ASSERT(resumed.server().totals() == whole.server().totals());
    RC_ASSERT(resumed.parameters() == whole.parameters());
    // It tells what the other one told behind the stop.
    const auto& all = whole.events();
    const auto& rest = resumed.events();
    RC_ASSERT(told + rest.size() == all.size());
    for (std::size_t i = 0; i < rest.size(); ++i) RC_ASSERT(to_json_line(rest[i]) == to_json_line(all[told + i]));
    RC_ASSERT(resumed.now() == whole.now());
}

} // namespace
} // namespace lategrad
