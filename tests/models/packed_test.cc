// Products of integers, of every type of weights: every instruction set of this machine, any number of rows, threads
// and blocks, against sums written out from the unpacked definition.
#include "models/kernels/packed.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "models/kernels/kernels.h"
#include "models/kernels/packed_blocks.h"
#include "models/kernels/packed_tile.h"
#include "models/kernels/reference.h"
#include "parallel/base/partition.h"

namespace atl::models::kernels {
namespace {

// One output's group as it was packed.
struct Group {
  int8_t q[kGroup] = {};
  float scale = 0, least = 0;  // s, or d s of Q4_K, or d of Q6_K; dmin m
  int halves[2] = {1, 1};      // s of Q6_K
};

struct Quantized {
  std::vector<Group> groups;  // [rows, groups]
  std::vector<std::byte> memory;
  PackedWeights matrix;
  const Group& At(int64_t row, int64_t group) const { return groups[row * PackedGroups(matrix.cols) + group]; }
};

bool IsBlocks(PackedType type) { return type != PackedType::kInt4 && type != PackedType::kInt8; }

Range ValuesOf(PackedType type) {
  switch (type) {
    case PackedType::kInt4:
    case PackedType::kQ4_0:
      return {-8, 7};
    case PackedType::kInt8:
      return {-127, 127};
    case PackedType::kQ8_0:
      return {-128, 127};
    case PackedType::kQ4_K:
      return {0, 15};
    case PackedType::kQ6_K:
      return {-32, 31};
  }
  return {};
}

// Adds a block to the matrix and to what is known of its groups.
void Pack(const PackedBlock& block, int64_t row, int64_t first, Quantized* w) {
  const PackedType type = w->matrix.type;
  PackBlock(w->matrix, row, first, block);
  const float d = ToFloat(F16{block.d}), dmin = ToFloat(F16{block.dmin});
  for (int64_t g = 0; g < LayoutOf(type).block_groups; ++g) {
    if (first + g < 0 || first + g >= PackedGroups(w->matrix.cols)) continue;
    Group& group = w->groups[row * PackedGroups(w->matrix.cols) + first + g];
    std::copy_n(block.q + g * kGroup, kGroup, group.q);
    group.scale = type == PackedType::kQ4_K ? d * static_cast<float>(block.scales[g]) : d;
    group.least = type == PackedType::kQ4_K ? dmin * static_cast<float>(block.least[g]) : 0;
    if (type == PackedType::kQ6_K) {
      std::copy_n(block.scales + 2 * g, 2, group.halves);
    }
  }
}

// value(row, input): of the range; `skip`: groups of the first block that come before the first input.
Quantized MakeMatrix(PackedType type, int64_t rows, int64_t cols, uint32_t seed, int64_t skip,
                     const std::function<int(std::mt19937&)>& value) {
  Quantized w;
  const int64_t groups = PackedGroups(cols), step = LayoutOf(type).block_groups;
  w.groups.resize(rows * groups);
  w.memory.resize(PackedTiles(rows) * PackedTileBytes(type, cols, skip));
  w.matrix = {w.memory.data(), type, rows, cols, skip};
  std::mt19937 random(seed);
  std::normal_distribution<float> scale(0, 0.02f);
  std::uniform_int_distribution<int> small(type == PackedType::kQ4_K ? 0 : -128, type == PackedType::kQ4_K ? 63 : 127);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t g = -skip; g < groups; g += step) {
      PackedBlock block;
      const int64_t count = std::min(step * kGroup, cols - g * kGroup);
      for (int64_t i = 0; i < count; ++i) block.q[i] = static_cast<int8_t>(value(random));
      if (!IsBlocks(type)) {
        const BF16 of = ToBF16(scale(random));
        PackGroup(w.matrix, r, g, block.q, of);
        Group& group = w.groups[r * groups + g];
        std::copy_n(block.q, kGroup, group.q);
        group.scale = ToFloat(of);
        continue;
      }
      block.d = ToF16(scale(random)).bits;
      block.dmin = ToF16(scale(random)).bits;
      for (int8_t& s : block.scales) s = static_cast<int8_t>(small(random));
      for (int8_t& m : block.least) m = static_cast<int8_t>(std::abs(small(random)) & 63);
      Pack(block, r, g, &w);
    }
  }
  return w;
}

