#include <algorithm>

#include "models/kernels/kernels.h"
#include "models/kernels/targets.h"
#include "parallel/base/status.h"

// foreach_target comes before highway.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/kernels/decode.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "models/kernels/blocks-inl.h"
#include "models/kernels/codebook_blocks-inl.h"
#include "models/kernels/fp8-inl.h"
#include "models/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

template <typename T>
void DecodePlain(const T* from, int64_t count, float* out) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(Load(from + i), out + i);
  if (i < count) StoreRest(LoadRest(from + i, count - i), count - i, out + i);
}

// Whole blocks go straight to `out`; of the first and the last one only what is asked for.
template <typename Block>
void DecodeBlocks(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  const int64_t first = w.skip_cols + begin;
  const auto* block =
      reinterpret_cast<const uint8_t*>(w.data) + row * w.row_bytes + first / Block::kGroup * Block::kBytes;
  int64_t skip = first % Block::kGroup;
  while (count > 0) {
    const int64_t taken = std::min(count, Block::kGroup - skip);
    if (taken == Block::kGroup) {
      Block::Decode(block, out);
    } else {
      float whole[Block::kGroup];
      Block::Decode(block, whole);
      std::copy_n(whole + skip, taken, out);
    }
    block += Block::kBytes;
    out += taken;
    count -= taken;
    skip = 0;
  }
}

void DecodeFp8(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  const uint8_t* from = w.Row<uint8_t>(row) + begin;
  const float* scales = Fp8Scales(w, row);
  int64_t column = w.scales.skip_cols + begin;
  while (count > 0) {
    const int64_t taken = std::min(count, kFp8Block - column % kFp8Block);
    const float scale = scales[column / kFp8Block];
    const V factor = hn::Set(D(), scale * 256.0f);
    int64_t i = 0;
    for (; i + kLanes <= taken; i += kLanes) {
      Lanes values = LoadFp8(from + i);
      for (V& part : values.part) part = hn::Mul(part, factor);
      Store(values, out + i);
    }
    for (; i < taken; ++i) out[i] = E4m3(from[i]) * scale;
    from += taken;
    out += taken;
    column += taken;
    count -= taken;
  }
}

// Weight 2 i is the low nibble of byte i, weight 2 i + 1 its high nibble.
template <typename Scale>
void DecodeInt4(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  constexpr int64_t kGroup = 32;
  const int64_t first = w.skip_cols + begin;
  const auto* bytes = reinterpret_cast<const uint8_t*>(w.data) + row * w.row_bytes;
  const auto* scales = reinterpret_cast<const Scale*>(w.scales.data + row * w.scales.row_bytes);
  for (int64_t at = first; at < first + count;) {
    const int64_t end = std::min(first + count, (at / kGroup + 1) * kGroup);
    const float scale = Widened(scales[at / kGroup]);
    for (; at < end; ++at) {
      *out++ = static_cast<float>((bytes[at / 2] >> (at % 2 * 4) & 15) - 8) * scale;
    }
  }
}

void DecodePacked(const PackedWeights& w, int64_t row, int64_t begin, int64_t count, float* out) {
  float values[kGroup];
  for (int64_t at = begin; at < begin + count;) {
    const int64_t end = std::min(begin + count, (at / kGroup + 1) * kGroup);
    UnpackGroup(w, row, at / kGroup, values);
    out = std::copy(values + at % kGroup, values + at % kGroup + (end - at), out);
    at = end;
  }
}

}  // namespace

