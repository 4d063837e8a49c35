// down(act(gate(x)) * up(x)), or down(act(up(x))) without a gate, its inner axis cut over the tensor-parallel group in
// canonical blocks. The dense layers and the shared expert.
//
// Sparse: only gate values above mean + spread * standard deviation of their row pass, less that threshold (Gemma 3n).
#pragma once

#include "models/layers/linear.h"
#include "models/layers/step.h"

namespace atl::models {

struct Mlp {
  std::optional<Linear> gate;
  Linear up;    // as gate: [my width, hidden]
  Linear down;  // [hidden, my width], cut at my blocks
  Activation activation = Activation::kSilu;
  int64_t width = 0;            // of the whole inner axis
  std::optional<float> spread;  // sparse if set
};

// The `spread` that lets a share of 1 - `sparsity` of normally distributed values pass: its quantile.
float SpreadOf(double sparsity);

// wire: home rows [home, hidden] in the wire type (ToWire); out: [home, hidden].
absl::Status RunMlp(const Step& step, const Mlp& mlp, int layer, ConstBuffer wire, std::span<float> out);

}  // namespace atl::models
