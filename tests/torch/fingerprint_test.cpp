#include "lategrad/torch/fingerprint.h"

#include <gmock/gmock.h>

namespace lategrad {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(FingerprintTest, IsTheSameForTheSameMachine) {
    EXPECT_EQ(fingerprint(1), fingerprint(1));
    EXPECT_THAT(differences(fingerprint(1), fingerprint(1)), IsEmpty());
}

TEST(FingerprintTest, KnowsEveryPart) {
    for (const auto& [field, value] : fingerprint(1).fields) {
        EXPECT_FALSE(value.empty()) << field;
        EXPECT_NE(value, "unknown") << field;
    }
}

TEST(FingerprintTest, NamesWhatDiffers) {
    EXPECT_THAT(differences(fingerprint(1), fingerprint(2)), ElementsAre("threads: 1 recorded, 2 here"));
    Fingerprint recorded = fingerprint(1);
    recorded.fields["processor"] = "Z80";
    recorded.fields.erase("libtorch");
    EXPECT_THAT(differences(recorded, fingerprint(1)),
                ElementsAre(HasSubstr("libtorch: nothing recorded, "), HasSubstr("processor: Z80 recorded, ")));
}

TEST(FingerprintTest, TellsTheReferenceBlasFromTheOthers) {
    const std::string blas = fingerprint(1).fields.at("blas");
    EXPECT_EQ(reference_blas(),
              blas.find("OpenBLAS") == std::string::npos && blas.find("libblas.so") != std::string::npos)
        << blas;
}

} // namespace
} // namespace lategrad
