#include "models/layers/router.h"

#include <algorithm>
#include <limits>

namespace atl::models {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();

// The index of the largest value, the lowest one of equals. Callers keep at least one value above kMasked.
int64_t Best(std::span<const float> values) { return std::max_element(values.begin(), values.end()) - values.begin(); }

void KeepBestGroups(const MoeSpec& spec, std::span<float> choice) {
  const int64_t size = spec.experts / spec.groups;
  float all_scores[kMaxExpertGroups];
  const std::span<float> scores(all_scores, spec.groups);
  for (int64_t g = 0; g < spec.groups; ++g) {
    float first = kMasked, second = kMasked;
    for (const float value : choice.subspan(g * size, size)) {
      if (value > first) {
        second = first;
        first = value;
      } else if (value > second) {
        second = value;
      }
    }
    scores[g] = std::max(first + second, std::numeric_limits<float>::lowest());
  }
  bool kept[kMaxExpertGroups] = {};
  for (int64_t i = 0; i < spec.groups_kept; ++i) {
    const int64_t best = Best(scores);
    kept[best] = true;
    scores[best] = kMasked;
  }
  for (int64_t e = 0; e < spec.experts; ++e) {
    if (!kept[e / size]) choice[e] = kMasked;
  }
}

}  // namespace

void ChooseExperts(const MoeSpec& spec, std::span<const float> scores, const float* bias, std::span<float> choice,
                   int32_t* experts, float* weights) {
  for (int64_t e = 0; e < spec.experts; ++e) {
    const float value = bias != nullptr ? scores[e] + bias[e] : scores[e];
    // A value that is not a number must not become an index beyond the list.
    choice[e] = value > std::numeric_limits<float>::lowest() ? value : std::numeric_limits<float>::lowest();
  }
  if (spec.groups > 1) KeepBestGroups(spec, choice);
  float sum = 0;
  for (int64_t k = 0; k < spec.top_k; ++k) {
    const int64_t best = Best(choice);
    choice[best] = kMasked;
    experts[k] = static_cast<int32_t>(best);
    weights[k] = scores[best];
    sum += scores[best];
  }
  for (int64_t k = 0; k < spec.top_k; ++k) {
    if (spec.normalize) weights[k] /= sum + 1e-20f;
    weights[k] *= static_cast<float>(spec.scaling);
  }
}

parallel::Routing Route(const Step& step, const Router& router, std::span<const float> x) {
  const MoeSpec& spec = router.spec;
  const int64_t rows = step.home.size();
  const std::span<float> scores = step.workspace.Take<float>("router.scores", rows * spec.experts);
  const std::span<float> choice = step.workspace.Take<float>("router.choice", rows * spec.experts);
  const std::span<int32_t> experts = step.workspace.Take<int32_t>("router.experts", rows * spec.top_k);
  const std::span<float> weights = step.workspace.Take<float>("router.weights", rows * spec.top_k);
  router.gate.Apply({step, x, rows}, scores);
  ParallelRows(step.pool, rows, spec.experts * spec.top_k * SizeOf(DType::kF32), [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      const std::span<float> mine = scores.subspan(row * spec.experts, spec.experts);
      if (spec.router == RouterKind::kSigmoid) kernels::Sigmoid(mine.data(), spec.experts, mine.data());
      if (spec.router == RouterKind::kSoftmax) {
        const float sum =
            kernels::ExpMinus(mine.data(), spec.experts, kernels::Max(mine.data(), spec.experts), mine.data());
        kernels::Scale(1.0f / sum, spec.experts, mine.data());
      }
      ChooseExperts(spec, mine, router.bias, choice.subspan(row * spec.experts, spec.experts),
                    experts.data() + row * spec.top_k, weights.data() + row * spec.top_k);
    }
  });
  // The raw score chose; what it weighs is its sigmoid.
  if (spec.router == RouterKind::kScaledInputs) kernels::Sigmoid(weights.data(), rows, weights.data());
  return {.rows = rows, .top_k = static_cast<int>(spec.top_k), .experts = experts, .weights = weights};
}

}  // namespace atl::models
