#include "models/layers/moe.h"

#include <algorithm>
#include <utility>

#include "models/layers/tensor_parallel.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

// Rows times the score of their only expert, which then counts once.
std::span<const float> ScaleInputs(const Step& step, const parallel::Routing& routing, std::span<const float> x,
                                   int64_t hidden) {
  const std::span<float> scaled = step.workspace.Take<float>("moe.routed", routing.rows * hidden);
  std::copy(x.begin(), x.begin() + routing.rows * hidden, scaled.begin());
  const std::span<float> weights = step.workspace.Take<float>("router.weights", routing.rows);
  for (int64_t row = 0; row < routing.rows; ++row) {
    kernels::Scale(std::exchange(weights[row], 1.0f), hidden, scaled.data() + row * hidden);
  }
  return scaled;
}

}  // namespace

absl::Status RunMoe(const Step& step, const Exchange& exchange, const Moe& moe, int layer, std::span<const float> x,
                    std::span<float> out) {
  const int64_t hidden = moe.router.gate.weight.cols;
  const parallel::ExchangeScratch scratch{exchange.memory.Take("exchange.send"), exchange.memory.Take("exchange.recv"),
                                          exchange.memory.Take("exchange.lists")};
  const bool scaled = moe.router.spec.router == RouterKind::kScaledInputs;

  step.costs->Enter(Phase::kRouter);
  const parallel::Routing routing = Route(step, moe.router, x);
  step.costs->Enter(Phase::kDispatch);
  ConstBuffer wire = ToWire(step, scaled ? ScaleInputs(step, routing, x, hidden) : x, hidden);
  ATOLL_ASSIGN_OR_RETURN(const parallel::Dispatched in, parallel::Dispatch(step.context, exchange.placement, layer,
                                                                           wire, hidden, routing, scratch, step.pool));
  step.costs->Enter(Phase::kExperts);
  const Buffer results = exchange.memory.TakeTyped("exchange.results", in.num_pairs * hidden,
                                                   parallel::ResultType(exchange.placement.slices(), step.wire));
  RunExperts(step, moe.experts, in, hidden, results);
  step.costs->Enter(Phase::kCombine);
  const std::span<float> routed = step.workspace.Take<float>("moe.routed", step.home.size() * hidden);
  ATOLL_RETURN_IF_ERROR(parallel::Combine(step.context, in, results, hidden, routing, routed, scratch, step.pool));

  step.costs->Enter(Phase::kOther);
  for (int rank = 0; rank < step.context.topology.world; ++rank) {
    exchange.counters.rows_to[rank] += in.rows_to[rank];
    exchange.counters.pairs_to[rank] += in.pairs_to[rank];
  }
  if (!moe.shared) {
    std::copy(routed.begin(), routed.end(), out.begin());
    return absl::OkStatus();
  }
  step.costs->Enter(Phase::kMlp);
  if (scaled) wire = ToWire(step, x, hidden);
  ATOLL_RETURN_IF_ERROR(RunMlp(step, *moe.shared, layer, wire, out));
  step.costs->Enter(Phase::kOther);
  ParallelRows(step.pool, std::ssize(routed), SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out[i] = routed[i] + out[i];
  });
  return absl::OkStatus();
}

}  // namespace atl::models
