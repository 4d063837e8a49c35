// The scale s and the minimum m of group j of GGUF's Q4_K and Q5_K: 6 bits each of 12 bytes.
#pragma once

#include <cstdint>

namespace atl::models::kernels {

struct SixBits {
  int scale, least;
};
constexpr SixBits SixBitsOf(const uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4};
}

}  // namespace atl::models::kernels
