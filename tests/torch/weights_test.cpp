#include "lategrad/torch/weights.h"

#include <gmock/gmock.h>

#include "lategrad/files/safetensors.h"
#include "tests/files/temp_dir.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::unique_ptr<Model> make(const char* spec, const Dataset& data) {
    return make_model(ModelSpec::parse(spec), data, 1);
}

std::vector<float> counting(std::size_t size) {
    std::vector<float> all(size);
    std::iota(all.begin(), all.end(), 1.0f);
    return all;
}

class WeightsTest : public testing::Test {
  protected:
    std::filesystem::path save(const Model& model) {
        save_weights(dir_ / "w.safetensors", model, counting(model.size()), Version{42}, {{"note", "kept"}});
        return dir_ / "w.safetensors";
    }

    TempDir dir_;
    ArrayData data_{4, {3}, 2};
};

TEST_F(WeightsTest, AreReadAsTheyWereWritten) {
    const auto model = make("mlp:4", data_);
    const auto path = save(*model);
    EXPECT_EQ(load_weights(path, *model), counting(model->size()));

    const SafetensorsFile file(path);
    EXPECT_EQ(file.tensors().size(), 4u);
    EXPECT_EQ(file.tensors().at("fc1.weight").shape, (std::vector<std::int64_t>{4, 3}));
    EXPECT_EQ(file.floats("fc1.bias"), (std::vector<float>{13, 14, 15, 16}));
    EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{
                                   {"format", "lategrad"}, {"model", "mlp:4"}, {"note", "kept"}, {"version", "42"}}));
}

TEST_F(WeightsTest, OfAnotherModelAreRefused) {
    const auto path = save(*make("mlp:4", data_));
    const struct {
        const char* spec;
        const char* difference;
    } cases[] = {
        {"mlp:5", "fc1.weight is (4, 3) in the file and (5, 3) in the model"},
        {"mlp:4,4", "fc2.weight is (2, 4) in the file and (4, 4) in the model"},
        {"logistic", "fc1.weight is (4, 3) in the file and (2, 3) in the model"},
    };
    for (const auto& c : cases)
        EXPECT_THAT(message_of([&] { load_weights(path, *make(c.spec, data_)); }),
                    AllOf(HasSubstr(path.string()), HasSubstr(c.spec), HasSubstr(c.difference), Not(HasSubstr("\n"))));

    const auto longer = make("mlp:4,2", ArrayData(4, {3}, 4));
    const auto shorter = make("mlp:4", data_);
    EXPECT_THAT(message_of([&] { load_weights(path, *longer); }), HasSubstr("the file has no fc3.weight (4, 2)"));
    EXPECT_THAT(message_of([&] { load_weights(save(*longer), *shorter); }), HasSubstr("the model has no fc3.bias (4)"));
}

} // namespace
} // namespace lategrad
