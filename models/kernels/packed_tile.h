// One tile against some rows: what each instruction set implements (packed_*.cc) and packed.cc chooses from.
#pragma once

#include <bit>

#include "models/kernels/packed.h"

namespace atl::models::kernels {

struct PackedTileCall {
  const std::byte* tile = nullptr;  // its groups one after another
  int64_t tile_bytes = 0;
  int64_t skip = 0;  // groups of the tile before the first of x
  const QuantizedRows* x = nullptr;
  const int64_t* cuts = nullptr;  // [blocks + 1] in groups
  int blocks = 1;                 // 1, 2, 4 or 8
  float* y = nullptr;             // row r's 16 sums go to y + r y_stride
  int64_t y_stride = 0;
};

using PackedTileFunction = void (*)(PackedType type, const PackedTileCall& call);

// Null where the program was not built for such a processor, or the machine is not one.
PackedTileFunction PackedTileAvx512Vnni();
bool HasAvx512Vnni();
PackedTileFunction PackedTileAvx2();
bool HasAvx2();  // with FMA and F16C

// Tiles [0, tiles) of the call, at most kPanelTiles, one after another in memory as in y: the same sums, faster for
// many rows.
using PackedPanelFunction = void (*)(PackedType type, const PackedTileCall& call, int tiles);
PackedPanelFunction PackedPanelAvx2();  // Q6_K
PackedPanelFunction PackedPanelAmx();   // all but Q6_K

// Rounds 32 activations (packed.h). A group whose values are all next to nothing becomes zeros.
using QuantizeFunction = void (*)(const float* x, int8_t* values, float* scale, int32_t* offset);
inline constexpr float kLeastMagnitude = 0x1p-100f;
void QuantizeAvx2(const float* x, int8_t* values, float* scale, int32_t* offset);
void QuantizePortable(const float* x, int8_t* values, float* scale, int32_t* offset);

// PackRow (packed.h) of whole groups: values [groups, 32] into lane `lane` of the groups from `to` on.
using PackGroupsFunction = void (*)(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane);
void PackGroupsAvx2(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane);
void PackGroupsPortable(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane);

// A tile's values (UnpackTile of packed.h): groups counted from the tile's first.
using UnpackTileFunction = void (*)(PackedType type, const std::byte* tile, Range groups, float* out, int64_t stride);
void UnpackTileAvx2(PackedType type, const std::byte* tile, Range groups, float* out, int64_t stride);

// y[r, k] += sum over o of x[r, o] w[o, k], o ascending, for a tile's 16 outputs o and its groups' columns k.
inline constexpr int64_t kTransposedRows = 4;  // at most
struct TransposedTileCall {
  const std::byte* tile = nullptr;
  Range groups;              // of the tile
  const float* x = nullptr;  // row r's 16 factors at x + r x_stride
  int64_t x_stride = 0, rows = 1;
  float* y = nullptr;  // row r's columns, from those of groups.begin on, at y + r y_stride
  int64_t y_stride = 0;
};
using TransposedTileFunction = void (*)(PackedType type, const TransposedTileCall& call);
TransposedTileFunction TransposedTileAvx512();

void PackedTilePortable(PackedType type, const PackedTileCall& call);

// body.operator()<type>(). Inlined, so that what it calls is compiled for the body's instruction set.
template <typename Body>
[[gnu::always_inline]] inline void WithType(PackedType type, const Body& body) {
  switch (type) {
    case PackedType::kInt4:
      return body.template operator()<PackedType::kInt4>();
    case PackedType::kInt8:
      return body.template operator()<PackedType::kInt8>();
    case PackedType::kQ4_0:
      return body.template operator()<PackedType::kQ4_0>();
    case PackedType::kQ8_0:
      return body.template operator()<PackedType::kQ8_0>();
    case PackedType::kQ4_K:
      return body.template operator()<PackedType::kQ4_K>();
    case PackedType::kQ6_K:
      return body.template operator()<PackedType::kQ6_K>();
  }
}

// The fixed binary tree over blocks that come one after another: call with the sum of block 0, 1, ...; after the last
// `*value` is the sum of all. Level l's partial sum waits in waiting[l] for its right neighbour. 1, 2, 4 or 8 blocks.
// add(V* left, const V& right). By address: the function is not compiled for the vectors it moves.
template <typename V, typename Add>
[[gnu::always_inline]] inline void AddToTree(int block, int blocks, V* value, V* waiting, const Add& add) {
  const int levels = std::countr_one(static_cast<unsigned>(block));  // those whose right half is complete
  for (int level = 0; level < levels; ++level) {
    add(&waiting[level], *value);
    *value = waiting[level];
  }
  if (block + 1 < blocks) waiting[levels] = *value;
}

}  // namespace atl::models::kernels
