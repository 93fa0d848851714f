/// Runs the built program as a user would: arguments in; exit status and both outputs out.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "lategrad/core/random.h"
#include "lategrad/files/safetensors.h"
#include "tests/files/temp_dir.h"

namespace lategrad {

struct Ran {
    int status = -1;
    std::string out;
    std::string err;
};

inline std::string text_in(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

inline std::string shell_quoted(const std::string& word) {
    std::string out = "'";
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return out + "'";
}

/// The built program. What depends on the build is in program.cpp alone, so that builds share all other objects.
std::string program_path();
/// mpirun for so many processes, of the MPI this build has; empty where it has none.
std::string mpirun(int processes);

/// `before`: what stands before the program on the command line, such as mpirun -n 5.
inline Ran run_program(const std::vector<std::string>& arguments, const std::string& before = "") {
    const TempDir dir;
    std::string line = before + " " + shell_quoted(program_path());
    for (const std::string& argument : arguments) line += " " + shell_quoted(argument);
    line += " >" + shell_quoted((dir / "out").string()) + " 2>" + shell_quoted((dir / "err").string()) + " </dev/null";
    const int status = std::system(line.c_str());
    return {.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            .out = text_in(dir / "out"),
            .err = text_in(dir / "err")};
}

/// Ten-class data that a linear model learns: class c lights up its own tenth of the features.
inline std::filesystem::path write_blobs(const TempDir& dir, std::size_t rows = 400, std::size_t features = 40) {
    RandomStream random(1, Purpose::test);
    std::vector<float> x(rows * features);
    std::vector<float> y(rows);
    for (std::size_t i = 0; i < rows; ++i) {
        y[i] = static_cast<float>(i % 10);
        for (std::size_t j = 0; j < features; ++j) {
            const bool lit = j * 10 / features == i % 10;
            x[i * features + j] = static_cast<float>(random.uniform() + (lit ? 0.7 : 0.0));
        }
    }
    // Labels are integers in a file of the user's: written here as the format says, by hand.
    std::vector<std::int64_t> labels(y.begin(), y.end());
    const auto path = dir / "blobs.safetensors";
    const std::string header = R"({"x":{"dtype":"F32","shape":[)" + std::to_string(rows) + "," +
                               std::to_string(features) + R"(],"data_offsets":[0,)" + std::to_string(x.size() * 4) +
                               R"(]},"y":{"dtype":"I64","shape":[)" + std::to_string(rows) + R"(],"data_offsets":[)" +
                               std::to_string(x.size() * 4) + "," + std::to_string(x.size() * 4 + labels.size() * 8) +
                               "]}}";
    std::string bytes(8, '\0');
    for (int i = 0; i < 8; ++i) bytes[static_cast<std::size_t>(i)] = static_cast<char>(header.size() >> (8 * i));
    bytes += header;
    bytes.append(reinterpret_cast<const char*>(x.data()), x.size() * 4);
    bytes.append(reinterpret_cast<const char*>(labels.data()), labels.size() * 8);
    return dir.write("blobs.safetensors", bytes), path;
}

} // namespace lategrad
