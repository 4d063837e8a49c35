// int8 with a scale for each group of values: what the int8 cache is written and read with.
#include <algorithm>
#include <cmath>

#include "models/kernels/kernels.h"
#include "models/kernels/targets.h"

// foreach_target comes before highway.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/kernels/int8_groups.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "models/kernels/lanes-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {

void WidenInt8Impl(const int8_t* q, const float* scales, int64_t n, int64_t group, float* out) {
  const hn::Rebind<int8_t, D> bytes;
  const hn::Rebind<int32_t, D> words;
  for (int64_t begin = 0; begin < n; begin += group, ++scales) {
    const V scale = hn::Set(D(), *scales);
    int64_t i = begin;
    for (; i + kWidth <= begin + group; i += kWidth) {
      const V value = hn::ConvertTo(D(), hn::PromoteTo(words, hn::LoadU(bytes, q + i)));
      hn::StoreU(hn::Mul(value, scale), D(), out + i);
    }
    for (; i < begin + group; ++i) out[i] = static_cast<float>(q[i]) * *scales;
  }
}

}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace atl::models::kernels {

HWY_EXPORT(WidenInt8Impl);

void WidenInt8(const int8_t* q, const float* scales, int64_t n, int64_t group, float* out) {
  HWY_DYNAMIC_DISPATCH(WidenInt8Impl)(q, scales, n, group, out);
}

// One row a token: plain loops.
void RoundInt8(const float* x, int64_t n, int64_t group, int8_t* q, float* scales) {
  for (int64_t begin = 0; begin < n; begin += group, x += group, q += group, ++scales) {
    float largest = 0, poison = 0;
    for (int64_t i = 0; i < group; ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      poison += x[i] * 0.0f;  // NaN if a value is infinite or none
    }
    *scales = largest / 127.0f + poison;
    // A largest value that is next to nothing has no inverse.
    const float inverse = largest > 0x1p-100f && poison == 0 ? 127.0f / largest : 0.0f;
    if (inverse == 0 && poison == 0) *scales = 0;
    for (int64_t i = 0; i < group; ++i) {
      // Adding and taking away 1.5 x 2^23 rounds to nearest even.
      const float rounded = (x[i] * inverse + 0x1.8p23f) - 0x1.8p23f;
      q[i] = inverse == 0 ? int8_t{0} : static_cast<int8_t>(rounded);
    }
  }
}

}  // namespace atl::models::kernels
#endif