Quantized RandomMatrix(PackedType type, int64_t rows, int64_t cols, uint32_t seed, int64_t skip = 0) {
  const Range range = ValuesOf(type);
  std::uniform_int_distribution<int> value(static_cast<int>(range.begin), static_cast<int>(range.end));
  return MakeMatrix(type, rows, cols, seed, skip, [&](std::mt19937& random) { return value(random); });
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
          const Group& group = w.At(o, g);
          int64_t sum = 0;
          for (int64_t i = 0; i < kGroup; ++i) {
            sum += group.q[i] * x.values[(r * groups + g) * kGroup + i] * group.halves[i / 16];
          }
          const float a = x.scales[r * groups + g];
          if (w.matrix.type == PackedType::kQ4_K) {
            const int32_t x_sum = x.offsets[r * groups + g] / -8;
            const float part = std::fma(-group.least, static_cast<float>(x_sum), static_cast<float>(sum) * group.scale);
            sums[b] = std::fma(part, a, sums[b]);
          } else {
            sums[b] = std::fma(static_cast<float>(sum), group.scale * a, sums[b]);
          }
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
  for (const PackedType type : kPackedTypes) {
    for (const auto& [outs, depth] : {std::pair<int64_t, int64_t>{16, 32}, {1, 7}, {17, 40}, {33, 256}, {64, 1408}}) {
      const int64_t skip = depth == 1408 ? LayoutOf(type).block_groups - 1 : 0;
      const Quantized w = RandomMatrix(type, outs, depth, static_cast<uint32_t>(outs * depth), skip);
      for (const int64_t rows : {1, 2, 3, 5, 6, 7, 8, 15, 37, 83}) {
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
  for (const PackedType type : kPackedTypes) {
    for (const int sign : {-1, 1}) {
      const Range range = ValuesOf(type);
      const auto extreme = static_cast<int>(sign < 0 ? range.begin : range.end);
      const Quantized w = MakeMatrix(type, outs, depth, 1, 0, [&](std::mt19937&) { return extreme; });
      const std::vector<float> x(rows * depth, static_cast<float>(sign) * 3e30f);
      std::vector<std::byte> memory(QuantizedRowsBytes(rows, depth));
      const QuantizedRows q = QuantizeRows(x, rows, depth, memory, nullptr);
      EXPECT_EQ(q.values[5], 127 * sign);
      EXPECT_EQ(q.offsets[0], -8 * 127 * sign * kGroup);
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

// 17 outputs of three groups and a rest: a second tile, and every lane. Row by row or group by group, the same bytes.
TEST_P(PackedTest, RowsArePackedAsTheirGroupsAre) {
  constexpr int64_t kOuts = 17, kDepth = 3 * kGroup + 9;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const PackedType type : {PackedType::kInt4, PackedType::kInt8}) {
    for (uint32_t round = 0; round < 20; ++round) {
      std::vector<std::byte> got(PackedBytes(type, kOuts, kDepth)), want = got;
      for (int64_t row = 0; row < kOuts; ++row) {
        std::vector<float> x = Values(kDepth, round * kOuts + row);
        if (row == 7) std::fill_n(x.begin(), kGroup, 0.0f);
        if (row == 8) x[31] = std::numeric_limits<float>::quiet_NaN();
        if (row == 9) x[kDepth - 1] = -kInfinity;
        if (row == 10) std::fill_n(x.begin(), kGroup, -2.5f);
        if (row == 11) x[kGroup] = 1e-39f;
        PackRow({got.data(), type, kOuts, kDepth}, row, x.data());
        x.resize(4 * kGroup);
        for (int64_t group = 0; group < 4; ++group) {
          int8_t q[kGroup];
          const BF16 scale = QuantizeGroup(type, x.data() + group * kGroup, q);
          PackGroup({want.data(), type, kOuts, kDepth}, row, group, q, scale);
        }
        ASSERT_EQ(got, want) << row << " of round " << round;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, PackedTest, testing::Values("amx", "avx512-vnni", "avx2", "portable"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(Packed, UnpacksWhatWasPacked) {
  for (const PackedType type : kPackedTypes) {
    const int64_t outs = 37, depth = 72;
    const Quantized w = RandomMatrix(type, outs, depth, 5);
    for (int64_t r = 0; r < outs; ++r) {
      for (int64_t g = 0; g < PackedGroups(depth); ++g) {
        float values[kGroup];
        UnpackGroup(w.matrix, r, g, values);
        for (int64_t i = 0; i < kGroup; ++i) {
          const Group& group = w.At(r, g);
          const auto step = group.scale * static_cast<float>(i < 16 ? group.halves[0] : group.halves[1]);
          ASSERT_EQ(values[i], step * static_cast<float>(group.q[i]) - group.least);
        }
      }
    }
  }
}

// Tiles as their outputs one by one, of slices too, in every instruction set.
TEST_P(PackedTest, TilesUnpackAsTheirGroupsDo) {
  for (const PackedType type : kPackedTypes) {
    for (const int64_t skip : {0, 3}) {
      if (skip >= LayoutOf(type).block_groups) continue;
      const int64_t depth = 32 * 13;
      const Quantized w = RandomMatrix(type, 37, depth, 5, skip);
      const Range groups{2, 11};
      const int64_t stride = groups.size() * kGroup + 5;
      for (int64_t tile = 0; tile < 2; ++tile) {
        std::vector<float> got(kTileRows * stride, 7.0f);
        UnpackTile(w.matrix, tile, groups, got.data(), stride);
        for (int64_t o = 0; o < kTileRows; ++o) {
          for (int64_t g = groups.begin; g < groups.end; ++g) {
            float want[kGroup];
            UnpackGroup(w.matrix, tile * kTileRows + o, g, want);
            const float* from = got.data() + o * stride + (g - groups.begin) * kGroup;
            for (int64_t i = 0; i < kGroup; ++i) {
              ASSERT_EQ(std::bit_cast<uint32_t>(from[i]), std::bit_cast<uint32_t>(want[i]))
                  << static_cast<int>(type) << ", output " << o << ", group " << g << ", input " << i;
            }
          }
          ASSERT_EQ(got[o * stride + stride - 1], 7.0f);
        }
      }
    }
  }
}

// By the transpose: the bits of the values in f32, last tiles that are not whole, slices and any columns too.
TEST_P(PackedTest, TransposedProductsHaveTheBitsOfTheDecodedMatrix) {
  ThreadPool pool(2);
  for (const WeightFormat format : {WeightFormat::kPackedInt4, WeightFormat::kPackedInt8, WeightFormat::kPackedQ4_0,
                                    WeightFormat::kPackedQ8_0, WeightFormat::kPackedQ4_K, WeightFormat::kPackedQ6_K}) {
    const PackedType type = PackedTypeOf(format);
    for (const int64_t outs : {37, 48}) {
      const int64_t depth = 320, skip = LayoutOf(type).block_groups > 3 ? outs % 5 : 0;
      const Quantized packed = RandomMatrix(type, outs, depth, 9, skip);
      const Matrix w = PackedMatrix(packed.memory.data(), format, {0, outs}, {skip * kGroup, skip * kGroup + depth});
      std::vector<float> plain(w.rows * w.cols);
      for (int64_t r = 0; r < w.rows; ++r) WidenRow(w, r, plain.data() + r * w.cols);
      for (const int64_t rows : {1, 2, 3, 4, 7, 66}) {
        const std::vector<float> x = Values(rows * w.rows, static_cast<uint32_t>(rows));
        std::vector<float> want(rows * w.cols), got(rows * w.cols, NAN), shared = got;
        reference::MatMulTransposed(x, rows, PlainMatrix(plain.data(), w.rows, w.cols, w.cols), want);
        MatMulTransposed(x.data(), w.rows, rows, w, got.data(), w.cols, nullptr);
        MatMulTransposed(x.data(), w.rows, rows, w, shared.data(), w.cols, &pool);
        EXPECT_EQ(Bits(got), Bits(want)) << Name(format) << ", " << outs << " outputs, " << rows << " rows";
        EXPECT_EQ(Bits(shared), Bits(want)) << Name(format) << ", " << outs << " outputs, " << rows << " rows, shared";
      }
    }
  }
}

// A file's blocks as integers are the weights that their decoder gives.
TEST(Packed, BlocksOfAFileKeepTheirValues) {
  for (const WeightFormat format :
       {WeightFormat::kQ4_0, WeightFormat::kQ8_0, WeightFormat::kQ4_K, WeightFormat::kQ6_K}) {
    const WeightFormatInfo info = InfoOf(format);
    const PackedType type = PackedTypeOf(*PackedFrom(format));
    std::mt19937 random(11);
    for (int round = 0; round < 50; ++round) {
      std::vector<std::byte> block(info.group_bytes);
      for (std::byte& byte : block) byte = static_cast<std::byte>(random());
      Matrix stored;
      stored.data = block.data();
      stored.format = format;
      stored.rows = 1;
      stored.cols = info.group;
      stored.row_bytes = info.group_bytes;
      std::vector<float> expected(info.group), values(info.group);
      WidenRow(stored, 0, expected.data());
      if (!std::all_of(expected.begin(), expected.end(), [](float v) { return std::isfinite(v); })) continue;
      std::vector<std::byte> memory(PackedBytes(type, 1, info.group));
      const PackedWeights packed{memory.data(), type, 1, info.group};
      PackBlock(packed, 0, 0, ReadBlock(type, block.data()));
      for (int64_t g = 0; g < info.group / kGroup; ++g) UnpackGroup(packed, 0, g, values.data() + g * kGroup);
      ASSERT_EQ(values, expected) << Name(format) << " block " << round;
    }
  }
}

// How far a rounded value may be from its own, in parts of the largest of its block.
TEST(Packed, BlocksAreRoundedToTheNearest) {
  struct Case {
    PackedType type;
    float most;
  };
  for (const Case& c : {Case{PackedType::kQ4_0, 1 / 7.9f},
                        {PackedType::kQ8_0, 1 / 250.0f},
                        {PackedType::kQ4_K, 1 / 12.0f},
                        {PackedType::kQ6_K, 1 / 30.0f}}) {
    const int64_t count = LayoutOf(c.type).block_groups * kGroup;
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    for (int round = 0; round < 20; ++round) {
      std::vector<float> x(count), got(count);
      float largest = 0;
      for (float& v : x) largest = std::max(largest, std::fabs(v = normal(random)));
      std::vector<std::byte> memory(PackedBytes(c.type, 1, count));
      const PackedWeights packed{memory.data(), c.type, 1, count};
      PackBlock(packed, 0, 0, QuantizeBlock(c.type, x.data(), count));
      for (int64_t g = 0; g < count / kGroup; ++g) UnpackGroup(packed, 0, g, got.data() + g * kGroup);
      for (int64_t i = 0; i < count; ++i) {
        ASSERT_LE(std::fabs(got[i] - x[i]), c.most * largest) << static_cast<int>(c.type);
      }
    }
    const std::vector<float> zeros(count, 0.0f);
    const PackedBlock none = QuantizeBlock(c.type, zeros.data(), count);
    EXPECT_EQ(ToFloat(F16{none.d}), 0.0f);
    std::vector<float> bad(count, 1.0f);
    bad[5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_TRUE(std::isnan(ToFloat(F16{QuantizeBlock(c.type, bad.data(), count).d})));
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
      EXPECT_EQ(-8 * sum, q.offsets[at]);
    }
  }
}

}  // namespace
}  // namespace atl::models::kernels
