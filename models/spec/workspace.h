// The step's buffers by name: what the layers take from their arenas and what the planner adds up (law 7).
// WorkspacePlan and ExchangePlan are declared in rank_memory.h; the tiles they are sized with are here, because the
// layers must walk in the same ones. No tile changes a bit: a row's result never depends on the rows beside it.
#pragma once

#include "models/spec/rank_memory.h"

namespace atl::models {

inline constexpr int64_t kSplitSegments = 64;  // of one emitted row's cache that threads take side by side
inline constexpr int64_t kAbsorbedTile = 64;   // emitted rows, of any sequences, that walk the cache together
inline constexpr int64_t kExpertTile = 64;     // rows that pass through an expert together
inline constexpr int64_t kExpertPairs = 512;   // of (row, expert) that pass through packed experts together

inline constexpr int64_t kGatedPartBytes = 112;  // of one of those experts' entry (models/layers/gated.h)

// Of rows quantised for products of integers, as models/kernels/packed.h lays them out.
constexpr int64_t QuantizedBytes(int64_t rows, int64_t depth) { return rows * ((depth + 31) / 32) * 40; }

// One rank's share of a model, and the most rows it meets in a step.
struct RankShare {
  int64_t rows = 0;       // of the group's step: max_batch_tokens
  int64_t home_rows = 0;  // that live on this rank
  int64_t logit_rows = 0;
  int64_t home_logit_rows = 0;
  Range heads;
  Range vocab;
  int64_t mlp = 0;           // of the widest MLP's or shared expert's inner axis
  int64_t query_input = 0;   // width of what q_b_proj (or q_proj) reads
  int64_t latent_width = 0;  // of a row gathered before attention: query input, latent, rotary key
};
// Width of a head's rotated part, in one row of a rope's table.
inline int64_t RotaryWidth(const ModelSpec& spec) { return spec.mla ? spec.mla->rope_dim : spec.gqa->head_dim; }
RankShare ShareOf(const ModelSpec& spec, const JobShape& shape, int rank);

}  // namespace atl::models
