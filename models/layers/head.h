// The vocabulary-sharded head: the wanted rows, after the final norm, go to the whole group; every rank multiplies its
// rows of the vocabulary; the slices meet at each logit row's home.
#pragma once

#include "models/layers/linear.h"
#include "models/layers/step.h"

namespace atl::models {

struct Head {
  Linear out;  // [EvenPart(vocab, tp_rank, tp), hidden]
  int64_t vocab = 0;
  float softcap = 0;  // c: logits become c tanh(logit / c); 0: not
};

// normed: [home rows, hidden], all home rows after the final norm.
absl::StatusOr<LogitRows> RunHead(const Step& step, const Head& head, std::span<const float> normed);

}  // namespace atl::models
