// down(act(gate(x)) * up(x)) where all three are products of integers: one pass over gate and up for all rows, which
// leaves the inner values quantised, and one over down. Parts (experts) are worked on side by side: threads take pieces
// of about the same size from one list, so it does not matter how rows are spread over experts.
//
//   if (ArePacked(gate, up, down)) {
//     const std::span<const GatedPart> parts = ...;        // all of one shape
//     RunGated(step.pool, activation, parts);              // part.inner = quantised act(gate(x)) * up(x)
//     RunDown(step.pool, parts, y);                        // row r of a part: y[part.first_row + r]
//
// The bits are those of the products one after another: a piece is outputs, never a part of a sum.
#pragma once

#include "models/layers/linear.h"
#include "models/spec/model_spec.h"

namespace atl::models {

struct GatedPart {
  const Linear *gate = nullptr, *up = nullptr, *down = nullptr;
  kernels::QuantizedRows in;            // [rows, hidden]
  kernels::MutableQuantizedRows inner;  // [rows, width]
  int64_t first_row = 0;                // of the output
};

inline bool ArePacked(const Linear& gate, const Linear& up, const Linear& down) {
  return IsPacked(gate.weight.format) && IsPacked(up.weight.format) && IsPacked(down.weight.format);
}

void CountProducts(const Step& step, const GatedPart& part);
void RunGated(ThreadPool* pool, Activation activation, std::span<const GatedPart> parts);
// y: [rows of all parts, outputs of down], f32 or bf16.
void RunDown(ThreadPool* pool, std::span<const GatedPart> parts, Buffer y);

}  // namespace atl::models
