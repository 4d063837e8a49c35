// float8 e4m3 without infinities, as FP8 checkpoints store it: rounding to it. models/kernels/fp8-inl.h reads it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace atl::models {

inline constexpr float kLargestE4m3 = 448;
// Of a block. Kernels multiply scales by 2^120 (models/kernels/fp8_avx2.cc); this one would make weights of 57,344.
inline constexpr float kLargestFp8Scale = 128;

// |value| <= 448: to nearest, ties to even.
inline uint8_t ToE4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value), sign = bits >> 24 & 0x80u, magnitude = bits & 0x7fffffffu;
  if (magnitude < 0x3c800000u) return static_cast<uint8_t>(sign | std::lrint(std::fabs(value) * 0x1p9f));
  return static_cast<uint8_t>(sign | ((magnitude - (120u << 23) + 0x7ffffu + (magnitude >> 20 & 1u)) >> 20));
}

}  // namespace atl::models
