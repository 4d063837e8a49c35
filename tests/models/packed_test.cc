// Packed INT4 and INT8 products: every instruction set of this machine, any number of rows, threads and blocks, against
// sums written out from the unpacked definition.
#include "models/kernels/packed.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "parallel/base/partition.h"

namespace atl::models::kernels {
namespace {

struct Quantized {
  std::vector<int8_t> q;     // [rows, groups * 32]
  std::vector<BF16> scales;  // [rows, groups]
  std::vector<std::byte> memory;
  PackedWeights matrix;
};

Quantized RandomMatrix(PackedType type, int64_t rows, int64_t cols, uint32_t seed) {
  Quantized w;
  const int64_t groups = PackedGroups(cols);
  w.memory.resize(PackedBytes(type, rows, cols));
  w.matrix = {w.memory.data(), type, rows, cols};
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> value(type == PackedType::kInt4 ? -8 : -127, type == PackedType::kInt4 ? 7 : 127);
  std::normal_distribution<float> scale(0, 0.02f);
  w.q.assign(rows * groups * kGroup, 0);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < groups; ++g) {
      int8_t* q = w.q.data() + (r * groups + g) * kGroup;
      for (int64_t i = 0; i < kGroup && g * kGroup + i < cols; ++i) q[i] = static_cast<int8_t>(value(random));
      w.scales.push_back(ToBF16(scale(random)));
      PackGroup(w.matrix, r, g, q, w.scales.back());
    }
  }
  return w;
}

std::vector<float> Values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> exponent(-6, 6);
  std::vector<float> values(n);
  for (float& value : values) value = std::ldexp(normal(random), exponent(random));
  return values;
}

std::vector<int64_t> Cuts(int64_t length, int blocks) {
  std::vector<int64_t> cuts;
  const CanonicalAxis axis{length / kGroup * kGroup, kGroup};
  for (int b = 0; b <= blocks; ++b) cuts.push_back(axis.BlockBegin(b * (kCanonicalBlocks / blocks)));
  cuts.back() = length;
  return cuts;
}

// The definition, from the values that were packed.
std::vector<float> Expected(const Quantized& w, const QuantizedRows& x, const std::vector<int64_t>& cuts) {
  const int64_t groups = PackedGroups(w.matrix.cols), blocks = static_cast<int64_t>(cuts.size()) - 1;
  std::vector<float> y;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t o = 0; o < w.matrix.rows; ++o) {
      std::vector<float> sums(blocks);
      for (int64_t b = 0; b < blocks; ++b) {
        for (int64_t g = cuts[b] / kGroup; g < PackedGroups(cuts[b + 1]); ++g) {
          int64_t sum = 0;
          for (int64_t i = 0; i < kGroup; ++i) {
            sum += w.q[(o * groups + g) * kGroup + i] * x.values[(r * groups + g) * kGroup + i];
          }
          const float scale = ToFloat(w.scales[o * groups + g]) * x.scales[r * groups + g];
          sums[b] = std::fma(static_cast<float>(sum), scale, sums[b]);
        }
      }
      for (int64_t step = 1; step < blocks; step *= 2) {
        for (int64_t b = 0; b < blocks; b += 2 * step) sums[b] += sums[b + step];
      }
      y.push_back(sums[0]);
    }
  }
  return y;
}

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float v : values) bits.push_back(std::isnan(v) ? 0x7fc00000u : std::bit_cast<uint32_t>(v));
  return bits;
}

class PackedTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    first_ = PackedTarget();
    if (!SetPackedTarget(GetParam())) GTEST_SKIP() << "this machine lacks " << GetParam();
  }
  void TearDown() override { SetPackedTarget(first_); }
  const char* first_ = nullptr;
};

TEST_P(PackedTest, GivesTheBitsOfTheDefinition) {
  ThreadPool pool(2);
  for (const PackedType type : {PackedType::kInt4, PackedType::kInt8}) {
    for (const auto& [outs, depth] : {std::pair<int64_t, int64_t>{16, 32}, {1, 7}, {17, 40}, {33, 256}, {64, 1408}}) {
      const Quantized w = RandomMatrix(type, outs, depth, static_cast<uint32_t>(outs * depth));
      for (const int64_t rows : {1, 2, 3, 8, 15, 37}) {
        const std::vector<float> x = Values(rows * depth, static_cast<uint32_t>(rows + depth));
        std::vector<std::byte> memory(QuantizedRowsBytes(rows, depth));
        const QuantizedRows q = QuantizeRows(x, rows, depth, memory, &pool);
        for (const int blocks : {1, 2, 4, 8}) {
          const std::vector<int64_t> cuts = Cuts(depth, blocks);
          std::vector<float> y(rows * outs, -1.0f);
          MatMulPacked(q, w.matrix, cuts, y, rows % 2 == 0 ? &pool : nullptr);
          EXPECT_EQ(Bits(y), Bits(Expected(w, q, cuts)))
              << outs << " x " << depth << ", " << rows << " rows, " << blocks << " blocks";
        }
      }
    }
  }
}

