// What every layer of one forward pass is given: the batch, who is where, and the buffers. A value of one step.
//
// Rows: the attention group's step has `rows` rows, known to all its ranks. Row i lives at tp rank PartOf(i, rows, tp),
// its home: the residual stream [home rows, hidden] f32 exists nowhere else.
#pragma once

#include "models/arena.h"
#include "models/model.h"
#include "parallel/base/thread_pool.h"

namespace atl::models {

struct Step {
  const Batch& batch;
  const parallel::ParallelContext& context;
  const Arena& workspace;
  ThreadPool* pool = nullptr;
  DType wire = DType::kF32;
  int64_t rows = 0;
  Range home;                  // rows of the batch that live here
  std::vector<int64_t> homes;  // [tp] rows that live at each rank of the group
  StepCosts* costs = nullptr;
  std::vector<std::span<const float>> rotary;  // by rope: [rows, dim], cos, sin of each pair at the row's position
};

}  // namespace atl::models
