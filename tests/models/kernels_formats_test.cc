// Every weight format decodes to the values that its definition gives, and products use exactly those: on every
// instruction set, whatever the slice, they have the bits of the plain loops over the decoded matrix.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <map>
#include <random>
#include <vector>

#include "models/kernels/fp8_rows.h"
#include "models/kernels/kernels.h"
#include "models/kernels/reference.h"
#include "models/weights/checkpoint.h"

// targets.h says what Highway's header knows.
// clang-format off
#include "models/kernels/targets.h"
#include "hwy/targets.h"
// clang-format on

namespace atl::models::kernels {
namespace {

// The twenty types of tests/golden/gguf/blocks.safetensors: 24 blocks each, and their values.
const std::map<std::string, WeightFormat>& GgufTypes() {
  using enum WeightFormat;
  static const std::map<std::string, WeightFormat> types = {
      {"Q4_0", kQ4_0},     {"Q4_1", kQ4_1},     {"Q5_0", kQ5_0},   {"Q5_1", kQ5_1},       {"Q8_0", kQ8_0},
      {"MXFP4", kMXFP4},   {"IQ4_NL", kIQ4_NL}, {"Q2_K", kQ2_K},   {"Q3_K", kQ3_K},       {"Q4_K", kQ4_K},
      {"Q5_K", kQ5_K},     {"Q6_K", kQ6_K},     {"IQ1_S", kIQ1_S}, {"IQ1_M", kIQ1_M},     {"IQ2_XXS", kIQ2_XXS},
      {"IQ2_XS", kIQ2_XS}, {"IQ2_S", kIQ2_S},   {"IQ3_S", kIQ3_S}, {"IQ3_XXS", kIQ3_XXS}, {"IQ4_XS", kIQ4_XS}};
  return types;
}

const Checkpoint& Blocks() {
  static const Checkpoint blocks = *Checkpoint::Open(ATOLL_SOURCE_DIR "/tests/golden/gguf/blocks.safetensors");
  return blocks;
}

std::vector<uint32_t> Bits(std::span<const float> values) {
  std::vector<uint32_t> bits;
  for (const float v : values) bits.push_back(std::isnan(v) ? 0x7fc00000u : std::bit_cast<uint32_t>(v));
  return bits;
}

std::vector<float> Normal(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& value : values) value = normal(random);
  return values;
}

// A whole stored tensor [rows, cols].
struct Stored {
  WeightFormat format;
  int64_t rows, cols;
  std::vector<std::byte> data, scales;

