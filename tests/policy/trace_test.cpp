/// Runs the traces in tests/policy/traces: files of events and of the decisions expected, one policy each. To pin a
/// regression, add a file. The format:
///
///     policy ssp:1 wait-for=2 late-weight=span normalize=quorum staleness-max=3 cancel-late
///     join 0 b=8                 -> send 0
///     push 0/2 base=1            -> hold late | close v1 D=16 apply 0/2@1 1/4@1*0.5 | send 0 1 | cancel 1
///     leave 0                    ->
///
/// `0/2` is gradient 2 of worker 0; `@1` its base version; `*0.5` a late weight other than 1. What follows `#` is
/// comment.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/policy/policy.h"

namespace lategrad {
namespace {

std::vector<std::string> words(const std::string& line) {
    std::istringstream in(line);
    std::vector<std::string> out;
    for (std::string word; in >> word;) out.push_back(word);
    return out;
}

std::string normal_spaces(const std::string& text) {
    return fmt::format("{}", fmt::join(words(text), " "));
}

std::string after(const std::string& word, std::string_view prefix) {
    if (!word.starts_with(prefix)) throw std::runtime_error(fmt::format("expected {}… at '{}'", prefix, word));
    return word.substr(prefix.size());
}

template <class T>
T number(const std::string& text) {
    const auto value = parse_number<T>(text);
    if (!value) throw std::runtime_error("not a number: " + text);
    return *value;
}

std::unique_ptr<Policy> policy_from(const std::vector<std::string>& line) {
    PolicyOptions options;
    options.parse_kind(line.at(1));
    for (std::size_t i = 2; i < line.size(); ++i) {
        const std::string& word = line[i];
        if (word == "cancel-late") options.cancel_late = true;
        else if (word.starts_with("wait-for=")) options.wait_for = number<std::size_t>(after(word, "wait-for="));
        else if (word.starts_with("late-weight=")) options.late_weight = LateWeight::parse(after(word, "late-weight="));
        else if (word.starts_with("late-share="))
            options.late_weight.late_share = number<double>(after(word, "late-share="));
        else if (word.starts_with("normalize=")) options.parse_normalize(after(word, "normalize="));
        else if (word.starts_with("workers-min="))
            options.workers_min = number<std::size_t>(after(word, "workers-min="));
        else options.staleness_max = number<std::uint64_t>(after(word, "staleness-max="));
    }
    return make_policy(options);
}

PolicyEvent event_from(const std::vector<std::string>& line) {
    const std::string& verb = line.at(0);
    const auto slash = line.at(1).find('/');
    const WorkerId worker{number<std::uint32_t>(line[1].substr(0, slash))};
    if (verb == "join") return WorkerJoined{worker, number<std::uint32_t>(after(line.at(2), "b="))};
    if (verb == "return") {
        return WorkerJoined{worker, number<std::uint32_t>(after(line.at(2), "b=")), true, line.at(3) == "computing"};
    }
    if (verb == "leave") return WorkerLeft{worker};
    const Version base{number<std::uint64_t>(after(line.at(2), "base="))};
    if (verb == "reject") return GradientRejected{worker, base, Reason::not_finite};
    if (verb != "push") throw std::runtime_error("unknown event: " + verb);
    return GradientArrived{worker, Step{number<std::uint64_t>(line[1].substr(slash + 1))}, base};
}

std::string text(const std::vector<WorkerId>& workers) {
    std::string out;
    for (const WorkerId worker : workers) out += fmt::format(" {}", worker.value());
    return out;
}

std::string text(const PolicyEvent& event, const Decision& decision) {
    std::vector<std::string> parts;
    if (std::holds_alternative<GradientArrived>(event) || std::holds_alternative<GradientRejected>(event)) {
        parts.push_back(fmt::format("{} {}", to_string(decision.fate), to_string(decision.reason)));
    }
    if (decision.closes) {
        std::string close = fmt::format("close v{} D={} apply", decision.version.value(), decision.denominator);
        for (const AppliedGradient& gradient : decision.applied) {
            close += fmt::format(" {}/{}@{}", gradient.worker.value(), gradient.step.value(), gradient.base.value());
            if (gradient.weight != 1) close += fmt::format("*{:.4g}", gradient.weight);
        }
        parts.push_back(close);
    }
    if (!decision.send.empty()) parts.push_back("send" + text(decision.send));
    if (!decision.cancel.empty()) parts.push_back("cancel" + text(decision.cancel));
    return fmt::format("{}", fmt::join(parts, " | "));
}

class PolicyTrace : public testing::TestWithParam<std::filesystem::path> {};

TEST_P(PolicyTrace, DecidesAsWritten) {
    std::ifstream file(GetParam());
    ASSERT_TRUE(file) << GetParam();
    std::unique_ptr<Policy> policy;
    Decision decision;
    std::size_t events = 0;
    std::size_t line_number = 0;
    for (std::string line; std::getline(file, line);) {
        ++line_number;
        line = line.substr(0, line.find('#'));
        const auto parts = words(line);
        if (parts.empty()) continue;
        SCOPED_TRACE(fmt::format("{}:{}: {}", GetParam().string(), line_number, line));
        if (parts[0] == "policy") {
            policy = policy_from(parts);
            continue;
        }
        const auto arrow = line.find("->");
        ASSERT_NE(arrow, std::string::npos) << "a line is an event, ->, and the decision";
        const PolicyEvent event = event_from(words(line.substr(0, arrow)));
        decision.clear();
        policy->step(event, Time{}, decision);
        EXPECT_EQ(text(event, decision), normal_spaces(line.substr(arrow + 2)));
        ++events;
    }
    EXPECT_GT(events, 0u);
}

std::vector<std::filesystem::path> traces() {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(LATEGRAD_SOURCE_DIR "/tests/policy/traces")) {
        paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
}

INSTANTIATE_TEST_SUITE_P(Traces, PolicyTrace, testing::ValuesIn(traces()), [](const auto& info) {
    std::string name = info.param.stem().string();
    std::replace(name.begin(), name.end(), '-', '_');
    return name;
});

TEST(PolicyOptions, RefusesWhatDoesNotExist) {
    PolicyOptions options;
    EXPECT_THROW(options.parse_kind("hogwild"), InputError);
    EXPECT_THROW(options.parse_kind("ssp"), InputError);
    EXPECT_THROW(options.parse_kind("ssp:-1"), InputError);
    EXPECT_THROW(options.parse_normalize("all"), InputError);
    options.parse_kind("reuse");
    options.cancel_late = true;
    EXPECT_THROW(make_policy(options), InputError);
}

} // namespace
} // namespace lategrad
