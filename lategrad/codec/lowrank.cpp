#include "lategrad/codec/lowrank.h"

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lategrad/codec/finite.h"
#include "lategrad/core/archive.h"
#include "lategrad/core/error.h"
#include "lategrad/core/random.h"

namespace lategrad {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const Matrix>;
using Piece = LowRankRule::Piece;

Eigen::Index index(std::size_t i) {
    return static_cast<Eigen::Index>(i);
}

std::span<const float> floats_of(std::span<const std::byte> preamble) {
    return {reinterpret_cast<const float*>(preamble.data()), preamble.size() / sizeof(float)};
}

float largest_magnitude(std::span<const float> values) {
    float largest = 0;
    for (const float value : values) largest = std::max(largest, std::abs(value));
    return largest;
}

/// Columns become orthonormal, by Gram and Schmidt's modified process; one that depends on those before becomes zero.
/// False where a norm overflows. Norms by scaling, so that it is not their squares that do.
bool orthonormalise(Matrix& p) {
    for (Eigen::Index i = 0; i < p.cols(); ++i) {
        const float before = p.col(i).stableNorm();
        for (int twice = 0; twice < 2; ++twice) {
            for (Eigen::Index j = 0; j < i; ++j) p.col(i) -= p.col(j).dot(p.col(i)) * p.col(j);
        }
        const float norm = p.col(i).stableNorm();
        if (!std::isfinite(before) || !std::isfinite(norm)) return false;
        if (norm > 1e-6F * before) p.col(i) /= norm;
        else p.col(i).setZero();
    }
    return true;
}

/// One row of a decoded matrix: this thread's, because one rule serves all threads.
std::vector<float>& row_of_thread() {
    static thread_local std::vector<float> row;
    return row;
}

class LowRankEncoder final : public ChunkedEncoder {
  public:
    LowRankEncoder(const LowRankRule& rule, const ChunkedCodec& codec, BufferPool& payloads)
        : ChunkedEncoder(codec, payloads),
          rule_(rule),
          starts_(rule.pieces().size()) {}

    void persist(Archive& archive) override {
        ChunkedEncoder::persist(archive);
        archive.expect(starts_.size(), "tensors");
        for (std::size_t i = 0; i < starts_.size(); ++i) {
            bool has_start = starts_[i].size() > 0;
            archive(has_start);
            if (archive.reading()) {
                const Piece& piece = rule_.pieces()[i];
                archive.require(!has_start || piece.rank > 0, "a matrix where a vector is");
                starts_[i] = has_start ? Matrix(index(piece.columns), index(piece.rank)) : Matrix();
            }
            archive.fixed(std::span(starts_[i].data(), static_cast<std::size_t>(starts_[i].size())), "floats of Q");
        }
    }

  private:
    Buffer encode_checked(std::span<const float> elements, std::span<const float> tail,
                          const EncodeStep& step) override {
        const auto sum = [&](std::size_t i) { return elements[i] + step.residual_scale * residual_[i]; };
        // Half of what a float holds; the other half is the product's (check_preamble), so that what is left is finite.
        constexpr float kMost = std::numeric_limits<float>::max() / 2;
        bool finite = true;
        for (std::size_t i = 0; i < elements.size(); ++i) finite &= std::abs(sum(i)) <= kMost;
        if (!finite) return {};
        for (std::size_t i = 0; i < elements.size(); ++i) residual_[i] = sum(i);

        const auto preamble = writer_.begin();
        const std::span<float> out(reinterpret_cast<float*>(preamble.data()), preamble.size() / sizeof(float));
        for (std::size_t i = 0; i < starts_.size(); ++i) finite = finite && factor(i, out);
        if (!finite || rule_.check_preamble(preamble) != Reason::none) {
            for (std::size_t i = 0; i < elements.size(); ++i) {
                residual_[i] = unscaled(residual_[i] - elements[i], step.residual_scale);
            }
            return {};
        }
        for (std::size_t i = 0; i < starts_.size(); ++i) keep_start(i, out);
        for (std::size_t i = 0; i < codec_.chunks(); ++i) writer_.add(0);
        writer_.add_written(-1, residual_);
        return writer_.finish(tail);
    }

    /// False where the norm of a column of P overflows.
    bool factor(std::size_t number, std::span<float> out) {
        const Piece& piece = rule_.pieces()[number];
        const float* const elements = residual_.data() + piece.first;
        if (piece.rank == 0) {
            std::copy_n(elements, piece.elements(), out.begin() + static_cast<std::ptrdiff_t>(piece.at));
            return true;
        }
        const View m(elements, index(piece.rows), index(piece.columns));
        Matrix p = m * start(number);
        if (!orthonormalise(p)) return false;
        Eigen::Map<Matrix>(&out[piece.at], index(piece.rows), index(piece.rank)) = p;
        Eigen::Map<Matrix>(&out[piece.at + piece.rows * piece.rank], index(piece.rank), index(piece.columns)) =
            p.transpose() * m;
        return true;
    }

