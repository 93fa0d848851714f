/// Image data sets: bytes in memory, normalised as they are gathered.
#pragma once

#include <memory>
#include <span>

#include "lategrad/data/dataset.h"
#include "lategrad/data/idx.h"

namespace lategrad {

/// A pixel x in [0, 255] becomes (x/255 − mean) / deviation.
struct Normalization {
    double mean = 0;
    double deviation = 1;
};

/// That of all pixels, from integer sums, so that it is the same everywhere; a deviation of 0 counts as 1.
Normalization normalization_of(std::span<const std::byte> pixels);

/// Examples of shape (1, H, W). REQUIRES: labels < classes.
std::shared_ptr<const Dataset> make_image_dataset(LabelledImages images, std::int64_t classes,
                                                  const Normalization& normalization);

} // namespace lategrad
