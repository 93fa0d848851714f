/// `--reject-norm`: a gradient whose norm is beyond so many times the running median does not count.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

namespace lategrad {

class NormLimit {
  public:
    /// Norms in the median; with fewer than kKnown of them nothing is rejected.
    static constexpr std::size_t kWindow = 101;
    static constexpr std::size_t kKnown = 16;

    /// `factor` 0: nothing is ever rejected.
    explicit NormLimit(double factor) : factor_(factor) {}

    /// True where the norm is beyond the limit. Else it joins the median.
    bool rejects(double norm) {
        if (factor_ <= 0) return false;
        if (count_ >= kKnown && median() > 0 && norm > factor_ * median()) return true;
        norms_[next_] = norm;
        next_ = (next_ + 1) % kWindow;
        count_ = std::min(count_ + 1, kWindow);
        return false;
    }

    /// Of the norms seen last. REQUIRES: there are some.
    double median() const {
        std::array<double, kWindow> sorted = norms_;
        const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(count_ / 2);
        std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<std::ptrdiff_t>(count_));
        return *middle;
    }

    template <class A>
    void archive(A& archive) {
        archive(norms_, next_, count_);
        archive.require(next_ < kWindow && count_ <= kWindow, "more norms than are kept");
        const auto is_norm = [](double norm) { return std::isfinite(norm) && norm >= 0; };
        archive.require(std::ranges::all_of(norms_, is_norm), "a norm that is none");
    }

  private:
    double factor_;
    std::array<double, kWindow> norms_{};
    std::size_t next_ = 0;
    std::size_t count_ = 0;
};

} // namespace lategrad
