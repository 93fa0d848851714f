/// What the server's side reads of a gradient as it arrives, while it is in cache.
#pragma once

#include "lategrad/codec/codec.h"
#include "lategrad/codec/norm.h"
#include "lategrad/node/node.h"

namespace lategrad {

class PushCheck {
  public:
    /// `codec` outlives this. `elements`: floats that it encodes. `norm`: whether that is wanted; it takes a pass.
    PushCheck(const Codec& codec, std::size_t elements, bool norm) : codec_(codec), elements_(elements), norm_(norm) {}

    /// Fills in `defect` and `norm`.
    void operator()(MessageArrived& push) const {
        const std::span<const std::byte> payload(push.message.payload.data(), push.message.payload.bytes());
        push.defect = codec_.validate(payload);
        if (norm_ && push.defect == Reason::none) push.norm = gradient_norm(codec_, payload, elements_);
    }

  private:
    const Codec& codec_;
    std::size_t elements_;
    bool norm_;
};

} // namespace lategrad
