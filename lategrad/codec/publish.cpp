#include "lategrad/codec/publish.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "lategrad/codec/finite.h"
#include "lategrad/codec/lossless.h"
#include "lategrad/codec/sparse.h"
#include "lategrad/codec/topk.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/bytes.h"
#include "lategrad/core/error.h"

namespace lategrad {
namespace {

constexpr std::string_view kForms =
    "none, fp16, bf16, lz4, zstd[:LEVEL], blosc, a stack such as bf16+lz4, or delta:CODEC "
    "with any --codec but none and dgc, as in delta:topk:0.01";
constexpr std::string_view kDelta = "delta:";

constexpr std::size_t kFormAt = 8;
constexpr std::size_t kCountAt = 12;
constexpr std::size_t kBaseAt = 16;
constexpr std::size_t kHeader = 24;
constexpr std::size_t kDifferenceHeader = 8; ///< before each
constexpr std::size_t kWordBits = 64;

/// Draws other numbers than any worker.
constexpr WorkerId kPublishing{0xffffffff};

/// Null where no codec has that name, and of none.
std::unique_ptr<ChunkedCodec> find_chunked(std::string_view spec, const CodecSetup& setup, std::string_view before) {
    std::unique_ptr<Codec> codec = find_codec(spec, setup, before);
    auto* const chunked = dynamic_cast<ChunkedCodec*>(codec.get());
    if (chunked) codec.release();
    return std::unique_ptr<ChunkedCodec>(chunked);
}

bool keeps_no_state(std::string_view name) {
    return name == "fp16" || name == "bf16" || name == "lz4" || name == "zstd" || name == "blosc";
}

std::span<const std::byte> bytes_of(const Buffer& buffer) {
    return {buffer.data(), buffer.bytes()};
}

std::span<const std::uint32_t> words_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const std::uint32_t*>(bytes.data()), bytes.size() / sizeof(std::uint32_t)};
}

std::uint64_t checksum(std::span<const std::byte> payload) {
    return XXH3_64bits(&payload[kFormAt], payload.size() - kFormAt);
}

/// The same floats where nobody else sees what is written to them.
Buffer writable(Buffer held, BufferPool& pool) {
    if (held.unique()) return held;
    Buffer copy = pool.lease(held.bytes());
    std::memcpy(copy.data(), std::as_const(held).data(), held.bytes());
    return copy;
}

/// Calls `at(index, first element, elements)` for each chunk.
template <class At>
void for_each_chunk(const ChunkedCodec& codec, const At& at) {
    for (std::size_t i = 0; i < codec.chunks(); ++i) at(i, i * codec.chunk(), codec.chunk_size(i));
}

/// Elements and tail that a payload holds by itself.
void decode_into(const ChunkedCodec& codec, std::span<const std::byte> payload, std::span<float> params) {
    const EncodedTerm term{payload, 1};
    for_each_chunk(codec, [&](std::size_t, std::size_t first, std::size_t size) {
        codec.weighted_sum({&term, 1}, first, params.subspan(first, size));
    });
    const auto tail = codec.tail(payload);
    std::ranges::copy(tail, params.last(tail.size()).begin());
}

} // namespace

