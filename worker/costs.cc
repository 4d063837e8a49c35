#include "worker/costs.h"

namespace atl::worker {

void SetCosts(const models::StepCosts& from, double sampling, double all, v1::StepCosts* to) {
  const auto of = [&](models::Phase phase) { return from.seconds[static_cast<size_t>(phase)]; };
  to->set_attention(of(models::Phase::kAttention));
  to->set_router(of(models::Phase::kRouter));
  to->set_dispatch(of(models::Phase::kDispatch));
  to->set_experts(of(models::Phase::kExperts));
  to->set_combine(of(models::Phase::kCombine));
  to->set_mlp(of(models::Phase::kMlp));
  to->set_head(of(models::Phase::kHead));
  to->set_sampling(sampling);
  double rest = all - sampling;
  for (size_t phase = 1; phase < models::kPhases; ++phase) rest -= from.seconds[phase];
  to->set_other(rest);
  to->set_weight_bytes(from.weight_bytes);
  to->set_operations(from.operations);
}

}  // namespace atl::worker
