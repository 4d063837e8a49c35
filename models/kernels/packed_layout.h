// Where things lie in a tile of packed weights (packed.h), for what writes and reads single values.
#pragma once

#include <cstring>

#include "models/kernels/packed.h"

namespace atl::models::kernels {

constexpr bool IsNibbles(PackedType type) { return type != PackedType::kInt8 && type != PackedType::kQ8_0; }
// Added to q in the stored bytes.
constexpr int ZeroOf(PackedType type) {
  switch (type) {
    case PackedType::kInt4:
    case PackedType::kQ4_0:
      return 8;
    case PackedType::kInt8:
    case PackedType::kQ8_0:
      return 128;
    case PackedType::kQ4_K:
      return 0;
    case PackedType::kQ6_K:
      return 32;
  }
  return 0;
}

// The tile that holds output `row`.
inline std::byte* TileOf(const PackedWeights& w, int64_t row) {
  return w.data + row / kTileRows * PackedTileBytes(w.type, w.cols, w.skip);
}

// The header of the block of group `group` of a tile, counted from the first block's first group.
template <typename Byte>
Byte* HeaderOf(PackedType type, Byte* tile, int64_t group) {
  const PackedLayout layout = LayoutOf(type);
  return tile + group / layout.block_groups * layout.block_bytes();
}
// The group itself.
template <typename Byte>
Byte* GroupOf(PackedType type, Byte* tile, int64_t group) {
  const PackedLayout layout = LayoutOf(type);
  return HeaderOf(type, tile, group) + layout.header_bytes + group % layout.block_groups * layout.group_bytes;
}

// Byte of a group that has input i of output `lane`, and how far it is shifted.
struct Place {
  int64_t byte;
  int shift;
};
constexpr Place PlaceOf(PackedType type, int64_t lane, int64_t i) {
  if (!IsNibbles(type)) return {i / 4 * 64 + lane * 4 + i % 4, 0};
  return {i % 16 / 4 * 64 + lane * 4 + i % 4, i < 16 ? 0 : 4};
}
// Likewise the two high bits of Q6_K.
constexpr Place HighPlaceOf(int64_t lane, int64_t i) {
  return {256 + i % 16 / 8 * 64 + lane * 4 + i % 4, static_cast<int>(i % 8 / 4 * 2 + i / 16 * 4)};
}

constexpr int WeightOf(PackedType type, const std::byte* group, int64_t lane, int64_t i) {
  const Place place = PlaceOf(type, lane, i);
  int stored = static_cast<int>(group[place.byte]) >> place.shift;
  if (IsNibbles(type)) stored &= 15;
  if (type == PackedType::kQ6_K) {
    const Place high = HighPlaceOf(lane, i);
    stored |= (static_cast<int>(group[high.byte]) >> high.shift & 3) << 4;
  }
  return stored - ZeroOf(type);
}

// The scales of one output's group.
struct GroupScales {
  float scale = 0;         // s; Q4_K: d s; Q6_K: d
  float least = 0;         // Q4_K: dmin m
  int halves[2] = {1, 1};  // Q6_K: s of each 16 inputs
};

inline GroupScales ScalesOf(PackedType type, const std::byte* header, const std::byte* group, int64_t lane) {
  const auto half = [](const std::byte* at) {
    F16 value;
    std::memcpy(&value, at, 2);
    return ToFloat(value);
  };
  const std::byte* scales = group + LayoutOf(type).group_bytes - 2 * kTileRows;
  const auto small = [&](int64_t at) { return static_cast<int>(static_cast<int8_t>(scales[at])); };
  GroupScales of;
  switch (type) {
    case PackedType::kInt4:
    case PackedType::kInt8: {
      BF16 value;
      std::memcpy(&value, scales + 2 * lane, 2);
      of.scale = ToFloat(value);
      break;
    }
    case PackedType::kQ4_0:
    case PackedType::kQ8_0:
      of.scale = half(scales + 2 * lane);
      break;
    case PackedType::kQ4_K:
      of.scale = half(header + 2 * lane) * static_cast<float>(small(lane));
      of.least = half(header + 2 * kTileRows + 2 * lane) * static_cast<float>(small(kTileRows + lane));
      break;
    case PackedType::kQ6_K:
      of.scale = half(header + 2 * lane);
      of.halves[0] = small(lane);
      of.halves[1] = small(kTileRows + lane);
      break;
  }
  return of;
}

}  // namespace atl::models::kernels
