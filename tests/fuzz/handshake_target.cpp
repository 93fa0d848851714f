/// Whatever welcome a server says, and whatever traits a worker says, is read and written again as the same, or
/// refused.
#include <algorithm>

#include "cli/elastic/welcome_bytes.h"
#include "lategrad/server/admission.h"
#include "tests/fuzz/file.h"
#include "tests/fuzz/input.h"

namespace lategrad::fuzz {
namespace {

constexpr std::size_t kLengthBytes = sizeof(std::uint64_t);
constexpr std::size_t kDifferenceMax = 2000; ///< of two traits

class WelcomeTarget final : public Target {
  public:
    bool run(unsigned control, Bytes bytes) const override {
        if ((control & kLengthsAsIs) == 0 && bytes.size() >= kLengthBytes) {
            store(bytes, 0, std::min<std::uint64_t>(load<std::uint64_t>(bytes, 0), bytes.size() - kLengthBytes));
        }
        return passes("welcome", [&] { CHECK(to_bytes(parse_welcome(bytes)) == bytes); });
    }

    std::vector<Bytes> payloads() const override {
        return {to_bytes({.config = "model = \"net.pt\"\n", .model = Bytes(9)}),
                to_bytes({.config = "lr = 0.1\n", .model = {}}), to_bytes({})};
    }
};

class TraitsTarget final : public Target {
  public:
    bool run(unsigned, Bytes bytes) const override {
        const auto traits = parse_traits(bytes);
        if (!traits) return false;
        CHECK(parse_traits(bytes_in(traits_text(*traits))) == traits);
        CHECK(difference(*traits, *traits).empty());
        CHECK(difference(ours(), *traits).size() <= kDifferenceMax);
        return true;
    }

    std::vector<Bytes> payloads() const override {
        return {bytes_in(traits_text(ours())), bytes_in(traits_text({{"model", "m\xc3\xa9\n"}})), bytes_in("{}")};
    }

  private:
    static Traits ours() { return {{"lategrad", "0.1.0"}, {"model", "f00d"}, {"training data", "cafe"}}; }
};

} // namespace

std::unique_ptr<Target> make_handshake_target(const std::string& spec) {
    if (spec == "welcome") return std::make_unique<WelcomeTarget>();
    return std::make_unique<TraitsTarget>();
}

} // namespace lategrad::fuzz
