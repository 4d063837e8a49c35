// Mixture of experts over the whole world: route, Dispatch, experts, Combine; the shared expert is a tensor-parallel
// MLP beside it. Every rank of the world calls once a layer and step, also without rows.
#pragma once

#include "models/layers/experts.h"
#include "models/layers/mlp.h"
#include "models/layers/router.h"

namespace atl::models {

struct Moe {
  Router router;
  std::vector<Expert> experts;  // this rank's, in the order of ExpertPlacement::ExpertsOf
  std::optional<Mlp> shared;
};

// The world's side of a step.
struct Exchange {
  const parallel::ExpertPlacement& placement;
  const Arena& memory;
  ExchangeCounters& counters;
};

// x: [home rows, hidden], normed; out = routed experts + shared expert, [home rows, hidden].
absl::Status RunMoe(const Step& step, const Exchange& exchange, const Moe& moe, int layer, std::span<const float> x,
                    std::span<float> out);

}  // namespace atl::models
