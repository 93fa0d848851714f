/// lategrad theory: what it prints, its exit status, and what it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace lategrad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

Ran theory(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "theory");
    return run_program(arguments);
}

TEST(Theory, CheckSaysWhetherTheConditionHolds) {
    const std::vector<std::string> inside = {"check",   "--a", "1",      "--b",        "10",
                                             "--alpha", "0.1", "--late", "0.003,0.002"};
    const Ran holds = theory(inside);
    EXPECT_EQ(holds.status, 0) << holds.err;
    EXPECT_THAT(holds.out, HasSubstr("Certain to converge"));
    const Ran not_held = theory({"check", "--a", "1", "--b", "10", "--alpha", "0.1", "--late", "0,0.09", "--json"});
    EXPECT_EQ(not_held.status, 1);
    const json out = json::parse(not_held.out);
    EXPECT_FALSE(out.at("holds"));
    EXPECT_DOUBLE_EQ(out.at("late_max"), 0.005);
    EXPECT_LT(out.at("spectral_radius"), 1);
    EXPECT_GT(out.at("late_scale_limit"), 1);
}

TEST(Theory, RidgeConvergesInsideTheConditionAndNotFarOutside) {
    const Ran ran = theory({"ridge", "--rows", "30", "--cols", "3", "--json"});
    EXPECT_EQ(ran.status, 0) << ran.err;
    const json out = json::parse(ran.out);
    EXPECT_TRUE(out.at("condition_holds"));
    EXPECT_TRUE(out.at("eigenvalues_within"));
    EXPECT_EQ(out.at("distances").front().at("t"), 0);
    const Ran outside = theory({"ridge", "--rows", "30", "--cols", "3", "--alpha", "1", "--iterations", "2000"});
    EXPECT_EQ(outside.status, 1);
    EXPECT_THAT(outside.out, HasSubstr("not converged"));
}

TEST(Theory, RidgeReadsTheArraysThatTrainReads) {
    const TempDir dir;
    const std::vector<float> x = {3, 4, 0, 1, 1, 0}, y = {1, 2, 3};
    const auto path = dir / "arrays.safetensors";
    write_safetensors(path, std::vector<TensorView>{{"x", {3, 2}, x}, {"y", {3}, y}});
    const Ran ran = theory({"ridge", "--data", path.string(), "--json"});
    EXPECT_EQ(ran.status, 0) << ran.err;
    const json out = json::parse(ran.out);
    EXPECT_EQ(out.at("rows"), 3);
    EXPECT_EQ(out.at("columns"), 2);
    EXPECT_DOUBLE_EQ(out.at("norm_divisor"), 5);
}

TEST(Theory, StabilityAndMomentumAreRows) {
    const json limits = json::parse(theory({"stability", "--late-share", "0:0.25", "--points", "2", "--json"}).out);
    ASSERT_EQ(limits.size(), 8u); // delays 1 to 4 by default
    EXPECT_DOUBLE_EQ(limits[0].at("stable_step"), 2);
    EXPECT_NEAR(limits[4].at("stable_step"), 4, 1e-9);
    EXPECT_NEAR(limits[4].at("momentum"), 1, 1e-9);
    EXPECT_TRUE(limits[5].at("momentum").is_null());
    const json fits = json::parse(theory({"momentum", "--late-share", "0.25", "--iterations", "2000", "--json"}).out);
    ASSERT_EQ(fits.size(), 3u); // columns by default
    EXPECT_NEAR(fits[2].at("predicted"), 0.25, 1e-12);
    EXPECT_NEAR(fits[2].at("measured"), 0.25, 0.15);
}

