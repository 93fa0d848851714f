#include "lategrad/torch/model.h"

#include <gmock/gmock.h>

#include "tests/files/temp_dir.h"
#include "tests/torch/array_data.h"

namespace lategrad {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::unique_ptr<Model> make(const char* spec, const Dataset& data, std::uint64_t seed = 1) {
    return make_model(ModelSpec::parse(spec), data, seed);
}

std::vector<float> initial(const Model& model) {
    std::vector<float> out(model.size());
    model.initial_parameters(out);
    return out;
}

std::vector<std::string> names(const Model& model) {
    std::vector<std::string> out;
    for (const FlatTensor& tensor : model.tensors()) out.push_back(tensor.name);
    return out;
}

TEST(ModelSpecTest, ReadsEveryForm) {
    EXPECT_EQ(ModelSpec::parse("lenet").kind, ModelSpec::Kind::lenet);
    EXPECT_EQ(ModelSpec::parse("logistic").kind, ModelSpec::Kind::logistic);
    EXPECT_THAT(ModelSpec::parse("mlp").hidden, ElementsAre(800, 500));
    EXPECT_THAT(ModelSpec::parse("mlp:7").hidden, ElementsAre(7));
    EXPECT_THAT(ModelSpec::parse("mlp:30,20,10").hidden, ElementsAre(30, 20, 10));
    EXPECT_EQ(ModelSpec::parse("ridge").eta, 1.0);
    EXPECT_EQ(ModelSpec::parse("ridge:0.25").eta, 0.25);
    EXPECT_EQ(ModelSpec::parse("some/net.pt").file, "some/net.pt");
}

TEST(ModelSpecTest, RefusesWhatIsNoModel) {
    for (const char* spec : {"", "resnet", "lenet:3", "logistic:1", "mlp:", "mlp:3,", "mlp:,3", "mlp:0", "mlp:-4",
                             "mlp:2x", "mlp:10000001", "ridge:", "ridge:-1", "ridge:nan", "ridge:inf", "net.pth"}) {
        EXPECT_THAT(message_of([&] { ModelSpec::parse(spec); }),
                    AllOf(HasSubstr(std::string("--model ") + spec), HasSubstr("mlp:H1,H2"), Not(HasSubstr("\n"))))
            << spec;
    }
}

TEST(ModelTest, HasThePublishedNumberOfParameters) {
    const ArrayData images(4, {1, 28, 28}, 10);
    EXPECT_EQ(make("lenet", images)->trainable(), 431'080u);
    EXPECT_EQ(make("lenet", images)->size(), 431'080u);
    EXPECT_EQ(make("mlp", images)->trainable(), 784u * 800 + 800 + 800 * 500 + 500 + 500 * 10 + 10);
    EXPECT_EQ(make("logistic", images)->trainable(), 7'850u);
    const ArrayData rows(4, {13}, 0);
    EXPECT_EQ(make("ridge", rows)->trainable(), 13u);
    EXPECT_EQ(make("mlp:5", rows)->trainable(), 13u * 5 + 5 + 5 + 1);
}

TEST(ModelTest, NamesItsTensorsInFlatOrder) {
    const auto lenet = make("lenet", ArrayData(4, {3, 32, 20}, 7));
    EXPECT_THAT(names(*lenet), ElementsAre("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc1.weight",
                                           "fc1.bias", "fc2.weight", "fc2.bias"));
    EXPECT_THAT(lenet->tensors()[0].shape, ElementsAre(20, 3, 5, 5));
    EXPECT_THAT(lenet->tensors()[4].shape, ElementsAre(500, 50 * 5 * 2));
    EXPECT_THAT(lenet->tensors()[6].shape, ElementsAre(7, 500));
    std::size_t first = 0;
    for (const FlatTensor& tensor : lenet->tensors()) {
        EXPECT_EQ(tensor.first, first);
        EXPECT_TRUE(tensor.trainable);
        first += tensor.elements;
    }
    EXPECT_EQ(first, lenet->size());
    EXPECT_THAT(names(*make("mlp:3", ArrayData(4, {2}, 2))),
                ElementsAre("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"));
}

TEST(ModelTest, TheSeedDecidesTheInitialParameters) {
    const ArrayData data(4, {6}, 3);
    EXPECT_EQ(initial(*make("mlp:4", data, 5)), initial(*make("mlp:4", data, 5)));
    EXPECT_NE(initial(*make("mlp:4", data, 5)), initial(*make("mlp:4", data, 6)));
    EXPECT_THAT(initial(*make("ridge", ArrayData(4, {3}, 0))), ElementsAre(0.0f, 0.0f, 0.0f));
}

TEST(ModelTest, RefusesDataItDoesNotFit) {
    const ArrayData images(4, {1, 28, 28}, 10);
    const ArrayData small_images(4, {1, 28, 15}, 10);
    const ArrayData rows(4, {13}, 3);
    const ArrayData regression(4, {13}, 0);
    const struct {
        const char* spec;
        const Dataset& data;
        const char* reason;
    } cases[] = {
        {"lenet", rows, "images of 16×16 or more"},
        {"lenet", small_images, "(1, 28, 15)"},
        {"ridge", images, "10 classes"},
        {"logistic", regression, "regression"},
        {"no/such.pt", images, "no such file"},
        {"/.pt", images, "no such file"},
    };
    for (const auto& c : cases)
        EXPECT_THAT(message_of([&] { make(c.spec, c.data); }),
                    AllOf(HasSubstr(std::string("--model ") + c.spec), HasSubstr(c.reason), Not(HasSubstr("\n"))));
    EXPECT_EQ(make("lenet", ArrayData(4, {1, 16, 16}, 2))->tensors()[4].shape[1], 50);
}

} // namespace
} // namespace lategrad
