#pragma once

#include "lategrad/codec/codec.h"

namespace lategrad {

/// `none`: the payload is the float32 vector as it lies in memory, little-endian, tail included; nothing is copied.
class RawCodec final : public Codec {
  public:
    explicit RawCodec(const CodecSetup& setup) : elements_(setup.elements), tail_(setup.tail) {}

    const std::string& name() const override { return name_; }
    bool exact() const override { return true; }
    bool error_feedback() const override { return false; }
    bool in_place() const override { return true; }
    std::size_t chunk() const override { return 4096; }
    std::size_t payload_bytes_max() const override { return (elements_ + tail_) * sizeof(float); }
    std::size_t payload_bytes_typical() const override { return payload_bytes_max(); }
    std::unique_ptr<Encoder> make_encoder(WorkerId worker, BufferPool& payloads) const override;
    Reason validate(std::span<const std::byte> payload) const override;
    void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const override;
    std::span<const float> tail(std::span<const std::byte> payload) const override;

  private:
    std::string name_ = "none";
    std::size_t elements_;
    std::size_t tail_;
};

} // namespace lategrad
