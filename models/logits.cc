#include "models/logits.h"

#include <algorithm>
#include <cmath>

#include "models/kernels/kernels.h"

namespace atl::models {

int32_t BestLogit(std::span<const float> logits) {
  const float best = kernels::Max(logits.data(), static_cast<int64_t>(logits.size()));
  const auto found = std::find(logits.begin(), logits.end(), best);
  return found == logits.end() ? 0 : static_cast<int32_t>(found - logits.begin());  // nothing but what is no number
}

double LogSumExp(std::span<const float> logits) {
  constexpr size_t kRun = 512;
  float terms[kRun];
  const float best = kernels::Max(logits.data(), static_cast<int64_t>(logits.size()));
  double sum = 0;
  for (size_t at = 0; at < logits.size(); at += kRun) {
    const size_t count = std::min(kRun, logits.size() - at);
    const float part = kernels::ExpMinus(logits.data() + at, static_cast<int64_t>(count), best, terms);
    if (!std::isnan(part)) {
      sum += part;
      continue;
    }
    for (size_t i = at; i < at + count; ++i) {
      if (!std::isnan(logits[i])) sum += std::exp(static_cast<double>(logits[i]) - best);
    }
  }
  return best + std::log(sum);
}

}  // namespace atl::models