PublishCodec::PublishCodec(std::string_view spec, const CodecSetup& setup, std::string_view option)
    : name_(spec),
      elements_(setup.elements),
      tail_(setup.tail) {
    if (spec == "none") return;
    kind_ = spec.starts_with(kDelta) ? Kind::delta : Kind::stateless;
    const std::string_view of = kind_ == Kind::delta ? spec.substr(kDelta.size()) : spec;
    CodecSetup encoded = setup;
    if (kind_ == Kind::delta) encoded.tail = 0;
    const std::string before = fmt::format("{} {}", option, spec.substr(0, spec.size() - of.size()));
    const std::string_view name = codec_name(of);
    // dgc has momentum, and a difference is no gradient.
    if (kind_ == Kind::delta ? name != "dgc" : keeps_no_state(name)) codec_ = find_chunked(of, encoded, before);
    if (!codec_) throw InputError(fmt::format("{} {}: expected {}", option, spec, kForms));
    if (kind_ == Kind::stateless) return;
    unbiased_ = codec_->rule().unbiased();
    if (dynamic_cast<const SparseRule*>(&codec_->rule())) {
        // The lossless stage belongs to what is sent: the final values.
        const auto plus = of.find('+');
        const std::string_view behind = plus == of.npos ? std::string_view() : of.substr(plus);
        values_ = std::make_unique<ChunkedCodec>(fmt::format("values{}", behind), std::make_unique<TopKRule>(1),
                                                 behind.empty() ? nullptr : make_lossless(behind.substr(1)), encoded);
        codec_ = find_chunked(of.substr(0, plus), encoded, before);
    }
}

std::string_view PublishCodec::forms() {
    return kForms;
}

std::size_t PublishCodec::whole_bytes() const {
    return kHeader + params_bytes();
}

std::size_t PublishCodec::payload_bytes_max() const {
    switch (kind_) {
    case Kind::none: return params_bytes();
    case Kind::stateless: return std::max(whole_bytes(), codec_->payload_bytes_max());
    case Kind::delta: return whole_bytes(); // anything else is sent where it is shorter
    }
    return 0;
}

std::size_t PublishCodec::payload_bytes_typical() const {
    if (kind_ == Kind::none) return params_bytes();
    if (kind_ == Kind::stateless) return codec_->payload_bytes_typical();
    const std::size_t difference = kDifferenceHeader + codec_->payload_bytes_typical();
    return std::min(whole_bytes(), kHeader + tail_ * sizeof(float) + difference);
}

/// The difference; what is encoded of it, or final values, never both at a time.
std::size_t PublishCodec::own_bytes_max() const {
    if (kind_ != Kind::delta) return 0;
    const std::size_t encoded = std::max(codec_->payload_bytes_max(), values_ ? values_->payload_bytes_max() : 0);
    return elements_ * sizeof(float) + encoded;
}

PublishCodec::Form PublishCodec::form(std::span<const std::byte> payload) {
    const Form form{load<std::uint32_t>(payload, kFormAt)};
    const bool ours = form == Form::whole || form == Form::differences || form == Form::values;
    return ours ? form : Form::codec;
}

std::optional<PublishCodec::Difference> PublishCodec::take_difference(std::span<const std::byte>& rest) {
    if (rest.size() < kDifferenceHeader) return std::nullopt;
    const std::size_t bytes = load<std::uint32_t>(rest, 0);
    const float scale = load<float>(rest, sizeof(std::uint32_t));
    if (bytes % 4 != 0 || bytes > rest.size() - kDifferenceHeader) return std::nullopt;
    const auto payload = rest.subspan(kDifferenceHeader, bytes);
    rest = rest.subspan(kDifferenceHeader + bytes);
    return Difference{.scale = scale, .payload = payload};
}

Reason PublishCodec::validate(std::span<const std::byte> payload) const {
    if (kind_ == Kind::none) return payload.size() == params_bytes() ? Reason::none : Reason::malformed;
    if (payload.size() > payload_bytes_max()) return Reason::malformed;
    // A codec's payload of one or two parameters is shorter than our header.
    const Form what = payload.size() < kHeader ? Form::codec : form(payload);
    if (what == Form::codec) return kind_ == Kind::stateless ? codec_->validate(payload) : Reason::malformed;
    if (load<std::uint64_t>(payload, 0) != checksum(payload)) return Reason::malformed;
    const std::size_t count = load<std::uint32_t>(payload, kCountAt);
    if (what == Form::whole) return payload.size() == whole_bytes() && count == 0 ? Reason::none : Reason::malformed;
    const std::size_t body = kHeader + tail_ * sizeof(float);
    if (kind_ != Kind::delta || payload.size() < body) return Reason::malformed;
    if (what == Form::differences) return check_differences(count, payload.subspan(body));
    return values_ && count == 0 ? values_->validate(payload.subspan(body)) : Reason::malformed;
}

