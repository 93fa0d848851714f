/// Gradient encodings. A payload stays encoded from the worker until the update that applies it: the server validates
/// it once, on arrival, and the update decodes it chunk by chunk. docs/codecs.md has each rule with its source.
///
///   codec.h          what a node sees: Codec (stateless, decodes), Encoder (one worker's, may hold a residual)
///   raw.h            `none`: no chunks
///   chunked.h        all others: the payload around the chunks (checksum, table, tail); what their encoders share
///   lossless.h       the stage that may follow, chunk by chunk; shuffle.h before it
///   rule.h           what an encoding says of one chunk, on both sides
///   chunk_encoder.h  rules that encode each chunk by itself: float32, half, qsgd, randk, sign, tern
///   sparse.h         rules that choose entries of the whole gradient, by select.h: topk, dgc
///   lowrank.h        the rule that sees matrices
///   publish.h        the way back, parameters: of these codecs, or what has changed (change_history.h)
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lategrad/core/buffer.h"
#include "lategrad/core/fate.h"
#include "lategrad/core/ids.h"

namespace lategrad {

class Archive;

/// One gradient of a weighted sum. Does not own its payload.
struct EncodedTerm {
    std::span<const std::byte> payload;
    float coefficient = 0;
};

/// A tensor of the model as a matrix: rows × columns elements; a vector has one row.
struct MatrixShape {
    std::size_t rows = 1;
    std::size_t columns = 0;
    std::size_t size() const { return rows * columns; }
};

/// What encodings must know of the model and the run.
struct CodecSetup {
    std::size_t elements = 0;         ///< of the gradient: these are encoded
    std::size_t tail = 0;             ///< floats behind them, which travel as they are (GradientSource)
    std::vector<MatrixShape> tensors; ///< of the elements, in order; empty: one vector
    std::uint64_t seed = 0;           ///< of the run
    std::size_t workers = 1;
    double steps_per_epoch = 1; ///< of one worker
    double momentum = 0;        ///< dgc, which has it in place of the server
};

/// What an encoder must know of one gradient beside its floats.
struct EncodeStep {
    Step step;
    /// By what the residual is multiplied before it joins: the learning rate that it was left at over the one it will
    /// be applied at. REQUIRES: finite, above 0; or always 0, which leaves the residual out, for who keeps what is left
    /// out himself: then the encoder is of no more use after an encode that fails.
    float residual_scale = 1;
};

/// The worker's side. Belongs to one worker and one thread.
class Encoder {
  public:
    virtual ~Encoder() = default;

    /// The encoded form of `grad`, elements and tail; may be `grad` itself. An empty handle where the gradient, or what
    /// it would become, is not finite (without error feedback the other side may be who finds it). Then the residual is
    /// what it was: the same bits where the gradient is not finite; where only its sum with the residual or what is
    /// made of that overflows, to the rounding of these sums, divided by residual_scale.
    virtual Buffer encode(const Buffer& grad, const EncodeStep& step) = 0;

    /// A payload that `encode` made has not been and will not be applied: what it carried joins the residual. Nothing
    /// without error feedback.
    virtual void refund(std::span<const std::byte> payload);

    /// What has been left out so far and joins the next gradient, in the units of a gradient; empty without error
    /// feedback.
    virtual std::span<const float> residual() const { return {}; }

    /// What it carries from gradient to gradient, for an encoder of the same codec, worker and model. Nothing for one
    /// that carries nothing. Floats are copied.
    virtual void persist(Archive& /*archive*/) {}
};

/// The other side. Stateless: one instance serves all workers and all threads.
class Codec {
  public:
    static constexpr std::size_t kChunkMax = 16384;

    virtual ~Codec() = default;

    /// As on the command line (`--codec`).
    virtual const std::string& name() const = 0;

    /// Whether what is decoded is what was encoded, bit for bit.
    virtual bool exact() const = 0;
    /// Whether an encoder keeps what it leaves out, and takes refunds.
    virtual bool error_feedback() const = 0;
    /// Whether encoders have the run's momentum (CodecSetup), so that the server must not have it too.
    virtual bool takes_momentum() const { return false; }
    /// Whether the payload is the gradient's own buffer, so that encoding leases none.
    virtual bool in_place() const { return false; }

    /// Elements in a chunk, at most kChunkMax; the last one may have fewer.
    virtual std::size_t chunk() const = 0;
    /// No payload is longer. What is longer need not be received.
    virtual std::size_t payload_bytes_max() const = 0;
    /// As long as payloads are, or, where that depends on what is in them, about as long: for simulated timing.
    virtual std::size_t payload_bytes_typical() const = 0;

    /// `payloads` lends the memory of what is encoded, and outlives the encoder, as does this.
    virtual std::unique_ptr<Encoder> make_encoder(WorkerId worker, BufferPool& payloads) const = 0;

    /// Reads the payload once, while it is in cache: its structure and that all of it is finite. Returns none,
    /// malformed or not_finite. Anything may be in it: never throws, never allocates by what it says.
    virtual Reason validate(std::span<const std::byte> payload) const = 0;

    /// sum[i] = (c₀·g₀[first + i] + c₁·g₁[first + i]) + …, in the order of `terms`, each product and each sum rounded
    /// to float by itself. Cannot fail. REQUIRES: at least one term; validate(payload) == none for each; `first` is a
    /// multiple of chunk(), `sum` all of that chunk.
    virtual void weighted_sum(std::span<const EncodedTerm> terms, std::size_t first, std::span<float> sum) const = 0;

    /// What travels behind the elements. REQUIRES: validate(payload) == none.
    virtual std::span<const float> tail(std::span<const std::byte> payload) const = 0;
};

/// The codec of that name, such as bf16 or topk:0.01+zstd. Throws InputError, naming those there are; `option` is where
/// the name was given.
std::unique_ptr<Codec> make_codec(std::string_view spec, const CodecSetup& setup, std::string_view option = "--codec");

/// The same, where it is a part of what was given: null where no codec has that name. Throws InputError,
/// "{before}{spec}: expected …", where one has but not with that argument or that stage.
std::unique_ptr<Codec> find_codec(std::string_view spec, const CodecSetup& setup, std::string_view before);

/// The names that make_codec takes, for help and errors.
std::string_view codec_forms();

/// topk of topk:0.01+zstd.
std::string_view codec_name(std::string_view spec);

} // namespace lategrad