TEST(Theory, FigureIsWholeOrNotThere) {
    const TempDir dir;
    const auto path = dir / "figure.svg";
    const std::vector<std::string> arguments = {"theory", "stability", "--points", "3", "--figure", path.string()};
    dir.write("gnuplot", "#!/bin/sh\necho 'line 3: no such terminal' >&2\necho '<svg>half'\nexit 1\n");
    std::filesystem::permissions(dir / "gnuplot", std::filesystem::perms::owner_all);
    dir.write("figure.svg", "an older one");
    const Ran fails = run_program(arguments, "PATH=" + shell_quoted(dir.path().string()) + ":$PATH");
    EXPECT_EQ(fails.status, 1);
    EXPECT_THAT(fails.err, HasSubstr("gnuplot failed: line 3: no such terminal"));
    EXPECT_EQ(text_in(path), "an older one");

    const Ran none = run_program(arguments, "PATH=/nowhere");
    EXPECT_EQ(none.status, 1);
    EXPECT_THAT(none.err, HasSubstr("gnuplot is not installed; apt-get install gnuplot-nox"));
    EXPECT_EQ(text_in(path), "an older one");

    if (std::system("command -v gnuplot >/dev/null") != 0) GTEST_SKIP() << "gnuplot is not installed";
    EXPECT_EQ(run_program(arguments).status, 0);
    EXPECT_THAT(text_in(path), HasSubstr("</svg>"));
}

TEST(Theory, WrongInput) {
    const auto refused = [](const std::vector<std::string>& arguments, const std::string& says) {
        const Ran ran = theory(arguments);
        EXPECT_EQ(ran.status, 2) << says;
        EXPECT_THAT(ran.err, HasSubstr(says));
        EXPECT_EQ(std::count(ran.err.begin(), ran.err.end(), '\n'), 1) << ran.err;
        EXPECT_EQ(ran.out, "");
    };
    const auto check = [&](const char* a, const char* b, const char* alpha, const char* late, const std::string& says) {
        refused({"check", "--a", a, "--b", b, "--alpha", alpha, "--late", late}, says);
    };
    check("2", "1", "0.1", "0", "--a 2: is above --b 1");
    check("0", "1", "0.1", "0", "--a: 0: expected a number above 0");
    check("1", "inf", "0.1", "0", "--b: inf: expected a number above 0");
    check("1", "2", "-0.1", "0", "--alpha: -0.1: expected a number above 0");
    check("1", "2", "0.1", "0.1,-0.1", "--late 0.1,-0.1: expected numbers, 0 or more");
    check("1", "2", "0.1", "0.1,,0.1", "--late 0.1,,0.1: expected numbers, 0 or more");
    check("1", "2", "0.1", "nan", "--late nan: expected numbers, 0 or more");
    refused({}, "A subcommand is required; see lategrad theory --help");
    refused({"chek"}, "chek: there is no such command; see lategrad theory --help");
    refused({"--json", "check"}, "--json: there is no such option before a command; see lategrad theory --help");
    refused({"check", "--gamma", "1"}, "--gamma: there is no such option; see lategrad theory check --help");
    refused({"check", "--a", "1"}, "is required; see lategrad theory check --help");
    refused({"ridge", "--data", "a.safetensors", "--rows", "3"}, "leave out --rows and --cols");
    refused({"ridge", "--data", "absent.safetensors"}, "absent.safetensors");
    refused({"ridge", "--eta", "1e-200"}, "--eta 1e-200");
    refused({"ridge", "--runs", "1"}, "--runs: 1: expected a whole number, 2 to");
    refused({"ridge", "--rows", "50000000", "--cols", "2000"}, "too large");
    refused({"stability", "--delay", "4..1"}, "--delay 4..1");
    refused({"stability", "--late-share", "0:1.5"}, "--late-share 0:1.5");
    refused({"stability", "--figure", "map.png"}, "--figure map.png: expected FILE.svg");
    refused({"stability", "--figure", "absent/map.svg"}, "there is no folder absent");
    refused({"momentum", "--alpha", "3"}, "--alpha 3: at late share 0 and delay 1 it is stable only below");
    refused({"ridge", "--rows", "10", "--batch", "20"}, "--batch 20: there are only 10 rows");
    refused({"momentum", "--alpha", "1e-300"}, "--alpha 1e-300: in ");
    refused({"momentum", "--batch", "100"}, "--batch 100: there are only 64 rows");
    refused({"momentum", "--rows", "3"}, "--rows 3: expected more than --cols 3");
}

TEST(Theory, HelpHasExamples) {
    EXPECT_THAT(theory({"--help"}).out, HasSubstr("lategrad theory check --a"));
    for (const std::string command : {"check", "ridge", "stability", "momentum"}) {
        const Ran ran = theory({command, "--help"});
        EXPECT_EQ(ran.status, 0);
        EXPECT_THAT(ran.out, HasSubstr("  lategrad theory " + command)) << command;
    }
}

} // namespace
} // namespace lategrad
