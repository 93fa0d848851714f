#include "lategrad/codec/codec.h"

#include <fmt/format.h>

#include "lategrad/codec/raw.h"
#include "lategrad/core/error.h"

namespace lategrad {

std::unique_ptr<Codec> make_codec(std::string_view spec) {
    if (spec == "none") return std::make_unique<RawCodec>();
    throw InputError(fmt::format("--codec {}: expected none", spec));
}

} // namespace lategrad
