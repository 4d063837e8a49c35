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

absl::Status GatherTop(const parallel::ParallelContext& context, int64_t vocab_limit, const SequenceTable& sequences,
                       const v1::StepPlan& plan, const StepBatch& batch, const models::LogitRows& logits,
                       TopRows* top) {
  const auto asked_of = [&](const LogitUse& use) -> int64_t {
    return use.sample ? sequences.at(plan.rows(use.plan_row).id()).sampling.top_logprobs() : 0;
  };
  top->width = 0;
  for (const LogitUse& use : batch.uses) top->width = std::max(top->width, asked_of(use));
  if (top->width == 0) return absl::OkStatus();
  const auto rows = static_cast<int64_t>(batch.uses.size());
  const int64_t vocab = logits.count > 0 ? static_cast<int64_t>(logits.values.size()) / logits.count : 0;
  top->values.assign(rows * top->width, {-1, 0});
  const auto mine = std::span(top->values).subspan(logits.first * top->width, logits.count * top->width);
  thread_local SamplerScratch scratch;
  for (int64_t i = 0; i < logits.count; ++i) {
    const int64_t asked = asked_of(batch.uses[logits.first + i]);
    if (asked == 0) continue;
    const auto best = MostLikely(logits.values.subspan(i * vocab, vocab), asked, vocab_limit, &scratch);
    std::copy(best.begin(), best.end(), mine.begin() + i * top->width);
  }
  GroupCounts counts(context.topology.tp);
  for (int peer = 0; peer < context.topology.tp; ++peer) {
    counts[peer] =
        EvenPart(rows, peer, context.topology.tp).size() * top->width * static_cast<int64_t>(sizeof(TokenLogprob));
  }
  const auto bytes = [](std::span<TokenLogprob> values) {
    return Buffer{values.data(), static_cast<int64_t>(values.size_bytes()), DType::kU8};
  };
  ATOLL_ASSIGN_OR_RETURN(parallel::Pending gathered,
                         context.tp_group->StartAllGatherV(bytes(mine), bytes(top->values), counts, {"top logprobs"}));
  return gathered.Wait(context.NextDeadline());
}

}  // namespace atl::worker
