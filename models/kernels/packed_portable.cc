// Any machine: the tile's definition in plain loops, 16 outputs side by side.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/kernels/packed_tile.h"

namespace atl::models::kernels {
namespace {

struct Sums {
  float lane[kTileRows];
};

int Weight(PackedType type, const std::byte* group, int64_t lane, int64_t i) {
  if (type == PackedType::kInt8) return static_cast<int>(group[i / 4 * 64 + lane * 4 + i % 4]) - 128;
  const int byte = static_cast<int>(group[i % 16 / 4 * 64 + lane * 4 + i % 4]);
  return (i < 16 ? byte & 15 : byte >> 4) - 8;
}

void AddGroup(PackedType type, const std::byte* group, const int8_t* x, float x_scale, Sums* acc) {
  for (int64_t lane = 0; lane < kTileRows; ++lane) {
    int32_t sum = 0;
    for (int64_t i = 0; i < kGroup; ++i) sum += Weight(type, group, lane, i) * x[i];
    BF16 scale;
    std::memcpy(&scale, group + PackedGroupBytes(type) - 2 * kTileRows + 2 * lane, 2);
    acc->lane[lane] = std::fma(static_cast<float>(sum), ToFloat(scale) * x_scale, acc->lane[lane]);
  }
}

}  // namespace

void PackedTilePortable(PackedType type, const PackedTileCall& call) {
  const int64_t groups = PackedGroups(call.x->depth);
  const auto add = [](Sums* a, const Sums& b) {
    for (int64_t lane = 0; lane < kTileRows; ++lane) a->lane[lane] += b.lane[lane];
  };
  for (int64_t row = 0; row < call.x->rows; ++row) {
    Sums waiting[3], acc;
    for (int block = 0; block < call.blocks; ++block) {
      acc = {};
      for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; ++g) {
        const int64_t i = row * groups + g;
        AddGroup(type, call.tile + g * PackedGroupBytes(type), call.x->values + i * kGroup, call.x->scales[i], &acc);
      }
      AddToTree(block, call.blocks, &acc, waiting, add);
    }
    std::memcpy(call.y + row * call.y_stride, acc.lane, sizeof(acc.lane));
  }
}

void QuantizePortable(const float* x, int8_t* values, float* scale, int32_t* sum) {
  float largest = 0, poison = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    poison += x[i] * 0.0f;  // NaN if a value is infinite or none
  }
  largest += poison;
  const bool none = !(largest > kLeastMagnitude);  // NaN too: the scale carries it
  const float inverse = none ? 0.0f : 127.0f / largest;
  *sum = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    // Adding and taking away 1.5 x 2^23 rounds to nearest even, and needs no instruction that only some machines have.
    const float rounded = (x[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
    const auto q = none ? 0 : static_cast<int32_t>(rounded);
    values[i] = static_cast<int8_t>(q);
    *sum += q;
  }
  *scale = largest / 127.0f;
}

}  // namespace atl::models::kernels
