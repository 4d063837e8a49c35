// Sums over a tensor-parallel group in the one order that no shape changes.
//
// A partial is this rank's subtree: its canonical blocks (parallel/base/partition.h) already summed as the lower levels
// of the tree. The upper levels are summed here: ranks 2i and 2i+1 first, then pairs of pairs.
//
//   // partial: [rows, width] f32, the sum over my blocks, for all rows of the group's step
//   ATOLL_RETURN_IF_ERROR(ReduceScatter(group, partial, rows, width, scratch, mine, tag, deadline));
//   // mine: [EvenPart(rows, rank, size), width], complete sums of my rows
//
// The wire is f32 in every numerics profile: rounding the partials would make the bits depend on the number of ranks.
#pragma once

#include "parallel/base/thread_pool.h"
#include "parallel/communicator.h"

namespace atl::parallel {

// Floats of scratch that ReduceScatter needs on `rank`: one slice of my rows from every rank.
int64_t ReduceScatterScratch(int64_t rows, int64_t width, int rank, int size);

// pool: its threads share the copy that is all there is to do in a group of one.
absl::Status ReduceScatter(Communicator& group, std::span<const float> partial, int64_t rows, int64_t width,
                           std::span<float> scratch, std::span<float> mine, OpTag tag, Deadline deadline,
                           ThreadPool* pool = nullptr);

// ReduceScatter, then AllGather: `sums` is [rows, width] on every rank. Scratch as for ReduceScatter plus my rows.
absl::Status AllReduce(Communicator& group, std::span<const float> partial, int64_t rows, int64_t width,
                       std::span<float> scratch, std::span<float> sums, OpTag tag, Deadline deadline);

// The tree itself: terms[i] is [count]; sum = ((t0+t1)+(t2+t3))+... ; 1, 2, 4 or 8 terms. Overwrites the terms.
void SumTree(std::span<float* const> terms, int64_t count, float* sum);

}  // namespace atl::parallel
