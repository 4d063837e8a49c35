// Rotary positions: pair i of a head turns by position * frequency i. Pairs are (2i, 2i + 1) where interleaved,
// otherwise (i, i + dim / 2). Frequencies are theta^(-2i / dim), stretched as RopeSpec says (linearly, Llama 3's bands,
// YaRN).
//
//   const Rope rope = MakeRope(spec, 0);
//   RotaryTable(rope, batch, table);            // once a step: [rows, dim], cos and sin of each pair
//   Rotate(table_row, rope.dim, x);             // interleaved; RotateHalves: not
//
// YaRN as DeepSeek's inference code has it: a blend of the plain and the stretched frequency by dimension, scores
// multiplied by the square of 0.1 mscale ln(factor) + 1. Angles are f32 products, as in the references; their cosines
// are taken in f64 and rounded once.
#pragma once

#include <vector>

#include "models/model.h"

namespace atl::models {

struct Rope {
  int64_t dim = 0;
  std::vector<float> frequencies;  // [dim / 2]
  float magnitude = 1;             // of cos and sin
};
Rope MakeRope(const ModelSpec& spec, int64_t index);  // spec.ropes[index]
float ScoreScale(const ModelSpec& spec);              // of attention scores, with YaRN's correction

void RotaryTable(const Rope& rope, const Batch& batch, std::span<float> table);

inline void Rotate(const float* table, int64_t dim, float* x) {
  for (int64_t i = 0; i < dim; i += 2) {
    const float cos = table[i], sin = table[i + 1], a = x[i], b = x[i + 1];
    x[i] = a * cos - b * sin;
    x[i + 1] = b * cos + a * sin;
  }
}

inline void RotateHalves(const float* table, int64_t dim, float* x) {
  const int64_t half = dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const float cos = table[2 * i], sin = table[2 * i + 1], a = x[i], b = x[i + half];
    x[i] = a * cos - b * sin;
    x[i + half] = b * cos + a * sin;
  }
}

}  // namespace atl::models