  Matrix Slice(Range row, Range col) const {
    const WeightFormatInfo info = InfoOf(format);
    const Packing p = PackingOf(format, row, col), all = PackingOf(format, {0, rows}, {0, cols});
    Matrix m;
    m.data = data.data() + row.begin * all.row_bytes + p.first_group * info.group_bytes;
    m.format = format;
    m.rows = row.size();
    m.cols = col.size();
    m.row_bytes = all.row_bytes;
    m.skip_cols = p.skip_columns;
    if (info.scale_rows > 0) {
      m.scales.data =
          scales.data() + p.scale_rows.begin * all.scale_row_bytes + p.scale_columns.begin * info.scale_bytes;
      m.scales.row_bytes = all.scale_row_bytes;
      m.scales.skip_rows = p.skip_scale_rows;
      m.scales.skip_cols = p.skip_scale_columns;
    }
    return m;
  }
};

Stored Random(WeightFormat format, int64_t rows, int64_t cols) {
  const Packing all = PackingOf(format, {0, rows}, {0, cols});
  Stored stored{format, rows, cols, std::vector<std::byte>(all.matrix_bytes),
                std::vector<std::byte>(all.scale_rows.size() * all.scale_row_bytes)};
  std::mt19937 random(static_cast<uint32_t>(format) + 1);
  for (std::byte& b : stored.data) b = static_cast<std::byte>(random() % 127 + random() % 2 * 128);
  // GGUF's blocks hold their scales; random bytes could make those infinite. Take blocks of the golden file.
  for (const auto& [name, type] : GgufTypes()) {
    if (type != format) continue;
    const TensorView* raw = Blocks().Find(name + ".raw");
    const int64_t size = InfoOf(format).group_bytes;
    for (int64_t at = 0; at < all.matrix_bytes; at += size) {
      std::memcpy(stored.data.data() + at, raw->data + random() % 24 * size, size);
    }
  }
  const WeightFormatInfo info = InfoOf(format);
  for (size_t i = 0; info.scale_rows > 0 && i < stored.scales.size(); i += info.scale_bytes) {
    const float scale = std::ldexp(static_cast<float>(random() % 1000 + 1000), -15);
    const BF16 rounded = ToBF16(scale);
    const F16 half{static_cast<uint16_t>(0x2000 + random() % 0x800)};
    if (info.scale_bytes == 4) {
      std::memcpy(stored.scales.data() + i, &scale, 4);
    } else if (format == WeightFormat::kInt4F16) {
      std::memcpy(stored.scales.data() + i, &half, 2);
    } else {
      std::memcpy(stored.scales.data() + i, &rounded, 2);
    }
  }
  if (format == WeightFormat::kF16 || format == WeightFormat::kBF16 || format == WeightFormat::kF32) {
    const std::vector<float> values = Normal(rows * cols, 3);
    for (int64_t i = 0; i < rows * cols; ++i) {
      const BF16 rounded = ToBF16(values[i]);
      const F16 half{static_cast<uint16_t>(random() % 0x4000 + random() % 2 * 0x8000)};
      const void* from = format == WeightFormat::kF32   ? static_cast<const void*>(&values[i])
                         : format == WeightFormat::kF16 ? static_cast<const void*>(&half)
                                                        : &rounded;
      std::memcpy(stored.data.data() + i * info.group_bytes, from, info.group_bytes);
    }
  }
  return stored;
}

std::vector<float> Decoded(const Matrix& w) {
  std::vector<float> values(w.rows * w.cols);
  for (int64_t r = 0; r < w.rows; ++r) WidenRow(w, r, values.data() + r * w.cols);
  return values;
}

class FormatsTest : public testing::TestWithParam<int64_t> {
 protected:
  void SetUp() override { hwy::GetChosenTarget().Update(GetParam()); }
  void TearDown() override { hwy::GetChosenTarget().DeInit(); }
  ThreadPool pool_{2};
};

TEST_P(FormatsTest, GgufBlocksAreBitExact) {
  ASSERT_EQ(GgufTypes().size(), 20u);
  ASSERT_EQ(Blocks().tensors().size(), 40u);
  for (const auto& [name, format] : GgufTypes()) {
    const TensorView* raw = Blocks().Find(name + ".raw");
    const TensorView* f32 = Blocks().Find(name + ".f32");
    ASSERT_NE(raw, nullptr) << name;
    const WeightFormatInfo info = InfoOf(format);
    ASSERT_EQ(raw->shape, (std::vector<int64_t>{24, info.group_bytes})) << name;
    ASSERT_EQ(f32->shape, (std::vector<int64_t>{24, info.group})) << name;
    const std::span<const float> want(reinterpret_cast<const float*>(f32->data), 24 * info.group);
    Matrix m;
    m.data = raw->data;
    m.format = format;
    m.rows = 24;
    m.cols = info.group;
    m.row_bytes = info.group_bytes;
    EXPECT_EQ(Bits(Decoded(m)), Bits(want)) << name;
    // All blocks as one row, from any element to any other.
    m.rows = 1;
    m.cols = 24 * info.group;
    m.row_bytes = 24 * info.group_bytes;
    std::mt19937 random(1);
    for (int i = 0; i < 100; ++i) {
      const auto begin = static_cast<int64_t>(random() % m.cols);
      const auto count = static_cast<int64_t>(random() % (m.cols - begin) + 1);
      std::vector<float> part(count + 1, -7.0f);
      DecodeRow(m, 0, begin, count, part.data());
      ASSERT_EQ(part.back(), -7.0f);
      part.pop_back();
      ASSERT_EQ(Bits(part), Bits(want.subspan(begin, count))) << name << " from " << begin << ", " << count;
    }
  }
}

TEST_P(FormatsTest, Fp8IsE4m3TimesTheScaleOfItsBlock) {
  Stored all{WeightFormat::kFp8Block, 1, 256, {}, {}};
  for (int i = 0; i < 256; ++i) all.data.push_back(static_cast<std::byte>(i));
  const float scales[] = {0.3f, -1.7e-5f};
  all.scales.resize(sizeof(scales));
  std::memcpy(all.scales.data(), scales, sizeof(scales));
  const std::vector<float> got = Decoded(all.Slice({0, 1}, {0, 256}));
  for (int i = 0; i < 256; ++i) {
    const int exponent = i >> 3 & 15, mantissa = i & 7;
    const double value = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    if ((i & 127) == 127) continue;  // not a number, and refused when it is read
    const float want = static_cast<float>(i & 128 ? -value : value) * scales[i / 128];
    EXPECT_EQ(Bits({&got[i], 1}), Bits({&want, 1})) << i;
  }
}

TEST_P(FormatsTest, Int4IsNibbleMinusEightTimesTheScaleOfItsGroup) {
  Stored all{WeightFormat::kInt4F32, 1, 64, std::vector<std::byte>(32), {}};
  const uint32_t word = 0x76543210;
  for (int i = 0; i < 32; i += 4) std::memcpy(all.data.data() + i, &word, 4);
  const float scales[] = {0.3f, 1e-20f};
  all.scales.resize(sizeof(scales));
  std::memcpy(all.scales.data(), scales, sizeof(scales));
  const std::vector<float> got = Decoded(all.Slice({0, 1}, {0, 64}));
  for (int i = 0; i < 64; ++i) EXPECT_EQ(got[i], static_cast<float>(i % 8 - 8) * scales[i / 32]) << i;
}

// What a checkpoint may store. Packed formats exist in memory only: packed_test.cc, kept_weights_test.cc.
std::vector<WeightFormat> StoredFormats() {
  std::vector<WeightFormat> formats;
  for (int f = 0; f < kWeightFormats; ++f) {
    if (!IsPacked(static_cast<WeightFormat>(f))) formats.push_back(static_cast<WeightFormat>(f));
  }
  return formats;
}

// A slice of a slice is the same numbers, and Rows() a slice of rows.
TEST_P(FormatsTest, SlicesOfEveryFormatAreTheSameElements) {
  for (const WeightFormat format : StoredFormats()) {
    const Stored stored = Random(format, 300, 512);
    const std::vector<float> whole = Decoded(stored.Slice({0, 300}, {0, 512}));
    for (const float v : whole) ASSERT_TRUE(std::isfinite(v)) << Name(format);
    for (const auto& [rows, cols] : {std::pair<Range, Range>{{0, 7}, {0, 512}},
                                     {{127, 130}, {0, 100}},
                                     {{5, 270}, {31, 33}},
                                     {{299, 300}, {129, 511}},
                                     {{128, 256}, {256, 384}}}) {
      const Matrix slice = stored.Slice(rows, cols);
      const int64_t skipped = rows.size() / 2;
      for (const auto& [part, first] :
           {std::pair<Matrix, int64_t>{slice, 0}, {slice.Rows(skipped, rows.size() - skipped), skipped}}) {
        const std::vector<float> got = Decoded(part);
        for (int64_t r = 0; r < part.rows; ++r) {
          const auto from = whole.begin() + (rows.begin + first + r) * 512 + cols.begin;
          ASSERT_EQ(Bits({&got[r * part.cols], static_cast<size_t>(part.cols)}),
                    Bits({from, from + static_cast<std::ptrdiff_t>(part.cols)}))
              << Name(format) << " row " << r;
        }
      }
    }
  }
}

TEST_P(FormatsTest, ProductsHaveTheBitsOfTheDecodedMatrix) {
  for (const WeightFormat format : StoredFormats()) {
    const Stored stored = Random(format, 200, 768);
    for (const auto& [rows, cols, x_rows] : {std::tuple<Range, Range, int64_t>{{0, 37}, {0, 768}, 1},
                                             {{100, 121}, {100, 708}, 3},
                                             {{120, 137}, {17, 41}, 5},
                                             {{0, 20}, {3, 290}, 66}}) {
      const Matrix w = stored.Slice(rows, cols);
      const std::vector<float> plain = Decoded(w);
      const Matrix want_of = PlainMatrix(plain.data(), w.rows, w.cols, w.cols);
      const std::vector<float> x = Normal(x_rows * w.cols, 5);
      const int64_t cut = w.cols / 3;  // inside groups
      for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, w.cols},
                                               {0, cut, w.cols},
                                               {0, 1, cut, cut, w.cols, w.cols, w.cols, w.cols, w.cols}}) {
        std::vector<float> want(x_rows * w.rows), got(x_rows * w.rows, NAN), shared = got;
        reference::MatMul(x, x_rows, want_of, cuts, want);
        MatMul(x, x_rows, w, cuts, got, nullptr);
        MatMul(x, x_rows, w, cuts, shared, &pool_);
        ASSERT_EQ(Bits(got), Bits(want)) << Name(format) << ", " << x_rows << " rows, " << cuts.size() << " cuts";
        ASSERT_EQ(Bits(shared), Bits(want)) << Name(format) << " on two threads";
      }
      const std::vector<float> back = Normal(x_rows * w.rows, 6);
      std::vector<float> want(x_rows * w.cols), got(x_rows * w.cols, NAN), shared = got;
      reference::MatMulTransposed(back, x_rows, want_of, want);
      MatMulTransposed(back.data(), w.rows, x_rows, w, got.data(), w.cols, nullptr);
      MatMulTransposed(back.data(), w.rows, x_rows, w, shared.data(), w.cols, &pool_);
      ASSERT_EQ(Bits(got), Bits(want)) << Name(format) << ", transposed, " << x_rows << " rows";
      ASSERT_EQ(Bits(shared), Bits(want)) << Name(format) << ", transposed, on two threads";
    }
  }
}