Reason PublishCodec::check_differences(std::size_t count, std::span<const std::byte> rest) const {
    if (values_ && count > 0) return Reason::malformed;
    for (std::size_t i = 0; i < count; ++i) {
        const auto difference = take_difference(rest);
        if (!difference) return Reason::malformed;
        if (!std::isfinite(difference->scale)) return Reason::not_finite;
        if (const Reason defect = codec_->validate(difference->payload); defect != Reason::none) return defect;
    }
    return rest.empty() ? Reason::none : Reason::malformed;
}

Publisher::Publisher(const PublishCodec& codec, BufferPool& params, BufferPool& payloads)
    : codec_(codec),
      params_(params),
      payloads_(payloads),
      own_(codec.own_bytes_max()),
      changes_(codec.kind_ == PublishCodec::Kind::delta ? codec.whole_bytes() / sizeof(std::uint32_t) : 1) {
    if (codec.kind_ == PublishCodec::Kind::stateless) encoder_ = codec.codec_->make_encoder(kPublishing, payloads);
    if (codec.kind_ != PublishCodec::Kind::delta) return;
    encoder_ = codec.codec_->make_encoder(kPublishing, own_);
    difference_ = own_.lease(codec.elements_ * sizeof(float));
    chunk_.resize(codec.codec_->chunk());
    if (!codec.values_) return;
    touched_.resize((codec.elements_ + kWordBits - 1) / kWordBits);
    values_.emplace(*codec.values_, own_);
}

void Publisher::publish(Version version, const Buffer& params, std::span<const Version> bases, bool newcomers) {
    CHECK(params.bytes() == codec_.params_bytes() && (!newest_ || version == newest_->next()));
    const bool first = !newest_;
    newest_ = version;
    whole_.reset();
    encoded_.reset();
    prepared_.clear();
    switch (codec_.kind_) {
    case PublishCodec::Kind::none: published_ = params; break;
    case PublishCodec::Kind::stateless:
        if (!publish_encoded(version, params)) {
            published_ = params;
            whole();
        }
        break;
    case PublishCodec::Kind::delta:
        if (first || !publish_difference(version, params)) {
            published_ = params;
            changes_.clear(version);
        }
        prepared_.push_back({version, differences_since(version)});
        forget_touched();
        whole_until_.reset();
        if (first || newcomers) whole();
        for (auto base = bases.rbegin(); base != bases.rend(); ++base) payload(*base);
        break;
    }
}

Buffer Publisher::payload(std::optional<Version> base) {
    CHECK(newest_ && (!base || *base <= *newest_));
    switch (codec_.kind_) {
    case PublishCodec::Kind::none: return published_;
    case PublishCodec::Kind::stateless: return encoded_ ? encoded_ : whole();
    case PublishCodec::Kind::delta: break;
    }
    const Buffer prepared = base ? payload_since(*base) : Buffer();
    return prepared ? prepared : whole();
}

const Buffer& Publisher::published() {
    if (!published_) {
        published_ = params_.lease(codec_.params_bytes());
        decode_into(*codec_.codec_, bytes_of(encoded_), published_.floats());
    }
    return published_;
}

/// Stateless. False where the parameters cannot be encoded.
bool Publisher::publish_encoded(Version version, const Buffer& params) {
    if (!all_finite(params.floats().subspan(codec_.elements_))) return false;
    encoded_ = encoder_->encode(params, {.step = Step{version.value()}});
    if (!encoded_) return false;
    published_.reset(); // decoded where somebody asks for it
    return true;
}

