// Norms of rows, in f32: RMSNorm x / sqrt(mean(x^2) + eps) * w, the same with (1 + w), and LayerNorm (NormKind).
#pragma once

#include "models/kernels/kernels.h"
#include "models/spec/model_spec.h"

namespace atl::models {

struct Norm {
  const float* weight = nullptr;  // [width]
  int64_t width = 0;
  float eps = 0;
  NormKind kind = NormKind::kRms;
  const float* bias = nullptr;  // [width], of a LayerNorm

  // y may be x.
  void Apply(const float* x, int64_t rows, float* y) const;
};

// RMSNorm without weights of each row, in place.
void NormUnweighted(float eps, int64_t rows, int64_t width, float* x);

}  // namespace atl::models
