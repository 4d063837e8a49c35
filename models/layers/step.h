// What every layer of one forward pass is given: the batch, who is where, and the buffers. A value of one step.
//
// Rows: the attention group's step has `rows` rows, known to all its ranks. Row i lives at tp rank PartOf(i, rows, tp),
// its home: the residual stream [home rows, hidden] f32 exists nowhere else.
#pragma once

#include "models/arena.h"
#include "models/model.h"
#include "parallel/base/partition.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

struct Step {
  const Batch& batch;
  const parallel::ParallelContext& context;
  const Arena& workspace;
  ThreadPool* pool = nullptr;
  DType wire = DType::kF32;
  int64_t rows = 0;
  Range home;         // rows of the batch that live here
  GroupCounts homes;  // [tp] rows that live at each rank of the group
  StepCosts* costs = nullptr;
  std::span<const float> rotary;  // [ropes, rows, dim]: cos, sin of each pair at the row's position

  const float* Rotary(int64_t rope, int64_t row, int64_t dim) const {
    return rotary.data() + (rope * rows + row) * dim;
  }
};

}  // namespace atl::models