    /// Q of the payload before, its columns of length 1; what of it is zero, or all of it at first, is drawn: the same
    /// by every worker.
    const Matrix& start(std::size_t number) {
        const Piece& piece = rule_.pieces()[number];
        Matrix& q = starts_[number];
        if (q.size() == 0) q = Matrix::Zero(index(piece.columns), index(piece.rank));
        for (Eigen::Index column = 0; column < q.cols(); ++column) {
            if (q.col(column).squaredNorm() > 0) continue;
            RandomStream random(codec_.setup().seed, Purpose::codec, {number, static_cast<std::uint64_t>(column)});
            for (Eigen::Index row = 0; row < q.rows(); ++row)
                q(row, column) = static_cast<float>(random.uniform() - 0.5);
        }
        return q;
    }
    /// Normalised: only the directions matter, and P = M·Q stays about as large as M.
    void keep_start(std::size_t number, std::span<const float> out) {
        const Piece& piece = rule_.pieces()[number];
        if (piece.rank == 0) return;
        Matrix& q = starts_[number];
        q = View(&out[piece.at + piece.rows * piece.rank], index(piece.rank), index(piece.columns)).transpose();
        for (Eigen::Index column = 0; column < q.cols(); ++column) {
            const float norm = q.col(column).stableNorm();
            if (norm > 0 && std::isfinite(norm)) q.col(column) /= norm;
            else q.col(column).setZero();
        }
    }

    const LowRankRule& rule_;
    std::vector<Matrix> starts_; ///< Q, columns × rank, by piece
};

/// Eigen divides a product into blocks that fit the machine's caches, and how it is divided decides its rounding: with
/// these sizes on every machine in the same way.
void fix_blocks() {
    static const bool fixed = [] {
        Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
        return true;
    }();
    (void)fixed;
}

} // namespace

LowRankRule::LowRankRule(std::size_t rank, const CodecSetup& setup) {
    fix_blocks();
    std::vector<MatrixShape> tensors = setup.tensors;
    if (tensors.empty()) tensors.push_back({.rows = 1, .columns = setup.elements});
    std::size_t first = 0;
    for (const MatrixShape& tensor : tensors) {
        Piece piece{.first = first, .rows = tensor.rows, .columns = tensor.columns, .rank = 0, .at = floats_};
        const std::size_t most = std::min({rank, tensor.rows, tensor.columns});
        if (most * (tensor.rows + tensor.columns) < tensor.size()) piece.rank = most;
        first += tensor.size();
        floats_ += piece.floats();
        pieces_.push_back(piece);
    }
    CHECK(first == setup.elements);
}

Reason LowRankRule::check_preamble(std::span<const std::byte> preamble) const {
    const auto floats = floats_of(preamble);
    if (!all_finite(floats)) return Reason::not_finite;
    for (const Piece& piece : pieces_) {
        if (piece.rank == 0) continue;
        // Nor may their product overflow.
        const double p = largest_magnitude(floats.subspan(piece.at, piece.rank * piece.rows));
        const double q =
            largest_magnitude(floats.subspan(piece.at + piece.rank * piece.rows, piece.rank * piece.columns));
        if (p * q * static_cast<double>(piece.rank) > std::numeric_limits<float>::max() / 2) return Reason::not_finite;
    }
    return Reason::none;
}

void LowRankRule::add(const EncodedChunk& chunk, float coefficient, bool continues, std::span<float> sum) const {
    const auto floats = floats_of(chunk.preamble);
    const std::size_t begin = chunk.first;
    const std::size_t end = begin + chunk.elements;
    auto piece = std::ranges::upper_bound(pieces_, begin, {}, &Piece::first) - 1;
    std::vector<float>& row = row_of_thread();
    for (std::size_t at = begin; at < end; ++piece) {
        const std::size_t piece_end = std::min(end, piece->first + piece->elements());
        while (at < piece_end) {
            // One row of the matrix, or what the chunk has of it.
            const std::size_t r = (at - piece->first) / piece->columns;
            const std::size_t c = (at - piece->first) % piece->columns;
            const std::size_t size = std::min(piece_end - at, piece->columns - c);
            const float* values = nullptr;
            if (piece->rank == 0) {
                values = &floats[piece->at + (at - piece->first)];
            } else {
                const float* const p = &floats[piece->at + r * piece->rank];
                const float* const q = &floats[piece->at + piece->rows * piece->rank + c];
                row.assign(size, 0.0F);
                for (std::size_t k = 0; k < piece->rank; ++k) {
                    for (std::size_t j = 0; j < size; ++j) row[j] += p[k] * q[k * piece->columns + j];
                }
                values = row.data();
            }
            float* const to = &sum[at - begin];
            for (std::size_t j = 0; j < size; ++j) {
                const float product = coefficient * values[j];
                to[j] = continues ? to[j] + product : product;
            }
            at += size;
        }
    }
}

std::unique_ptr<Encoder> LowRankRule::make_encoder(const ChunkedCodec& codec, WorkerId, BufferPool& payloads) const {
    return std::make_unique<LowRankEncoder>(*this, codec, payloads);
}

} // namespace lategrad