void DecodeRowImpl(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  switch (w.format) {
    case WeightFormat::kF32:
      return DecodePlain(w.Row<float>(row) + begin, count, out);
    case WeightFormat::kF16:
      return DecodePlain(w.Row<F16>(row) + begin, count, out);
    case WeightFormat::kBF16:
      return DecodePlain(w.Row<BF16>(row) + begin, count, out);
    case WeightFormat::kFp8Block:
      return DecodeFp8(w, row, begin, count, out);
    case WeightFormat::kInt4F32:
      return DecodeInt4<float>(w, row, begin, count, out);
    case WeightFormat::kInt4F16:
      return DecodeInt4<F16>(w, row, begin, count, out);
    case WeightFormat::kInt4BF16:
      return DecodeInt4<BF16>(w, row, begin, count, out);
    case WeightFormat::kQ4_0:
      return DecodeBlocks<Q4_0>(w, row, begin, count, out);
    case WeightFormat::kQ4_1:
      return DecodeBlocks<Q4_1>(w, row, begin, count, out);
    case WeightFormat::kQ5_0:
      return DecodeBlocks<Q5_0>(w, row, begin, count, out);
    case WeightFormat::kQ5_1:
      return DecodeBlocks<Q5_1>(w, row, begin, count, out);
    case WeightFormat::kQ8_0:
      return DecodeBlocks<Q8_0>(w, row, begin, count, out);
    case WeightFormat::kMXFP4:
      return DecodeBlocks<MXFP4>(w, row, begin, count, out);
    case WeightFormat::kIQ4_NL:
      return DecodeBlocks<IQ4_NL>(w, row, begin, count, out);
    case WeightFormat::kQ2_K:
      return DecodeBlocks<Q2_K>(w, row, begin, count, out);
    case WeightFormat::kQ3_K:
      return DecodeBlocks<Q3_K>(w, row, begin, count, out);
    case WeightFormat::kQ4_K:
      return DecodeBlocks<Q4_K>(w, row, begin, count, out);
    case WeightFormat::kQ5_K:
      return DecodeBlocks<Q5_K>(w, row, begin, count, out);
    case WeightFormat::kQ6_K:
      return DecodeBlocks<Q6_K>(w, row, begin, count, out);
    case WeightFormat::kIQ1_S:
      return DecodeBlocks<IQ1_S>(w, row, begin, count, out);
    case WeightFormat::kIQ1_M:
      return DecodeBlocks<IQ1_M>(w, row, begin, count, out);
    case WeightFormat::kIQ2_XXS:
      return DecodeBlocks<IQ2_XXS>(w, row, begin, count, out);
    case WeightFormat::kIQ2_XS:
      return DecodeBlocks<IQ2_XS>(w, row, begin, count, out);
    case WeightFormat::kIQ2_S:
      return DecodeBlocks<IQ2_S>(w, row, begin, count, out);
    case WeightFormat::kIQ3_XXS:
      return DecodeBlocks<IQ3_XXS>(w, row, begin, count, out);
    case WeightFormat::kIQ3_S:
      return DecodeBlocks<IQ3_S>(w, row, begin, count, out);
    case WeightFormat::kIQ4_XS:
      return DecodeBlocks<IQ4_XS>(w, row, begin, count, out);
    case WeightFormat::kPackedInt4:
    case WeightFormat::kPackedInt8:
    case WeightFormat::kPackedQ4_0:
    case WeightFormat::kPackedQ8_0:
    case WeightFormat::kPackedQ4_K:
    case WeightFormat::kPackedQ6_K:
      return DecodePacked(AsPacked(w), row, begin, count, out);
  }
}

}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace atl::models::kernels {

HWY_EXPORT(DecodeRowImpl);

void DecodeRow(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out) {
  HWY_DYNAMIC_DISPATCH(DecodeRowImpl)(w, row, begin, count, out);
}

void DecodeRows(const Matrix& w, int64_t row, int64_t rows, int64_t begin, int64_t count, float* out, int64_t stride) {
  int64_t r = 0;
  if (IsPacked(w.format) && row % kTileRows == 0 && begin % kGroup == 0 && count % kGroup == 0) {
    const PackedWeights packed = AsPacked(w);
    for (; r + kTileRows <= rows; r += kTileRows) {
      UnpackTile(packed, (row + r) / kTileRows, {begin / kGroup, (begin + count) / kGroup}, out + r * stride, stride);
    }
  }
  for (; r < rows; ++r) DecodeRow(w, row + r, begin, count, out + r * stride);
}

Matrix PackedMatrix(const std::byte* data, WeightFormat format, Range rows, Range columns) {
  const Packing packing = PackingOf(format, rows, columns);
  Matrix matrix;
  matrix.data = data;
  matrix.format = format;
  matrix.rows = rows.size();
  matrix.cols = columns.size();
  matrix.row_bytes = packing.row_bytes;
  matrix.skip_cols = packing.skip_columns;
  if (packing.scale_row_bytes > 0) {
    matrix.scales.data = data + packing.scales_at;
    matrix.scales.row_bytes = packing.scale_row_bytes;
    matrix.scales.skip_rows = packing.skip_scale_rows;
    matrix.scales.skip_cols = packing.skip_scale_columns;
  }
  return matrix;
}

PackedWeights AsPacked(const Matrix& matrix) {
  ATOLL_CHECK(IsPacked(matrix.format) && matrix.skip_cols % kGroup == 0, "{} of a slice that begins inside a group",
              Name(matrix.format));
  auto* data = const_cast<std::byte*>(matrix.data);  // NOLINT: only read from here on
  return {data, PackedTypeOf(matrix.format), matrix.rows, matrix.cols, matrix.skip_cols / kGroup};
}

Matrix Matrix::Rows(int64_t begin, int64_t count) const {
  ATOLL_CHECK(!IsPacked(format) || begin % kTileRows == 0, "row {} is inside a tile", begin);
  Matrix part = *this;
  part.data += begin * row_bytes;
  part.rows = count;
  if (scales.data != nullptr) {
    const int64_t block = InfoOf(format).scale_rows, row = scales.skip_rows + begin;
    part.scales.data += row / block * scales.row_bytes;
    part.scales.skip_rows = row % block;
  }
  return part;
}

}  // namespace atl::models::kernels
#endif