TEST_P(PackedTest, ExtremesNeitherOverflowNorVanish) {
  const int64_t depth = 1024, outs = 16, rows = 13;  // panels too
  for (const PackedType type : {PackedType::kInt4, PackedType::kInt8}) {
    for (const int sign : {-1, 1}) {
      Quantized w = RandomMatrix(type, outs, depth, 1);
      const int8_t extreme = type == PackedType::kInt4 ? -8 : static_cast<int8_t>(127 * sign);
      for (int64_t r = 0; r < outs; ++r) {
        for (int64_t g = 0; g < PackedGroups(depth); ++g) {
          int8_t* q = w.q.data() + (r * PackedGroups(depth) + g) * kGroup;
          std::fill_n(q, kGroup, extreme);
          PackGroup(w.matrix, r, g, q, w.scales[r * PackedGroups(depth) + g]);
        }
      }
      const std::vector<float> x(rows * depth, static_cast<float>(sign) * 3e30f);
      std::vector<std::byte> memory(QuantizedRowsBytes(rows, depth));
      const QuantizedRows q = QuantizeRows(x, rows, depth, memory, nullptr);
      EXPECT_EQ(q.values[5], 127 * sign);
      EXPECT_EQ(q.sums[0], 127 * sign * kGroup);
      const std::vector<int64_t> cuts = Cuts(depth, 8);
      for (const int64_t some : {int64_t{1}, rows}) {
        std::vector<float> y(some * outs);
        MatMulPacked(q.Rows(0, some), w.matrix, cuts, y, nullptr);
        EXPECT_EQ(Bits(y), Bits(Expected(w, q.Rows(0, some), cuts)));
      }
    }
  }
}

TEST_P(PackedTest, ValuesThatAreNoNumbersReachTheSums) {
  const Quantized w = RandomMatrix(PackedType::kInt4, 16, 64, 3);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = Values(64, 9);
    x[40] = bad;
    std::vector<std::byte> memory(QuantizedRowsBytes(1, 64));
    std::vector<float> y(16);
    MatMulPacked(QuantizeRows(x, 1, 64, memory, nullptr), w.matrix, Cuts(64, 1), y, nullptr);
    for (const float value : y) EXPECT_TRUE(std::isnan(value));
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, PackedTest, testing::Values("avx512-vnni", "avx2", "portable"), [](const auto& info) {
  std::string name = info.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Packed, UnpacksWhatWasPacked) {
  for (const PackedType type : {PackedType::kInt4, PackedType::kInt8}) {
    const int64_t outs = 37, depth = 72;
    const Quantized w = RandomMatrix(type, outs, depth, 5);
    for (int64_t r = 0; r < outs; ++r) {
      for (int64_t g = 0; g < PackedGroups(depth); ++g) {
        float values[kGroup];
        UnpackGroup(w.matrix, r, g, values);
        const int64_t at = r * PackedGroups(depth) + g;
        for (int64_t i = 0; i < kGroup; ++i) {
          ASSERT_EQ(values[i], static_cast<float>(w.q[at * kGroup + i]) * ToFloat(w.scales[at]));
        }
      }
    }
  }
}

TEST(Packed, RoundsToTheNearestOfItsValues) {
  const std::vector<float> x = Values(kGroup, 4);
  int8_t q[kGroup];
  const float int8_scale = ToFloat(QuantizeGroup(PackedType::kInt8, x.data(), q));
  for (int64_t i = 0; i < kGroup; ++i) {
    if (std::abs(q[i]) < 127) EXPECT_LE(std::fabs(q[i] * int8_scale - x[i]), int8_scale * 0.5001f);
  }
  const float int4_scale = ToFloat(QuantizeGroup(PackedType::kInt4, x.data(), q));
  for (int64_t i = 0; i < kGroup; ++i) {
    if (q[i] > -8 && q[i] < 7) EXPECT_LE(std::fabs(q[i] * int4_scale - x[i]), int4_scale * 0.5001f);
  }
  const std::vector<float> zeros(kGroup, 0.0f);
  EXPECT_EQ(ToFloat(QuantizeGroup(PackedType::kInt4, zeros.data(), q)), 0.0f);
  EXPECT_EQ(q[7], 0);
}

TEST(Packed, ActivationsAreWithinHalfAStep) {
  const int64_t rows = 3, depth = 100;
  const std::vector<float> x = Values(rows * depth, 8);
  std::vector<std::byte> memory(QuantizedRowsBytes(rows, depth));
  const QuantizedRows q = QuantizeRows(x, rows, depth, memory, nullptr);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = 0; g < PackedGroups(depth); ++g) {
      const int64_t at = r * PackedGroups(depth) + g;
      int32_t sum = 0;
      for (int64_t i = 0; i < kGroup; ++i) {
        const int8_t value = q.values[at * kGroup + i];
        sum += value;
        const float exact = g * kGroup + i < depth ? x[r * depth + g * kGroup + i] : 0.0f;
        EXPECT_LE(std::fabs(value * q.scales[at] - exact), q.scales[at] * 0.5001f);
      }
      EXPECT_EQ(sum, q.sums[at]);
    }
  }
}

}  // namespace
}  // namespace atl::models::kernels
