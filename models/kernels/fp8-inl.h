// float8 e4m3 with a scale for each 128 x 128 block. Compiled once for each target; fp8_rows.h is faster for few rows.
//
// e4m3's bits, shifted, are an f16 of 1 / 256 the value, subnormal ones too: one conversion widens them. The 256 goes
// into the scale, a power of two, so a weight has the bits of (value x scale) rounded once. 1 sign, 4 exponent (bias
// 7), 3 mantissa bits; there are no infinities, and all ones, which is not a number, is refused when weights are read.
#include <bit>

#include "models/kernels/fp8_rows.h"
// clang-format off
#include "models/kernels/targets.h"
#include "hwy/highway.h"
#include "models/kernels/lanes-inl.h"
// clang-format on

#if defined(ATOLL_MODELS_KERNELS_FP8_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_FP8_INL_H_
#undef ATOLL_MODELS_KERNELS_FP8_INL_H_
#else
#define ATOLL_MODELS_KERNELS_FP8_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

// Its plain form, of the value itself.
HWY_INLINE float E4m3(uint8_t bits) {
  const uint32_t magnitude = bits & 127;
  const auto normal = std::bit_cast<float>((magnitude << 20) + (120u << 23));
  const float small = static_cast<float>(static_cast<int>(magnitude)) * 0x1p-9f;
  const float size = magnitude < 8 ? small : normal;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(size) | static_cast<uint32_t>(bits & 128) << 24);
}

#if HWY_TARGET != HWY_SCALAR
// Bytes with their sign spread above them to f16 bits.
template <class D16, class V16 = hn::Vec<D16>>
HWY_INLINE V16 ToHalfBits(D16 d, V16 bytes) {
  return hn::And(hn::ShiftLeft<7>(bytes), hn::Set(d, static_cast<int16_t>(0xbfff)));
}
#endif

// 16 values / 256.
HWY_INLINE Lanes LoadFp8(const uint8_t* x) {
  Lanes lanes;
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < kParts; ++i) lanes.part[i] = V(E4m3(x[i]) * 0x1p-8f);
#elif HWY_TARGET == HWY_AVX2
  const hn::Full256<int16_t> d;
  const auto bytes = hn::PromoteTo(d, hn::LoadU(hn::Full128<int8_t>(), reinterpret_cast<const int8_t*>(x)));
  const auto half = ToHalfBits(d, bytes);
  const hn::Rebind<hwy::float16_t, D> f16;
  const hn::Full128<int16_t> d_half;
  lanes.part[0] = hn::PromoteTo(D(), hn::BitCast(f16, hn::LowerHalf(d_half, half)));
  lanes.part[1] = hn::PromoteTo(D(), hn::BitCast(f16, hn::UpperHalf(d_half, half)));
#else
  const hn::Rebind<int16_t, D> d;
  const hn::Rebind<int8_t, D> d8;
  const hn::Rebind<hwy::float16_t, D> f16;
  for (int i = 0; i < kParts; ++i) {
    const auto bytes = hn::PromoteTo(d, hn::LoadU(d8, reinterpret_cast<const int8_t*>(x) + i * kWidth));
    lanes.part[i] = hn::PromoteTo(D(), hn::BitCast(f16, ToHalfBits(d, bytes)));
  }
#endif
  return lanes;
}

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
