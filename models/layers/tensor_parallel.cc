#include "models/layers/tensor_parallel.h"

#include <algorithm>

#include "models/kernels/kernels.h"
#include "parallel/reduce.h"

namespace atl::models {

ConstBuffer ToWire(const Step& step, std::span<const float> rows, int64_t width) {
  const Buffer wire = step.workspace.TakeTyped("wire.home", static_cast<int64_t>(rows.size()), step.wire);
  ParallelRows(step.pool, wire.count / width, width * SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
    kernels::Round(rows.data() + begin * width, (end - begin) * width, wire.type,
                   static_cast<std::byte*>(wire.data) + begin * width * SizeOf(wire.type));
  });
  return wire;
}

absl::StatusOr<ConstBuffer> GatherRows(const Step& step, ConstBuffer wire, std::span<const int64_t> rows_of,
                                       int64_t width, parallel::OpTag tag) {
  if (step.context.tp_group->size() == 1) return wire;
  GroupCounts counts;
  int64_t total = 0;
  for (const int64_t rows : rows_of) total += counts.emplace_back(rows * width);
  const Buffer all = step.workspace.TakeTyped("wire.all", total, wire.type);
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending gather, step.context.tp_group->StartAllGatherV(wire, all, counts, tag));
  ATOLL_RETURN_IF_ERROR(gather.Wait(step.context.NextDeadline()));
  return ConstBuffer(all);
}

absl::Status ReduceToHomes(const Step& step, std::span<const float> partial, int64_t width, std::span<float> out,
                           parallel::OpTag tag) {
  parallel::Communicator& group = *step.context.tp_group;
  const int64_t scratch = parallel::ReduceScatterScratch(step.rows, width, group.rank(), group.size());
  return parallel::ReduceScatter(group, partial, step.rows, width,
                                 step.workspace.Take<float>("reduce.scratch", scratch), out, tag,
                                 step.context.NextDeadline(), step.pool);
}

absl::Status ReduceToAll(const Step& step, std::span<const float> partial, int64_t width, std::span<float> sums,
                         parallel::OpTag tag) {
  parallel::Communicator& group = *step.context.tp_group;
  const int64_t mine = step.home.size() * width;
  const int64_t scratch = parallel::ReduceScatterScratch(step.rows, width, group.rank(), group.size()) + mine;
  return parallel::AllReduce(group, partial, step.rows, width, step.workspace.Take<float>("sums.scratch", scratch),
                             sums, tag, step.context.NextDeadline());
}

}  // namespace atl::models
