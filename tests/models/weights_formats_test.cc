// Quantised checkpoints: FP8 blocks and packed INT4, slice by slice, and the ways in which they can be wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "models/kernels/kernels.h"
#include "models/weights/formats/table.h"
#include "models/weights/slice_reader.h"
#include "tests/models/checkpoint_file.h"

namespace atl::models {
namespace {

using testing::HasSubstr;

// A matrix of 300 x 416: the last row of scale blocks covers 44 rows, the last column 32 columns.
constexpr int64_t kRows = 300, kCols = 416, kScaleRows = 3, kScaleCols = 4;

Parameter Matrix(WeightFormat format) {
  Parameter p;
  p.name = "model.layers.0.mlp.up_proj.weight";
  p.shape = {kRows, kCols};
  p.format = format;
  return p;
}

std::vector<uint32_t> Random(int64_t n, uint32_t bound) {
  std::mt19937 random(7);
  std::vector<uint32_t> values(n);
  for (uint32_t& v : values) v = bound == 0 ? static_cast<uint32_t>(random()) : random() % bound;
  return values;
}

struct Fp8 {
  TestTensors tensors;
  std::vector<float> decoded = std::vector<float>(kRows * kCols);
  std::vector<float> scales;

  Fp8() {
    std::vector<uint8_t> bytes;
    for (const uint32_t v : Random(kRows * kCols, 127 * 2)) bytes.push_back(v < 127 ? v : v - 127 + 128);
    for (const uint32_t v : Random(kScaleRows * kScaleCols, 1000)) scales.push_back(1e-4f * static_cast<float>(v + 1));
    tensors.Add(Name(), DType::kF8E4M3, {kRows, kCols}, bytes);
    tensors.Add(Name() + "_scale_inv", DType::kF32, {kScaleRows, kScaleCols}, scales);
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t c = 0; c < kCols; ++c) {
        const int b = bytes[r * kCols + c], exponent = b >> 3 & 15, mantissa = b & 7;
        const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
        decoded[r * kCols + c] = static_cast<float>(b & 128 ? -size : size) * scales[r / 128 * kScaleCols + c / 128];
      }
    }
  }
  static std::string Name() { return Matrix(WeightFormat::kFp8Block).name; }
};

struct Int4 {
  TestTensors tensors;
  std::vector<float> decoded = std::vector<float>(kRows * kCols);

  Int4() {
    const std::vector<uint32_t> words = Random(kRows * kCols / 8, 0);
    std::vector<BF16> scales;
    for (const uint32_t v : Random(kRows * kCols / 32, 1000)) {
      scales.push_back(ToBF16(1e-4f * static_cast<float>(v + 1)));
    }
    tensors.Add(Name() + "_packed", DType::kI32, {kRows, kCols / 8}, words);
    tensors.Add(Name() + "_scale", DType::kBF16, {kRows, kCols / 32}, scales);
    tensors.Add(Name() + "_shape", DType::kI64, {2}, std::vector<int64_t>{kRows, kCols});
    for (int64_t i = 0; i < kRows * kCols; ++i) {
      decoded[i] =
          static_cast<float>(static_cast<int>(words[i / 8] >> (4 * (i % 8)) & 15) - 8) * ToFloat(scales[i / 32]);
    }
  }
  static std::string Name() { return Matrix(WeightFormat::kInt4BF16).name; }
};

std::string Error(const TestTensors& tensors, const Parameter& p) {
  const Checkpoint checkpoint = tensors.Checkpoint();
  const auto stored = FindStored(checkpoint, p);
  if (!stored.ok()) return ToString(stored.status().message());
  std::vector<std::byte> out(PackingOf(p.format, {0, p.shape[0]}, {0, p.shape[1]}).bytes);
  return ToString(ReadSlice(p, *stored, {{0, p.shape[0]}, {0, p.shape[1]}}, out.data()).message());
}

