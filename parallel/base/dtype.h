// Element types of tensors, buffers and files, and the bf16 conversions that every folder shares.
#pragma once

#include <bit>
#include <cstdint>

namespace atl {

enum class DType : uint8_t { kF32, kBF16, kF16, kF8E4M3, kI8, kU8, kI32, kI64, kBool };

constexpr int64_t SizeOf(DType type) {
  switch (type) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
    case DType::kF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kF8E4M3:
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
      return 1;
  }
  return 0;
}

constexpr const char* Name(DType type) {
  switch (type) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kF8E4M3:
      return "f8e4m3";
    case DType::kI8:
      return "i8";
    case DType::kU8:
      return "u8";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kBool:
      return "bool";
  }
  return "?";
}

// A bf16 value is the upper half of an f32. Rounding is to nearest, ties to even; NaN stays NaN.
struct BF16 {
  uint16_t bits = 0;
};

constexpr float ToFloat(BF16 value) { return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16); }

// IEEE half precision: 1 sign, 5 exponent (bias 15), 10 mantissa bits.
struct F16 {
  uint16_t bits = 0;
};

constexpr float ToFloat(F16 value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16, magnitude = value.bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  // Below the smallest normal value a half is mantissa x 2^-24; above, the exponent's bias moves from 15 to 127.
  if (magnitude < 0x400u) {
    const float size = static_cast<float>(magnitude) * 0x1p-24f;
    return sign != 0 ? -size : size;
  }
  return std::bit_cast<float>(sign | ((magnitude << 13) + (112u << 23)));
}

// To nearest, ties to even; beyond the largest half, infinity.
constexpr F16 ToF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  const auto with_sign = [sign](uint32_t half) { return F16{static_cast<uint16_t>(sign | half)}; };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u);
  if (magnitude >= 0x477ff000u) return with_sign(0x7c00u);
  // Below 2^-14, a whole number of 2^-24: adding 1.5 x 2^23 rounds to one.
  if (magnitude < 0x38800000u) {
    const float steps = (std::bit_cast<float>(magnitude) * 0x1p24f + 0x1.8p23f) - 0x1.8p23f;
    return with_sign(static_cast<uint32_t>(steps));
  }
  return with_sign((magnitude + 0xfffu + (magnitude >> 13 & 1u) - (112u << 23)) >> 13);
}

constexpr BF16 ToBF16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) {  // NaN: keep it one, rounding could make it infinite
    return BF16{static_cast<uint16_t>((bits >> 16) | 0x40u)};
  }
  return BF16{static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace atl
