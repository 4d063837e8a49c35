#include "models/weights/block_scales.h"

#include <algorithm>
#include <cstring>

namespace atl::models {
namespace {

constexpr uint32_t kF16Exponent = 0x7c00;  // all ones: infinite or not a number

uint32_t Word(const std::byte* at) {
  uint16_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

// f16 scales at these offsets of a block; -1: none.
bool HalvesAreFinite(const std::byte* blocks, int64_t count, int64_t bytes, int first, int second) {
  bool finite = true;
  for (int64_t i = 0; i < count; ++i, blocks += bytes) {
    finite &= (Word(blocks + first) & kF16Exponent) != kF16Exponent;
    if (second >= 0) finite &= (Word(blocks + second) & kF16Exponent) != kF16Exponent;
  }
  return finite;
}

}  // namespace

bool BlocksAreFinite(WeightFormat format, const std::byte* blocks, int64_t count) {
  using enum WeightFormat;
  const int64_t bytes = InfoOf(format).group_bytes;
  const auto halves = [&](int first, int second = -1) { return HalvesAreFinite(blocks, count, bytes, first, second); };
  switch (format) {
    case kF32:
    case kF16:
    case kBF16:
    case kInt4F32:
    case kInt4F16:
    case kInt4BF16:
    case kPackedInt4:  // never in a file
    case kPackedInt8:
    case kPackedQ4_0:
    case kPackedQ8_0:
    case kPackedQ4_K:
    case kPackedQ6_K:
      return true;
    case kFp8Block: {
      uint32_t most = 0;  // all bits below the sign: not a number
      for (int64_t i = 0; i < count; ++i) most = std::max(most, static_cast<uint32_t>(blocks[i]) & 127);
      return most != 127;
    }
    case kQ4_1:
    case kQ5_1:
    case kQ4_K:
    case kQ5_K:
      return halves(0, 2);
    case kQ2_K:
      return halves(80, 82);
    case kQ3_K:
      return halves(108);
    case kQ6_K:
      return halves(208);
    case kMXFP4:  // an exponent of 255 is not a number
      for (int64_t i = 0; i < count; ++i, blocks += bytes) {
        if (*blocks == std::byte{255}) return false;
      }
      return true;
    case kIQ1_M:  // a quarter of the f16's bits on top of each of four words
      for (int64_t i = 0; i < count; ++i, blocks += bytes) {
        const uint32_t upper = Word(blocks + 54) >> 12 << 12 | Word(blocks + 52) >> 12 << 8;
        if ((upper & kF16Exponent) == kF16Exponent) return false;
      }
      return true;
    default:
      return halves(0);
  }
}

}  // namespace atl::models
