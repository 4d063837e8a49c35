#include "worker/gather_logits.h"

#include <algorithm>

#include "parallel/base/partition.h"
#include "parallel/communicator.h"

namespace atl::worker {

absl::StatusOr<std::vector<float>> GatherLogits(const parallel::ParallelContext& context, int64_t vocab,
                                                const StepBatch& batch, const models::LogitRows& logits) {
  const int tp = context.topology.tp;
  const auto rows = static_cast<int64_t>(batch.uses.size());
  GroupCounts counts(tp);  // floats by home
  for (int64_t i = 0; i < rows; ++i) {
    if (batch.uses[i].logits) counts[PartOf(i, rows, tp)] += vocab;
  }
  if (std::all_of(counts.begin(), counts.end(), [](int64_t count) { return count == 0; })) return std::vector<float>();
  std::vector<float> mine;
  for (int64_t i = 0; i < logits.count; ++i) {
    if (!batch.uses[logits.first + i].logits) continue;
    const std::span<const float> row = logits.values.subspan(i * vocab, vocab);
    mine.insert(mine.end(), row.begin(), row.end());
  }
  const bool leader = context.tp_rank() == 0;
  GroupCounts send_counts(tp);
  send_counts[0] = static_cast<int64_t>(mine.size());
  if (!leader) std::fill(counts.begin(), counts.end(), 0);
  int64_t total = 0;
  for (const int64_t count : counts) total += count;
  std::vector<float> all(total);
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending gathered,
                         context.tp_group->StartAllToAllV(Buffer::Of(std::span(mine)), send_counts,
                                                          Buffer::Of(std::span(all)), counts, {"logits"}));
  ATOLL_RETURN_IF_ERROR(gathered.Wait(context.NextDeadline()));
  return all;
}

}  // namespace atl::worker
