#include "lategrad/codec/lowrank.h"

#include <gtest/gtest.h>

#include "tests/codec/coding.h"

namespace lategrad {
namespace {

/// Σ of `rank` outer products.
std::vector<float> matrix_of_rank(std::uint64_t seed, MatrixShape shape, std::size_t rank) {
    RandomStream stream(seed, Purpose::test);
    std::vector<float> matrix(shape.size());
    for (std::size_t k = 0; k < rank; ++k) {
        const auto p = gaussian(stream, shape.rows), q = gaussian(stream, shape.columns);
        for (std::size_t i = 0; i < matrix.size(); ++i) matrix[i] += p[i / shape.columns] * q[i % shape.columns];
    }
    return matrix;
}

CodecSetup setup_of_tensors(std::vector<MatrixShape> tensors) {
    CodecSetup setup{.elements = 0, .tensors = std::move(tensors), .seed = 3};
    for (const MatrixShape& tensor : setup.tensors) setup.elements += tensor.size();
    return setup;
}

TEST(LowRank, IsExactWhereTheRankSuffices) {
    const MatrixShape shape{.rows = 60, .columns = 100};
    for (const std::size_t rank : {1u, 3u}) {
        Coding coding("lowrank:3", setup_of_tensors({shape}));
        const auto encoder = coding.encoder();
        const auto grad = matrix_of_rank(rank, shape, rank);
        for (std::uint64_t step = 0; step < 3; ++step) {
            const auto decoded = coding.decode(coding.encode(*encoder, grad, step));
            EXPECT_LT(squared_distance(decoded, grad), 1e-8 * squared_norm(grad)) << rank << ' ' << step;
        }
    }
}

TEST(LowRank, DecodesToTheProductOfItsFactors) {
    const std::vector<MatrixShape> tensors{{.rows = 1, .columns = 30},
                                           {.rows = 70, .columns = 90},
                                           {.rows = 2, .columns = 2},
                                           {.rows = 200, .columns = 40}};
    const CodecSetup setup = setup_of_tensors(tensors);
    const LowRankRule rule(4, setup);
    ASSERT_EQ(rule.pieces().size(), tensors.size());
    Coding coding("lowrank:4", setup);
    const auto grad = gaussian(1, setup.elements);
    const Buffer payload = coding.encode(grad);
    const auto decoded = coding.decode(payload);
    const std::span<const float> floats = std::as_const(payload).floats().subspan(4); // behind the header
    for (const auto& piece : rule.pieces()) {
        EXPECT_EQ(piece.rank, piece.elements() > 100 ? 4u : 0u); // what would not become shorter travels as it is
        for (std::size_t i = 0; i < piece.elements(); ++i) {
            if (piece.rank == 0) {
                ASSERT_EQ(decoded[piece.first + i], grad[piece.first + i]);
                continue;
            }
            double product = 0;
            for (std::size_t k = 0; k < piece.rank; ++k) {
                const double p = floats[piece.at + i / piece.columns * piece.rank + k];
                const double q = floats[piece.at + piece.rows * piece.rank + k * piece.columns + i % piece.columns];
                product += p * q;
            }
            ASSERT_NEAR(decoded[piece.first + i], product, 1e-5);
        }
    }
    EXPECT_EQ(payload.bytes(), 16 + 4 * (30 + 4 * (70 + 90) + 4 + 4 * (200 + 40)));
}

TEST(LowRank, NeverLeavesMoreThanThereWas) {
    const MatrixShape shape{.rows = 50, .columns = 80};
    for (const char* spec : {"lowrank:1", "lowrank:8"}) {
        Coding coding(spec, setup_of_tensors({shape}));
        for (std::uint64_t seed = 0; seed < 5; ++seed) {
            const auto grad = gaussian(seed, shape.size());
            const double error = squared_distance(coding.decode(coding.encode(grad)), grad);
            EXPECT_LT(error, squared_norm(grad));
        }
    }
}

TEST(LowRank, TheWarmStartFindsTheLargestDirections) {
    // A power iteration from step to step: with the same matrix each time the error comes near the best of that rank.
    const MatrixShape shape{.rows = 50, .columns = 80};
    auto grad = matrix_of_rank(1, shape, 2);
    const auto noise = gaussian(2, shape.size(), 0.05);
    for (std::size_t i = 0; i < grad.size(); ++i) grad[i] += noise[i];
    Coding coding("lowrank:2", setup_of_tensors({shape}));
    const auto encoder = coding.encoder();
    double error = 0;
    for (std::uint64_t step = 0; step < 5; ++step) {
        const std::vector<float> before(encoder->residual().begin(), encoder->residual().end());
        auto joined = grad;
        for (std::size_t i = 0; i < grad.size(); ++i) joined[i] += before[i];
        error = squared_distance(coding.decode(coding.encode(*encoder, grad, step)), joined);
    }
    EXPECT_LT(error, 30 * squared_norm(noise));
    EXPECT_LT(error, 0.1 * squared_norm(grad));
}

/// Each payload has most of what is to be sent, whatever the magnitude.
void expect_sends(Coding& coding, Encoder& encoder, std::span<const float> grad, std::uint64_t step, const char* what) {
    const Buffer payload = coding.encode(encoder, grad, step);
    ASSERT_TRUE(payload) << what << ' ' << step;
    ASSERT_EQ(coding.validate(payload), Reason::none) << what << ' ' << step;
    ASSERT_LT(squared_distance(coding.decode(payload), grad), 1e-4 * squared_norm(grad)) << what << ' ' << step;
}

TEST(LowRank, AnyMagnitudeIsSent) {
    const MatrixShape shape{.rows = 60, .columns = 100};
    for (const float magnitude : {1e-30F, 1e-18F, 1e7F, 1e12F, 1e18F, 1e30F}) {
        Coding coding("lowrank:3", setup_of_tensors({shape}));
        const auto encoder = coding.encoder();
        auto grad = matrix_of_rank(1, shape, 2);
        for (float& value : grad) value *= magnitude;
        for (std::uint64_t step = 0; step < 4; ++step) {
            expect_sends(coding, *encoder, grad, step, std::to_string(magnitude).c_str());
        }
    }
}

TEST(LowRank, AFiniteSpikePasses) {
    const MatrixShape shape{.rows = 60, .columns = 100};
    for (const float height : {1e8F, 1e20F, 1e30F, 1e37F}) {
        Coding coding("lowrank:2", setup_of_tensors({shape}));
        const auto encoder = coding.encoder();
        const auto grad = matrix_of_rank(1, shape, 2);
        auto spike = grad;
        spike[1234] = height;
        std::uint64_t step = 0;
        expect_sends(coding, *encoder, grad, step++, "before");
        expect_sends(coding, *encoder, spike, step++, "spike");
        // What its rounding has left comes next; a factor that is lost has no next.
        for (int more = 0; more < 20; ++more) ASSERT_TRUE(coding.encode(*encoder, grad, step++)) << height;
        EXPECT_LT(squared_norm(encoder->residual()), 1e6 * squared_norm(grad)) << height;
    }
}

TEST(LowRank, WhatIsLeftOfWhatWasSentIsFinite) {
    // M is finite, and so are its factors and their product; M less the product was not.
    Coding coding("lowrank:1", setup_of_tensors({{.rows = 8, .columns = 8}}));
    RandomStream random(7, Purpose::test);
    for (int trial = 0; trial < 5000; ++trial) {
        std::vector<float> matrix(64);
        for (int entry = 0; entry < 6; ++entry)
            matrix[random.below(64)] = 3.3e38F * static_cast<float>(2 * random.uniform() - 1);
        const auto encoder = coding.encoder();
        coding.encode(*encoder, matrix);
        ASSERT_TRUE(std::ranges::all_of(encoder->residual(), [](float left) { return std::isfinite(left); })) << trial;
    }
}

TEST(LowRank, WhatHasNoNormIsRefused) {
    const MatrixShape shape{.rows = 60, .columns = 100};
    Coding coding("lowrank:2", setup_of_tensors({shape}));
    const auto encoder = coding.encoder();
    const auto grad = matrix_of_rank(1, shape, 2);
    EXPECT_FALSE(coding.encode(*encoder, std::vector<float>(shape.size(), 3e38F)));
    for (std::uint64_t step = 0; step < 3; ++step) ASSERT_TRUE(coding.encode(*encoder, grad, step));
}

TEST(LowRank, FactorsWhoseProductOverflowsAreNotFinite) {
    const MatrixShape shape{.rows = 20, .columns = 20};
    const LowRankRule rule(2, setup_of_tensors({shape}));
    std::vector<float> factors(rule.preamble_bytes() / sizeof(float), 1);
    EXPECT_EQ(rule.check_preamble(std::as_bytes(std::span(factors))), Reason::none);
    factors.front() = factors.back() = 1e25F;
    EXPECT_EQ(rule.check_preamble(std::as_bytes(std::span(factors))), Reason::not_finite);
}

TEST(LowRank, ZerosStayZeros) {
    Coding coding("lowrank:2", setup_of_tensors({{.rows = 30, .columns = 30}}));
    const auto encoder = coding.encoder();
    const std::vector<float> zeros(900);
    EXPECT_EQ(coding.decode(coding.encode(*encoder, zeros)), zeros);
    const auto grad = matrix_of_rank(1, {.rows = 30, .columns = 30}, 2); // and are no bad start
    EXPECT_LT(squared_distance(coding.decode(coding.encode(*encoder, grad)), grad), 1e-8 * squared_norm(grad));
}

} // namespace
} // namespace lategrad
