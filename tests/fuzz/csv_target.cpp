/// Whatever table of stragglers or of failures is read has times within bounds, and workers who leave when they are
/// there.
#include <set>

#include "lategrad/sim/failures.h"
#include "lategrad/worker/straggle.h"
#include "tests/fuzz/file.h"

namespace lategrad::fuzz {
namespace {

constexpr std::uint64_t kSeed = 1;

bool in_bounds(Duration time) {
    return time >= Duration::zero() && seconds(time) <= kSecondsMax;
}

void read_trace(const std::string& file) {
    const StraggleModel model = StraggleModel::parse("trace:" + file, kSeed);
    bool delays = false;
    for (std::uint32_t worker = 0; worker < 4; ++worker) {
        for (std::uint64_t step = 0; step < 4; ++step) {
            const Duration delay = model.delay(WorkerId{worker}, Step{step}, 4, from_seconds(1));
            CHECK(in_bounds(delay));
            delays |= delay > Duration::zero();
        }
    }
    CHECK(!delays || model.adds_time(Duration::zero()));
    CHECK(model.workers_min() <= std::size_t{1} << 32);
    if (const auto missing = model.missing_in_trace(4)) CHECK(missing->value() < 4);
}

void read_script(const std::string& file) {
    const FailureModel model = FailureModel::parse("script:" + file, kSeed);
    std::set<WorkerId> gone;
    Duration before{0};
    for (const ScriptedFailure& failure : model.script()) {
        CHECK(in_bounds(failure.at) && before <= failure.at);
        before = failure.at;
        CHECK(failure.leaves ? gone.insert(failure.worker).second : gone.erase(failure.worker) == 1);
        CHECK(failure.worker.value() < model.workers_min());
    }
}

class CsvTarget final : public Target {
  public:
    explicit CsvTarget(bool trace) : trace_(trace) {}

    bool run(unsigned, Bytes bytes) const override {
        if (is_gzipped(bytes)) return false;
        const MemoryFile input(bytes);
        return passes(input.path(), [&] { trace_ ? read_trace(input.path()) : read_script(input.path()); });
    }

    std::vector<Bytes> payloads() const override {
        if (trace_) {
            return {bytes_in("worker,step,seconds\n0,0,0.5\n1,0,0\n2,3,1e9\n"),
                    bytes_in("name, seconds ,step,worker\r\n\r\na,1.25e-3,4294967296,4294967295"),
                    bytes_in("worker,step,seconds")};
        }
        return {bytes_in("seconds,worker,event\n1.5,0,leave\n1,1,leave\n2e3,0,join\n2e3,0,leave\n"),
                bytes_in("event,worker,seconds\n")};
    }

  private:
    bool trace_;
};

} // namespace

std::unique_ptr<Target> make_csv_target(const std::string& spec) {
    return std::make_unique<CsvTarget>(spec == "trace");
}

} // namespace lategrad::fuzz
