#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lategrad/core/error.h"
#include "lategrad/data/dataset.h"
#include "tests/data/idx_files.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Batch all_of(const Dataset& data) {
    std::vector<std::uint32_t> indices(data.size());
    std::iota(indices.begin(), indices.end(), 0);
    Batch batch;
    data.gather(indices, batch);
    return batch;
}

/// Two training images and one test image of 1 × 2 pixels.
void write_images(const TempDir& folder) {
    folder.write("train-images-idx3-ubyte", idx_file({2, 1, 2}, bytes_of({0, 255, 51, 102})));
    folder.write("train-labels-idx1-ubyte", idx_file({2}, bytes_of({3, 0})));
    folder.write("t10k-images.idx3-ubyte", idx_file({1, 1, 2}, bytes_of({255, 0})));
    folder.write("t10k-labels.idx1-ubyte", idx_file({1}, bytes_of({5})));
}

TEST(LoadImages, NormalisesByTheTrainingPart) {
    const TempDir folder;
    write_images(folder);
    const DataSplit split = load_data({.data = "mnist", .data_dir = folder.path()});
    EXPECT_EQ(split.name, "mnist");
    EXPECT_THAT(split.train->shape(), ElementsAre(1, 1, 2));
    EXPECT_EQ(split.train->features(), 2u);
    EXPECT_EQ(split.train->size(), 2u);
    EXPECT_EQ(split.train->classes(), 10);
    EXPECT_EQ(split.test->classes(), 10);

    // Training pixels / 255: 0, 1, 0.2, 0.4; mean 0.4, variance (0.16 + 0.36 + 0.04 + 0) / 4 = 0.14.
    const auto value = [](double x) { return testing::FloatEq(static_cast<float>((x - 0.4) / std::sqrt(0.14))); };
    const Batch train = all_of(*split.train), test = all_of(*split.test);
    EXPECT_EQ(train.examples, 2u);
    EXPECT_THAT(train.features, ElementsAre(value(0), value(1), value(0.2), value(0.4)));
    EXPECT_THAT(train.labels, ElementsAre(3, 0));
    EXPECT_THAT(train.targets, IsEmpty());
    EXPECT_THAT(test.features, ElementsAre(value(1), value(0)));
    EXPECT_THAT(test.labels, ElementsAre(5));
}

TEST(LoadImages, OneShadeOfGreyDoesNotDivideByZero) {
    const TempDir folder;
    write_images(folder);
    folder.write("train-images-idx3-ubyte", idx_file({2, 1, 2}, bytes_of({51, 51, 51, 51})));
    const DataSplit split = load_data({.data = "mnist", .data_dir = folder.path()});
    EXPECT_THAT(all_of(*split.train).features, testing::Each(testing::FloatNear(0, 1e-7f)));
    EXPECT_THAT(all_of(*split.test).features, ElementsAre(0.8f, -0.2f));
}

TEST(LoadImages, AFolderHasAsManyClassesAsItsLabels) {
    const TempDir folder;
    write_images(folder);
    folder.write("train-labels-idx1-ubyte", idx_file({2}, bytes_of({46, 0})));
    EXPECT_EQ(load_data({.data = folder.path()}).test->classes(), 47);
    EXPECT_THAT(message_of([&] { load_data({.data = "fashion-mnist", .data_dir = folder.path()}); }),
                HasSubstr("train-labels-idx1-ubyte: label 46 at offset 8"));
}

TEST(LoadImages, SaysWhatIsMissingAndWhatToDo) {
    const TempDir folder;
    EXPECT_THAT(message_of([&] { load_data({.data = "mnist", .data_dir = folder.path()}); }),
                AllOf(HasSubstr(folder.path().string() + ": no train-images-idx3-ubyte"), HasSubstr("--data-dir")));
    write_images(folder);
    std::filesystem::remove(folder / "t10k-labels.idx1-ubyte");
    EXPECT_THAT(message_of([&] { load_data({.data = "fashion-mnist", .data_dir = folder.path()}); }),
                HasSubstr(folder.path().string() + ": no t10k-labels-idx1-ubyte[.gz] there"));
    folder.write("t10k-images.idx3-ubyte", idx_file({1, 2, 2}, "abcd"));
    folder.write("t10k-labels-idx1-ubyte", idx_file({1}, bytes_of({5})));
    EXPECT_THAT(message_of([&] { load_data({.data = "mnist", .data_dir = folder.path()}); }),
                HasSubstr("training images are 1 × 2, test images 2 × 2"));
    for (const char* name : {"mnist", "mnist-t10k"})
        EXPECT_THAT(message_of([&] { load_data({.data = name}); }), HasSubstr("t10k-images-idx3-ubyte"));
    EXPECT_THAT(message_of([&] { load_data({.data = "mnist-t10k", .data_dir = "/no/such"}); }),
                HasSubstr("/no/such: no t10k"));
    EXPECT_THAT(
        message_of([&] { load_data({.data = "imagenet"}); }),
        AllOf(HasSubstr("--data imagenet"), HasSubstr("fashion-mnist, mnist, mnist-t10k"), HasSubstr(".safetensors")));
}

