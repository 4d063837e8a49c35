// Products of weights of few bits with activations that are quantised on the way in: integer sums, f32 scales.
//
//   PackRow(weights, row, values);                                // once, while loading
//   const QuantizedRows x = QuantizeRows(values, rows, depth, memory, pool);
//   MatMulPacked(x, weights, cuts, y, pool);                      // y[r, o] = sum over k of x[r, k] w[o, k]
//
// Weights, in groups of 32 consecutive inputs:
//   INT4, INT8   w = q s: a bf16 scale s a group, q in -8..7 or -127..127
//   Q4_0, Q8_0   the same with an f16 scale (GGUF's blocks of that name)
//   Q4_K         w = (d s) q - (dmin m): q in 0..15, s and m of 6 bits a group, d and dmin in f16 for eight groups
//   Q6_K         w = (d s) q: q in -32..31, s of 8 bits for each 16 inputs, d in f16 for eight groups
// Activations: scale a = max |x| / 127 of the group in f32, q = x / a rounded to nearest even.
//
// Law 1: within a group the sum of products is an exact integer (of Q6_K, times its scales); groups are added in
// ascending order, acc = fma(float(sum), s a, acc), of Q6_K with d for s; Q4_K's acc = fma(fma(-(dmin m), float(sum of
// q_x), float(sum) (d s)), a, acc). Blocks between `cuts` are added as the fixed binary tree. So every instruction set
// gives the same bits for any number of rows and threads; packed_portable.cc says it in plain loops.
//
// Memory: tiles of 16 outputs, in the order in which a product reads them. A tile holds its groups one after another,
// before each eight of Q4_K and Q6_K a header: the 16 d, (Q4_K) the 16 dmin.
//   4 bits: 4 x 64 bytes; byte 4 o + i of the j-th has w[o, 4 j + i] + 8 below and w[o, 16 + 4 j + i] + 8 above (Q4_K:
//   q
//           as it is); then the 16 scales: 288 bytes, 4.5 bits a weight; Q4_K's scales are 16 s and 16 m
//   8 bits: 8 x 64 bytes; byte 4 o + i of the j-th has w[o, 4 j + i] + 128, then the 16 scales: 544 bytes, 8.5 bits
//   Q6_K:   q + 32: its low 4 bits as above; then 2 x 64 bytes whose byte 4 o + i of the l-th has the high 2 bits of
//           inputs 8 l + i, 8 l + 4 + i, and of those 16 later, from below; then 16 s, and the other 16 s: 416 bytes
// Outputs beyond the last are padding with scale 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "parallel/base/dtype.h"
#include "parallel/base/partition.h"
#include "parallel/base/thread_pool.h"

namespace atl::models::kernels {

inline constexpr int64_t kGroup = 32;      // inputs that share a scale
inline constexpr int64_t kTileRows = 16;   // outputs of a tile
inline constexpr int64_t kPanelTiles = 4;  // tiles that many rows are best multiplied with at once

enum class PackedType : uint8_t { kInt4, kInt8, kQ4_0, kQ8_0, kQ4_K, kQ6_K };
inline constexpr PackedType kPackedTypes[] = {PackedType::kInt4, PackedType::kInt8, PackedType::kQ4_0,
                                              PackedType::kQ8_0, PackedType::kQ4_K, PackedType::kQ6_K};

struct PackedLayout {
  int64_t block_groups;  // that share a header
  int64_t header_bytes;
  int64_t group_bytes;
  constexpr int64_t block_bytes() const { return header_bytes + block_groups * group_bytes; }
};
constexpr PackedLayout LayoutOf(PackedType type) {
  switch (type) {
    case PackedType::kInt4:
    case PackedType::kQ4_0:
      return {1, 0, 288};
    case PackedType::kInt8:
    case PackedType::kQ8_0:
      return {1, 0, 544};
    case PackedType::kQ4_K:
      return {8, 64, 288};
    case PackedType::kQ6_K:
      return {8, 32, 416};
  }
  return {};
}
constexpr int64_t PackedTiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
constexpr int64_t PackedGroups(int64_t cols) { return (cols + kGroup - 1) / kGroup; }
// Of one tile whose first group has `skip` groups of its block before it.
constexpr int64_t PackedTileBytes(PackedType type, int64_t cols, int64_t skip = 0) {
  const PackedLayout layout = LayoutOf(type);
  return (skip + PackedGroups(cols) + layout.block_groups - 1) / layout.block_groups * layout.block_bytes();
}
constexpr int64_t PackedBytes(PackedType type, int64_t rows, int64_t cols) {
  return PackedTiles(rows) * PackedTileBytes(type, cols);
}

struct PackedWeights {
  std::byte* data = nullptr;  // PackedBytes, zero before packing
  PackedType type = PackedType::kInt4;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
  int64_t skip = 0;  // groups of the first block before input 0: a slice begins at any group
};

// INT4 and INT8, all inputs of output `row`, values [cols]: each group is rounded (QuantizeGroup) and put where it
// belongs (PackGroup).
void PackRow(const PackedWeights& weights, int64_t row, const float* values);
// The same group by group, for weights that are stored in groups and as its reference. Rounds 32 values: scale = max
// |x| / 7.5 (INT4, q in -8..7) or / 127 (INT8), as bf16. NaN in, NaN scale out.
BF16 QuantizeGroup(PackedType type, const float* values, int8_t* q);
// q[0, 32) of inputs [32 group, 32 group + 32); beyond the last input q must be 0.
void PackGroup(const PackedWeights& weights, int64_t row, int64_t group, const int8_t* q, BF16 scale);
// What was packed, of any type, for tests and for rows of an embedding: out[i] = w.
void UnpackGroup(const PackedWeights& weights, int64_t row, int64_t group, float* out);
// The same of a tile's 16 outputs and some groups: that of output o goes to out + o stride.
void UnpackTile(const PackedWeights& weights, int64_t tile, Range groups, float* out, int64_t stride);

struct QuantizedRows {
  int64_t rows = 0, depth = 0;     // depth: as given; memory holds whole groups
  const int8_t* values = nullptr;  // [rows, groups x 32], zeros beyond depth
  const float* scales = nullptr;   // [rows, groups]
  const int32_t* offsets =
      nullptr;  // [rows, groups] -8 x the sum of the values: what weights of 4 bits, stored plus 8, need

