/// Whatever state a simulation of which only the timing matters is read from, it is written again so that it reads the
/// same.
#include <limits>
#include <optional>
#include <sstream>

#include "lategrad/core/archive.h"
#include "lategrad/core/random.h"
#include "lategrad/sim/cluster.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kFloats = 24;
constexpr std::size_t kWorkers = 3;

/// `POLICY [topk] [limited] [dies] [stops]`.
ClusterOptions options_of(const std::string& spec) {
    std::istringstream words(spec);
    std::string word;
    CHECK(words >> word);
    ClusterOptions options;
    options.policy.parse_kind(word);
    options.policy.wait_for = 2;
    options.policy.cancel_late = word == "backup";
    options.server.updates = 30;
    options.server.epoch_examples = 100;
    options.server.trainable = options.server.size = kFloats;
    options.examples.assign(kWorkers, 2);
    options.compute_time = [](WorkerId worker, Step step) {
        return Duration(1 + RandomStream(1, Purpose::test, {worker.value(), step.value()}).below(20));
    };
    options.update_time = Duration(3);
    options.links.latency = Duration(4);
    while (words >> word) {
        if (word == "limited") options.links.worker_rate = options.links.server_rate = 2e10;
        else if (word == "dies") options.failures = FailureModel::parse("mtbf:0.1us,rejoin:0.02us,detect:0.005us", 1);
        else if (word == "stops")
            options.server.silence = {.heartbeat = Duration(5),
                                      .suspect_after = Duration(12),
                                      .dead_after = Duration(60),
                                      .overdue_after = Duration(500)};
    }
    return options;
}

class Simulated {
  public:
    explicit Simulated(const std::string& spec)
        : codec_(make_codec(spec.find("topk") == spec.npos ? "none" : "topk:0.2", {.elements = kFloats})),
          cluster_(options_of(spec), *codec_, *optimizer_, versions_.lease(kFloats * sizeof(float)), versions_, nullptr,
                   {}) {}

    Cluster& cluster() { return cluster_; }
    void persist(Archive& archive) {
        archive.pools({&versions_});
        cluster_.persist(archive);
    }

  private:
    BufferPool versions_{std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal};
    std::unique_ptr<Codec> codec_;
    std::unique_ptr<Optimizer> optimizer_ = make_optimizer({}, 1);
    Cluster cluster_;
};

class SimulationTarget final : public Target {
  public:
    explicit SimulationTarget(std::string spec) : spec_(std::move(spec)) {}

    bool run(unsigned, Bytes bytes) const override {
        std::optional<Bytes> state;
        if (!passes("at byte ", [&] { state = read_and_written(bytes); })) return false;
        CHECK(read_and_written(*state) == *state);
        return true;
    }

    std::vector<Bytes> payloads() const override {
        std::vector<Bytes> out;
        Simulated simulated(spec_);
        if (spec_.find("stops") != spec_.npos) {
            simulated.cluster().freeze(WorkerId{0}, Time{Duration(60)});
            simulated.cluster().thaw(WorkerId{0}, Time{Duration(100)});
            simulated.cluster().freeze(WorkerId{1}, Time{Duration(150)});
        }
        for (const std::uint64_t steps : {1, 50, 150}) {
            simulated.cluster().run(steps);
            ArchiveWriter writer;
            simulated.persist(writer);
            out.push_back(writer.finish().state);
        }
        return out;
    }

  private:
    Bytes read_and_written(const Bytes& bytes) const {
        Simulated simulated(spec_);
        BufferPool unnamed(std::numeric_limits<std::size_t>::max() / 2, BufferPool::Memory::nominal);
        ArchiveReader reader(bytes, {}, unnamed);
        simulated.persist(reader);
        reader.finish();
        ArchiveWriter writer;
        simulated.persist(writer);
        return writer.finish().state;
    }

    std::string spec_;
};

} // namespace

std::unique_ptr<Target> make_simulation_target(const std::string& spec) {
    return std::make_unique<SimulationTarget>(spec);
}

} // namespace lategrad::fuzz
