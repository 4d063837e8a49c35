#include "models/kernels/packed_layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/kernels/packed_blocks.h"
#include "models/kernels/packed_tile.h"

namespace atl::models::kernels {
namespace {

void PackWeights(PackedType type, int64_t lane, const int8_t* q, std::byte* group) {
  const auto zero = static_cast<uint8_t>(ZeroOf(type));
  uint8_t stored[kGroup];  // quads of this output, each to its place in a line of 64 bytes
  int lines = 8;
  for (int64_t i = 0; i < kGroup; ++i) stored[i] = static_cast<uint8_t>(q[i] + zero);
  if (IsNibbles(type)) {
    lines = 4;
    for (int64_t i = 0; i < kGroup / 2; ++i) {
      stored[i] = static_cast<uint8_t>((stored[i] & 15) | (stored[i + kGroup / 2] & 15) << 4);
    }
  }
  for (int j = 0; j < lines; ++j) std::memcpy(group + j * 64 + lane * 4, stored + 4 * j, 4);
  if (type != PackedType::kQ6_K) return;
  for (int64_t i = 0; i < kGroup; ++i) {
    const Place place = HighPlaceOf(lane, i);
    group[place.byte] |= static_cast<std::byte>((q[i] + zero) >> 4 << place.shift);
  }
}

void PackLane(PackedType type, int64_t lane, const int8_t* q, BF16 scale, std::byte* group) {
  PackWeights(type, lane, q, group);
  std::memcpy(group + LayoutOf(type).group_bytes - 2 * kTileRows + 2 * lane, &scale, 2);
}

float LargestMagnitude(const float* values) {
  constexpr int64_t kSide = 8;  // side by side, which a compiler makes vectors of
  float largest[kSide] = {}, poison[kSide] = {};
  for (int64_t i = 0; i < kGroup; i += kSide) {
    for (int64_t l = 0; l < kSide; ++l) {
      const float magnitude = std::fabs(values[i + l]);
      largest[l] = largest[l] < magnitude ? magnitude : largest[l];
      poison[l] += values[i + l] * 0.0f;  // NaN if a value is infinite or none
    }
  }
  for (int64_t l = 1; l < kSide; ++l) {
    largest[0] = std::max(largest[0], largest[l]);
    poison[0] += poison[l];
  }
  return largest[0] + poison[0];
}

}  // namespace

void PackGroup(const PackedWeights& w, int64_t row, int64_t group, const int8_t* q, BF16 scale) {
  PackLane(w.type, row % kTileRows, q, scale, GroupOf(w.type, TileOf(w, row), w.skip + group));
}

void PackGroupsPortable(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane) {
  int8_t q[kGroup];
  for (; groups > 0; --groups, values += kGroup, to += LayoutOf(type).group_bytes) {
    const BF16 scale = QuantizeGroup(type, values, q);
    PackLane(type, lane, q, scale, to);
  }
}

void PackBlock(const PackedWeights& w, int64_t row, int64_t first, const PackedBlock& block) {
  const PackedLayout layout = LayoutOf(w.type);
  const int64_t lane = row % kTileRows;
  std::byte* tile = TileOf(w, row);
  for (int64_t g = 0; g < layout.block_groups; ++g) {
    if (first + g < 0 || first + g >= PackedGroups(w.cols)) continue;
    std::byte* group = GroupOf(w.type, tile, w.skip + first + g);
    std::byte* header = HeaderOf(w.type, tile, w.skip + first + g);
    std::byte* scales = group + layout.group_bytes - 2 * kTileRows;
    PackWeights(w.type, lane, block.q + g * kGroup, group);
    switch (w.type) {
      case PackedType::kQ4_K:
        scales[lane] = static_cast<std::byte>(block.scales[g]);
        scales[kTileRows + lane] = static_cast<std::byte>(block.least[g]);
        std::memcpy(header + 2 * kTileRows + 2 * lane, &block.dmin, 2);
        std::memcpy(header + 2 * lane, &block.d, 2);
        break;
      case PackedType::kQ6_K:
        scales[lane] = static_cast<std::byte>(block.scales[2 * g]);
        scales[kTileRows + lane] = static_cast<std::byte>(block.scales[2 * g + 1]);
        std::memcpy(header + 2 * lane, &block.d, 2);
        break;
      default:
        std::memcpy(scales + 2 * lane, &block.d, 2);
    }
  }
}

void UnpackGroup(const PackedWeights& w, int64_t row, int64_t group, float* out) {
  const std::byte* tile = TileOf(w, row);
  const std::byte* from = GroupOf(w.type, tile, w.skip + group);
  const int64_t lane = row % kTileRows;
  const GroupScales of = ScalesOf(w.type, HeaderOf(w.type, tile, w.skip + group), from, lane);
  for (int64_t i = 0; i < kGroup; ++i) {
    const auto q = static_cast<float>(WeightOf(w.type, from, lane, i));
    switch (w.type) {
      case PackedType::kQ4_K:
        out[i] = of.scale * q - of.least;
        break;
      case PackedType::kQ6_K:
        out[i] = of.scale * static_cast<float>(i < 16 ? of.halves[0] : of.halves[1]) * q;
        break;
      default:
        out[i] = of.scale * q;
    }
  }
}

BF16 QuantizeGroup(PackedType type, const float* values, int8_t* q) {
  const bool int4 = type == PackedType::kInt4;
  const BF16 scale = ToBF16(LargestMagnitude(values) / (int4 ? 7.5f : 127.0f));
  const float divisor = ToFloat(scale), least = int4 ? -8.0f : -127.0f, most = int4 ? 7.0f : 127.0f;
  if (!(divisor > 0)) {
    std::fill_n(q, kGroup, static_cast<int8_t>(0));
    return scale;
  }
  for (int64_t i = 0; i < kGroup; ++i) {
    // To nearest even, as the activations (packed_portable.cc). Before the cut: values are at most about `most` steps.
    const float rounded = (values[i] / divisor + 0x1.8p23f) - 0x1.8p23f;
    q[i] = static_cast<int8_t>(std::min(std::max(rounded, least), most));
  }
  return scale;
}

}  // namespace atl::models::kernels
