// 16 virtual f32 lanes over whatever vectors the target has. Compiled once for each target: the guard is Highway's.
#include <cmath>

#include "models/kernels/kernels.h"
// clang-format off
#include "models/kernels/targets.h"
#include "hwy/highway.h"
// clang-format on

#if defined(ATOLL_MODELS_KERNELS_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_LANES_INL_H_
#undef ATOLL_MODELS_KERNELS_LANES_INL_H_
#else
#define ATOLL_MODELS_KERNELS_LANES_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::CappedTag<float, kLanes>;
using V = hn::Vec<D>;
#if HWY_TARGET == HWY_SCALAR
inline constexpr int kWidth = 1;
#else
inline constexpr int kWidth = HWY_MIN(kLanes, HWY_MAX_BYTES / 4);
#endif
inline constexpr int kParts = kLanes / kWidth;

struct Lanes {
  V part[kParts];
};

// a b + c, rounded once.
HWY_INLINE V Fma(V a, V b, V c) {
#if HWY_TARGET == HWY_SCALAR
  return V(std::fma(a.raw, b.raw, c.raw));
#else
  static_assert(HWY_NATIVE_FMA, "leave this target out in targets.h");
  return hn::MulAdd(a, b, c);
#endif
}

HWY_INLINE V LoadPart(const float* x) { return hn::LoadU(D(), x); }

HWY_INLINE V LoadPart(const BF16* x) {
  const hn::Rebind<hwy::bfloat16_t, D> half;
  return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::bfloat16_t*>(x)));
}

HWY_INLINE V LoadPart(const F16* x) {
#if HWY_TARGET == HWY_SCALAR  // whose own conversion knows no infinity
  return V(ToFloat(*x));
#else
  const hn::Rebind<hwy::float16_t, D> half;
  return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(x)));
#endif
}

// One element at a time, where fewer than a vector are left.
HWY_INLINE float Widened(float x) { return x; }
template <typename T>
HWY_INLINE float Widened(T x) {
  return ToFloat(x);
}

HWY_INLINE Lanes ZeroLanes() {
  Lanes lanes;
  for (V& part : lanes.part) part = hn::Zero(D());
  return lanes;
}

template <typename T>
HWY_INLINE Lanes Load(const T* x) {
  Lanes lanes;
  for (int i = 0; i < kParts; ++i) lanes.part[i] = LoadPart(x + i * kWidth);
  return lanes;
}

// The first n < kLanes values, zeros after them.
template <typename T>
HWY_INLINE Lanes LoadRest(const T* x, int64_t n) {
  HWY_ALIGN T rest[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) rest[i] = x[i];
  return Load(rest);
}

HWY_INLINE void Store(const Lanes& lanes, float* out) {
  for (int i = 0; i < kParts; ++i) hn::StoreU(lanes.part[i], D(), out + i * kWidth);
}

HWY_INLINE void StoreRest(const Lanes& lanes, int64_t n, float* out) {
  HWY_ALIGN float rest[kLanes];
  Store(lanes, rest);
  for (int64_t i = 0; i < n; ++i) out[i] = rest[i];
}

HWY_INLINE void FmaTo(const Lanes& a, const Lanes& b, Lanes* sum) {
  for (int i = 0; i < kParts; ++i) sum->part[i] = Fma(a.part[i], b.part[i], sum->part[i]);
}

#if HWY_TARGET != HWY_SCALAR
// One level of the tree, for two vectors of lanes at once: lanes `distance` apart are added, within each group of
// 2 * distance lanes; a's sums come to the lower half of the group, b's to the upper.
template <int distance>
HWY_INLINE V AddHalves(V a, V b) {
  if constexpr (distance == 8) {
    return hn::Add(hn::ConcatLowerLower(D(), b, a), hn::ConcatUpperUpper(D(), b, a));
  } else if constexpr (distance == 4) {
    return hn::Add(hn::OddEvenBlocks(hn::SwapAdjacentBlocks(b), a), hn::OddEvenBlocks(b, hn::SwapAdjacentBlocks(a)));
  } else if constexpr (distance == 2) {
    const hn::RepartitionToWide<D> pairs;
    const auto x = hn::BitCast(pairs, a), y = hn::BitCast(pairs, b);
    return hn::Add(hn::BitCast(D(), hn::InterleaveLower(pairs, x, y)),
                   hn::BitCast(D(), hn::InterleaveUpper(pairs, x, y)));
  } else {
    return hn::Add(hn::OddEven(hn::Shuffle2301(b), a), hn::OddEven(b, hn::Shuffle2301(a)));
  }
}

// Levels `distance`, distance / 2, ... 1 over v[0..count); leaves max(1, N / kWidth) vectors.
template <int count, int distance>
HWY_INLINE void AddLevels(V* v) {
  if constexpr (distance >= 1) {
    constexpr int left = count > 1 ? count / 2 : 1;
    for (int i = 0; i < left; ++i) v[i] = AddHalves<distance>(v[i], v[count > 1 ? i + left : i]);
    AddLevels<left, distance / 2>(v);
  }
}
#endif

// sums[i] = the fixed tree over the lanes of sets[i]; N is a power of two. The sets share the vectors of each level.
template <int N>
HWY_INLINE void SumLanes(const Lanes (&sets)[N], float* sums) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < N; ++i) {
    float lane[kLanes];
    Store(sets[i], lane);
    for (int step = kLanes / 2; step > 0; step /= 2) {
      for (int l = 0; l < step; ++l) lane[l] += lane[l + step];
    }
    sums[i] = lane[0];
  }
#else
  V v[N];
  for (int i = 0; i < N; ++i) {
    Lanes lanes = sets[i];
    for (int step = kParts / 2; step > 0; step /= 2) {
      for (int p = 0; p < step; ++p) lanes.part[p] = hn::Add(lanes.part[p], lanes.part[p + step]);
    }
    v[i] = lanes.part[0];
  }
  AddLevels<N, kWidth / 2>(v);
  // Set i's highest bits chose the half at the first levels.
  constexpr int vectors = N > kWidth ? N / kWidth : 1, spacing = N < kWidth ? kWidth / N : 1;
  HWY_ALIGN float out[vectors * kWidth];
  for (int i = 0; i < vectors; ++i) hn::Store(v[i], D(), out + i * kWidth);
  for (int i = 0; i < N; ++i) sums[i] = out[i % vectors * kWidth + i / vectors * spacing];
#endif
}

HWY_INLINE float SumLanes(const Lanes& lanes) {
  const Lanes sets[1] = {lanes};
  float sum;
  SumLanes(sets, &sum);
  return sum;
}

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
