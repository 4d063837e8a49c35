// Every instruction set of this machine gives the bits of the plain loops in models/kernels/reference.h.
#include "models/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

#include "models/kernels/reference.h"
#include "parallel/base/partition.h"

// targets.h says what Highway's header knows.
// clang-format off
#include "models/kernels/targets.h"
#include "hwy/targets.h"
// clang-format on

namespace atl::models::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Bits of a value; all NaN are one, their payload is nobody's promise.
uint32_t Bits(float value) { return std::isnan(value) ? 0x7fc00000u : std::bit_cast<uint32_t>(value); }

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(Bits(value));
  return bits;
}

// Normal values of many magnitudes, so that each order of a sum rounds differently.
std::vector<float> Values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-8, 8);
  std::vector<float> values(n);
  for (float& value : values) value = std::ldexp(normal(random), exponent(random));
  return values;
}

template <typename T>
T To(float value) {
  if constexpr (std::is_same_v<T, BF16>) {
    return ToBF16(value);
  } else if constexpr (std::is_same_v<T, F16>) {  // truncated; values beyond its range become its largest or zero
    const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
    if (std::isnan(value)) return F16{0x7e00};
    if (magnitude >= 0x47800000u) return F16{static_cast<uint16_t>(sign | 0x7bffu)};
    if (magnitude < 0x38800000u) return F16{static_cast<uint16_t>(sign | static_cast<int>(std::fabs(value) * 0x1p24f))};
    return F16{static_cast<uint16_t>(sign | ((magnitude - (112u << 23)) >> 13))};
  } else {
    return value;
  }
}

template <typename T>
struct Weights {
  std::vector<T> data;
  Matrix matrix;
};

// Rows lie `gap` elements apart, and those between are NaN: nothing may read them into a sum.
template <typename T = BF16>
Weights<T> RandomWeights(int64_t rows, int64_t cols, int64_t gap, uint32_t seed) {
  Weights<T> weights;
  const int64_t stride = cols + gap;
  weights.data.assign(rows * stride, To<T>(kNaN));
  const std::vector<float> values = Values(rows * cols, seed);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) weights.data[r * stride + c] = To<T>(values[r * cols + c]);
  }
  weights.matrix = PlainMatrix(weights.data.data(), rows, cols, stride);
  return weights;
}

std::vector<int64_t> Cuts(int64_t length, int64_t unit, int blocks) {
  const CanonicalAxis axis{length, unit};
  std::vector<int64_t> cuts;
  for (int b = 0; b <= blocks; ++b) cuts.push_back(axis.BlockBegin(b * (kCanonicalBlocks / blocks)));
  return cuts;
}

class KernelsTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::GetChosenTarget().Update(GetParam()); }
  void TearDown() override { hwy::GetChosenTarget().DeInit(); }

  void ExpectMatMul(int64_t rows, int64_t outs, std::span<const int64_t> cuts, int64_t gap) {
    ExpectMatMulOf<BF16>(rows, outs, cuts, gap);
    ExpectMatMulOf<F16>(rows, outs, cuts, gap);
    ExpectMatMulOf<float>(rows, outs, cuts, gap);
  }

  template <typename T>
  void ExpectMatMulOf(int64_t rows, int64_t outs, std::span<const int64_t> cuts, int64_t gap) {
    const int64_t depth = cuts.back();
    const Weights<T> w = RandomWeights<T>(outs, depth, gap, 7 * depth + outs);
    const std::vector<float> x = Values(rows * depth, depth);
    std::vector<float> want(rows * outs), got(rows * outs, kNaN), shared(rows * outs, kNaN);
    reference::MatMul(x, rows, w.matrix, cuts, want);
    MatMul(x, rows, w.matrix, cuts, got, nullptr);
    MatMul(x, rows, w.matrix, cuts, shared, &pool_);
    EXPECT_EQ(Bits(got), Bits(want)) << rows << " rows, " << outs << " outputs, K " << depth;
    EXPECT_EQ(Bits(shared), Bits(want)) << "two threads, " << rows << " rows, " << outs << " outputs, K " << depth;
  }

  ThreadPool pool_{2};
};

TEST_P(KernelsTest, TheTargetIsTheOneAskedFor) { EXPECT_EQ(Target(), hwy::TargetName(GetParam())); }

TEST_P(KernelsTest, MatMulOfEveryDepth) {
  for (int64_t depth = 1; depth <= 70; ++depth) {
    const int64_t cuts[] = {0, depth};
    ExpectMatMul(1 + depth % 9, 1 + depth % 21, cuts, depth % 3);
  }
}

