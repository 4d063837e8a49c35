// The most likely tokens beside each sampled one, where a sequence asks for them: from each row's home to the group.
//
//   ATOLL_RETURN_IF_ERROR(GatherTop(context, sample_vocab, sequences, plan, batch, logits, &top));
//   top.AddTo(row, count, output);
//
// A row's logits are whole at its home, and softmax runs over them in one order: the values do not depend on the
// degree.
#pragma once

#include <vector>

#include "parallel/context.h"
#include "worker/sampler.h"
#include "worker/sequences.h"

namespace atl::worker {

struct TopRows {
  int64_t width = 0;                 // of each row; 0: nobody asks
  std::vector<TokenLogprob> values;  // [rows of the batch's uses, width], the best first; token -1: no more
  void AddTo(int64_t row, int64_t count, v1::SequenceOutput* output) const;
};

// Makes *top anew, in the memory that it has. Every rank of the group calls it. Ids >= vocab_limit are not reported.
absl::Status GatherTop(const parallel::ParallelContext& context, int64_t vocab_limit, const SequenceTable& sequences,
                       const v1::StepPlan& plan, const StepBatch& batch, const models::LogitRows& logits, TopRows* top);

}  // namespace atl::worker
