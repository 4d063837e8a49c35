// GGUF's blocks Q4_0, Q8_0, Q4_K and Q6_K, made ready for products of integers (packed.h): taken apart without a change
// of any value, or rounded to from f32.
//
//   PackBlock(weights, row, group, ReadBlock(type, bytes));             // a block as the file has it
//   PackBlock(weights, row, group, QuantizeBlock(type, values, count)); // of 32 or 256 values
//
// Q4_K's layout in files: [d | dmin | 12 bytes of eight 6-bit s and m | 128 x 2 weights]; Q6_K's: [128 x 2 low 4 bits |
// 64 x 4 high 2 bits | 16 s | d]; blocks-inl.h decodes the same to f32.
#pragma once

#include <cstdint>

#include "models/kernels/packed.h"

namespace atl::models::kernels {

inline constexpr int64_t kMostOfABlock = 256;

struct PackedBlock {
  int8_t q[kMostOfABlock] = {};
  uint16_t d = 0, dmin = 0;  // f16
  int8_t scales[16] = {};    // Q4_K: of 8 groups; Q6_K: of 16 halves of groups
  int8_t least[8] = {};      // m
};

PackedBlock ReadBlock(PackedType type, const std::byte* bytes);
// `count` values, the rest of the block zeros.
PackedBlock QuantizeBlock(PackedType type, const float* values, int64_t count);

// The groups of a block, [first, first + groups of the type), where they lie inside [0, groups of the row): `first` may
// be negative, in a slice that begins inside a block.
void PackBlock(const PackedWeights& weights, int64_t row, int64_t first, const PackedBlock& block);

}  // namespace atl::models::kernels