TEST_P(KernelsTest, MatMulOfEveryTile) {
  const int64_t cuts[] = {0, 37};
  for (int64_t rows = 1; rows <= 9; ++rows) {
    for (const int64_t outs : {1, 3, 4, 8, 11, 16, 37}) ExpectMatMul(rows, outs, cuts, 0);
  }
  for (const int64_t rows : {64, 67, 130}) ExpectMatMul(rows, 18, cuts, 5);
  ExpectMatMul(0, 5, cuts, 0);
}

TEST_P(KernelsTest, MatMulOfEveryNumberOfBlocks) {
  for (const int blocks : {1, 2, 4, 8}) {
    for (const int64_t depth : {3, 8, 100, 576, 1536}) ExpectMatMul(3, 13, Cuts(depth, 1, blocks), 0);
    ExpectMatMul(2, 5, Cuts(3 * 128, 128, blocks), 0);  // five of eight blocks are empty
  }
}

TEST_P(KernelsTest, MatMulOfManyRowsAndDeepBlocks) {  // wider than what is made f32, or copied, at once
  const int64_t cuts[] = {0, 513, 1409};
  for (const int64_t rows : {7, 8, 13, 65}) ExpectMatMul(rows, 21, cuts, 3);
  const int64_t one[] = {0, 577};
  for (const int64_t rows : {8, 16}) ExpectMatMul(rows, 64, one, 0);
}

TEST_P(KernelsTest, MatMulOfExtremeValues) {
  const float values[] = {0.0f, -0.0f, 1e-42f, -1e-45f, 3e38f, -3e38f, kInfinity, kNaN, 1.0f};
  constexpr int64_t kDepth = 34;
  std::vector<float> x, want(9 * 9), got(9 * 9);
  std::vector<BF16> w;
  for (const float value : values) {
    for (int64_t k = 0; k < kDepth; ++k) {
      x.push_back(k % 5 == 0 ? value : 0.5f);
      w.push_back(ToBF16(k % 3 == 0 ? value : -2.0f));
    }
  }
  const Matrix matrix = PlainMatrix(w.data(), 9, kDepth, kDepth);
  const int64_t cuts[] = {0, 17, kDepth};
  reference::MatMul(x, 9, matrix, cuts, want);
  MatMul(x, 9, matrix, cuts, got, nullptr);
  EXPECT_EQ(Bits(got), Bits(want));
}

TEST_P(KernelsTest, MatMulTransposed) {
  const auto of_type = [&](auto type) {
    for (const int64_t cols : {1, 15, 17, 64, 130, 300}) {
      for (const int64_t rows : {1, 2, 3, 6}) {
        const auto w = RandomWeights<decltype(type)>(23, cols, 2, cols);
        const std::vector<float> x = Values(rows * 23, cols);
        std::vector<float> want(rows * cols), got(rows * cols, kNaN), shared(rows * cols, kNaN);
        reference::MatMulTransposed(x, rows, w.matrix, want);
        MatMulTransposed(x.data(), w.matrix.rows, rows, w.matrix, got.data(), w.matrix.cols, nullptr);
        MatMulTransposed(x.data(), w.matrix.rows, rows, w.matrix, shared.data(), w.matrix.cols, &pool_);
        EXPECT_EQ(Bits(got), Bits(want)) << cols;
        EXPECT_EQ(Bits(shared), Bits(want)) << cols;
      }
    }
  };
  of_type(BF16());
  of_type(F16());
  of_type(float());
}

TEST_P(KernelsTest, RowsOfAWiderMatrixTransposed) {
  const auto w = RandomWeights<float>(23, 40, 2, 3);
  const std::vector<float> x = Values(5 * 31, 4);                // 5 rows, 31 apart
  std::vector<float> packed(5 * 23), want(5 * 40), got(5 * 43);  // and 43
  for (int64_t r = 0; r < 5; ++r) std::copy_n(x.data() + r * 31, 23, packed.data() + r * 23);
  reference::MatMulTransposed(packed, 5, w.matrix, want);
  std::vector<float> apart(5 * 43);
  for (int64_t r = 0; r < 5; ++r) std::copy_n(want.data() + r * 40, 40, apart.data() + r * 43);
  MatMulTransposed(x.data(), 31, 5, w.matrix, got.data(), 43, nullptr);
  EXPECT_EQ(Bits(got), Bits(apart));  // nothing between them
}

