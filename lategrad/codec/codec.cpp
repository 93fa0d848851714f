#include "lategrad/codec/codec.h"

#include <fmt/format.h>

#include <optional>

#include "lategrad/codec/chunked.h"
#include "lategrad/codec/dgc.h"
#include "lategrad/codec/float32.h"
#include "lategrad/codec/half.h"
#include "lategrad/codec/lowrank.h"
#include "lategrad/codec/qsgd.h"
#include "lategrad/codec/randk.h"
#include "lategrad/codec/raw.h"
#include "lategrad/codec/sign.h"
#include "lategrad/codec/tern.h"
#include "lategrad/codec/topk.h"
#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"

namespace lategrad {
namespace {

constexpr std::string_view kForms =
    "none; or fp16, bf16, topk:R, dgc:R[,CLIP], randk:R, qsgd:BITS, terngrad, signsgd or lowrank:RANK, each with +lz4, "
    "+zstd[:LEVEL] or +blosc behind it; or one of these three alone";

/// A codec as it was asked for.
struct Asked {
    std::string_view before;
    std::string_view spec;

    [[noreturn]] void fail(std::string_view expected) const {
        throw InputError(fmt::format("{}{}: expected {}", before, spec, expected));
    }
};

double share_in(const Asked& asked, std::string_view text, std::string_view form) {
    const auto share = parse_number<double>(text);
    if (!share || !(*share > 0 && *share <= 1)) {
        asked.fail(fmt::format("{} with R, the share of the entries that is sent, above 0 and at most 1, as in {}:0.01",
                               form, form.substr(0, form.find(':'))));
    }
    return *share;
}

/// One line for each codec; null where none has that name.
std::unique_ptr<Rule> find_rule(const Asked& asked, std::string_view rule, const CodecSetup& setup) {
    const std::string_view name = rule.substr(0, rule.find(':'));
    const bool has_argument = name.size() < rule.size();
    const std::string_view argument = has_argument ? rule.substr(name.size() + 1) : std::string_view();

    if (rule == "fp16") return std::make_unique<HalfRule>(HalfRule::Format::fp16);
    if (rule == "bf16") return std::make_unique<HalfRule>(HalfRule::Format::bf16);
    if (rule == "signsgd") return std::make_unique<SignRule>();
    if (rule == "terngrad") return std::make_unique<TernRule>();
    if (name == "topk") return std::make_unique<TopKRule>(share_in(asked, argument, "topk:R"));
    if (name == "randk") return std::make_unique<RandKRule>(share_in(asked, argument, "randk:R"));
    if (name == "dgc") {
        const auto comma = argument.find(',');
        const double share = share_in(asked, argument.substr(0, comma), "dgc:R[,CLIP]");
        const auto clip =
            comma == argument.npos ? std::optional(0.0) : parse_number<double>(argument.substr(comma + 1));
        if (!clip || *clip < 0 || (comma != argument.npos && *clip == 0)) {
            asked.fail(
                "dgc:R,CLIP with CLIP, the largest norm of a gradient times √workers, above 0, as in dgc:0.001,2");
        }
        return std::make_unique<DgcRule>(share, *clip);
    }
    if (name == "qsgd") {
        const auto bits = parse_number<int>(argument);
        if (!bits || *bits < 2 || *bits > 8) asked.fail("qsgd:BITS with BITS from 2 to 8, as in qsgd:8");
        return std::make_unique<QsgdRule>(*bits);
    }
    if (name == "lowrank") {
        const auto rank = parse_number<std::size_t>(argument);
        if (!rank || *rank == 0 || *rank > 1024) asked.fail("lowrank:RANK with RANK from 1 to 1024, as in lowrank:4");
        return std::make_unique<LowRankRule>(*rank, setup);
    }
    return nullptr;
}

} // namespace

void Encoder::refund(std::span<const std::byte>) {}

std::unique_ptr<Codec> make_codec(std::string_view spec, const CodecSetup& setup, std::string_view option) {
    const std::string before = fmt::format("{} ", option);
    if (auto codec = find_codec(spec, setup, before)) return codec;
    Asked{before, spec}.fail(kForms);
}

std::unique_ptr<Codec> find_codec(std::string_view spec, const CodecSetup& setup, std::string_view before) {
    if (spec == "none") return std::make_unique<RawCodec>(setup);
    const Asked asked{before, spec};
    const auto plus = spec.find('+');
    const auto stage = [&](std::string_view name) {
        try {
            return make_lossless(name);
        } catch (const InputError& error) {
            asked.fail(error.what());
        }
    };
    std::unique_ptr<Rule> rule;
    std::unique_ptr<Lossless> behind;
    if (plus == spec.npos) behind = stage(spec);
    if (behind) {
        rule = std::make_unique<Float32Rule>();
    } else {
        rule = find_rule(asked, spec.substr(0, plus), setup);
        if (!rule) return nullptr;
        if (plus != spec.npos) {
            behind = stage(spec.substr(plus + 1));
            if (!behind) asked.fail("lz4, zstd[:LEVEL] or blosc behind the +");
        }
    }
    return std::make_unique<ChunkedCodec>(std::string(spec), std::move(rule), std::move(behind), setup);
}

std::string_view codec_forms() {
    return kForms;
}

std::string_view codec_name(std::string_view spec) {
    return spec.substr(0, spec.find_first_of(":+"));
}

} // namespace lategrad
