#include <algorithm>
#include <numeric>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/random.h"
#include "lategrad/data/arrays.h"
#include "lategrad/data/dataset.h"
#include "lategrad/data/idx.h"
#include "lategrad/data/images.h"
#include "lategrad/files/safetensors.h"

namespace lategrad {
namespace {

using Path = std::filesystem::path;

constexpr std::string_view kFashionMnist = "fashion-mnist", kMnist = "mnist", kMnistT10k = "mnist-t10k";
constexpr const char* kFashionFolder = "/usr/share/datasets/fashion-mnist";
constexpr std::int64_t kDigits = 10; // classes of fashion-mnist and mnist
constexpr std::int64_t kBytes = 256; // classes that an IDX label can tell apart

/// `images-idx3-ubyte` as it is named in the wild.
std::optional<Path> find_idx(const Path& folder, const std::string& part, const std::string& type) {
    for (const char* separator : {"-", "."})
        for (const char* suffix : {"", ".gz"}) {
            Path path = folder / (part + separator + type + suffix);
            std::error_code error; // whatever keeps us from seeing it, it is not there for us
            if (std::filesystem::is_regular_file(path, error)) return path;
        }
    return std::nullopt;
}

/// `part` is train or t10k. `advice` ends the message where a file is not there.
LabelledImages read_part(const Path& folder, const std::string& part, std::int64_t classes_max,
                         const std::string& advice) {
    const auto images = find_idx(folder, part + "-images", "idx3-ubyte");
    const auto labels = find_idx(folder, part + "-labels", "idx1-ubyte");
    if (!images || !labels)
        throw InputError(fmt::format("{}: no {}-{}[.gz] there; {}", folder.string(), part,
                                     images ? "labels-idx1-ubyte" : "images-idx3-ubyte", advice));
    return read_labelled_images(*images, *labels, classes_max);
}

DataSplit image_split(std::string name, LabelledImages train, LabelledImages test, std::int64_t classes) {
    const Normalization normalization = normalization_of(train.pixels);
    return {.name = std::move(name),
            .train = make_image_dataset(std::move(train), classes, normalization),
            .test = make_image_dataset(std::move(test), classes, normalization)};
}

std::int64_t classes_in(const std::vector<std::int64_t>& labels) {
    return labels.empty() ? 1 : *std::max_element(labels.begin(), labels.end()) + 1;
}

/// A network trained on `classes` has no output for more.
void check_test_labels(const std::vector<std::int64_t>& test, std::int64_t classes, const std::string& where) {
    const auto beyond = std::find_if(test.begin(), test.end(), [&](std::int64_t label) { return label >= classes; });
    if (beyond != test.end())
        throw InputError(fmt::format("{}: label {} of test example {}; those of the training examples are 0 to {}",
                                     where, *beyond, beyond - test.begin(), classes - 1));
}

/// The folder of a named set of ten classes (`classes` 10), or the user's own of up to 256 (`classes` 0: as many as it
/// holds).
DataSplit load_idx_folder(const std::string& name, const Path& folder, std::int64_t classes,
                          const std::string& advice) {
    const std::int64_t classes_max = classes > 0 ? classes : kBytes;
    LabelledImages train = read_part(folder, "train", classes_max, advice);
    LabelledImages test = read_part(folder, "t10k", classes_max, advice);
    if (train.height != test.height || train.width != test.width)
        throw InputError(fmt::format("{}: training images are {} × {}, test images {} × {}", folder.string(),
                                     train.height, train.width, test.height, test.width));
    if (classes == 0) classes = classes_in(train.labels);
    check_test_labels(test.labels, classes, folder.string());
    return image_split(name, std::move(train), std::move(test), classes);
}

struct RowSplit {
    std::vector<std::uint32_t> train;
    std::vector<std::uint32_t> test;
};

/// 80 % and 20 % of the rows, drawn by the seed, each in file order.
RowSplit split_rows(std::size_t rows, std::uint64_t seed, const std::string& where) {
    if (rows < 2) throw InputError(where + ": one example cannot be split into training and test");
    std::vector<std::uint32_t> order(rows);
    std::iota(order.begin(), order.end(), 0);
    RandomStream(seed, Purpose::data).shuffle(std::span(order));
    const auto cut = order.end() - static_cast<std::ptrdiff_t>(std::max<std::size_t>(1, rows / 5));
    RowSplit split{.train = {order.begin(), cut}, .test = {cut, order.end()}};
    std::sort(split.train.begin(), split.train.end());
    std::sort(split.test.begin(), split.test.end());
    return split;
}

/// These rows of `values`, each `width` long.
template <class T>
std::vector<T> select(const std::vector<T>& values, std::size_t width, const std::vector<std::uint32_t>& rows) {
    std::vector<T> selected;
    selected.reserve(rows.size() * width);
    for (const std::size_t row : rows)
        selected.insert(selected.end(), &values[row * width], &values[row * width] + width);
    return selected;
}

DataSplit load_mnist_t10k(const DataOptions& options, const std::string& advice) {
    const LabelledImages all = read_part(options.data_dir, "t10k", kDigits, advice);
    const RowSplit split = split_rows(all.labels.size(), options.seed, options.data_dir.string());
    const auto part = [&](const std::vector<std::uint32_t>& rows) {
        return LabelledImages{.height = all.height,
                              .width = all.width,
                              .pixels = select(all.pixels, all.height * all.width, rows),
                              .labels = select(all.labels, 1, rows)};
    };
    return image_split(fmt::format("mnist-t10k ({}/{} split of the test digits, seed {})", split.train.size(),
                                   split.test.size(), options.seed),
                       part(split.train), part(split.test), kDigits);
}

DataSplit load_arrays(const DataOptions& options) {
    const SafetensorsFile file(options.data);
    std::string name = options.data;
    Rows train = read_rows(file, "x", "y"), test;
    const std::int64_t classes = train.classification ? classes_in(train.labels) : 0;
    if (file.has("x_test") || file.has("y_test")) {
        test = read_rows(file, "x_test", "y_test");
        if (test.shape != train.shape) throw InputError(options.data + ": rows of x_test and x differ in shape");
        if (test.classification != train.classification)
            throw InputError(options.data + ": of y and y_test, one holds integers (classes), the other one floats");
        if (classes > 0) check_test_labels(test.labels, classes, options.data);
    } else {
        const RowSplit split = split_rows(train.size(), options.seed, options.data);
        const auto part = [&, all = std::move(train)](const std::vector<std::uint32_t>& rows) {
            return Rows{.shape = all.shape,
                        .features = select(all.features, all.features.size() / all.size(), rows),
                        .classification = all.classification,
                        .labels = all.classification ? select(all.labels, 1, rows) : all.labels,
                        .targets = all.classification ? all.targets : select(all.targets, 1, rows)};
        };
        train = part(split.train);
        test = part(split.test);
        name += fmt::format(" ({}/{} split, seed {})", split.train.size(), split.test.size(), options.seed);
    }
    return {.name = std::move(name),
            .train = make_array_dataset(std::move(train), classes),
            .test = make_array_dataset(std::move(test), classes)};
}

} // namespace

bool is_named_data_set(std::string_view data) {
    return data == kFashionMnist || data == kMnist || data == kMnistT10k;
}

DataSplit load_data(const DataOptions& options) {
    const std::string& data = options.data;
    const Path& folder = options.data_dir;
    const std::string files = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and "
                              "t10k-labels-idx1-ubyte, gzipped or not";
    const std::string needs = files + ", in one folder, named by --data-dir";
    if (data == kFashionMnist)
        return load_idx_folder(data, folder.empty() ? kFashionFolder : folder, kDigits,
                               folder.empty() ? "apt-get install dataset-fashion-mnist, or name a folder by --data-dir"
                                              : "--data fashion-mnist needs " + needs);
    if (data == kMnist) {
        const std::string advice = "--data mnist needs " + needs;
        if (folder.empty()) throw InputError(advice);
        return load_idx_folder(data, folder, kDigits, advice);
    }
    if (data == kMnistT10k) {
        const std::string advice = "--data mnist-t10k needs t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, gzipped "
                                   "or not, in one folder, named by --data-dir";
        if (folder.empty()) throw InputError(advice);
        return load_mnist_t10k(options, advice);
    }
    if (data.ends_with(".safetensors")) return load_arrays(options);
    std::error_code error;
    if (std::filesystem::is_directory(data, error)) return load_idx_folder(data, data, 0, "needed are " + files);
    throw InputError(fmt::format("--data {}: expected fashion-mnist, mnist, mnist-t10k, a folder of IDX files, or a "
                                 ".safetensors file with x [N, …] and y [N]",
                                 data));
}

} // namespace lategrad