/// ŵ' = ŵ + γ·C(w' − ŵ). False where that cannot be; then ŵ is undefined.
bool Publisher::publish_difference(Version version, const Buffer& params) {
    const ChunkedCodec& codec = *codec_.codec_;
    const auto to = params.floats();
    const auto from = std::as_const(published_).floats();
    const auto difference = difference_.floats();
    for (std::size_t i = 0; i < difference.size(); ++i) difference[i] = to[i] - from[i];
    // What is left out is in w' − ŵ already.
    const Buffer delta = encoder_->encode(difference_, {.step = Step{version.value()}, .residual_scale = 0});
    if (!delta) {
        encoder_ = codec.make_encoder(kPublishing, own_);
        return false;
    }
    const float scale = codec_.unbiased_ ? scale_of(bytes_of(delta)) : 1;
    published_ = writable(std::move(published_), params_);
    const auto floats = published_.floats();
    bool finite = true;
    for_each_chunk(codec, [&](std::size_t index, std::size_t first, std::size_t size) {
        const auto chunk = floats.subspan(first, size);
        codec.rule().add(codec.opened_chunk(bytes_of(delta), index), scale, true, chunk);
        finite = finite && all_finite(chunk);
    });
    if (!finite) return false;
    std::ranges::copy(to.subspan(codec_.elements_), floats.subspan(codec_.elements_).begin());
    keep(bytes_of(delta), scale);
    return true;
}

/// γ of an unbiased codec.
float Publisher::scale_of(std::span<const std::byte> delta) {
    const ChunkedCodec& codec = *codec_.codec_;
    const EncodedTerm term{delta, 1};
    const auto difference = std::as_const(difference_).floats();
    double along = 0, squares = 0;
    for_each_chunk(codec, [&](std::size_t, std::size_t first, std::size_t size) {
        const std::span<float> decoded(chunk_.data(), size);
        codec.weighted_sum({&term, 1}, first, decoded);
        for (std::size_t i = 0; i < size; ++i) {
            along += static_cast<double>(difference[first + i]) * decoded[i];
            squares += static_cast<double>(decoded[i]) * decoded[i];
        }
    });
    return squares > 0 ? static_cast<float>(std::min(along / squares, 1.0)) : 1;
}

void Publisher::keep(std::span<const std::byte> delta, float scale) {
    if (!codec_.values_) {
        const std::array head{static_cast<std::uint32_t>(delta.size()), std::bit_cast<std::uint32_t>(scale)};
        changes_.add(head, words_of(delta));
        return;
    }
    places_.clear();
    for_each_chunk(*codec_.codec_, [&](std::size_t index, std::size_t first, std::size_t) {
        SparseRule::for_each_entry(codec_.codec_->opened_chunk(delta, index), [&](std::size_t place, float) {
            places_.push_back(static_cast<std::uint32_t>(first + place));
        });
    });
    changes_.add({}, places_);
}

/// For a worker that holds `base`; empty where the whole is not longer, or what has changed is not known.
const Buffer& Publisher::payload_since(Version base) {
    const auto found = std::ranges::find(prepared_, base, &Prepared::base);
    if (found != prepared_.end()) return found->payload;
    Buffer payload;
    if (changes_.reaches(base) && !(whole_until_ && base <= *whole_until_)) {
        payload = codec_.values_ ? values_since(base) : differences_since(base);
        // Since an older version no less has changed; but it may be compressed to less.
        const bool compressed = codec_.values_ && codec_.values_->has_stage();
        if (!payload && !compressed) whole_until_ = base;
    }
    return prepared_.emplace_back(Prepared{base, std::move(payload)}).payload;
}

/// Dense: the differences in order. From the newest version on none, of any codec.
Buffer Publisher::differences_since(Version base) {
    const std::size_t words = base == *newest_ ? 0 : changes_.words(base, *newest_);
    const std::size_t at = kHeader + codec_.tail_ * sizeof(float);
    const std::size_t bytes = at + words * sizeof(std::uint32_t);
    if (words > 0 && bytes >= codec_.whole_bytes()) return {};
    Buffer payload = begin(PublishCodec::Form::differences, bytes, *newest_ - base, base);
    if (words > 0) changes_.copy(base, *newest_, {reinterpret_cast<std::uint32_t*>(payload.data() + at), words});
    return finish(payload);
}

