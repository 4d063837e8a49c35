// Plain and grouped-query attention, heads cut over the tensor-parallel group.
//
// Rows, in the wire type, are gathered by the group. Everywhere: this rank's heads of the queries and the key and value
// heads that they read (kept by several ranks where there are fewer of them than ranks), their norms and rotation, the
// cache, attention, and this rank's blocks of the output projection, whose sums return to the rows' homes.
// A layer without key and value projections reads the cache of another one.
#pragma once

#include "models/kv_cache.h"
#include "models/layers/linear.h"
#include "models/layers/norm.h"
#include "models/layers/step.h"

namespace atl::models {

// The canonical blocks of a rank's part of a projection, for norms over all of its heads.
struct HeadAxis {
  std::vector<int64_t> cuts;  // borders, relative to the rank's first column
  int64_t width = 0;          // of all heads of the model
};

struct Gqa {
  Linear query;                       // my heads [heads * head_dim, hidden]
  std::optional<Linear> key, value;   // the heads they read [kv heads * head_dim, hidden]
  Linear out;                         // [hidden, heads * head_dim], cut at my blocks
  const float* query_norm = nullptr;  // [head_dim], or of my heads [heads * head_dim] (QkNorm::kAllHeads)
  const float* key_norm = nullptr;    // the same of the key heads
  float norm_plus = 0;                // added to their weights
  float eps = 0;
  HeadAxis query_axis, key_axis;  // QkNorm::kAllHeads
  GqaSpec spec;
  KvGroup reach;
  int rope = -1;  // of Step::rotary
  bool interleaved = false;
  Range heads, kv_heads;  // of this rank
  int64_t readers = 1;    // query heads of a key head

  int64_t head_count() const { return heads.size(); }
};

// x: [home rows, hidden]; out: the same.
absl::Status RunGqa(const Step& step, const Gqa& gqa, const KvCache& cache, int layer, std::span<const float> x,
                    std::span<float> out);

// query: [rows, heads, head_dim], ready; out: the same shape. The step's own keys and values are in the cache already.
void Attend(const Step& step, const Gqa& gqa, const KvCache& cache, int layer, std::span<const float> query,
            std::span<float> out);

}  // namespace atl::models
