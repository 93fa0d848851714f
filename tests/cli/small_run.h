/// A run that takes a fraction of a second, and what is expected of every run.
#pragma once

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace lategrad {

/// A run of a linear model on small data, to `dir`/`name`.
inline std::vector<std::string> small_run(const TempDir& dir, const std::string& name,
                                          std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"train",
                                          "--data",
                                          write_blobs(dir).string(),
                                          "--model",
                                          "mlp:20",
                                          "--out",
                                          (dir / name).string(),
                                          "--batch-size",
                                          "64",
                                          "--updates",
                                          "40",
                                          "--lr",
                                          "0.5",
                                          "--json",
                                          "--quiet"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

inline nlohmann::json summary_of(const Ran& ran) {
    EXPECT_EQ(ran.status, 0) << ran.err;
    return nlohmann::json::parse(ran.out, nullptr, false);
}

inline void expect_accounted(const nlohmann::json& summary) {
    EXPECT_EQ(summary["pushed"], summary["applied"].get<int>() + summary["dropped"].get<int>() +
                                     summary["held"].get<int>() + summary["lost"].get<int>());
}

} // namespace lategrad