void Publisher::forget_touched() {
    std::ranges::fill(touched_, 0);
    touched_since_ = *newest_;
}

/// Sparse: final values where anything has changed. touched_ has what changed after touched_since_ already.
Buffer Publisher::values_since(Version base) {
    if (base > touched_since_) forget_touched();
    places_.resize(changes_.words(base, touched_since_));
    changes_.copy(base, touched_since_, places_);
    touched_since_ = base;
    for (const std::uint32_t place : places_) touched_[place / kWordBits] |= std::uint64_t{1} << (place % kWordBits);
    places_.clear();
    for (std::size_t i = 0; i < touched_.size(); ++i) {
        for (std::uint64_t left = touched_[i]; left != 0; left &= left - 1) {
            places_.push_back(static_cast<std::uint32_t>(i * kWordBits) +
                              static_cast<std::uint32_t>(std::countr_zero(left)));
        }
    }
    const std::size_t at = kHeader + codec_.tail_ * sizeof(float);
    const bool longer = at + places_.size() * SparseRule::kEntryBytes >= codec_.whole_bytes();
    if (longer && !codec_.values_->has_stage()) return {};
    values_->begin();
    write_entries(*values_, *codec_.values_, places_, std::as_const(published_).floats());
    const Buffer body = values_->finish({});
    if (at + body.bytes() >= codec_.whole_bytes()) return {};
    Buffer payload = begin(PublishCodec::Form::values, at + body.bytes(), 0, base);
    std::memcpy(payload.data() + at, body.data(), body.bytes());
    return finish(payload);
}

const Buffer& Publisher::whole() {
    if (!whole_) {
        Buffer payload = begin(PublishCodec::Form::whole, codec_.whole_bytes(), 0, *newest_);
        std::memcpy(payload.data() + kHeader, std::as_const(published_).data(), codec_.params_bytes());
        whole_ = finish(payload);
    }
    return whole_;
}

/// Header and tail; of the whole, where the tail stands last, the header.
Buffer Publisher::begin(PublishCodec::Form form, std::size_t bytes, std::uint64_t differences, Version base) {
    Buffer payload = payloads_.lease(bytes);
    const std::span<std::byte> bytes_of_payload(payload.data(), bytes);
    store(bytes_of_payload, kFormAt, static_cast<std::uint32_t>(form));
    store(bytes_of_payload, kCountAt, static_cast<std::uint32_t>(differences));
    store(bytes_of_payload, kBaseAt, base.value());
    const auto tail = std::as_const(published_).floats().subspan(codec_.elements_);
    if (form != PublishCodec::Form::whole && !tail.empty()) {
        std::memcpy(payload.data() + kHeader, tail.data(), tail.size_bytes());
    }
    return payload;
}

Buffer Publisher::finish(Buffer& payload) {
    store({payload.data(), payload.bytes()}, 0, checksum(bytes_of(payload)));
    return std::move(payload);
}

void Publisher::persist(Archive& archive) {
    archive.section("publisher");
    archive.expect(codec_.name(), "--publish-codec");
    archive(newest_, published_, encoded_, whole_, prepared_, whole_until_, changes_);
    if (encoder_) encoder_->persist(archive);
    if (!archive.reading()) return;
    check_read(archive);
    if (newest_) forget_touched(); // it only spares looking at changes_ again
}

