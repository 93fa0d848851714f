#include "lategrad/files/safetensors.h"

#include <cstring>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "lategrad/core/error.h"
#include "tests/files/temp_dir.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

template <class T>
std::string raw(const std::vector<T>& values) {
    return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// A file by the published format, put together by hand.
std::string file_of(const std::string& header, const std::string& data) {
    return raw<std::uint64_t>({header.size()}) + header + data;
}

std::string one_tensor(const std::string& dtype, const std::string& shape, std::size_t bytes) {
    return R"({"x":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":[0,)" + std::to_string(bytes) +
           "]}}";
}

TEST(Safetensors, WritesThePublishedFormat) {
    const TempDir folder;
    const std::vector<float> weight{1, 2, 3, 4, 5, 6}, bias{-1, 0.5};
    write_safetensors(folder / "w", std::vector<TensorView>{{"fc.weight", {2, 3}, weight}, {"fc.bias", {2}, bias}},
                      {{"model", "lenet"}});
    std::ifstream in(folder / "w", std::ios::binary);
    const std::string bytes{std::istreambuf_iterator<char>(in), {}};
    std::string header = R"({"__metadata__":{"model":"lenet"},)"
                         R"("fc.weight":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                         R"("fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}})";
    header.append((8 - header.size() % 8) % 8, ' ');
    EXPECT_EQ(bytes, file_of(header, raw(weight) + raw(bias)));
}

RC_GTEST_PROP(Safetensors, ReadsWhatItWrote, ()) {
    const TempDir folder;
    const auto shapes = *rc::gen::container<std::vector<std::vector<std::int64_t>>>(
        rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 4)));
    std::vector<std::vector<float>> values;
    std::vector<TensorView> views;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
        const auto shape =
            std::vector(shapes[i].begin(), shapes[i].begin() + std::min<std::ptrdiff_t>(4, std::ssize(shapes[i])));
        values.emplace_back(TensorEntry{.dtype = "F32", .shape = shape}.elements(), static_cast<float>(i) + 0.5f);
        views.push_back({"tensor \"" + std::to_string(i), shape, {}});
    }
    for (std::size_t i = 0; i < views.size(); ++i) views[i].values = values[i];
    const std::map<std::string, std::string> metadata{{"a", "ü\n\""}};
    write_safetensors(folder / "w", views, metadata);

    const SafetensorsFile file(folder / "w");
    RC_ASSERT(file.tensors().size() == views.size());
    RC_ASSERT(file.metadata() == metadata);
    for (std::size_t i = 0; i < views.size(); ++i) {
        RC_ASSERT(file.tensors().at(views[i].name).shape == views[i].shape);
        RC_ASSERT(file.floats(views[i].name) == values[i]);
    }
}

TEST(Safetensors, ReadsScalarsEmptyTensorsAndUnalignedData) {
    const TempDir folder;
    const std::string header = R"({"flag":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                               R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[1,5]},)"
                               R"("none":{"dtype":"F32","shape":[3,0],"data_offsets":[5,5]}})";
    const SafetensorsFile file(folder.write("w", file_of(header, std::string(1, '\7') + raw<float>({2.5}))));
    EXPECT_THAT(file.integers("flag"), ElementsAre(7));
    EXPECT_THAT(file.floats("scalar"), ElementsAre(2.5f));
    EXPECT_THAT(file.floats("none"), IsEmpty());
    EXPECT_EQ(file.bytes("scalar").size(), 4u);
    EXPECT_FALSE(file.has("other"));
    EXPECT_THAT(message_of([&] { file.floats("other"); }), HasSubstr("w: has no tensor other"));
}

