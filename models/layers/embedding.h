// The embedding, its rows sharded over the tensor-parallel group: the owner of an id sends the row to the token's home.
// All ranks know all ids, so all counts are known everywhere. Rows travel in f32, whatever the format: nothing is
// rounded or added.
#pragma once

#include <vector>

#include "models/kernels/kernels.h"
#include "models/layers/step.h"

namespace atl::models {

struct Embedding {
  // This rank's rows [EvenPart(vocab, tp_rank, tp), width] of each table; an id's embedding is its rows side by side.
  std::vector<kernels::Matrix> tables;
  int64_t vocab = 0;
  bool beyond_is_zero = false;  // ids from vocab on read row 0 (Gemma 3n's tables of the layers); otherwise they break

  int64_t width() const {
    int64_t sum = 0;
    for (const kernels::Matrix& table : tables) sum += table.cols;
    return sum;
  }
};

// Gemma's factor of the token's embedding, in the type that it computes in: bf16 in profile bf16, as it was trained.
inline float EmbeddingScale(double scale, DType wire) {
  const auto exact = static_cast<float>(scale);
  return wire == DType::kBF16 ? ToFloat(ToBF16(exact)) : exact;
}

// out: [home rows, width].
absl::Status Embed(const Step& step, const Embedding& embedding, std::span<float> out);

}  // namespace atl::models
