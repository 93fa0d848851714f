#include "lategrad/data/images.h"

#include <array>
#include <cmath>

#include "lategrad/core/error.h"

namespace lategrad {
namespace {

class ImageDataset final : public Dataset {
  public:
    ImageDataset(LabelledImages images, std::int64_t classes, const Normalization& normalization)
        : pixels_(std::move(images.pixels)) {
        shape_ = {1, static_cast<std::int64_t>(images.height), static_cast<std::int64_t>(images.width)};
        classes_ = classes;
        labels_ = std::move(images.labels);
        CHECK(pixels_.size() == labels_.size() * features());
        for (std::size_t x = 0; x < value_of_.size(); ++x)
            value_of_[x] =
                static_cast<float>((static_cast<double>(x) / 255 - normalization.mean) / normalization.deviation);
    }

    void gather(std::span<const std::uint32_t> indices, Batch& out) const override {
        const std::size_t width = features();
        out.examples = indices.size();
        out.features.resize(indices.size() * width);
        out.labels.resize(indices.size());
        out.targets.clear();
        float* to = out.features.data();
        for (std::size_t i = 0; i < indices.size(); ++i) {
            CHECK(indices[i] < size());
            const std::byte* from = pixels_.data() + indices[i] * width;
            for (std::size_t j = 0; j < width; ++j) *to++ = value_of_[std::to_integer<std::size_t>(from[j])];
            out.labels[i] = labels_[indices[i]];
        }
    }

  private:
    std::vector<std::byte> pixels_;
    std::array<float, 256> value_of_{}; ///< normalised, by pixel
};

} // namespace

Normalization normalization_of(std::span<const std::byte> pixels) {
    if (pixels.empty()) return {};
    std::uint64_t sum = 0, squares = 0;
    for (const std::byte pixel : pixels) {
        const auto x = std::to_integer<std::uint64_t>(pixel);
        sum += x;
        squares += x * x;
    }
    const auto n = static_cast<double>(pixels.size());
    __extension__ using Wide = unsigned __int128;
    const Wide variance_n2 = Wide{squares} * pixels.size() - Wide{sum} * sum; // n²·variance, exactly
    const double deviation = std::sqrt(static_cast<double>(variance_n2)) / n / 255;
    return {.mean = static_cast<double>(sum) / n / 255, .deviation = deviation > 0 ? deviation : 1};
}

std::shared_ptr<const Dataset> make_image_dataset(LabelledImages images, std::int64_t classes,
                                                  const Normalization& normalization) {
    return std::make_shared<ImageDataset>(std::move(images), classes, normalization);
}

} // namespace lategrad
