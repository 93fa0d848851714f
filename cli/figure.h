/// Figures, drawn by gnuplot.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace lategrad {

struct FigurePoint {
    double x = 0;
    double y = 0;
    double error = 0; ///< of y; drawn where the curve has marks
};

struct Curve {
    std::string title; ///< empty: not in the key
    std::vector<FigurePoint> points;
    bool marks = false; ///< points with error bars in place of a line
    int colour = 1;     ///< gnuplot's line type, 1, 2, …: curves that belong together share it
};

struct Figure {
    std::string x_label;
    std::string y_label;
    std::vector<Curve> curves;
};

/// Before the work that the figure is to show. Throws InputError naming `--figure`: not an .svg, or no folder for it.
void check_figure_path(const std::filesystem::path& path);

/// Draws it as SVG. What is at `path` is replaced when the new figure is whole. Throws EnvironmentError where gnuplot
/// is not installed or fails, and where the file cannot be written.
void draw_figure(const Figure& figure, const std::filesystem::path& path);

} // namespace lategrad
