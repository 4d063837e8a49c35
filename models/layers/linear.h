// A matrix product, or this rank's share of one whose inputs are sharded over the tensor-parallel group.
//
//   const Activations in(step, x, rows);   // x [rows, width]
//   linear.Apply(in, y);                   // other products of the same rows share `in`, and what it was rounded to
#pragma once

#include "models/kernels/kernels.h"
#include "models/layers/step.h"
#include "parallel/base/partition.h"

namespace atl::models {

// Rows that products read. Products of integers want them quantised, which is done once, when the first one asks. The
// next Activations' quantised rows take the place of these.
class Activations {
 public:
  Activations(const Step& step, std::span<const float> x, int64_t rows) : step_(step), x_(x), rows_(rows) {}
  std::span<const float> values() const { return x_; }
  int64_t rows() const { return rows_; }
  const Step& step() const { return step_; }
  const kernels::QuantizedRows& Quantized(int64_t width) const;

 private:
  const Step& step_;
  const std::span<const float> x_;
  const int64_t rows_;
  mutable kernels::QuantizedRows quantized_;
};

struct Linear {
  kernels::Matrix weight;
  BlockCuts cuts;               // borders of the canonical blocks along K, relative to this rank's first
  const float* bias = nullptr;  // [out]; added where the sum is whole, at the rows' homes for a share

  // y [rows, out] = x [rows, in] W^T; for a share, the sum over this rank's blocks: its subtree of the fixed tree.
  void Apply(const Activations& x, std::span<float> y) const;
  void Count(const Step& step, int64_t rows) const;  // a product in the step's costs; Apply does it
  void AddBias(int64_t rows, std::span<float> y) const {
    for (int64_t row = 0; bias != nullptr && row < rows; ++row) {
      for (int64_t i = 0; i < weight.rows; ++i) y[row * weight.rows + i] += bias[i];
    }
  }
};

inline Linear WholeLinear(const kernels::Matrix& weight) { return {.weight = weight, .cuts = {0, weight.cols}}; }

// y [rows, w.rows] = x w^T on this thread alone, whose scratch (thread_scratch.h) rows quantised for it take.
void MultiplyHere(std::span<const float> x, int64_t rows, const kernels::Matrix& w, std::span<float> y);

// Part `part` of `parts` of a matrix that is cut along its input axis.
inline Linear SharedLinear(const kernels::Matrix& weight, const CanonicalAxis& axis, int part, int parts) {
  Linear linear{.weight = weight, .cuts = {}};
  const int blocks = axis.blocks / parts, first = part * blocks;
  for (int b = 0; b <= blocks; ++b) linear.cuts.push_back(axis.BlockBegin(first + b) - axis.BlockBegin(first));
  return linear;
}

}  // namespace atl::models
