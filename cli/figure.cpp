#include "cli/figure.h"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/files/file.h"

namespace lategrad {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// Nameless, gone when it is closed. Files rather than pipes: nobody waits for the other to read.
File scratch_file() {
    File file(std::tmpfile(), std::fclose);
    if (!file) throw EnvironmentError(fmt::format("--figure: no temporary file: {}", std::strerror(errno)));
    return file;
}

std::string contents(std::FILE* file) {
    std::string text;
    std::rewind(file);
    std::array<char, 4096> part{};
    while (const std::size_t read = std::fread(part.data(), 1, part.size(), file)) text.append(part.data(), read);
    return text;
}

/// In gnuplot's double quotes.
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        out += c;
    }
    return out + "\"";
}

std::string script(const Figure& figure) {
    std::string out = "set terminal svg size 760,480 noenhanced font 'sans-serif,13' background rgb 'white'\n"
                      "set key outside bottom center horizontal\nset grid\n";
    out += fmt::format("set xlabel {}\nset ylabel {}\n", quoted(figure.x_label), quoted(figure.y_label));
    std::string plots;
    for (std::size_t i = 0; i < figure.curves.size(); ++i) {
        const Curve& curve = figure.curves[i];
        out += fmt::format("$curve{} << END\n", i);
        for (const FigurePoint& point : curve.points) {
            if (std::isfinite(point.y)) out += fmt::format("{} {} {}\n", point.x, point.y, point.error);
        }
        out += "END\n";
        // Lines are dashed in ways of their own: where two lie on each other, both are seen.
        plots += fmt::format("{}$curve{} using 1:2{} lt {} {}", i == 0 ? "" : ", ", i,
                             curve.marks ? ":3 with yerrorbars lw 1.5 pt 7 ps 0.7"
                                         : fmt::format(" with lines lw 2 dt {}", curve.colour),
                             curve.colour, curve.title.empty() ? "notitle" : "title " + quoted(curve.title));
    }
    return out + "plot " + plots + "\n";
}

} // namespace

void check_figure_path(const std::filesystem::path& path) {
    if (path.extension() != ".svg") throw InputError(fmt::format("--figure {}: expected FILE.svg", path.string()));
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (!std::filesystem::is_directory(folder))
        throw InputError(fmt::format("--figure {}: there is no folder {}", path.string(), folder.string()));
    if (std::filesystem::is_directory(path))
        throw InputError(fmt::format("--figure {}: is a folder; name a file", path.string()));
}

void draw_figure(const Figure& figure, const std::filesystem::path& path) {
    const File in = scratch_file(), out = scratch_file(), err = scratch_file();
    const std::string commands = script(figure);
    if (std::fwrite(commands.data(), 1, commands.size(), in.get()) != commands.size() || std::fflush(in.get()) != 0)
        throw EnvironmentError(fmt::format("--figure: a temporary file: {}", std::strerror(errno)));
    std::rewind(in.get());

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fileno(in.get()), STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(out.get()), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fileno(err.get()), STDERR_FILENO);
    std::array<std::string, 2> words = {"gnuplot", "--default-settings"}; // not the user's own
    std::array<char*, 3> arguments = {words[0].data(), words[1].data(), nullptr};
    pid_t child = -1;
    const int failure = posix_spawnp(&child, words[0].c_str(), &actions, nullptr, arguments.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure == ENOENT) {
        throw EnvironmentError(fmt::format("--figure {}: gnuplot is not installed; apt-get install gnuplot-nox, or "
                                           "leave --figure out",
                                           path.string()));
    }
    if (failure != 0)
        throw EnvironmentError(fmt::format("--figure {}: gnuplot: {}", path.string(), std::strerror(failure)));
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }

    const std::string drawn = contents(out.get());
    const std::string_view whole(drawn.data(), drawn.find_last_not_of(" \n") + 1);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !whole.ends_with("</svg>")) {
        const std::string said = contents(err.get());
        const std::size_t begin = std::min(said.find_first_not_of(" \n"), said.size());
        throw EnvironmentError(fmt::format("--figure {}: gnuplot failed: {}", path.string(),
                                           said.substr(begin, said.find('\n', begin) - begin)));
    }
    write_file_atomically(path, drawn);
}

} // namespace lategrad
