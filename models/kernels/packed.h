// Products of INT4 or INT8 weights with activations that are quantised on the way in: integer sums, f32 scales.
//
//   PackGroup(weights, row, group, q, scale);                     // once, while loading: 32 values and their scale
//   const QuantizedRows x = QuantizeRows(values, rows, depth, memory, pool);
//   MatMulPacked(x, weights, cuts, y, pool);                      // y[r, o] = sum over k of x[r, k] w[o, k]
//
// Weights: groups of 32 consecutive inputs share a bf16 scale; w = q scale with q in -8..7 (INT4) or -127..127 (INT8).
// Activations: likewise, scale = max |x| / 127 of the group in f32, q = x / scale rounded to nearest even.
//
// Law 1: within a group the sum is an exact integer; groups are added in ascending order by one fused multiply-add
// each, acc = fma(float(sum), weight scale * activation scale, acc); blocks between `cuts` are added as the fixed
// binary tree. So every instruction set gives the same bits for any number of rows and threads; packed_portable.cc says
// it in plain loops.
//
// Memory: tiles of 16 outputs, in the order in which a product reads them. A tile holds its groups one after another:
//   INT4: 4 x 64 bytes; byte 4 o + i of the j-th has w[o, 4 j + i] + 8 below and w[o, 16 + 4 j + i] + 8 above, then the
//         16 scales: 288 bytes, 4.5 bits a weight
//   INT8: 8 x 64 bytes; byte 4 o + i of the j-th has w[o, 4 j + i] + 128, then the 16 scales: 544 bytes, 8.5 bits
// Outputs beyond the last are padding with scale 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "parallel/base/dtype.h"
#include "parallel/base/thread_pool.h"

namespace atl::models::kernels {

inline constexpr int64_t kGroup = 32;      // inputs that share a scale
inline constexpr int64_t kTileRows = 16;   // outputs of a tile
inline constexpr int64_t kPanelTiles = 4;  // tiles that many rows are best multiplied with at once

enum class PackedType : uint8_t { kInt4, kInt8 };

constexpr int64_t PackedGroupBytes(PackedType type) { return type == PackedType::kInt4 ? 288 : 544; }
constexpr int64_t PackedTiles(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }
constexpr int64_t PackedGroups(int64_t cols) { return (cols + kGroup - 1) / kGroup; }
constexpr int64_t PackedBytes(PackedType type, int64_t rows, int64_t cols) {
  return PackedTiles(rows) * PackedGroups(cols) * PackedGroupBytes(type);
}

struct PackedWeights {
  std::byte* data = nullptr;  // PackedBytes, zero before packing
  PackedType type = PackedType::kInt4;
  int64_t rows = 0;  // outputs
  int64_t cols = 0;  // inputs
};

// Writes q[0, 32) of inputs [32 group, 32 group + 32) of output `row`; beyond the last input q must be 0.
void PackGroup(const PackedWeights& weights, int64_t row, int64_t group, const int8_t* q, BF16 scale);
// What was packed, for tests and for rows of an embedding: out[i] = q[i] scale.
void UnpackGroup(const PackedWeights& weights, int64_t row, int64_t group, float* out);
// Rounds 32 values to the type: scale = max |x| / 7.5 (INT4, q in -8..7) or / 127 (INT8), as bf16. NaN in, NaN scale
// out.
BF16 QuantizeGroup(PackedType type, const float* values, int8_t* q);

struct QuantizedRows {
  int64_t rows = 0, depth = 0;     // depth: as given; memory holds whole groups
  const int8_t* values = nullptr;  // [rows, groups x 32], zeros beyond depth
  const float* scales = nullptr;   // [rows, groups]
  const int32_t* sums = nullptr;   // [rows, groups] of values

  QuantizedRows Rows(int64_t begin, int64_t count) const {
    const int64_t at = begin * PackedGroups(depth);
    return {count, depth, values + at * kGroup, scales + at, sums + at};
  }
};
// The same while it is being made.
struct MutableQuantizedRows {
  int64_t rows = 0, depth = 0;
  int8_t* values = nullptr;
  float* scales = nullptr;
  int32_t* sums = nullptr;
  MutableQuantizedRows Rows(int64_t begin, int64_t count) const {
    const int64_t at = begin * PackedGroups(depth);
    return {count, depth, values + at * kGroup, scales + at, sums + at};
  }
  // NOLINTNEXTLINE(google-explicit-constructor): what is complete is read only
  operator QuantizedRows() const { return {rows, depth, values, scales, sums}; }
};
constexpr int64_t QuantizedRowsBytes(int64_t rows, int64_t depth) { return rows * PackedGroups(depth) * (kGroup + 8); }
// x [rows, depth]; memory: QuantizedRowsBytes, aligned to 4.
QuantizedRows QuantizeRows(std::span<const float> x, int64_t rows, int64_t depth, std::span<std::byte> memory,
                           ThreadPool* pool);

// The parts of it, for products that make their rows piece by piece: the memory laid out; a row; one group of a row.
MutableQuantizedRows PlaceRows(int64_t rows, int64_t depth, std::span<std::byte> memory);
void QuantizeRow(const float* x, const MutableQuantizedRows& to, int64_t row);
void QuantizeGroupOfRow(const float* x, const MutableQuantizedRows& to, int64_t row, int64_t group);  // x [32]

// y [x.rows, w.rows]; cuts as for MatMul, all of them but the last multiples of 32.
void MatMulPacked(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, std::span<float> y,
                  ThreadPool* pool);
// Tiles [begin, end) of its outputs, on this thread: output 16 begin + o of row r goes to y[r stride + o], those beyond
// the last output too.
void MatMulPackedTiles(const QuantizedRows& x, const PackedWeights& w, std::span<const int64_t> cuts, int64_t begin,
                       int64_t end, float* y, int64_t stride);

// The instruction set in use: "avx512-vnni", "avx2" or "portable". Tests choose another that the machine has too.
const char* PackedTarget();
bool SetPackedTarget(const char* name);  // false: this machine lacks it

}  // namespace atl::models::kernels
