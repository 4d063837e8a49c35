// One KV segment as one head sees it, and its part of a row's attention.
//
// A segment is kKvBlockTokens positions of a sequence at a fixed absolute place. For each (row, head) it gives local
// scores, their maximum, exponentials and their sum, and a weighted sum of values; segments are merged left to right,
// from the first one that the row sees anything of. So a row's result depends on its own position and the cache, not on
// the rows beside it, the step's chunk, threads, or what of the cache has been dropped.
#pragma once

#include <algorithm>
#include <cstdint>

#include "models/kernels/kernels.h"
#include "models/spec/workspace.h"

namespace atl::models {

// Running softmax of one (row, head): the largest score so far and the sum of exponentials relative to it.
struct Running {
  float max = 0, sum = 0;
};

struct Segment {
  int64_t begin = 0;            // absolute position
  int64_t count = 0;            // positions written so far, up to the last row's
  const float* keys = nullptr;  // of position j: keys + j key_stride
  int64_t key_stride = 0, key_width = 0;
  // Value k of position j's key at keys[k key_stride + j]: what many rows are multiplied with faster. A score is summed
  // over k in ascending order then, in the lanes of kernels.h otherwise: which of the two belongs to the token (law 1).
  bool keys_by_column = false;
  const float* values = nullptr;
  int64_t value_stride = 0, value_width = 0;
};

// A row at `position` that sees positions from `first` on; nothing happens if none of them is in the segment.
struct SegmentRow {
  const float* query = nullptr;
  int64_t first = 0;
  int64_t position = 0;
  Running* running = nullptr;
  float* sum = nullptr;  // [value_width]
};

// Adds the segment to the row's sum. term: scratch [value_width].
void AddSegment(const Segment& segment, const SegmentRow& row, float scale, float* term);

inline constexpr int64_t kSegmentRows = 64;  // of a block at most
inline constexpr int64_t kRisingRows = 4;    // of one whose rows see one position more each: a tile of the products

// Rows (or heads of one row, where they share their keys) that see all of a segment's first `seen` positions: their
// scores are one product, their sums of values another. Each row's bits are those of AddSegment above.
struct SegmentBlock {
  int64_t rows = 0, seen = 0;
  int64_t more = 0;                // positions that each row sees beyond what the row before it does: 0 or 1
  bool first = false;              // no row sees anything of an earlier segment
  const float* queries = nullptr;  // row r's at queries + r query_stride; keys by row: [rows, key_width]
  int64_t query_stride = 0;
  Running* running = nullptr;  // of row r: running[r running_stride], sums + r sum_stride
  int64_t running_stride = 1;
  float* sums = nullptr;
  int64_t sum_stride = 0;
  kernels::Ahead ahead{};  // memory that is wanted next
};
void AddSegment(const Segment& segment, const SegmentBlock& block, float scale, float* scratch);
// Floats of its scratch.
constexpr int64_t SegmentScratch(int64_t rows, int64_t value_width) { return rows * (kKvBlockTokens + value_width); }

// The most floats that a thread needs while it works on attention: of an expanded head its keys by column, of heads in
// absorbed form a segment's latents, of plain heads their queries, then the scratch above; or quantised rows for a
// head's up projection.
constexpr int64_t AttentionScratch(const ModelSpec& spec) {
  if (!spec.mla) return kSegmentRows * spec.gqa->head_dim + SegmentScratch(kSegmentRows, spec.gqa->head_dim);
  const MlaSpec& mla = *spec.mla;
  return std::max({kKvBlockTokens * mla.qk_dim() + SegmentScratch(kSegmentRows, mla.v_dim),
                   kKvBlockTokens * mla.latent_dim() + SegmentScratch(kSegmentRows, mla.kv_lora_rank),
                   QuantizedBytes(kAbsorbedTile, std::max(mla.kv_lora_rank, mla.nope_dim)) / 4});
}

// Adds what a segment gave alone, its softmax and its weighted sum of values; of the row's first it is taken as it is.
// From left to right: the same bits, whoever computed the segments.
void MergeSegment(bool first, const Running& local, const float* term, int64_t width, Running* running, float* sum);

}  // namespace atl::models