TEST_P(KernelsTest, Transpose) {
  for (const int64_t rows : {1, 4, 7, 64}) {
    for (const int64_t width : {1, 3, 8, 130}) {
      const std::vector<float> x = Values(rows * (width + 2), width);
      std::vector<float> out(width * 64, kNaN), want = out;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < width; ++c) want[c * 64 + r] = x[r * (width + 2) + c];
      }
      Transpose(x.data(), width + 2, rows, width, out.data(), 64);
      EXPECT_EQ(Bits(out), Bits(want)) << rows << " x " << width;
    }
  }
}

TEST_P(KernelsTest, DotsAndWeightedSums) {
  for (const int64_t width : {1, 8, 16, 31, 64, 192, 301}) {
    for (const int64_t count : {0, 1, 7, 8, 9, 64}) {
      const int64_t stride = width + 3;
      const std::vector<float> rows = Values(count * stride, width), x = Values(width, 1), a = Values(count, 2);
      std::vector<float> dots(count), want_dots(count), sum(width, kNaN), want_sum(width), axpy(width);
      Dots(x.data(), rows.data(), stride, count, width, dots.data());
      WeightedSum(a.data(), rows.data(), stride, count, width, sum.data());
      for (int64_t i = 0; i < count; ++i) {
        const float* row = rows.data() + i * stride;
        want_dots[i] = reference::Dot(x.data(), row, width);
        EXPECT_EQ(Bits(Dot(x.data(), row, width)), Bits(want_dots[i]));
        for (int64_t c = 0; c < width; ++c) want_sum[c] = std::fma(a[i], row[c], want_sum[c]);
        Axpy(a[i], row, width, axpy.data());
      }
      EXPECT_EQ(Bits(dots), Bits(want_dots)) << width << " x " << count;
      EXPECT_EQ(Bits(sum), Bits(want_sum)) << width << " x " << count;
      EXPECT_EQ(Bits(axpy), Bits(want_sum)) << width << " x " << count;
    }
  }
}

TEST_P(KernelsTest, RmsNorm) {
  for (const int64_t width : {1, 16, 37, 576}) {
    const std::vector<float> x = Values(3 * width, width);
    const std::vector<float> weight = Values(width, 3);
    std::vector<float> want(3 * width), got = x;
    reference::RmsNorm(x.data(), weight.data(), 1e-6f, 3, width, want.data());
    RmsNorm(got.data(), weight.data(), 1e-6f, 3, width, got.data());  // in place
    EXPECT_EQ(Bits(got), Bits(want)) << width;
  }
}

TEST_P(KernelsTest, SumsAndNorms) {
  for (const int64_t width : {1, 16, 37, 576}) {
    const std::vector<float> x = Values(3 * width, width), weight = Values(width, 6), bias = Values(width, 7);
    EXPECT_EQ(Bits(Sum(x.data(), width)), Bits(reference::Sum(x.data(), width))) << width;
    EXPECT_EQ(Bits(Squares(x.data(), width, 0.3f)), Bits(reference::Squares(x.data(), width, 0.3f))) << width;
    std::vector<float> want(3 * width), got = x;
    reference::LayerNorm(x.data(), weight.data(), bias.data(), 1e-5f, 3, width, want.data());
    LayerNorm(got.data(), weight.data(), bias.data(), 1e-5f, 3, width, got.data());  // in place
    EXPECT_EQ(Bits(got), Bits(want)) << width;
    want = got = x;
    reference::ScaleBy(0.7f, weight.data(), 1, width, want.data());
    ScaleBy(0.7f, weight.data(), 1, width, got.data());
    EXPECT_EQ(Bits(got), Bits(want)) << width;
  }
}

// Where exp and its users change their ways: rounding borders, denormal and infinite results, values beyond.
std::vector<float> ExpArguments() {
  std::vector<float> x = {0.0f, -0.0f, 88.7f, 88.8f, 89.0f, 1e30f, -87.3f, -87.4f, -103.9f, -104.0f, -1e30f, kNaN};
  x.insert(x.end(), {kInfinity, -kInfinity, 1e-40f});
  for (float v = -106; v < 90; v += 0.0703f) x.push_back(v);
  return x;
}

