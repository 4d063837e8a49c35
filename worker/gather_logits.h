// The logits that a sequence wants whole (OUTPUT_LOGITS, for scoring): from each row's home to the group's leader. The
// only part of a step that allocates, where they are wanted.
#pragma once

#include <vector>

#include "parallel/context.h"
#include "worker/sequences.h"

namespace atl::worker {

// On the leader [wanted rows, vocab], in the batch's order; empty elsewhere, and where no row is wanted. Every rank of
// the group calls it.
absl::StatusOr<std::vector<float>> GatherLogits(const parallel::ParallelContext& context, int64_t vocab,
                                                const StepBatch& batch, const models::LogitRows& logits);

}  // namespace atl::worker
