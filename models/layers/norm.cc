#include "models/layers/norm.h"

#include <algorithm>
#include <cmath>

namespace atl::models {
namespace {

float InverseRms(const float* x, int64_t width, float eps) {
  return 1.0f / std::sqrt(kernels::Dot(x, x, width) / static_cast<float>(width) + eps);
}

}  // namespace

void Norm::Apply(const float* x, int64_t rows, float* y) const {
  switch (kind) {
    case NormKind::kRms:
      return kernels::RmsNorm(x, weight, eps, rows, width, y);
    case NormKind::kRmsPlusOne:
      for (int64_t row = 0; row < rows; ++row, x += width, y += width) {
        const float factor = InverseRms(x, width, eps);
        if (x != y) std::copy_n(x, width, y);
        kernels::ScaleBy(factor, weight, 1, width, y);
      }
      return;
    case NormKind::kLayer:
      return kernels::LayerNorm(x, weight, bias, eps, rows, width, y);
  }
}

void NormUnweighted(float eps, int64_t rows, int64_t width, float* x) {
  for (int64_t row = 0; row < rows; ++row, x += width) kernels::Scale(InverseRms(x, width, eps), width, x);
}

}  // namespace atl::models
