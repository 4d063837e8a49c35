// How the elements of a weight matrix are stored, in files and in memory alike: nothing is converted on the way, unless
// a job asks for it (models/spec/kept_formats.h).
//
//   const Packing p = PackingOf(WeightFormat::kBF16, slice.rows, slice.columns);   // p.bytes: what a rank keeps of it
//
// Formats store `group` neighbouring columns of a row together; some keep their scales beside the matrix. A slice that
// begins or ends inside a group keeps the whole group: nothing is stored anew, so a weight's value never depends on
// the cut. The planner adds up these bytes, the loader fills them and the kernels read them (law 7).
#pragma once

#include <cstdint>
#include <optional>

#include "parallel/base/dtype.h"
#include "parallel/base/partition.h"

namespace atl::models {

enum class WeightFormat : uint8_t {
  kF32,
  kF16,
  kBF16,
  // float8 e4m3 with one f32 scale for each 128 x 128 elements, edge blocks partial (DeepSeek-V3, Qwen3).
  kFp8Block,
  // 4 bits, value (nibble - 8) scale, one scale for each 32 columns of a row, in three types (compressed-tensors).
  kInt4F32,
  kInt4F16,
  kInt4BF16,
  // The block types of GGUF: each block carries its own scales.
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kMXFP4,
  kIQ4_NL,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kIQ1_S,
  kIQ1_M,
  kIQ2_XXS,
  kIQ2_XS,
  kIQ2_S,
  kIQ3_XXS,
  kIQ3_S,
  kIQ4_XS,
  // Ours, in memory only: products of integers (models/kernels/packed.h). Groups of 32 columns with a bf16 scale, or
  // GGUF's blocks of the name; 16 rows interleaved in a tile.
  kPackedInt4,
  kPackedInt8,
  kPackedQ4_0,
  kPackedQ8_0,
  kPackedQ4_K,
  kPackedQ6_K,
};
inline constexpr int kWeightFormats = static_cast<int>(WeightFormat::kPackedQ6_K) + 1;
constexpr bool IsPacked(WeightFormat format) { return format >= WeightFormat::kPackedInt4; }
inline constexpr int64_t kPackedGroup =
    32;  // columns whose products are one integer sum; a slice begins with a whole one

// GGUF's blocks that a packed format keeps the values of, and back; nullopt: none.
std::optional<WeightFormat> BlocksOf(WeightFormat packed);
std::optional<WeightFormat> PackedFrom(WeightFormat blocks);

struct WeightFormatInfo {
  const char* name;
  int64_t group;        // columns stored together
  int64_t group_bytes;  // of one group of one row
  // Scales beside the matrix, one for each block of scale_rows x scale_columns elements; 0: none.
  int64_t scale_rows = 0, scale_columns = 0, scale_bytes = 0;
  int64_t tile_rows = 1;  // rows stored together: a slice keeps whole tiles from its first row on, the last one padded
};
WeightFormatInfo InfoOf(WeightFormat format);
inline const char* Name(WeightFormat format) { return InfoOf(format).name; }

// The format of plain elements of `type` (f32, f16, bf16).
constexpr bool IsPlain(DType type) { return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16; }
constexpr WeightFormat PlainFormat(DType type) {
  return type == DType::kF32 ? WeightFormat::kF32 : type == DType::kF16 ? WeightFormat::kF16 : WeightFormat::kBF16;
}

inline constexpr int64_t kArenaAlignment = 64;  // bytes; every tensor of an arena starts at a multiple
constexpr int64_t ArenaAligned(int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

// A slice of a matrix in memory: rows (or tiles of them) one after another, each of whole groups; then, aligned, the
// scales it touches.
struct Packing {
  int64_t first_group = 0, groups = 0;  // of each row
  int64_t skip_columns = 0;             // columns of the first group before the slice
  int64_t row_bytes = 0;
  int64_t matrix_bytes = 0;
  Range scale_rows, scale_columns;                      // of the whole tensor's grid of scales
  int64_t skip_scale_rows = 0, skip_scale_columns = 0;  // elements of the first block of scales before the slice
  int64_t scale_row_bytes = 0;
  int64_t scales_at = 0;  // offset of the scales
  int64_t bytes = 0;
};
Packing PackingOf(WeightFormat format, Range rows, Range columns);

}  // namespace atl::models
