// Attention over the latent cache, one KV segment after the other (segment.h). Keys and values come out of the cache
// after rounding to its type, this step's own too.
//
// MLA has two forms that round differently, and the form belongs to the token (law 1):
//   - expanded (prompt): k = [W_UK c | k_pe], v = W_UV c, made anew for each segment; a score is summed in ascending
//     order
//   - absorbed (emitted): score = [q_nope W_UK | q_pe] [c | k_pe], in the lanes of kernels.h; W_UV is applied at the
//     end, to the sum of p c
#pragma once

#include "models/kv_cache.h"
#include "models/layers/linear.h"
#include "models/layers/step.h"

namespace atl::models {

struct LatentAttention {
  MlaSpec mla;
  int64_t heads = 0;   // of this rank
  kernels::Matrix up;  // kv_b_proj: [heads * (nope_dim + v_dim), kv_lora_rank]; per head W_UK, then W_UV
  float scale = 1;
  // Instead of `up`, where the checkpoint has them apart (MlaSpec::split_up): [heads * kv_lora_rank, nope_dim], W_UK
  // transposed head by head, and [heads * v_dim, kv_lora_rank].
  kernels::Matrix key_up{}, value_up{};
};

// query: [rows, heads, qk_dim], rotated; out: [rows, heads, v_dim]. The step's own latents are in the cache already.
void Attend(const Step& step, const LatentAttention& attention, const KvCache& cache, int layer,
            std::span<const float> query, std::span<float> out);

}  // namespace atl::models
