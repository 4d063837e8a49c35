// Any machine: the tile's definition in plain loops, 16 outputs side by side.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

namespace atl::models::kernels {
namespace {

struct Sums {
  float lane[kTileRows];
};

void AddGroup(PackedType type, const PackedTileCall& call, int64_t g, const int8_t* x, float x_scale, Sums* acc) {
  const std::byte* group = GroupOf(type, call.tile, call.skip + g);
  for (int64_t lane = 0; lane < kTileRows; ++lane) {
    const GroupScales of = ScalesOf(type, HeaderOf(type, call.tile, call.skip + g), group, lane);
    int32_t sum = 0, x_sum = 0;
    for (int64_t i = 0; i < kGroup; ++i) {
      sum += WeightOf(type, group, lane, i) * x[i] * of.halves[i / 16];
      x_sum += x[i];
    }
    if (type == PackedType::kQ4_K) {
      const float part = std::fma(-of.least, static_cast<float>(x_sum), static_cast<float>(sum) * of.scale);
      acc->lane[lane] = std::fma(part, x_scale, acc->lane[lane]);
    } else {
      acc->lane[lane] = std::fma(static_cast<float>(sum), of.scale * x_scale, acc->lane[lane]);
    }
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
        AddGroup(type, call, g, call.x->values + i * kGroup, call.x->scales[i], &acc);
      }
      AddToTree(block, call.blocks, &acc, waiting, add);
    }
    std::memcpy(call.y + row * call.y_stride, acc.lane, sizeof(acc.lane));
  }
}

void QuantizePortable(const float* x, int8_t* values, float* scale, int32_t* offset) {
  float largest = 0, poison = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    poison += x[i] * 0.0f;  // NaN if a value is infinite or none
  }
  largest += poison;
  const bool none = !(largest > kLeastMagnitude);  // NaN too: the scale carries it
  const float inverse = none ? 0.0f : 127.0f / largest;
  int32_t sum = 0;
  for (int64_t i = 0; i < kGroup; ++i) {
    // Adding and taking away 1.5 x 2^23 rounds to nearest even, and needs no instruction that only some machines have.
    const float rounded = (x[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
    const auto q = none ? 0 : static_cast<int32_t>(rounded);
    values[i] = static_cast<int8_t>(q);
    sum += q;
  }
  *scale = largest / 127.0f;
  *offset = -8 * sum;
}

}  // namespace atl::models::kernels
