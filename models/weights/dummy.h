// Weights made from names and positions: benchmarks and tests of shapes need no checkpoint.
#pragma once

#include <string_view>

#include "models/spec/parameters.h"

namespace atl::models {

// The slice's bytes in the parameter's format, the same elements whatever the slice. Matrices are uniform with variance
// 1 / inputs, norms near 1, the router's bias small.
void DummySlice(const Parameter& parameter, const Slice& slice, void* out);

// Where a parameter's random bits begin: a hash of its name (FNV-1a).
constexpr uint64_t DummySeed(std::string_view name) {
  uint64_t seed = 14695981039346656037u;
  for (const char c : name) seed = (seed ^ static_cast<uint8_t>(c)) * 1099511628211u;
  return seed;
}

}  // namespace atl::models