TEST(Safetensors, ConvertsDtypes) {
    const TempDir folder;
    const auto load = [&](const std::string& dtype, const std::string& data, std::size_t elements) {
        return std::make_unique<SafetensorsFile>(
            folder.write(dtype, file_of(one_tensor(dtype, "[" + std::to_string(elements) + "]", data.size()), data)));
    };
    EXPECT_THAT(load("F64", raw<double>({0.5, -3}), 2)->floats("x"), ElementsAre(0.5f, -3.f));
    EXPECT_THAT(load("BF16", raw<std::uint16_t>({0x3f80, 0xc040}), 2)->floats("x"), ElementsAre(1.f, -3.f));
    EXPECT_THAT(load("F16", raw<std::uint16_t>({0x3c00, 0xc200, 0x0001, 0x7bff, 0x8000, 0xfc00}), 6)->floats("x"),
                ElementsAre(1.f, -3.f, 0x1p-24f, 65504.f, -0.f, -INFINITY));
    EXPECT_THAT(load("F16", raw<std::uint16_t>({0x7e00}), 1)->floats("x"), ElementsAre(testing::IsNan()));
    EXPECT_THAT(load("U8", "\xff", 1)->floats("x"), ElementsAre(255.f));
    EXPECT_THAT(load("I8", "\xff", 1)->integers("x"), ElementsAre(-1));
    EXPECT_THAT(load("BOOL", std::string("\0\1", 2), 2)->integers("x"), ElementsAre(0, 1));
    EXPECT_THAT(load("I16", raw<std::int16_t>({-300}), 1)->integers("x"), ElementsAre(-300));
    EXPECT_THAT(load("U16", raw<std::uint16_t>({65535}), 1)->integers("x"), ElementsAre(65535));
    EXPECT_THAT(load("I32", raw<std::int32_t>({-70000}), 1)->floats("x"), ElementsAre(-70000.f));
    EXPECT_THAT(load("U32", raw<std::uint32_t>({4000000000}), 1)->integers("x"), ElementsAre(4000000000));
    EXPECT_THAT(load("I64", raw<std::int64_t>({-5'000'000'000}), 1)->integers("x"), ElementsAre(-5'000'000'000));
    EXPECT_THAT(load("U64", raw<std::uint64_t>({9}), 1)->integers("x"), ElementsAre(9));

    EXPECT_THAT(message_of([&] {
                    load("U64", raw<std::uint64_t>({1, ~0ull}), 2)->integers("x");
                }),
                HasSubstr("element 1"));
    EXPECT_THAT(message_of([&] { load("F32", raw<float>({1}), 1)->integers("x"); }), HasSubstr("dtype F32"));
    EXPECT_THAT(message_of([&] { load("F8_E4M3", "x", 1)->floats("x"); }), HasSubstr("dtype F8_E4M3"));
}

TEST(Safetensors, RefusesMalformedFiles) {
    const auto two = [](const std::string& second) {
        return R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":)" + second + "}";
    };
    const struct {
        std::string bytes;
        std::string trouble;
    } cases[] = {
        {"", "shorter than the 8 bytes"},
        {"1234567", "shorter than the 8 bytes"},
        {raw<std::uint64_t>({100}) + "{}", "a header of 100 bytes, in a file of 10"},
        {raw<std::uint64_t>({~0ull}) + "{}", "a header of 18446744073709551615 bytes"},
        {file_of("", ""), "does not begin with '{'"},
        {file_of(" {}", ""), "does not begin with '{'"},
        {file_of("[]", ""), "does not begin with '{'"},
        {file_of("{", ""), "not JSON"},
        {file_of("{}x", ""), "not JSON"},
        {file_of("{\"\xff\":1}", ""), "not JSON"},
        {file_of(std::string(100'000, '{'), ""), "not JSON"},
        {file_of(R"({"x":)" + std::string(100'000, '['), ""), "not JSON"},
        {file_of(R"({"__metadata__":[]})", ""), "not an object"},
        {file_of(R"({"__metadata__":{"a":1}})", ""), "__metadata__.a is not a string"},
        {file_of(R"({"x":1})", ""), "dtype, shape and data_offsets"},
        {file_of(R"({"x":{"dtype":"U8","shape":[0]}})", ""), "dtype, shape and data_offsets"},
        {file_of(R"({"x":{"dtype":8,"shape":[0],"data_offsets":[0,0]}})", ""), "dtype is not a string"},
        {file_of(one_tensor("F31", "[1]", 4), "1234"), "unknown dtype F31"},
        {file_of(one_tensor("F32", "4", 16), std::string(16, 'x')), "shape is not a list"},
        {file_of(one_tensor("F32", "[-1]", 4), "1234"), "shape is not a list of integers"},
        {file_of(one_tensor("F32", "[1.0]", 4), "1234"), "shape is not a list of integers"},
        {file_of(one_tensor("F32", R"(["1"])", 4), "1234"), "shape is not a list of integers"},
        {file_of(one_tensor("F32", "[18446744073709551615]", 4), "1234"), "shape is not a list of integers"},
        {file_of(one_tensor("F32", "[1e999]", 4), "1234"), "not JSON"},
        {file_of(one_tensor("F32", "[4611686018427387905]", 4), "1234"), "too large"},
        {file_of(one_tensor("U8", "[4294967296,4294967297]", 4), "1234"), "too large"},
        {file_of(one_tensor("F32", "[2]", 4), "1234"), "takes 8 bytes, but data_offsets span 4"},
        {file_of(one_tensor("F32", "[2]", 8), "1234"), "outside the 4 bytes"},
        {file_of(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0]}})", ""), "not [BEGIN, END]"},
        {file_of(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}})", "1"), "outside"},
        {file_of(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[-1,0]}})", "1"), "data_offsets is not"},
        {file_of(one_tensor("U8", "[1]", 1), "12"), "1 bytes after the last tensor"},
        {file_of(two(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})"), "12"), "tensor b overlaps"},
        {file_of(two(R"({"dtype":"U8","shape":[1],"data_offsets":[3,4]})"), "1234"), "bytes 2 to 3"},
        {file_of(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"x":1})", ""), "has x twice"},
    };
    const TempDir folder;
    for (const auto& c : cases) {
        const auto path = folder.write("bad.safetensors", c.bytes);
        EXPECT_THAT(message_of([&] { SafetensorsFile file(path); }),
                    AllOf(HasSubstr(path.string()), HasSubstr(c.trouble)))
            << c.bytes.substr(0, 200);
    }
    EXPECT_THAT(message_of([&] { SafetensorsFile file(folder / "missing"); }), HasSubstr("No such file"));
    EXPECT_THAT(message_of([&] { SafetensorsFile file(folder.path()); }), HasSubstr("not a plain file"));
}

RC_GTEST_PROP(Safetensors, SurvivesDamage, ()) {
    const TempDir folder;
    std::string bytes = file_of(R"({"__metadata__":{"k":"v"},"a":{"dtype":"I16","shape":[1,2],"data_offsets":[0,4]},)"
                                R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                "012345678901");
    const auto edits = *rc::gen::inRange(1, 4);
    for (int i = 0; i < edits; ++i)
        bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] =
            *rc::gen::oneOf(rc::gen::arbitrary<char>(), rc::gen::elementOf(std::string("0123456789[]{},:\"-. aUIFB")));
    const auto path = folder.write("w", bytes);
    try {
        const SafetensorsFile file(path);
        for (const auto& [name, entry] : file.tensors()) RC_ASSERT(file.bytes(name).size() == entry.end - entry.begin);
    } catch (const InputError&) {
    }
}

} // namespace
} // namespace lategrad
