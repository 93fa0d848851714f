/// Tables in plain text.
#pragma once

#include <string>
#include <vector>

namespace lategrad {

enum class Align { left, right };

struct Column {
    std::string header;
    Align align = Align::right;
};

/// Columns as wide as their widest cell, two spaces apart; no spaces at the ends of lines.
class Table {
  public:
    explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

    /// REQUIRES: one cell per column.
    void add_row(std::vector<std::string> cells);
    /// Headers, a rule and the rows, each with its newline.
    std::string text() const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

} // namespace lategrad
