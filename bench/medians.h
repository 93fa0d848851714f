/// What a benchmark program measured: of each benchmark and counter the median over its repetitions.
#pragma once

#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

namespace lategrad {

class Medians final : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context&) override { return true; }

    void ReportRuns(const std::vector<Run>& runs) override {
        for (const Run& run : runs) {
            if (run.aggregate_name != "median") continue;
            for (const auto& [counter, value] : run.counters)
                medians_[run.run_name.function_name][counter] = value.value;
        }
    }

    /// False for what --benchmark_filter left out.
    bool has(const std::string& name) const { return medians_.contains(name); }
    double of(const std::string& name, const std::string& counter) const { return medians_.at(name).at(counter); }

  private:
    std::map<std::string, std::map<std::string, double>> medians_;
};

} // namespace lategrad
