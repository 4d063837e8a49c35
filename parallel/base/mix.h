// A counter's 64 bits, well mixed (the finalizer of a multiply-xorshift hash): random numbers that only depend on what
// they are for.
//
//   const uint64_t bits = Mix(seed + counter * 0x9e3779b97f4a7c15u);
#pragma once

#include <cstdint>

namespace atl {

constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
  return x ^ (x >> 32);
}

}  // namespace atl