TEST(LoadImages, SplitsTheTestDigitsBySeed) {
    const TempDir folder;
    std::string pixels, labels;
    for (int i = 0; i < 50; ++i) {
        pixels += static_cast<char>(i);
        labels += static_cast<char>(i % 10);
    }
    folder.write("t10k-images-idx3-ubyte", idx_file({50, 1, 1}, pixels));
    folder.write("t10k-labels-idx1-ubyte", idx_file({50}, labels));
    const DataSplit split = load_data({.data = "mnist-t10k", .data_dir = folder.path(), .seed = 3});
    EXPECT_EQ(split.name, "mnist-t10k (40/10 split of the test digits, seed 3)");
    const Batch train = all_of(*split.train), test = all_of(*split.test);
    auto both = train.features;
    both.insert(both.end(), test.features.begin(), test.features.end());
    std::sort(both.begin(), both.end());
    EXPECT_EQ(std::unique(both.begin(), both.end()) - both.begin(), 50);
    EXPECT_NEAR(std::accumulate(train.features.begin(), train.features.end(), 0.0), 0, 1e-4); // normalised by its own

    const auto labels_with = [&](std::uint64_t seed) {
        return all_of(*load_data({.data = "mnist-t10k", .data_dir = folder.path(), .seed = seed}).test).labels;
    };
    EXPECT_EQ(labels_with(3), test.labels);
    EXPECT_NE(labels_with(4), test.labels);
}

