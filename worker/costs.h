// What a step cost, as its result carries it.
#pragma once

#include "atoll/v1/step.pb.h"
#include "models/step_costs.h"

namespace atl::worker {

// sampling and all: seconds, of the sampling after the forward pass and of the whole step.
void SetCosts(const models::StepCosts& from, double sampling, double all, v1::StepCosts* to);

}  // namespace atl::worker
