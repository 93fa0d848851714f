/// `--publish-codec`: parameters from the server to the workers, the other half of all bytes. The server keeps float32.
///
///   none            the parameters as they lie in memory; nothing is copied
///   fp16, bf16, lz4, zstd[:LEVEL], blosc and stacks such as bf16+lz4
///                   the payload of the gradient codec of that name (chunked.h), of the parameters
///   delta:CODEC     ŵ' = ŵ + γ·C(w' − ŵ) with any gradient codec C but none and dgc; ŵ begins as w. What C leaves out
///                   stays on the server as w − ŵ (error feedback in both directions: Tang et al. 2019,
///                   "DoubleSqueeze", algorithm 1). A worker gets what has changed since the version that it holds, or
///                   the whole of ŵ where that is not longer.
///
/// γ is 1 but for qsgd and terngrad. These are unbiased and not contractions: with few bits what they leave out is
/// longer than what they were given, and ŵ would run away from w. Theirs is the γ with which they leave out least, ⟨d,
/// C(d)⟩ / ‖C(d)‖², d = w' − ŵ; it travels with the difference.
///
/// All but the gradient codecs' payloads, little-endian:
///
///     offset  bytes
///          0      8  XXH3 of all that follows
///          8      4  the form, where a codec's payload has its kind
///         12      4  differences in it
///         16      8  the first version that it can be applied to
///         24         whole: all floats, elements and tail
///                    differences: the tail; for each its bytes (4), γ (float), its payload
///                    values: the tail; the payload of a sparse codec, whose entries are final values of ŵ
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/codec/change_history.h"
#include "lategrad/codec/chunked.h"
#include "lategrad/core/buffer.h"
#include "lategrad/core/fate.h"
#include "lategrad/core/ids.h"

namespace lategrad {

/// What both sides know. Stateless: one instance serves all workers and all threads.
class PublishCodec {
  public:
    /// Throws InputError, naming what there is; `option` is where `spec` was given.
    PublishCodec(std::string_view spec, const CodecSetup& setup, std::string_view option = "--publish-codec");

    /// As on the command line.
    const std::string& name() const { return name_; }
    /// The names that the constructor takes, for help and errors.
    static std::string_view forms();
    /// Whether ŵ is w, bit for bit.
    bool exact() const { return kind_ == Kind::none || (kind_ == Kind::stateless && codec_->exact()); }
    /// Whether a payload is the parameters' own buffer (none).
    bool in_place() const { return kind_ == Kind::none; }
    /// No payload is longer. What is longer need not be received.
    std::size_t payload_bytes_max() const;
    /// Of one to a worker that holds the version before, about: for simulated timing.
    std::size_t payload_bytes_typical() const;
    /// Reads the payload once. Returns none, malformed or not_finite. Anything may be in it: never throws, never
    /// allocates by what it says. Parameters that travel as floats may be infinite or NaN: so are the server's, then.
    Reason validate(std::span<const std::byte> payload) const;

  private:
    friend class Publisher;
    friend class Subscriber;

    enum class Kind { none, stateless, delta };
    enum class Form : std::uint32_t { codec = 0, whole = 0x6c6f6877, differences = 0x66666964, values = 0x756c6176 };
    struct Difference {
        float scale = 0; ///< γ
        std::span<const std::byte> payload;
    };

    std::size_t params_bytes() const { return (elements_ + tail_) * sizeof(float); }
    std::size_t whole_bytes() const;
    std::size_t own_bytes_max() const; ///< of a publisher
    static Form form(std::span<const std::byte> payload);
    /// Takes a difference off the front; nothing where there is none.
    static std::optional<Difference> take_difference(std::span<const std::byte>& rest);
    Reason check_differences(std::size_t count, std::span<const std::byte> rest) const;

