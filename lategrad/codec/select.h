/// The k largest of many values, in one pass over memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace lategrad {

/// What joins a residual before its largest entries are sent.
struct Joining {
    std::span<const float> grad;
    float grad_scale = 1;
    float residual_scale = 1;
    // dgc: velocity = momentum·velocity + grad_scale·grad joins in place of the gradient
    float momentum = 0;
    std::span<float> velocity; ///< empty: none
};

/// A sample says what the k-th largest is about; one pass then does the sums and notes every entry that is larger, and
/// among these few the k largest are found exactly. Zeros are never noted. Deterministic. Reused from gradient to
/// gradient.
class Selector {
  public:
    /// residual = grad_scale·grad + residual_scale·residual, or the same with velocity; then selects. False where a sum
    /// overflows; then residual and velocity are what they were: the same bits in that block, to the rounding of the
    /// sums in those before. REQUIRES: grad is finite.
    bool join(const Joining& joining, std::span<float> residual, std::size_t k);
    /// Where the k largest magnitudes are, ascending; of equal ones the first, and no zeros. After join.
    std::span<const std::uint32_t> places() const { return {places_.data(), count_}; }

  private:
    std::int32_t guess(const Joining& joining, std::span<const float> residual, std::size_t k);
    void pick(std::size_t k);
    void undo(const Joining& joined, std::span<float> residual, std::size_t begin, std::size_t end) const;

    std::vector<float> residual_before_; ///< of one block, which alone may hold what has overflowed
    std::vector<float> velocity_before_;
    std::vector<std::int32_t> sample_;
    std::vector<std::uint32_t> places_;
    std::vector<std::int32_t> magnitudes_; ///< of places_, as bits
    std::vector<std::int32_t> sorted_;
    std::size_t count_ = 0;
};

} // namespace lategrad