// Every slice, read as a rank reads it, decodes to the elements that the definition gives.
void ExpectSlices(const TestTensors& tensors, WeightFormat format, const std::vector<float>& decoded) {
  const Checkpoint checkpoint = tensors.Checkpoint();
  const Parameter p = Matrix(format);
  const auto stored = FindStored(checkpoint, p);
  ASSERT_TRUE(stored.ok()) << stored.status();
  ASSERT_EQ(stored->format, format);
  for (const Slice& slice : {Slice{{0, kRows}, {0, kCols}},
                             {{100, 140}, {0, kCols}},
                             {{0, kRows}, {100, 180}},
                             {{299, 300}, {415, 416}},
                             {{17, 257}, {33, 390}},
                             {{5, 5}, {0, kCols}}}) {
    const Packing packing = PackingOf(format, slice.rows, slice.columns);
    std::vector<std::byte> bytes(packing.bytes + 1, std::byte{0x5a});
    const absl::Status status = ReadSlice(p, *stored, slice, bytes.data());
    ASSERT_TRUE(status.ok()) << status;
    EXPECT_EQ(bytes.back(), std::byte{0x5a});
    const kernels::Matrix m = kernels::PackedMatrix(bytes.data(), format, slice.rows, slice.columns);
    std::vector<float> row(m.cols);
    for (int64_t r = 0; r < m.rows; ++r) {
      kernels::WidenRow(m, r, row.data());
      for (int64_t c = 0; c < m.cols; ++c) {
        ASSERT_EQ(row[c], decoded[(slice.rows.begin + r) * kCols + slice.columns.begin + c]) << r << ", " << c;
      }
    }
  }
}

TEST(WeightsFormats, Fp8Slices) {
  Fp8 fp8;
  ExpectSlices(fp8.tensors, WeightFormat::kFp8Block, fp8.decoded);
  // Scales in bf16: the same values if they fit.
  std::vector<BF16> halves;
  for (float& scale : fp8.scales) halves.push_back(ToBF16(scale));
  fp8.tensors.Add(Fp8::Name() + "_scale_inv", DType::kBF16, {kScaleRows, kScaleCols}, halves);
  for (int64_t i = 0; i < kRows * kCols; ++i) {
    const int64_t block = i / kCols / 128 * kScaleCols + i % kCols / 128;
    const float e4m3 = std::ldexp(std::rint(std::ldexp(fp8.decoded[i] / fp8.scales[block], 9)), -9);
    fp8.decoded[i] = e4m3 * ToFloat(halves[block]);
  }
  ExpectSlices(fp8.tensors, WeightFormat::kFp8Block, fp8.decoded);
}

TEST(WeightsFormats, Int4Slices) {
  const Int4 int4;
  ExpectSlices(int4.tensors, WeightFormat::kInt4BF16, int4.decoded);
}

TEST(WeightsFormats, OnlyTheTouchedGroupsAndScalesAreKept) {
  const Packing fp8 = PackingOf(WeightFormat::kFp8Block, {100, 300}, {130, 140});
  EXPECT_EQ(fp8.matrix_bytes, 200 * 10);
  EXPECT_EQ(fp8.scales_at, 2048 - 2048 % 64);
  EXPECT_EQ(fp8.bytes - fp8.scales_at, 3 * 1 * 4);
  EXPECT_EQ(fp8.skip_scale_rows, 100);
  EXPECT_EQ(fp8.skip_scale_columns, 2);
  const Packing int4 = PackingOf(WeightFormat::kInt4BF16, {3, 5}, {31, 65});
  EXPECT_EQ(int4.row_bytes, 3 * 16);
  EXPECT_EQ(int4.skip_columns, 31);
  EXPECT_EQ(int4.bytes, 128 + 2 * 3 * 2);
  const Packing q4k = PackingOf(WeightFormat::kQ4_K, {0, 2}, {255, 257});
  EXPECT_EQ(q4k.bytes, 2 * 2 * 144);
}

