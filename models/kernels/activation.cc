#include <cmath>

#include "models/kernels/gelu.h"
#include "models/kernels/kernels.h"
#include "models/kernels/targets.h"

// foreach_target comes before highway.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/kernels/activation.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "models/kernels/map-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

HWY_INLINE V GeluTanhOf(V x) {
  const D d;
  const V inner = Fma(hn::Mul(hn::Mul(x, x), x), hn::Set(d, gelu_constants::kCubic), x);
  return hn::Mul(x, SigmoidOf(hn::Mul(inner, hn::Set(d, gelu_constants::kTwiceRoot))));
}

HWY_INLINE V TanhOf(V x) {
  const V two = hn::Set(D(), 2.0f);
  return hn::Sub(hn::Mul(two, SigmoidOf(hn::Mul(two, x))), hn::Set(D(), 1.0f));
}

// Adds every group of lanes of x to `sum`, by `add`.
template <typename Add>
HWY_INLINE float SumOf(const float* x, int64_t n, const Add& add) {
  Lanes sum = ZeroLanes();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) add(Load(x + i), &sum);
  if (i < n) add(LoadRest(x + i, n - i), &sum);
  return SumLanes(sum);
}

}  // namespace

void GeluTanhImpl(const float* x, int64_t n, float* out) {
  Map(x, x, n, out, [](V v, V) { return GeluTanhOf(v); });
}

void GeluTanhMultiplyImpl(const float* gate, const float* up, int64_t n, float* out) {
  Map(gate, up, n, out, [](V g, V u) { return hn::Mul(GeluTanhOf(g), u); });
}

void TanhImpl(const float* x, int64_t n, float* out) {
  Map(x, x, n, out, [](V v, V) { return TanhOf(v); });
}

float SumImpl(const float* x, int64_t n) {
  return SumOf(x, n, [](const Lanes& v, Lanes* sum) {
    for (int p = 0; p < kParts; ++p) sum->part[p] = hn::Add(sum->part[p], v.part[p]);
  });
}

float SquaresImpl(const float* x, int64_t n, float center) {
  // The last group is not padded with zeros, whose distance from the centre counts: its lanes go one by one.
  const int64_t whole = n / kLanes * kLanes;
  Lanes sum = ZeroLanes();
  const V middle = hn::Set(D(), center);
  const auto add = [&](const Lanes& v) {
    for (int p = 0; p < kParts; ++p) {
      const V distance = hn::Sub(v.part[p], middle);
      sum.part[p] = Fma(distance, distance, sum.part[p]);
    }
  };
  for (int64_t i = 0; i < whole; i += kLanes) add(Load(x + i));
  if (whole < n) {
    HWY_ALIGN float rest[kLanes];
    for (int64_t i = 0; i < kLanes; ++i) rest[i] = whole + i < n ? x[whole + i] : center;
    add(Load(rest));
  }
  return SumLanes(sum);
}

void ScaleByImpl(float factor, const float* weight, float plus, int64_t n, float* x) {
  const V scale = hn::Set(D(), factor), offset = hn::Set(D(), plus);
  Map(x, weight, n, x, [scale, offset](V v, V w) { return hn::Mul(hn::Mul(v, scale), hn::Add(w, offset)); });
}

void LayerNormImpl(const float* x, const float* weight, const float* bias, float eps, int64_t width, float* y) {
  const float mean = SumImpl(x, width) / static_cast<float>(width);
  const float scale = 1.0f / std::sqrt(SquaresImpl(x, width, mean) / static_cast<float>(width) + eps);
  const V middle = hn::Set(D(), mean), factor = hn::Set(D(), scale);
  Map(x, weight, width, y, [middle, factor](V v, V w) { return hn::Mul(hn::Mul(hn::Sub(v, middle), factor), w); });
  Map(y, bias, width, y, [](V v, V b) { return hn::Add(v, b); });
}

}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace atl::models::kernels {

HWY_EXPORT(GeluTanhImpl);
HWY_EXPORT(GeluTanhMultiplyImpl);
HWY_EXPORT(TanhImpl);
HWY_EXPORT(SumImpl);
HWY_EXPORT(SquaresImpl);
HWY_EXPORT(ScaleByImpl);
HWY_EXPORT(LayerNormImpl);

void GeluTanh(const float* x, int64_t n, float* out) { HWY_DYNAMIC_DISPATCH(GeluTanhImpl)(x, n, out); }
void GeluTanhMultiply(const float* gate, const float* up, int64_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(GeluTanhMultiplyImpl)(gate, up, n, out);
}
void Tanh(const float* x, int64_t n, float* out) { HWY_DYNAMIC_DISPATCH(TanhImpl)(x, n, out); }
float Sum(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(SumImpl)(x, n); }
float Squares(const float* x, int64_t n, float center) { return HWY_DYNAMIC_DISPATCH(SquaresImpl)(x, n, center); }
void ScaleBy(float factor, const float* weight, float plus, int64_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(ScaleByImpl)(factor, weight, plus, n, x);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int64_t rows, int64_t width,
               float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    HWY_DYNAMIC_DISPATCH(LayerNormImpl)(x + r * width, weight, bias, eps, width, y + r * width);
  }
}

}  // namespace atl::models::kernels
#endif