TEST_P(KernelsTest, ExponentialsAndSigmoids) {
  const std::vector<float> x = ExpArguments();
  const auto n = static_cast<int64_t>(x.size());
  std::vector<float> got(n), want(n), up = Values(n, 5);
  Sigmoid(x.data(), n, got.data());
  for (int64_t i = 0; i < n; ++i) want[i] = reference::Sigmoid(x[i]);
  EXPECT_EQ(Bits(got), Bits(want));
  SiluMultiply(x.data(), up.data(), n, got.data());
  reference::SiluMultiply(x.data(), up.data(), n, want.data());
  EXPECT_EQ(Bits(got), Bits(want));
  GeluTanhMultiply(x.data(), up.data(), n, got.data());
  for (int64_t i = 0; i < n; ++i) want[i] = reference::GeluTanh(x[i]) * up[i];
  EXPECT_EQ(Bits(got), Bits(want));
  GeluTanh(x.data(), n, got.data());
  for (int64_t i = 0; i < n; ++i) want[i] = reference::GeluTanh(x[i]);
  EXPECT_EQ(Bits(got), Bits(want));
  Tanh(x.data(), n, got.data());
  for (int64_t i = 0; i < n; ++i) want[i] = reference::Tanh(x[i]);
  EXPECT_EQ(Bits(got), Bits(want));
  for (int64_t count = 0; count < n; count += 17) {
    const float sum = ExpMinus(x.data(), count, 0.25f, got.data());
    const float want_sum = reference::ExpMinus(x.data(), count, 0.25f, want.data());
    EXPECT_EQ(Bits(got), Bits(want)) << count;
    EXPECT_EQ(Bits(sum), Bits(want_sum)) << count;
  }
}

TEST_P(KernelsTest, ScaleAndMax) {
  std::vector<float> x = Values(37, 4), want = x;
  for (float& value : want) value *= 0.3f;
  EXPECT_EQ(Max(x.data(), 37), *std::max_element(x.begin(), x.end()));
  Scale(0.3f, 37, x.data());
  EXPECT_EQ(Bits(x), Bits(want));
  EXPECT_EQ(Max(nullptr, 0), -kInfinity);
}

TEST_P(KernelsTest, AxpbyIsScaleThenAxpy) {
  for (const int64_t n : {1, 7, 64, 133}) {
    const std::vector<float> x = Values(n, 5);
    std::vector<float> y = Values(n, 6), want = y;
    for (int64_t i = 0; i < n; ++i) want[i] = std::fma(0.7f, x[i], 0.3f * want[i]);
    Axpby(0.7f, x.data(), 0.3f, n, y.data());
    EXPECT_EQ(Bits(y), Bits(want));
  }
}

TEST_P(KernelsTest, RoundAndWiden) {
  std::vector<BF16> all(65536);
  for (int i = 0; i < 65536; ++i) all[i].bits = static_cast<uint16_t>(i);
  std::vector<float> wide(all.size());
  Widen(all.data(), static_cast<int64_t>(all.size()), DType::kBF16, wide.data());
  std::vector<float> x;
  for (size_t i = 0; i < all.size(); ++i) {
    ASSERT_EQ(Bits(wide[i]), Bits(ToFloat(all[i])));
    // Just below, at and just above the middle between two bf16 values.
    for (const uint32_t rest : {0u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu}) {
      x.push_back(std::bit_cast<float>(static_cast<uint32_t>(i << 16) | rest));
    }
  }
  std::vector<BF16> rounded(x.size());
  Round(x.data(), static_cast<int64_t>(x.size()), DType::kBF16, rounded.data());
  for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(rounded[i].bits, ToBF16(x[i]).bits) << x[i];
}

// Plain elements as IEEE defines them, in every place of a vector.
TEST_P(KernelsTest, Int8GroupsAreWithinHalfAStep) {
  for (const int64_t group : {64, 20, 3, 1}) {
    const int64_t n = 6 * group;
    std::vector<float> x = Values(n, static_cast<uint32_t>(group));
    std::fill_n(x.begin() + group, group, 0.0f);
    for (int64_t i = 2 * group; i < 3 * group; ++i) x[i] *= 1e30f;
    for (int64_t i = 3 * group; i < 4 * group; ++i) x[i] *= 1e-40f;
    x[4 * group] = NAN;
    x[5 * group] = INFINITY;
    std::vector<int8_t> q(n + 1, 77);
    std::vector<float> scales(7, -7.0f), got(n + 1, -7.0f);
    RoundInt8(x.data(), n, group, q.data(), scales.data());
    WidenInt8(q.data(), scales.data(), n, group, got.data());
    EXPECT_EQ(q[n], 77);
    EXPECT_EQ(scales[6], -7.0f);
    EXPECT_EQ(got[n], -7.0f);
    for (int64_t i = 0; i < n; ++i) {
      if (i >= 4 * group) {
        EXPECT_TRUE(std::isnan(got[i])) << i;
        continue;
      }
      EXPECT_LE(std::fabs(got[i] - x[i]), 0.5001f * scales[i / group] + 1e-37f) << i;
      EXPECT_EQ(got[i], static_cast<float>(q[i]) * scales[i / group]);
    }
    const float largest =
        *std::max_element(x.begin(), x.begin() + group, [](float a, float b) { return std::fabs(a) < std::fabs(b); });
    EXPECT_NEAR(scales[0], std::fabs(largest) / 127, 1e-6f);
  }
}