  QuantizedRows Rows(int64_t begin, int64_t count) const {
    const int64_t at = begin * PackedGroups(depth);
    return {count, depth, values + at * kGroup, scales + at, offsets + at};
  }
};
// The same while it is being made.
struct MutableQuantizedRows {
  int64_t rows = 0, depth = 0;
  int8_t* values = nullptr;
  float* scales = nullptr;
  int32_t* offsets = nullptr;
  MutableQuantizedRows Rows(int64_t begin, int64_t count) const {
    const int64_t at = begin * PackedGroups(depth);
    return {count, depth, values + at * kGroup, scales + at, offsets + at};
  }
  // NOLINTNEXTLINE(google-explicit-constructor): what is complete is read only
  operator QuantizedRows() const { return {rows, depth, values, scales, offsets}; }
};
constexpr int64_t QuantizedRowsBytes(int64_t rows, int64_t depth) { return rows * PackedGroups(depth) * (kGroup + 8); }
// x [rows, depth]; memory: QuantizedRowsBytes, aligned to 4.
QuantizedRows QuantizeRows(std::span<const float> x, int64_t rows, int64_t depth, std::span<std::byte> memory,
                           ThreadPool* pool);

// The parts of it, for products that make their rows piece by piece: the memory laid out; a row; a row that is
// quantised already; one group of a row.
MutableQuantizedRows PlaceRows(int64_t rows, int64_t depth, std::span<std::byte> memory);
void QuantizeRow(const float* x, const MutableQuantizedRows& to, int64_t row);
void CopyRow(const QuantizedRows& from, int64_t row, const MutableQuantizedRows& to, int64_t to_row);
void QuantizeGroupOfRow(const float* x, const MutableQuantizedRows& to, int64_t row, int64_t group);  // x [32]

// y [x.rows, w.rows]; cuts as for MatMul, all of them but the last multiples of 32.
void MatMulPacked(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, std::span<float> y,
                  ThreadPool* pool);
// Tiles [begin, end) of its outputs, on this thread: output 16 begin + o of row r goes to y[r stride + o], those beyond
// the last output too.
void MatMulPackedTiles(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, int64_t begin,
                       int64_t end, float* y, int64_t stride);
// y[r, c] = sum over o of x[r, o] w[o, c] for columns c, o ascending, with the bits of the decoded weights. False where
// this machine has nothing better than to decode them: many rows, outputs or columns that are no whole tiles and
// groups.
bool MatMulTransposedPacked(const float* x, int64_t x_stride, int64_t rows, const PackedWeights& w, Range columns,
                            float* y, int64_t y_stride);

// The instruction set in use: "amx", "avx512-vnni", "avx2" or "portable". Tests choose another that the machine has
// too.
const char* PackedTarget();
bool SetPackedTarget(const char* name);  // false: this machine lacks it

}  // namespace atl::models::kernels
