#include <cstring>

#include "models/kernels/limits_loop.h"

namespace atl::models::kernels {
namespace {

// Whatever vectors the compiler's baseline has.
template <typename T>
int64_t Loop(int64_t rounds, uint64_t* result) {
  constexpr int kSums = 64;
  T sums[kSums];
  for (T& sum : sums) sum = 1;
  const auto factor = static_cast<T>(0.5), term = static_cast<T>(3);
  for (int64_t i = 0; i < rounds / 8; ++i) {
    for (T& sum : sums) sum = static_cast<T>(sum * factor + term);
    asm volatile("" : : "r"(sums) : "memory");
  }
  for (const T sum : sums) *result += static_cast<uint64_t>(sum);
  return rounds / 8 * kSums * 2;
}

}  // namespace

MultiplyAddLoop MultiplyAddPortable(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kInt8 ? Loop<int16_t> : Loop<float>;
}

}  // namespace atl::models::kernels
