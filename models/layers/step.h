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

// A loop over rows of `width` values on the step's threads, where there is enough to do that waking them pays.
template <typename Body>  // body(begin, end)
void ForRows(const Step& step, int64_t rows, int64_t width, const Body& body) {
  constexpr int64_t kWorthSharing = 32 << 10;
  ParallelFor(rows * width >= kWorthSharing ? step.pool : nullptr, rows, body);
}

}  // namespace atl::models
