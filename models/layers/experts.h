// This rank's experts, or its slices of them, each on the rows that were dispatched to it.
//
//   const Dispatched in = ...;                            // rows, and which of them each expert reads
//   RunExperts(step, moe.experts, in, hidden, results);   // results [in.num_pairs, hidden], for Combine
//
// An expert is down(silu(gate(x)) * up(x)): one pass over each matrix for all its rows, in tiles. Packed matrices are
// multiplied by gated.h, all experts side by side; of plain ones a thread makes its share of all experts' outputs.
#pragma once

#include <vector>

#include "models/layers/linear.h"
#include "parallel/dispatch.h"

namespace atl::models {

struct Expert {
  Linear gate, up;  // [width, hidden]: width is the expert's inner axis, or a slice's part of it
  Linear down;      // [hidden, width]
};

// results[p] = the expert of pair p on the row it reads, of parallel::ResultType, pairs as `in` groups them.
void RunExperts(const Step& step, const std::vector<Expert>& experts, const parallel::Dispatched& in, int64_t hidden,
                Buffer results);

}  // namespace atl::models
