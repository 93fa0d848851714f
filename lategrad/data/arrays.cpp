#include "lategrad/data/arrays.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

constexpr std::int64_t kClassesMax = 1'000'000;

class ArrayDataset final : public Dataset {
  public:
    ArrayDataset(Rows rows, std::int64_t classes) : features_(std::move(rows.features)) {
        shape_ = std::move(rows.shape);
        classes_ = classes;
        labels_ = std::move(rows.labels);
        targets_ = std::move(rows.targets);
        CHECK(features_.size() == size() * features());
    }

    void gather(std::span<const std::uint32_t> indices, Batch& out) const override {
        const std::size_t width = features();
        out.examples = indices.size();
        out.features.resize(indices.size() * width);
        out.labels.resize(classes_ > 0 ? indices.size() : 0);
        out.targets.resize(classes_ > 0 ? 0 : indices.size());
        for (std::size_t i = 0; i < indices.size(); ++i) {
            const std::size_t row = indices[i];
            CHECK(row < size());
            std::copy_n(features_.data() + row * width, width, out.features.data() + i * width);
            if (classes_ > 0) out.labels[i] = labels_[row];
            else out.targets[i] = targets_[row];
        }
    }

  private:
    std::vector<float> features_;
};

void check_finite(std::span<const float> values, std::size_t width, const std::string& where) {
    const auto bad = std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
    if (bad != values.end())
        throw InputError(fmt::format("{}: {} in row {}; every value must be finite", where, *bad,
                                     static_cast<std::size_t>(bad - values.begin()) / width));
}

void check_labels(std::span<const std::int64_t> labels, const std::string& where) {
    for (std::size_t row = 0; row < labels.size(); ++row)
        if (labels[row] < 0 || labels[row] >= kClassesMax)
            throw InputError(fmt::format("{}: label {} in row {}; classes are numbered 0 to {} at most", where,
                                         labels[row], row, kClassesMax - 1));
}

} // namespace

Rows read_rows(const SafetensorsFile& file, const std::string& x, const std::string& y) {
    const auto where = [&](const std::string& name) { return file.path().string() + ": tensor " + name; };
    for (const std::string& name : {x, y})
        if (!file.has(name))
            throw InputError(fmt::format("{}: has no tensor {}; it needs x [N, …] and y [N], and may have x_test and "
                                         "y_test",
                                         file.path().string(), name));
    const TensorEntry &features = file.tensors().at(x), &answers = file.tensors().at(y);
    if (features.shape.size() < 2 || features.elements() == 0)
        throw InputError(
            fmt::format("{} has shape [{}]; it needs N > 0 rows: [N, …]", where(x), fmt::join(features.shape, ", ")));
    if (answers.shape.size() != 1 || answers.shape[0] != features.shape[0])
        throw InputError(
            fmt::format("{} has shape [{}]; it needs one entry for each row of {}: [{}], as y.reshape(-1) makes",
                        where(y), fmt::join(answers.shape, ", "), x, features.shape[0]));
    if (features.shape[0] > std::numeric_limits<std::uint32_t>::max())
        throw InputError(fmt::format("{} has {} rows, more than fit", where(x), features.shape[0]));

    Rows rows;
    rows.shape.assign(features.shape.begin() + 1, features.shape.end());
    rows.features = file.floats(x);
    check_finite(rows.features, rows.features.size() / static_cast<std::size_t>(features.shape[0]), where(x));
    rows.classification = answers.dtype[0] == 'I' || answers.dtype[0] == 'U' || answers.dtype == "BOOL";
    if (rows.classification) {
        rows.labels = file.integers(y);
        check_labels(rows.labels, where(y));
    } else {
        rows.targets = file.floats(y);
        check_finite(rows.targets, 1, where(y));
    }
    return rows;
}

std::shared_ptr<const Dataset> make_array_dataset(Rows rows, std::int64_t classes) {
    return std::make_shared<ArrayDataset>(std::move(rows), classes);
}

} // namespace lategrad
