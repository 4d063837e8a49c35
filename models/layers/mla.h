// Multi-head latent attention (DeepSeek-V2 and later), heads cut over the tensor-parallel group.
//
// At home: latents [cq | c | k_pe] of each row, normed and rotated, then gathered by the group. Everywhere: the cache,
// this rank's heads of the queries, attention (attention.h), and this rank's blocks of the output projection, whose
// sums return to the homes.
#pragma once

#include "models/layers/attention.h"
#include "models/layers/norm.h"
#include "models/layers/rope.h"

namespace atl::models {

struct Mla {
  std::optional<Linear> query_down;  // q_a_proj [q_lora_rank, hidden]; none: queries come from the hidden state
  Norm query_norm;
  Linear query_up;  // q_b_proj or q_proj, my heads [heads * qk_dim, query input]
  Linear kv_down;   // kv_a_proj_with_mqa [kv_lora_rank + rope_dim, hidden]
  Norm kv_norm;
  LatentAttention attention;
  Linear out;  // o_proj [hidden, heads * v_dim], cut at my blocks
};

// x: [home rows, hidden], normed; out: [home rows, hidden].
absl::Status RunMla(const Step& step, const Mla& mla, const KvCache& cache, int layer, std::span<const float> x,
                    std::span<float> out);

}  // namespace atl::models