    std::string name_;
    std::size_t elements_ = 0;
    std::size_t tail_ = 0;
    Kind kind_ = Kind::none;
    std::unique_ptr<ChunkedCodec> codec_;  ///< of the parameters, with their tail; or of differences, without
    std::unique_ptr<ChunkedCodec> values_; ///< of final values, where differences are sparse
    bool unbiased_ = false;
};

/// The server's side. One thread at a time.
class Publisher {
  public:
    /// `params` lends what is published, one buffer and another while that is still held elsewhere. `payloads` lends
    /// what is sent: of each version one for each base and two more. All three outlive the publisher.
    Publisher(const PublishCodec& codec, BufferPool& params, BufferPool& payloads);

    /// Makes `version` with these parameters (elements and tail) the newest. Encodes: on the update's threads. `bases`:
    /// the versions, ascending, that workers are known to hold and are to be sent this one; `newcomers`: others are who
    /// hold none. What these are sent is made here, and kept until the next publish. REQUIRES: the first one, or the
    /// next after the one before.
    void publish(Version version, const Buffer& params, std::span<const Version> bases, bool newcomers = false);

    /// What to send to a worker known to hold `base`, or not known to hold any: made already where `publish` was told
    /// of it. Any other is made here, once: the whole or dense differences by a copy and its checksum, sparse
    /// differences by encoding them anew, with their lossless stage. REQUIRES: base is not newer than the newest
    /// version.
    Buffer payload(std::optional<Version> base);

    /// What every worker holds that has decoded the newest version, bit for bit; for `none` it is `params` itself.
    const Buffer& published();

    /// None before the first publish.
    std::optional<Version> newest() const { return newest_; }

    /// Between two publishes, for a publisher of the same codec and model.
    void persist(Archive& archive);

  private:
    struct Prepared {
        Version base;
        Buffer payload; ///< empty: the whole

        template <class A>
        void archive(A& archive) {
            archive(base, payload);
        }
    };

    bool publish_encoded(Version version, const Buffer& params);
    bool publish_difference(Version version, const Buffer& params);
    float scale_of(std::span<const std::byte> delta);
    void keep(std::span<const std::byte> delta, float scale);
    const Buffer& payload_since(Version base);
    Buffer differences_since(Version base);
    void forget_touched();
    Buffer values_since(Version base);
    const Buffer& whole();
    void check_read(Archive& archive) const;
    Buffer begin(PublishCodec::Form form, std::size_t bytes, std::uint64_t differences, Version base);
    static Buffer finish(Buffer& payload);

    const PublishCodec& codec_;
    BufferPool& params_;
    BufferPool& payloads_;
    BufferPool own_; ///< lends the difference and what is encoded of it, one at a time
    std::unique_ptr<Encoder> encoder_;

    std::optional<Version> newest_;
    Buffer published_;
    Buffer encoded_; ///< stateless: of the newest version; empty where it could not be encoded
    Buffer whole_;   ///< where somebody needs it
    // delta
    std::vector<Prepared> prepared_;     ///< for who holds which version
    std::optional<Version> whole_until_; ///< for who holds this version or an older one the whole is not longer
    Buffer difference_;                  ///< w' − ŵ
    ChangeHistory changes_;              ///< dense: differences as they are sent; sparse: the places of their entries
    std::vector<float> chunk_;
    std::vector<std::uint32_t> places_;
    Version touched_since_;               ///< sparse: after this version
    std::vector<std::uint64_t> touched_;  ///< sparse: a bit per element
    std::optional<PayloadWriter> values_; ///< sparse
};

/// A worker's side. One thread at a time.
class Subscriber {
  public:
    /// `params` lends what is decoded: one buffer, and another while that is still held elsewhere. Both outlive the
    /// subscriber.
    Subscriber(const PublishCodec& codec, BufferPool& params) : codec_(codec), params_(params) {}

    /// The parameters of `version`, which the next difference may add to. An empty handle where the payload is what has
    /// changed since versions that this worker does not hold. REQUIRES: codec.validate(payload) == none.
    Buffer decode(const Buffer& payload, Version version);

    /// Of the same codec and model.
    void persist(Archive& archive);

  private:
    void apply(std::span<const std::byte> payload, std::uint64_t skip);

    const PublishCodec& codec_;
    BufferPool& params_;
    Buffer held_; ///< delta
    Version version_;
};

} // namespace lategrad
