#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>

#include "tests/layout/rules.h"

namespace lategrad {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

const fs::path kRoot = LATEGRAD_SOURCE_DIR;

std::string content(const fs::path& path) {
    std::ifstream file(path);
    std::ostringstream out;
    out << file.rdbuf();
    return out.str();
}

/// All sources under lategrad/ and cli/.
std::vector<fs::path> sources() {
    std::vector<fs::path> out;
    for (const char* top : {"lategrad", "cli"}) {
        for (const auto& entry : fs::recursive_directory_iterator(kRoot / top)) {
            const auto extension = entry.path().extension();
            if (extension == ".h" || extension == ".cpp") out.push_back(entry.path());
        }
    }
    return out;
}

TEST(Layout, IsKeptByEverySource) {
    const auto files = sources();
    EXPECT_GT(files.size(), 50u);
    for (const fs::path& file : files) {
        EXPECT_THAT(breaches(fs::relative(file, kRoot).generic_string(), content(file)), IsEmpty());
    }
}

TEST(Layout, IsKeptByEveryTarget) {
    for (const std::string& folder : folders()) {
        for (const std::string& dependency :
             declared_dependencies(content(kRoot / "lategrad" / folder / "CMakeLists.txt"))) {
            EXPECT_TRUE(allowed_includes(folder).contains(dependency))
                << "lategrad/" << folder << "/CMakeLists.txt: DEPENDS " << dependency;
        }
    }
}

TEST(Layout, IsWhatTheTargetsDeclare) {
    // A header that is included comes from a folder that the target depends on, not by way of another one.
    for (const fs::path& file : sources()) {
        const fs::path relative = fs::relative(file, kRoot);
        if (*relative.begin() != "lategrad") continue;
        const std::string folder = *std::next(relative.begin());
        const auto declared = declared_dependencies(content(kRoot / "lategrad" / folder / "CMakeLists.txt"));
        std::istringstream lines(content(file));
        for (std::string line; std::getline(lines, line);) {
            const std::string prefix = "#include \"lategrad/";
            if (!line.starts_with(prefix)) continue;
            const std::string other = line.substr(prefix.size(), line.find('/', prefix.size()) - prefix.size());
            EXPECT_TRUE(other == folder || declared.contains(other)) << relative << ": " << line;
        }
    }
}

TEST(Layout, StartsNoThreadWhereThreadSanitizerIsSpared) {
    const std::string lists = content(kRoot / "tests/CMakeLists.txt");
    std::smatch names;
    ASSERT_TRUE(std::regex_search(lists, names, std::regex(R"(set\(one_thread ([^)]*)\))")));
    static const std::regex threads(R"(#\s*include\s*[<"](thread|future|pthread\.h|lategrad/core/thread_pool\.h)[>"])");
    std::istringstream folders(names[1]);
    for (std::string folder; folders >> folder;) {
        for (const char* top : {"lategrad", "tests"}) {
            if (!fs::exists(kRoot / top / folder)) continue;
            for (const auto& file : fs::directory_iterator(kRoot / top / folder)) {
                if (!file.is_regular_file()) continue;
                EXPECT_FALSE(std::regex_search(content(file.path()), threads)) << file.path();
            }
        }
    }
}

TEST(Layout, HasNoCycle) {
    // Folders fall away one by one as long as one of them needs none of those left.
    std::set<std::string> left(folders().begin(), folders().end());
    for (bool fell = true; fell;) {
        fell =
            std::erase_if(left, [&](const std::string& folder) {
                const auto& needs = allowed_includes(folder);
                return std::none_of(needs.begin(), needs.end(), [&](const auto& need) { return left.contains(need); });
            }) > 0;
    }
    EXPECT_THAT(left, IsEmpty());
}

// The check itself: each rule refuses a made-up breach and lets its good twin pass.

TEST(LayoutRules, RefuseTheWrongDirection) {
    EXPECT_THAT(breaches("lategrad/core/a.h", "#include \"lategrad/node/node.h\"\n"),
                ElementsAre("lategrad/core/a.h:1: lategrad/core may not include lategrad/node"));
    EXPECT_THAT(breaches("lategrad/server/a.cpp", "#pragma once\n\n#  include <lategrad/transport/mpi.h>"),
                ElementsAre("lategrad/server/a.cpp:3: lategrad/server may not include lategrad/transport"));
    EXPECT_THAT(breaches("lategrad/policy/a.cpp", "#include \"lategrad/codec/codec.h\""), testing::SizeIs(1));
    EXPECT_THAT(breaches("lategrad/policy/a.cpp", "#include \"cli/options.h\""), testing::SizeIs(1));
    EXPECT_THAT(breaches("lategrad/policy/a.cpp", "#include \"tests/support/virtual_cluster.h\""), testing::SizeIs(1));
}

TEST(LayoutRules, AllowTheRightOne) {
    EXPECT_THAT(
        breaches("lategrad/server/a.cpp", "#include \"lategrad/node/node.h\"\n#include \"lategrad/server/b.h\""),
        IsEmpty());
    EXPECT_THAT(breaches("cli/main.cpp", "#include \"lategrad/torch/model.h\"\n#include \"cli/options.h\""), IsEmpty());
    EXPECT_THAT(breaches("lategrad/core/a.h", "// as in #include \"lategrad/node/node.h\""), IsEmpty());
}

TEST(LayoutRules, OpenOneHeaderOfTheWorkerToTorch) {
    EXPECT_THAT(breaches("lategrad/torch/a.h", "#include \"lategrad/worker/gradient_source.h\""), IsEmpty());
    EXPECT_THAT(breaches("lategrad/torch/a.h", "#include \"lategrad/worker/worker.h\""), testing::SizeIs(1));
}

TEST(LayoutRules, KeepLibrariesBehindTheirFolder) {
    for (const char* line : {"#include <torch/torch.h>", "#include <ATen/ATen.h>", "#include <c10/util/Exception.h>"}) {
        EXPECT_THAT(breaches("lategrad/torch/a.cpp", line), IsEmpty());
        EXPECT_THAT(breaches("cli/a.cpp", line), testing::SizeIs(1));
        EXPECT_THAT(breaches("lategrad/server/a.cpp", line), testing::SizeIs(1));
    }
    EXPECT_THAT(breaches("lategrad/transport/mpi_session.cpp", "#include <mpi.h>"), IsEmpty());
    EXPECT_THAT(breaches("lategrad/transport/in_process.cpp", "#include <mpi.h>"), testing::SizeIs(1));
    EXPECT_THAT(breaches("cli/a.cpp", "#include <mpi.h>"), testing::SizeIs(1));
}

TEST(LayoutRules, KeepClocksOutOfWhatGetsTimeAsAnArgument) {
    EXPECT_THAT(breaches("lategrad/runtime/a.cpp", "std::chrono::steady_clock::now()"), IsEmpty());
    for (const char* clock : {"steady_clock", "system_clock", "high_resolution_clock"}) {
        EXPECT_THAT(breaches("lategrad/worker/a.cpp", std::string("std::chrono::") + clock + "::now()"),
                    ElementsAre(HasSubstr("a clock belongs to")));
    }
}

TEST(LayoutRules, KeepOpenMpOut) {
    EXPECT_THAT(breaches("lategrad/torch/a.cpp", "#pragma omp parallel for"), IsEmpty());
    EXPECT_THAT(breaches("lategrad/codec/a.cpp", "  # pragma omp simd"), testing::SizeIs(1));
}

TEST(LayoutRules, KeepPoliciesPure) {
    for (const char* header : {"thread", "mutex", "chrono", "fstream", "iostream"}) {
        const std::string line = std::string("#include <") + header + ">";
        EXPECT_THAT(breaches("lategrad/policy/a.cpp", line), testing::SizeIs(1)) << line;
        EXPECT_THAT(breaches("lategrad/core/a.cpp", line), IsEmpty()) << line;
    }
}

TEST(LayoutRules, KnowEveryFolder) {
    EXPECT_THAT(breaches("lategrad/shiny/a.cpp", ""), ElementsAre(HasSubstr("lategrad/shiny is not in the table")));
}

TEST(LayoutRules, ReadWhatATargetDependsOn) {
    EXPECT_THAT(
        declared_dependencies("find_package(x)\nlategrad_library(a SOURCES b.cpp DEPENDS core\n wire PRIVATE c)"),
        UnorderedElementsAre("core", "wire"));
    EXPECT_THAT(declared_dependencies("lategrad_library(a SOURCES b.cpp DEPENDS core)"), UnorderedElementsAre("core"));
    EXPECT_THAT(declared_dependencies("lategrad_library(core SOURCES b.cpp)"), IsEmpty());
}

} // namespace
} // namespace lategrad