TEST(WeightsFormats, WrongFp8IsRefusedInOneSentence) {
  const Parameter p = Matrix(WeightFormat::kFp8Block);
  const std::string scales = p.name + "_scale_inv";
  Fp8 missing;
  missing.tensors.Remove(scales);
  EXPECT_THAT(Error(missing.tensors, p), HasSubstr("is stored as fp8, but its scales " + scales + " are missing"));
  for (const float bad : {NAN, INFINITY, -INFINITY, 129.0f}) {
    Fp8 nan;
    nan.scales[7] = bad;
    nan.tensors.Add(scales, DType::kF32, {kScaleRows, kScaleCols}, nan.scales);
    EXPECT_THAT(Error(nan.tensors, p), HasSubstr(fmt::format("the scale of {} at (1, 3) is {}", p.name, bad)));
  }
  Fp8 few;
  few.tensors.Add(scales, DType::kF32, {2, kScaleCols}, std::vector<float>(8));
  EXPECT_THAT(Error(few.tensors, p), HasSubstr("_scale_inv is [2, 4], config.json asks for [3, 4]"));
  Fp8 typed;
  typed.tensors.Add(scales, DType::kI32, {kScaleRows, kScaleCols}, std::vector<int32_t>(12));
  EXPECT_THAT(Error(typed.tensors, p), HasSubstr("are i32; they must be f32, f16 or bf16"));
  Fp8 shaped;
  shaped.tensors.Add(p.name, DType::kF8E4M3, {kCols, kRows}, std::vector<uint8_t>(kRows * kCols));
  EXPECT_THAT(Error(shaped.tensors, p), HasSubstr("is [416, 300], config.json asks for [300, 416]"));
}

TEST(WeightsFormats, WrongInt4IsRefusedInOneSentence) {
  const Parameter p = Matrix(WeightFormat::kInt4BF16);
  Int4 missing;
  missing.tensors.Remove(p.name + "_scale");
  EXPECT_THAT(Error(missing.tensors, p), HasSubstr("weight_packed is there, but its scales"));
  Int4 nan;
  std::vector<BF16> scales(kRows * kCols / 32, ToBF16(1));
  scales[13 * 5 + 2] = {0x7fc0};
  nan.tensors.Add(p.name + "_scale", DType::kBF16, {kRows, kCols / 32}, scales);
  EXPECT_THAT(Error(nan.tensors, p), HasSubstr("at (5, 2) is nan"));
  Int4 shape;
  shape.tensors.Add(p.name + "_shape", DType::kI64, {2}, std::vector<int64_t>{kCols, kRows});
  EXPECT_THAT(Error(shape.tensors, p), HasSubstr("says [416, 300], config.json asks for [300, 416]"));
  shape.tensors.Add(p.name + "_shape", DType::kI32, {2}, std::vector<int32_t>{kRows, kCols});
  EXPECT_EQ(Error(shape.tensors, p), "");
  shape.tensors.Add(p.name + "_shape", DType::kF32, {2}, std::vector<float>{kRows, kCols});
  EXPECT_THAT(Error(shape.tensors, p), HasSubstr("must be i32 or i64"));
  Int4 words;
  words.tensors.Add(p.name + "_packed", DType::kF32, {kRows, kCols / 8}, std::vector<float>(kRows * kCols / 8));
  EXPECT_THAT(Error(words.tensors, p), HasSubstr("is f32; it must be i32"));
  Int4 group;
  group.tensors.Add(p.name + "_scale", DType::kBF16, {kRows, kCols / 64}, std::vector<BF16>(kRows * (kCols / 64)));
  EXPECT_THAT(Error(group.tensors, p), HasSubstr("_scale is [300, 6], config.json asks for [300, 13]"));
  for (const char* other : {"_zero_point", "_g_idx"}) {
    Int4 more;
    more.tensors.Add(p.name + other, DType::kI32, {1}, std::vector<int32_t>{0});
    EXPECT_THAT(Error(more.tensors, p), HasSubstr("only symmetric groups of 32 neighbours"));
  }
}

}  // namespace
}  // namespace atl::models
