// Which experts a row goes to, decided at its home in f32, by RouterKind:
//   kSigmoid (DeepSeek-V3's "noaux_tc"): s = sigmoid(W x); choice = s + bias; of the expert groups keep those with the
//     largest sums of their two best choices and mask the others with minus infinity
//   kSoftmax: choice = s = softmax(W x)
//   kScaledInputs: choice = W x, s = sigmoid(W x), which multiplies the expert's input (moe.cc)
// Take the top_k best choices, ties to the lowest index; weights = s / (their sum + 1e-20) if normalised, * scaling.
// Experts come best choice first: the router's order, in which Combine adds.
#pragma once

#include "models/layers/linear.h"
#include "models/layers/step.h"
#include "parallel/dispatch.h"

namespace atl::models {

struct Router {
  Linear gate;                  // [experts, hidden]
  const float* bias = nullptr;  // [experts], or none
  MoeSpec spec;
};

// x: [home rows, hidden], normed, f32. The routing's spans lie in the workspace until the next call.
parallel::Routing Route(const Step& step, const Router& router, std::span<const float> x);

// One row: scores [experts], s above; choice is scratch of the same size. bias may be null.
void ChooseExperts(const MoeSpec& spec, std::span<const float> scores, const float* bias, std::span<float> choice,
                   int32_t* experts, float* weights);

}  // namespace atl::models