TEST(LoadImages, FashionMnistFromItsPackage) {
    if (!std::filesystem::exists("/usr/share/datasets/fashion-mnist"))
        GTEST_SKIP() << "apt-get install dataset-fashion-mnist to run this test";
    const DataSplit split = load_data({});
    EXPECT_EQ(split.name, "fashion-mnist");
    EXPECT_EQ(split.train->size(), 60'000u);
    EXPECT_EQ(split.test->size(), 10'000u);
    EXPECT_THAT(split.train->shape(), ElementsAre(1, 28, 28));
    std::vector<std::int64_t> counts(10);
    for (const auto label : split.train->labels()) ++counts.at(static_cast<std::size_t>(label));
    EXPECT_THAT(counts, testing::Each(6000));
    // The set's well-known mean and deviation are 0.2860 and 0.3530: black is (0 − mean) / deviation.
    const Batch train = all_of(*split.train);
    EXPECT_NEAR(*std::min_element(train.features.begin(), train.features.end()), -0.2860 / 0.3530, 1e-3);
    EXPECT_NEAR(*std::max_element(train.features.begin(), train.features.end()), (1 - 0.2860) / 0.3530, 1e-3);
}

struct Tensor {
    std::string name;
    std::string dtype;
    std::string shape;
    std::string data;
};

template <class T>
std::string raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

std::string write_arrays(const TempDir& folder, const std::vector<Tensor>& tensors) {
    std::string header, data;
    for (const Tensor& t : tensors) {
        header += (header.empty() ? "{\"" : ",\"") + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":)" + t.shape +
                  R"(,"data_offsets":[)" + std::to_string(data.size()) + "," +
                  std::to_string(data.size() + t.data.size()) + "]}";
        data += t.data;
    }
    header += "}";
    return folder.write("arrays.safetensors", raw<std::uint64_t>({header.size()}) + header + data).string();
}

TEST(LoadArrays, Regression) {
    const TempDir folder;
    const auto file = write_arrays(folder, {{"x", "F32", "[2,2]", raw<float>({1, 2, 3, 4})},
                                            {"y", "F64", "[2]", raw<double>({0.5, -1})},
                                            {"x_test", "U8", "[1,2]", "\1\2"},
                                            {"y_test", "F32", "[1]", raw<float>({7})}});
    const DataSplit split = load_data({.data = file});
    EXPECT_EQ(split.name, file);
    EXPECT_EQ(split.train->classes(), 0);
    EXPECT_THAT(split.train->shape(), ElementsAre(2));
    const Batch train = all_of(*split.train), test = all_of(*split.test);
    EXPECT_THAT(train.features, ElementsAre(1, 2, 3, 4));
    EXPECT_THAT(train.targets, ElementsAre(0.5f, -1));
    EXPECT_THAT(train.labels, IsEmpty());
    EXPECT_THAT(test.features, ElementsAre(1, 2));
    EXPECT_THAT(test.targets, ElementsAre(7));
}

/// Two training examples of the classes 0 and 2, and a test example of this one.
std::string write_classes(const TempDir& folder, std::int64_t tested) {
    return write_arrays(folder, {{"x", "F32", "[2,1,2]", raw<float>({1, 2, 5, 6})},
                                 {"y", "U8", "[2]", std::string("\0\2", 2)},
                                 {"x_test", "F32", "[1,1,2]", raw<float>({3, 4})},
                                 {"y_test", "I64", "[1]", raw<std::int64_t>({tested})}});
}

TEST(LoadArrays, ClassesAreThoseOfTheTrainingPart) {
    const TempDir folder;
    const DataSplit split = load_data({.data = write_classes(folder, 1)});
    EXPECT_EQ(split.train->classes(), 3);
    EXPECT_EQ(split.test->classes(), 3);
    EXPECT_THAT(split.train->shape(), ElementsAre(1, 2));
    EXPECT_THAT(all_of(*split.test).labels, ElementsAre(1));
}

TEST(LoadArrays, ATestLabelThatTrainingDoesNotKnowIsRefused) {
    const TempDir folder;
    const std::string file = write_classes(folder, 4);
    EXPECT_EQ(message_of([&] { load_data({.data = file}); }),
              file + ": label 4 of test example 0; those of the training examples are 0 to 2");
}

TEST(LoadArrays, SplitsBySeedWhereThereIsNoTestPart) {
    const TempDir folder;
    std::vector<float> x(10), y(10);
    for (std::size_t i = 0; i < 10; ++i) y[i] = -(x[i] = static_cast<float>(i));
    const auto file = write_arrays(folder, {{"x", "F32", "[10,1]", raw(x)}, {"y", "F32", "[10]", raw(y)}});
    const DataSplit split = load_data({.data = file, .seed = 5});
    EXPECT_EQ(split.name, file + " (8/2 split, seed 5)");
    const Batch train = all_of(*split.train), test = all_of(*split.test);
    auto both = train.features;
    both.insert(both.end(), test.features.begin(), test.features.end());
    EXPECT_THAT(both, testing::UnorderedElementsAreArray(x));
    for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(train.targets[i], -train.features[i]);
}

TEST(LoadArrays, NamesTheTensorAndTheRow) {
    constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
    const Tensor x{"x", "F32", "[2,2]", raw<float>({1, 2, 3, 4})}, y{"y", "U8", "[2]", std::string("\0\1", 2)};
    const Tensor x_test{"x_test", "F32", "[1,2]", raw<float>({1, 2})}, y_test{"y_test", "U8", "[1]", "\1"};
    const struct {
        std::vector<Tensor> tensors;
        std::string trouble;
    } cases[] = {
        {{y}, "has no tensor x"},
        {{x}, "has no tensor y"},
        {{x, y, x_test}, "has no tensor y_test"},
        {{x, y, y_test}, "has no tensor x_test"},
        {{{"x", "F32", "[2]", raw<float>({1, 2})}, y}, "tensor x has shape [2]"},
        {{{"x", "F32", "[0,2]", ""}, {"y", "U8", "[0]", ""}}, "tensor x has shape [0, 2]"},
        {{{"x", "F32", "[1,2]", raw<float>({1, 2})}, y},
         "tensor y has shape [2]; it needs one entry for each row of x: [1]"},
        {{x, {"y", "U8", "[2,1]", "\1\1"}}, "tensor y has shape [2, 1]"},
        {{{"x", "F32", "[2,2]", raw<float>({1, 2, nan, 4})}, y}, "tensor x: nan in row 1"},
        {{{"x", "F32", "[2,2]", raw<float>({1, -inf, 3, 4})}, y}, "tensor x: -inf in row 0"},
        {{x, {"y", "F32", "[2]", raw<float>({1, inf})}}, "tensor y: inf in row 1"},
        {{x, {"y", "I8", "[2]", "\1\xff"}}, "tensor y: label -1 in row 1"},
        {{x, {"y", "I64", "[2]", raw<std::int64_t>({1, 5'000'000})}}, "tensor y: label 5000000 in row 1"},
        {{x, y, {"x_test", "F32", "[1,1]", raw<float>({1})}, y_test}, "rows of x_test and x differ in shape"},
        {{x, y, x_test, {"y_test", "F32", "[1]", raw<float>({1})}}, "one holds integers"},
        {{{"x", "F32", "[1,1]", raw<float>({1})}, {"y", "U8", "[1]", "\1"}}, "one example cannot be split"},
    };
    const TempDir folder;
    for (const auto& c : cases) {
        const auto file = write_arrays(folder, c.tensors);
        EXPECT_THAT(message_of([&] { load_data({.data = file}); }), AllOf(HasSubstr(file), HasSubstr(c.trouble)));
    }
    EXPECT_THAT(message_of([] { load_data({.data = "/no/such.safetensors"}); }),
                HasSubstr("/no/such.safetensors: cannot open"));
}

} // namespace
} // namespace lategrad
