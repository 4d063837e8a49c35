#include "models/model.h"

#include "models/arch/table.h"
#include "models/kernels/kernels.h"
#include "models/layers/segment.h"
#include "models/layers/thread_scratch.h"
#include "models/runtime.h"

namespace atl::models {

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const LoadOptions& options, const parallel::ParallelContext& context,
                                                 const LoadProgress& progress) {
  const JobShape& shape = options.shape;
  ATOLL_RETURN_IF_ERROR(CheckShape(options.spec, shape));
  if (options.spec.moe &&
      (options.placement.experts() != options.spec.moe->experts || options.placement.world() != shape.topology.world)) {
    return InvalidArgument("the placement is of {} experts over {} ranks, the job has {} over {}",
                           options.placement.experts(), options.placement.world(), options.spec.moe->experts,
                           shape.topology.world);
  }
  ATOLL_RETURN_IF_ERROR(CheckExpertSlices(options.spec, shape.topology.world, options.placement.slices()));
  ATOLL_ASSIGN_OR_RETURN(const ArchitectureFactory make, FindArchitecture(options.spec.architecture));
  auto pool = std::make_unique<ThreadPool>(options.threads);
  ATOLL_ASSIGN_OR_RETURN(WeightArena weights, WeightArena::Load(options, context.rank, pool.get(), progress));

  Runtime runtime{.spec = options.spec,
                  .shape = shape,
                  .placement = options.placement,
                  .rank = context.rank,
                  .weights = std::move(weights),
                  .kv = KvCache(options.spec, shape, context.rank),
                  .workspace = Arena(WorkspacePlan(options.spec, shape, context.rank)),
                  .exchange = Arena(ExchangePlan(options.spec, shape, context.rank, options.placement)),
                  .memory = {},
                  .pool = std::move(pool)};
  runtime.kv.Claim(runtime.pool.get());
  runtime.workspace.Claim(runtime.pool.get());
  runtime.exchange.Claim(runtime.pool.get());
  ClaimThreadScratch(runtime.pool.get(), AttentionScratch(options.spec));
  runtime.memory = {.weights = runtime.weights.bytes(),
                    .kv = runtime.kv.bytes(),
                    .workspace = runtime.workspace.bytes(),
                    .exchange = runtime.exchange.bytes()};
  const RankMemory planned = PlanRankMemory(options.spec, shape, context.rank, options.placement);
  ATOLL_CHECK(runtime.memory.total() == planned.total(), "rank {} allocated {} bytes, {} were planned", context.rank,
              runtime.memory.total(), planned.total());
  return make(std::move(runtime));
}

std::string KernelTarget() { return kernels::Target(); }

}  // namespace atl::models
