#include "models/kernels/packed_blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "models/kernels/packed_layout.h"
#include "models/kernels/six_bits.h"
#include "parallel/base/status.h"

namespace atl::models::kernels {
namespace {

int Byte(const std::byte* at) { return static_cast<int>(*at); }
uint16_t Word(const std::byte* at) {
  uint16_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}
float FromHalf(uint16_t bits) { return ToFloat(F16{bits}); }

void ReadQ4K(const std::byte* bytes, PackedBlock* block) {
  block->d = Word(bytes);
  block->dmin = Word(bytes + 2);
  const std::byte* weights = bytes + 16;
  for (int g = 0; g < 8; ++g) {
    const SixBits of = SixBitsOf(reinterpret_cast<const uint8_t*>(bytes + 4), g);
    block->scales[g] = static_cast<int8_t>(of.scale);
    block->least[g] = static_cast<int8_t>(of.least);
    for (int i = 0; i < 32; ++i) {
      block->q[32 * g + i] = static_cast<int8_t>(Byte(weights + g / 2 * 32 + i) >> (g % 2 * 4) & 15);
    }
  }
}

void ReadQ6K(const std::byte* bytes, PackedBlock* block) {
  block->d = Word(bytes + 208);
  std::memcpy(block->scales, bytes + 192, 16);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, at = i % 32;
    const int low = Byte(bytes + half * 64 + quarter % 2 * 32 + at) >> (quarter / 2 * 4) & 15;
    const int high = Byte(bytes + 128 + half * 32 + at) >> (quarter * 2) & 3;
    block->q[i] = static_cast<int8_t>((low | high << 4) - 32);
  }
}

// The nearest of whole numbers in [least, most]; 0 for a step of 0.
int8_t Nearest(float value, float step, float least, float most) {
  if (!(step > 0 || step < 0)) return 0;
  return static_cast<int8_t>(std::clamp(std::nearbyint(value / step), least, most));
}

float LargestBySize(const float* values, int64_t count) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (std::fabs(values[i]) > std::fabs(largest)) largest = values[i];
  }
  return largest;
}

// One step for all 32: the value of largest size becomes `lowest` exactly, but for the step's rounding to f16.
void QuantizeSimple(const float* values, float lowest, float most, PackedBlock* block) {
  block->d = ToF16(LargestBySize(values, kGroup) / lowest).bits;
  const float step = FromHalf(block->d);
  for (int64_t i = 0; i < kGroup; ++i) block->q[i] = Nearest(values[i], step, lowest, most);
}

void QuantizeQ4K(const float* values, PackedBlock* block) {
  float step[8], least[8];
  for (int g = 0; g < 8; ++g) {
    const auto [low, high] = std::minmax_element(values + g * kGroup, values + (g + 1) * kGroup);
    least[g] = std::max(0.0f, -*low);
    step[g] = (std::max(0.0f, *high) + least[g]) / 15;
  }
  block->d = ToF16(*std::max_element(step, step + 8) / 63).bits;
  block->dmin = ToF16(*std::max_element(least, least + 8) / 63).bits;
  const float d = FromHalf(block->d), dmin = FromHalf(block->dmin);
  for (int g = 0; g < 8; ++g) {
    block->scales[g] = Nearest(step[g], d, 0, 63);
    block->least[g] = Nearest(least[g], dmin, 0, 63);
    const float size = d * block->scales[g], shift = dmin * block->least[g];
    for (int64_t i = g * kGroup; i < (g + 1) * kGroup; ++i) block->q[i] = Nearest(values[i] + shift, size, 0, 15);
  }
}

void QuantizeQ6K(const float* values, PackedBlock* block) {
  float step[16];
  for (int h = 0; h < 16; ++h) step[h] = LargestBySize(values + h * 16, 16) / -32;
  block->d = ToF16(std::fabs(LargestBySize(step, 16)) / 127).bits;
  const float d = FromHalf(block->d);
  for (int h = 0; h < 16; ++h) {
    block->scales[h] = Nearest(step[h], d, -127, 127);
    const float size = d * block->scales[h];
    for (int64_t i = h * 16; i < (h + 1) * 16; ++i) block->q[i] = Nearest(values[i], size, -32, 31);
  }
}

}  // namespace

PackedBlock ReadBlock(PackedType type, const std::byte* bytes) {
  PackedBlock block;
  switch (type) {
    case PackedType::kQ4_0:
      block.d = Word(bytes);
      for (int i = 0; i < 16; ++i) {
        block.q[i] = static_cast<int8_t>((Byte(bytes + 2 + i) & 15) - 8);
        block.q[16 + i] = static_cast<int8_t>((Byte(bytes + 2 + i) >> 4) - 8);
      }
      break;
    case PackedType::kQ8_0:
      block.d = Word(bytes);
      std::memcpy(block.q, bytes + 2, kGroup);
      break;
    case PackedType::kQ4_K:
      ReadQ4K(bytes, &block);
      break;
    case PackedType::kQ6_K:
      ReadQ6K(bytes, &block);
      break;
    default:
      ATOLL_CHECK(false, "not a type of GGUF's blocks");
  }
  return block;
}

PackedBlock QuantizeBlock(PackedType type, const float* values, int64_t count) {
  float all[kMostOfABlock] = {};
  std::copy_n(values, count, all);
  PackedBlock block;
  const bool finite = std::all_of(all, all + count, [](float v) { return std::isfinite(v); });
  if (!finite) {
    block.d = 0x7e00;  // no number: so are all products
    std::fill_n(block.scales, 16, static_cast<int8_t>(1));
    return block;
  }
  switch (type) {
    case PackedType::kQ4_0:
      QuantizeSimple(all, -8, 7, &block);
      break;
    case PackedType::kQ8_0:
      QuantizeSimple(all, -127, 127, &block);
      break;
    case PackedType::kQ4_K:
      QuantizeQ4K(all, &block);
      break;
    case PackedType::kQ6_K:
      QuantizeQ6K(all, &block);
      break;
    default:
      ATOLL_CHECK(false, "not a type of GGUF's blocks");
  }
  return block;
}

}  // namespace atl::models::kernels
