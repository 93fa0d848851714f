#include "lategrad/codec/change_history.h"

#include <algorithm>

#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"

namespace lategrad {

ChangeHistory::ChangeHistory(std::size_t words_max)
    : words_max_(words_max),
      words_(std::make_unique_for_overwrite<std::uint32_t[]>(words_max)),
      ends_{0} {}

void ChangeHistory::clear(Version newest) {
    oldest_ = newest;
    ends_.assign(1, 0);
}

void ChangeHistory::add(std::span<const std::uint32_t> head, std::span<const std::uint32_t> body) {
    const std::uint64_t end = ends_.back() + head.size() + body.size();
    if (head.size() + body.size() > words_max_) {
        clear(Version{oldest_.value() + ends_.size()});
        return;
    }
    auto reached = std::ranges::find_if(ends_, [&](std::uint64_t begin) { return end - begin <= words_max_; });
    if (ends_.end() - reached >= static_cast<std::ptrdiff_t>(kVersionsMax)) ++reached;
    oldest_ = Version{oldest_.value() + static_cast<std::uint64_t>(reached - ends_.begin())};
    ends_.erase(ends_.begin(), reached);
    append(ends_.back(), head);
    append(ends_.back() + head.size(), body);
    ends_.push_back(end);
}

void ChangeHistory::append(std::uint64_t at, std::span<const std::uint32_t> words) {
    const std::size_t place = at % words_max_;
    const std::size_t before_wrap = std::min(words.size(), words_max_ - place);
    std::ranges::copy(words.first(before_wrap), &words_[place]);
    std::ranges::copy(words.subspan(before_wrap), &words_[0]);
}

std::size_t ChangeHistory::words(Version from, Version to) const {
    CHECK(reaches(from) && reaches(to) && from <= to);
    return end(to) - end(from);
}

void ChangeHistory::copy(Version from, Version to, std::span<std::uint32_t> out) const {
    CHECK(out.size() == words(from, to));
    const std::size_t place = end(from) % words_max_;
    const std::size_t before_wrap = std::min(out.size(), words_max_ - place);
    std::copy_n(&words_[place], before_wrap, out.begin());
    std::copy_n(&words_[0], out.size() - before_wrap, out.begin() + static_cast<std::ptrdiff_t>(before_wrap));
}

void ChangeHistory::persist(Archive& archive) {
    archive.section("changes");
    archive.expect(words_max_, "words of changes");
    archive(oldest_, ends_);
    archive.require(!ends_.empty() && ends_.size() <= kVersionsMax && std::ranges::is_sorted(ends_) &&
                        ends_.back() - ends_.front() <= words_max_,
                    "more changes than are kept");
    archive.require_count(ends_.back(), "more changes than there can be");
    const std::size_t kept = ends_.back() - ends_.front();
    const std::size_t place = ends_.front() % words_max_;
    const std::size_t before_wrap = std::min(kept, words_max_ - place);
    archive.fixed(std::span(words_.get() + place, before_wrap), "words of changes");
    archive.fixed(std::span(words_.get(), kept - before_wrap), "words of changes");
}

} // namespace lategrad