// The kernels for few rows, each that this machine has: a last group of outputs, slices that begin inside a block of
// scales, blocks of K that end inside one.
TEST(Fp8Rows, HaveTheBitsOfTheDecodedMatrix) {
  const Stored stored = Random(WeightFormat::kFp8Block, 200, 768);
  for (const auto& [run, most_rows, in_lane_order] : {Fp8RowsAvx512(), Fp8RowsAvx2()}) {
    if (run == nullptr) continue;
    for (const auto& [rows, cols] :
         {std::pair<Range, Range>{{0, 40}, {0, 768}}, {{121, 138}, {144, 656}}, {{3, 4}, {752, 768}}}) {
      const Matrix w = stored.Slice(rows, cols);
      const std::vector<float> plain = Decoded(w);
      const Matrix want_of = PlainMatrix(plain.data(), w.rows, w.cols, w.cols);
      for (const int64_t x_rows : {1, 2, 3, 4, 7, 12}) {
        const std::vector<float> x = Normal(x_rows * w.cols, 5);
        std::vector<float> ordered(x.size());
        InLaneOrder(x.data(), std::ssize(x), ordered.data());
        const float* given = in_lane_order ? ordered.data() : x.data();
        const int64_t third = w.cols / 48 * 16;
        for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, w.cols},
                                                 {0, third, w.cols},
                                                 {0, 0, third, third, w.cols, w.cols, w.cols, w.cols, w.cols}}) {
          std::vector<float> want(x_rows * w.rows), got(x_rows * w.rows, NAN);
          reference::MatMul(x, x_rows, want_of, cuts, want);
          const int64_t part = w.rows / 3;
          run(given, x_rows, w, 0, part, cuts, got.data());
          run(given, x_rows, w, part, w.rows, cuts, got.data());
          ASSERT_EQ(Bits(got), Bits(want)) << x_rows << " rows, " << cuts.size() << " cuts";
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FormatsTest, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& info) { return hwy::TargetName(info.param); });

}  // namespace
}  // namespace atl::models::kernels
