// Functions of single elements over the lanes, and the exponential that they share. Compiled once for each target (no
// include guard but Highway's).
#include "models/kernels/exp.h"
#include "models/kernels/lanes-inl.h"

#if defined(ATOLL_MODELS_KERNELS_MAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_MAP_INL_H_
#undef ATOLL_MODELS_KERNELS_MAP_INL_H_
#else
#define ATOLL_MODELS_KERNELS_MAP_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

// out[i] = f(x[i], y[i]) by whole vectors; the rest goes through the same vectors, so an element's bits do not depend
// on where it stands.
template <typename X, typename Y, typename F>
HWY_INLINE void Map(const X* x, const Y* y, int64_t n, float* out, const F& f) {
  const auto apply = [&](const Lanes& a, const Lanes& b) {
    Lanes c;
    for (int i = 0; i < kParts; ++i) c.part[i] = f(a.part[i], b.part[i]);
    return c;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(apply(Load(x + i), Load(y + i)), out + i);
  if (i < n) StoreRest(apply(LoadRest(x + i, n - i), LoadRest(y + i, n - i)), n - i, out + i);
}

// exp.h's formula. A value that is not a number stays one.
HWY_INLINE V Exp(V x) {
  namespace e = exp_constants;
  const D d;
  const hn::Rebind<int32_t, D> ints;
  const V lowest = hn::Set(d, e::kLowest), highest = hn::Set(d, e::kHighest), rounder = hn::Set(d, e::kRounder);
  x = hn::IfThenElse(hn::Lt(x, lowest), lowest, x);
  x = hn::IfThenElse(hn::Gt(x, highest), highest, x);
  const V shifted = Fma(x, hn::Set(d, e::kPerLn2), rounder);
  const V n = hn::Sub(shifted, rounder);
  const V r = Fma(n, hn::Set(d, -e::kLn2Low), Fma(n, hn::Set(d, -e::kLn2High), x));
  V p = hn::Set(d, e::kP[4]);
  for (int i = 3; i >= 0; --i) p = Fma(p, r, hn::Set(d, e::kP[i]));
  const V mantissa = hn::Add(Fma(hn::Mul(r, r), p, r), hn::Set(d, 1.0f));
  // 2^n in two factors: n reaches beyond the exponents of f32 where the result is denormal or infinite.
  const auto whole = hn::Sub(hn::BitCast(ints, shifted), hn::BitCast(ints, rounder));
  const auto half = hn::ShiftRight<1>(whole);
  const auto power = [&](auto k) { return hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(k, hn::Set(ints, 127)))); };
  return hn::Mul(hn::Mul(mantissa, power(half)), power(hn::Sub(whole, half)));
}

HWY_INLINE V SigmoidOf(V x) {
  const V one = hn::Set(D(), 1.0f);
  return hn::Div(one, hn::Add(one, Exp(hn::Neg(x))));
}

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
