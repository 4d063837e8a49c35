#include <cmath>
#include <cstring>
#include <limits>

#include "models/kernels/kernels.h"
#include "models/kernels/targets.h"

// foreach_target comes before highway.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/kernels/vector.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "models/kernels/map-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
float DotImpl(const float* a, const float* b, int64_t n) {
  Lanes sum = ZeroLanes();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) FmaTo(Load(a + i), Load(b + i), &sum);
  if (i < n) FmaTo(LoadRest(a + i, n - i), LoadRest(b + i, n - i), &sum);
  return SumLanes(sum);
}

void RmsNormImpl(const float* x, const float* weight, float eps, int64_t width, float* y) {
  const float scale = 1.0f / std::sqrt(DotImpl(x, x, width) / static_cast<float>(width) + eps);
  const V factor = hn::Set(D(), scale);
  Map(x, weight, width, y, [factor](V v, V w) { return hn::Mul(hn::Mul(v, factor), w); });
}

void SiluMultiplyImpl(const float* gate, const float* up, int64_t n, float* out) {
  Map(gate, up, n, out, [](V g, V u) { return hn::Mul(hn::Mul(g, SigmoidOf(g)), u); });
}

void SigmoidImpl(const float* x, int64_t n, float* out) {
  Map(x, x, n, out, [](V v, V) { return SigmoidOf(v); });
}

void AxpyImpl(float a, const float* x, int64_t n, float* y) {
  const V factor = hn::Set(D(), a);
  Map(x, y, n, y, [factor](V v, V sum) { return Fma(factor, v, sum); });
}

void AxpbyImpl(float a, const float* x, float b, int64_t n, float* y) {
  const V factor = hn::Set(D(), a), keep = hn::Set(D(), b);
  Map(x, y, n, y, [factor, keep](V v, V sum) { return Fma(factor, v, hn::Mul(keep, sum)); });
}

void ScaleImpl(float a, int64_t n, float* x) {
  const V factor = hn::Set(D(), a);
  Map(x, x, n, x, [factor](V v, V) { return hn::Mul(factor, v); });
}

float ExpMinusImpl(const float* x, int64_t n, float max, float* out) {
  const V top = hn::Set(D(), max);
  Map(x, x, n, out, [top](V v, V) { return Exp(hn::Sub(v, top)); });
  Lanes sum = ZeroLanes();
  const auto add = [&sum](const Lanes& lanes) {
    for (int p = 0; p < kParts; ++p) sum.part[p] = hn::Add(sum.part[p], lanes.part[p]);
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) add(Load(out + i));
  if (i < n) add(LoadRest(out + i, n - i));
  return SumLanes(sum);
}

// A value that is not a number is passed over. The largest one does not depend on the order.
float MaxImpl(const float* x, int64_t n) {
  float max = -std::numeric_limits<float>::infinity();
  int64_t i = 0;
  if (n >= kWidth) {
    V best = hn::Set(D(), max);
    for (; i + kWidth <= n; i += kWidth) {
      const V value = LoadPart(x + i);
      best = hn::IfThenElse(hn::Gt(value, best), value, best);
    }
    HWY_ALIGN float lanes[kWidth];
    hn::Store(best, D(), lanes);
    for (const float lane : lanes) max = lane > max ? lane : max;
  }
  for (; i < n; ++i) max = x[i] > max ? x[i] : max;
  return max;
}

void WidenBf16Impl(const BF16* x, int64_t n, float* out) {
  Map(x, x, n, out, [](V v, V) { return v; });
}

void WidenF16Impl(const F16* x, int64_t n, float* out) {
  Map(x, x, n, out, [](V v, V) { return v; });
}

// ToBF16 by vectors.
void RoundBf16Impl(const float* x, int64_t n, BF16* out) {
  const hn::Rebind<uint32_t, D> words;
  const hn::Rebind<uint16_t, D> halves;
  int64_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const auto bits = hn::BitCast(words, hn::LoadU(D(), x + i));
    const auto upper = hn::ShiftRight<16>(bits);
    const auto odd = hn::And(upper, hn::Set(words, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7fffu))));
    const auto magnitude = hn::And(bits, hn::Set(words, 0x7fffffffu));
    const auto nan = hn::Gt(magnitude, hn::Set(words, 0x7f800000u));
    const auto result = hn::IfThenElse(nan, hn::Or(upper, hn::Set(words, 0x40u)), rounded);
    hn::StoreU(hn::TruncateTo(halves, result), halves, reinterpret_cast<uint16_t*>(out + i));
  }
  for (; i < n; ++i) out[i] = ToBF16(x[i]);
}

const char* TargetImpl() { return hwy::TargetName(HWY_TARGET); }

}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace atl::models::kernels {

HWY_EXPORT(DotImpl);
HWY_EXPORT(RmsNormImpl);
HWY_EXPORT(SiluMultiplyImpl);
HWY_EXPORT(SigmoidImpl);
HWY_EXPORT(AxpyImpl);
HWY_EXPORT(AxpbyImpl);
HWY_EXPORT(ScaleImpl);
HWY_EXPORT(ExpMinusImpl);
HWY_EXPORT(MaxImpl);
HWY_EXPORT(WidenBf16Impl);
HWY_EXPORT(WidenF16Impl);
HWY_EXPORT(RoundBf16Impl);
HWY_EXPORT(TargetImpl);

float Dot(const float* a, const float* b, int64_t n) { return HWY_DYNAMIC_DISPATCH(DotImpl)(a, b, n); }

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    HWY_DYNAMIC_DISPATCH(RmsNormImpl)(x + r * width, weight, eps, width, y + r * width);
  }
}

void SiluMultiply(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(SiluMultiplyImpl)(gate, up, n, out);
}
void Sigmoid(const float* x, int64_t n, float* out) { HWY_DYNAMIC_DISPATCH(SigmoidImpl)(x, n, out); }
void Axpy(float a, const float* x, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(AxpyImpl)(a, x, n, y); }
void Axpby(float a, const float* x, float b, int64_t n, float* y) { HWY_DYNAMIC_DISPATCH(AxpbyImpl)(a, x, b, n, y); }
void Scale(float a, int64_t n, float* x) { HWY_DYNAMIC_DISPATCH(ScaleImpl)(a, n, x); }
float ExpMinus(const float* x, int64_t n, float max, float* out) {
  return HWY_DYNAMIC_DISPATCH(ExpMinusImpl)(x, n, max, out);
}

float Max(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(MaxImpl)(x, n); }

void Round(const float* x, int64_t n, DType type, void* out) {
  if (type == DType::kF32) {
    std::memcpy(out, x, n * sizeof(float));
  } else {
    HWY_DYNAMIC_DISPATCH(RoundBf16Impl)(x, n, static_cast<BF16*>(out));
  }
}

void Widen(const void* x, int64_t n, DType type, float* out) {
  if (type == DType::kF32) {
    std::memcpy(out, x, n * sizeof(float));
  } else if (type == DType::kF16) {
    HWY_DYNAMIC_DISPATCH(WidenF16Impl)(static_cast<const F16*>(x), n, out);
  } else {
    HWY_DYNAMIC_DISPATCH(WidenBf16Impl)(static_cast<const BF16*>(x), n, out);
  }
}

std::string Target() { return HWY_DYNAMIC_DISPATCH(TargetImpl)(); }

}  // namespace atl::models::kernels
#endif
