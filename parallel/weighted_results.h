// Results of a row's experts on their way into its sum: arithmetic of Combine, in the order that law 1 wants.
//
//   AddWhole(k == 0, weight, result, wire, width, sum);      // result [width] in the wire type
//   AddSliced(k == 0, weight, results, wire, width, sum);    // [slices] results [width] in f32
//   // sum [width] += weight * result
#pragma once

#include <cstdint>
#include <span>

#include "parallel/base/dtype.h"
#include "parallel/base/partition.h"

namespace atl::parallel {

// sum += weight * result, or sum = weight * result for the first: two roundings, in the router's order.
template <typename ValueAt>
void Accumulate(bool first, float weight, int64_t width, float* sum, const ValueAt& value_at) {
  if (first) {
    for (int64_t c = 0; c < width; ++c) sum[c] = weight * value_at(c);
  } else {
    for (int64_t c = 0; c < width; ++c) sum[c] += weight * value_at(c);
  }
}

// A whole expert's result, in the wire type.
inline void AddWhole(bool first, float weight, const std::byte* result, DType wire, int64_t width, float* sum) {
  if (wire == DType::kBF16) {
    const auto* values = reinterpret_cast<const BF16*>(result);
    Accumulate(first, weight, width, sum, [=](int64_t c) { return ToFloat(values[c]); });
  } else {
    const auto* values = reinterpret_cast<const float*>(result);
    Accumulate(first, weight, width, sum, [=](int64_t c) { return values[c]; });
  }
}

// Slices' results, in f32: added as the upper levels of the tree over the expert's canonical blocks, then rounded.
inline void AddSliced(bool first, float weight, std::span<const std::byte* const> results, DType wire, int64_t width,
                      float* sum) {
  const auto at = [&](size_t slice) { return reinterpret_cast<const float*>(results[slice]); };
  const auto add = [&](const auto& whole) {
    if (wire == DType::kBF16) {
      Accumulate(first, weight, width, sum, [=](int64_t c) { return ToFloat(ToBF16(whole(c))); });
    } else {
      Accumulate(first, weight, width, sum, whole);
    }
  };
  static_assert(kExpertBlocks == 4);
  if (results.size() == 2) {
    add([a = at(0), b = at(1)](int64_t c) { return a[c] + b[c]; });
  } else {
    add([a = at(0), b = at(1), e = at(2), f = at(3)](int64_t c) { return (a[c] + b[c]) + (e[c] + f[c]); });
  }
}

}  // namespace atl::parallel