/// What is sent its receiver validates; what is read here must be within bounds.
void Publisher::check_read(Archive& archive) const {
    using Kind = PublishCodec::Kind;
    const auto is_whole = [&](const Buffer& buffer, std::size_t bytes) { return !buffer || buffer.bytes() == bytes; };
    archive.require(is_whole(published_, codec_.params_bytes()) && is_whole(whole_, codec_.whole_bytes()),
                    "published parameters of another length");
    if (codec_.kind_ == Kind::stateless) {
        // A simulation's have no bytes.
        const bool sound = !encoded_ || std::as_const(encoded_).data() == nullptr ||
                           codec_.codec_->validate(bytes_of(encoded_)) == Reason::none;
        archive.require(sound, "published parameters that cannot be decoded");
    } else {
        archive.require(!encoded_, "published parameters of another codec");
    }
    if (!newest_) return;
    archive.require(published_ || encoded_, "a published version without parameters");
    archive.require(!whole_until_ || *whole_until_ <= *newest_, "a payload for the future");
    for (const Prepared& prepared : prepared_) archive.require(prepared.base <= *newest_, "a payload for the future");
    if (codec_.kind_ != Kind::delta) return;
    archive.require(changes_.newest() == *newest_, "changes up to another version");
    if (!codec_.values_) return;
    std::vector<std::uint32_t> places(changes_.words(changes_.oldest(), *newest_));
    changes_.copy(changes_.oldest(), *newest_, places);
    const bool inside = std::ranges::all_of(places, [&](std::uint32_t place) { return place < codec_.elements_; });
    archive.require(inside, "a change of a parameter that is not there");
}

Buffer Subscriber::decode(const Buffer& payload, Version version) {
    using Form = PublishCodec::Form;
    if (codec_.kind_ == PublishCodec::Kind::none) return payload;
    const auto bytes = bytes_of(payload);
    const Form form = PublishCodec::form(bytes);
    if (form == Form::codec) {
        Buffer params = params_.lease(codec_.params_bytes());
        decode_into(*codec_.codec_, bytes, params.floats());
        return params;
    }
    if (form == Form::whole) {
        Buffer params = held_.unique() ? std::move(held_) : params_.lease(codec_.params_bytes());
        std::memcpy(params.data(), &bytes[kHeader], codec_.params_bytes());
        if (codec_.kind_ == PublishCodec::Kind::delta) {
            held_ = params;
            version_ = version;
        }
        return params;
    }
    const Version base{load<std::uint64_t>(bytes, kBaseAt)};
    if (!held_ || base > version_ || version_ > version) return {};
    if (form == Form::differences && version - base != load<std::uint32_t>(bytes, kCountAt)) return {};
    if (version_ != version) apply(bytes, version_ - base);
    version_ = version;
    return held_;
}

/// What has changed joins held_, but for the first `skip` differences, which are in it.
void Subscriber::apply(std::span<const std::byte> payload, std::uint64_t skip) {
    held_ = writable(std::move(held_), params_);
    const auto params = held_.floats();
    const auto elements = params.first(codec_.elements_);
    const std::size_t tail_bytes = codec_.tail_ * sizeof(float);
    std::memcpy(params.data() + codec_.elements_, payload.data() + kHeader, tail_bytes);
    auto rest = payload.subspan(kHeader + tail_bytes);
    if (PublishCodec::form(payload) == PublishCodec::Form::differences) {
        const ChunkedCodec& codec = *codec_.codec_;
        for (std::uint64_t i = 0; !rest.empty(); ++i) {
            const auto difference = PublishCodec::take_difference(rest);
            CHECK(difference); // validated
            if (i >= skip) codec.add_chunks(difference->payload, codec.chunks(), difference->scale, elements);
        }
        return;
    }
    const ChunkedCodec& codec = *codec_.values_;
    for_each_chunk(codec, [&](std::size_t index, std::size_t first, std::size_t) {
        SparseRule::for_each_entry(codec.opened_chunk(rest, index),
                                   [&](std::size_t place, float value) { elements[first + place] = value; });
    });
}

void Subscriber::persist(Archive& archive) {
    archive.section("subscriber");
    archive.expect(codec_.name(), "--publish-codec");
    archive(held_, version_);
    archive.require(!held_ || (codec_.kind_ == PublishCodec::Kind::delta && held_.bytes() == codec_.params_bytes()),
                    "held parameters of another length");
}

} // namespace lategrad