TEST_P(KernelsTest, WidenRow) {
  std::vector<F16> all(65536 + 5);
  std::vector<float> wide(all.size());
  for (size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<uint16_t>(i);
  const auto n = static_cast<int64_t>(all.size());
  WidenRow(PlainMatrix(all.data(), 1, n, n), 0, wide.data());
  for (size_t i = 0; i < all.size(); ++i) {
    const int exponent = all[i].bits >> 10 & 31, mantissa = all[i].bits & 1023;
    double value = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    if (exponent == 31) value = mantissa == 0 ? kInfinity : kNaN;
    const auto want = static_cast<float>(all[i].bits & 0x8000 ? -value : value);
    ASSERT_EQ(Bits(wide[i]), Bits(want)) << i;
    ASSERT_EQ(Bits(ToFloat(all[i])), Bits(want)) << i;
  }
  const auto halves = RandomWeights<BF16>(3, 37, 4, 1);
  WidenRow(halves.matrix, 2, wide.data());
  for (int64_t c = 0; c < 37; ++c) EXPECT_EQ(wide[c], ToFloat(halves.data[2 * 41 + c]));
  const auto floats = RandomWeights<float>(3, 37, 4, 1);
  WidenRow(floats.matrix.Rows(1, 2), 1, wide.data());
  for (int64_t c = 0; c < 37; ++c) EXPECT_EQ(wide[c], floats.data[2 * 41 + c]);
}

INSTANTIATE_TEST_SUITE_P(Targets, KernelsTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return hwy::TargetName(info.param); });

TEST(ReferenceTest, GeluAndTanhAreCloseToTheirFormulas) {
  for (double x = -12; x < 12; x += 0.001) {
    const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    EXPECT_NEAR(reference::GeluTanh(static_cast<float>(x)), 0.5 * x * (1 + std::tanh(inner)),
                1e-6 * (1 + std::fabs(x)));
    EXPECT_NEAR(reference::Tanh(static_cast<float>(x)), std::tanh(x), 2e-7);
  }
}

TEST(ReferenceTest, ExpIsCloseToTheMathematicalOne) {
  for (float x = -87; x < 88; x += 0.001f) {
    const double exact = std::exp(static_cast<double>(x));
    EXPECT_NEAR(reference::Exp(x) / exact, 1, 1.5e-7) << x;
  }
  EXPECT_EQ(reference::Exp(0), 1.0f);
  EXPECT_EQ(reference::Exp(-104.5f), 0.0f);
  EXPECT_EQ(reference::Exp(89.0f), kInfinity);
  EXPECT_TRUE(std::isnan(reference::Exp(kNaN)));
}

TEST(ReferenceTest, SiluOfFarValuesIsTheLimit) {
  const float gate[] = {-1000, -200, 200, 1000}, up[] = {1, 1, 1, 1};
  float out[4];
  SiluMultiply(gate, up, 4, out);
  EXPECT_EQ(Bits(out), Bits(std::vector<float>{-0.0f, -0.0f, 200, 1000}));
}

TEST(ReferenceTest, MatMulIsCloseToTheSumInDoubles) {
  const Weights<BF16> w = RandomWeights(5, 1000, 0, 1);
  const std::vector<float> x = Values(1000, 2);
  std::vector<float> y(5);
  reference::MatMul(x, 1, w.matrix, Cuts(1000, 1, 8), y);
  for (int64_t o = 0; o < 5; ++o) {
    double sum = 0, size = 0;
    for (int64_t k = 0; k < 1000; ++k) {
      const double term = static_cast<double>(x[k]) * ToFloat(w.data[o * 1000 + k]);
      sum += term;
      size += std::fabs(term);
    }
    EXPECT_NEAR(y[o], sum, size * 1e-6);
  }
}

}  // namespace
}  // namespace atl::models::kernels
