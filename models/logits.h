// What a sampler asks of one row of logits, by the kernels. Values that are not numbers count as the worst.
#pragma once

#include <cstdint>
#include <span>

namespace atl::models {

int32_t BestLogit(std::span<const float> logits);  // the lowest id of equals
// ln of the sum of exp(logit): terms in f32 within 1e-7 of themselves, runs of 512 added in f64. The same bits on every
// machine that has the kernels' target.
double LogSumExp(std::span<const float> logits);

}  // namespace atl::models
