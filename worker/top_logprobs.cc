#include "worker/top_logprobs.h"

#include <algorithm>

#include "parallel/base/partition.h"
#include "parallel/communicator.h"

namespace atl::worker {

void TopRows::AddTo(int64_t row, int64_t count, v1::SequenceOutput* output) const {
  if (count == 0) return;
  v1::TopTokens* top = output->add_top();
  for (int64_t i = row * width; i < row * width + std::min(count, width) && values[i].token >= 0; ++i) {
    top->add_tokens(values[i].token);
    top->add_logprobs(values[i].logprob);
  }
}

absl::StatusOr<TopRows> GatherTop(const parallel::ParallelContext& context, int64_t vocab_limit,
                                  const SequenceTable& sequences, const v1::StepPlan& plan, const StepBatch& batch,
                                  const models::LogitRows& logits) {
  TopRows top;
  for (const LogitUse& use : batch.uses) {
    if (use.sample) {
      const int64_t asked = sequences.at(plan.rows(use.plan_row).id()).sampling.top_logprobs();
      top.width = std::max(top.width, asked);
    }
  }
  if (top.width == 0) return top;
  const auto rows = static_cast<int64_t>(batch.uses.size());
  const int64_t vocab = logits.count > 0 ? static_cast<int64_t>(logits.values.size()) / logits.count : 0;
  std::vector<TokenLogprob> mine(logits.count * top.width, TokenLogprob{-1, 0});
  SamplerScratch scratch;
  for (int64_t i = 0; i < logits.count; ++i) {
    const LogitUse& use = batch.uses[logits.first + i];
    if (!use.sample) continue;
    const int64_t asked = sequences.at(plan.rows(use.plan_row).id()).sampling.top_logprobs();
    const auto best = MostLikely(logits.values.subspan(i * vocab, vocab), asked, vocab_limit, &scratch);
    std::copy(best.begin(), best.end(), mine.begin() + i * top.width);
  }
  top.values.resize(rows * top.width);
  const int64_t row_bytes = top.width * static_cast<int64_t>(sizeof(TokenLogprob));
  std::vector<int64_t> counts(context.topology.tp);
  for (int peer = 0; peer < context.topology.tp; ++peer) {
    counts[peer] = EvenPart(rows, peer, context.topology.tp).size() * row_bytes;
  }
  const auto bytes = [&](std::vector<TokenLogprob>& values) {
    return Buffer{values.data(), static_cast<int64_t>(values.size() * sizeof(TokenLogprob)), DType::kU8};
  };
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending gathered,
                         context.tp_group->StartAllGatherV(bytes(mine), bytes(top.values), counts, {"top logprobs"}));
  ATOLL_RETURN_IF_ERROR(gathered.Wait(context.NextDeadline()));
  return top;
}

}  // namespace atl::worker
