#include <fmt/format.h>

#include "lategrad/core/error.h"
#include "lategrad/core/parse.h"
#include "lategrad/torch/model.h"

namespace lategrad {

namespace {

constexpr std::int64_t kWidthMax = 1'000'000;

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
    throw InputError(fmt::format("--model {}: {}; there are lenet, mlp, mlp:H1,H2,…, logistic, ridge, ridge:ETA and "
                                 "TorchScript files ending in .pt",
                                 text, why));
}

std::vector<std::int64_t> parse_widths(std::string_view text, std::string_view list) {
    std::vector<std::int64_t> widths;
    while (true) {
        const std::size_t comma = list.find(',');
        const auto width = parse_number<std::int64_t>(list.substr(0, comma));
        if (!width || *width < 1 || *width > kWidthMax)
            refuse(text, fmt::format("a layer's width is a number from 1 to {}", kWidthMax));
        widths.push_back(*width);
        if (comma == std::string_view::npos) return widths;
        list.remove_prefix(comma + 1);
    }
}

} // namespace

ModelSpec ModelSpec::parse(std::string_view text) {
    ModelSpec spec;
    spec.text = text;
    const std::size_t colon = text.find(':');
    const std::string_view name = text.substr(0, colon);
    const bool has_argument = colon != std::string_view::npos;
    const std::string_view argument = has_argument ? text.substr(colon + 1) : std::string_view{};

    if (text.ends_with(".pt")) {
        spec.kind = Kind::script;
        spec.file = text;
    } else if (text == "lenet") {
        spec.kind = Kind::lenet;
    } else if (text == "logistic") {
        spec.kind = Kind::logistic;
    } else if (name == "mlp") {
        spec.kind = Kind::mlp;
        spec.hidden = has_argument ? parse_widths(text, argument) : std::vector<std::int64_t>{800, 500};
    } else if (name == "ridge") {
        spec.kind = Kind::ridge;
        const auto eta = has_argument ? parse_number<double>(argument) : spec.eta;
        if (!eta || *eta < 0) refuse(text, "ETA is a number, 0 or more");
        spec.eta = *eta;
    } else {
        refuse(text, "there is no such model");
    }
    return spec;
}

} // namespace lategrad
