// One KV segment as one head sees it, and its part of a row's attention.
//
// A segment is kKvBlockTokens positions of a sequence at a fixed absolute place. For each (row, head) it gives local
// scores, their maximum, exponentials and their sum, and a weighted sum of values; segments are merged left to right,
// from the first one that the row sees anything of. So a row's result depends on its own position and the cache, not on
// the rows beside it, the step's chunk, threads, or what of the cache has been dropped.
#pragma once

#include <cstdint>

namespace atl::models {

// Running softmax of one (row, head): the largest score so far and the sum of exponentials relative to it.
struct Running {
  float max = 0, sum = 0;
};

struct Segment {
  int64_t begin = 0;  // absolute position
  int64_t count = 0;  // positions written so far, up to the last row's
  const float* keys = nullptr;
  int64_t key_stride = 0, key_width = 0;
  const float* rotary_keys = nullptr;  // shared by the heads; width 0: none
  int64_t rotary_stride = 0, rotary_width = 0;
  const float* values = nullptr;
  int64_t value_stride = 0, value_width = 0;
};

// A row at `position` that sees positions from `first` on; nothing happens if none of them is in the segment.
struct SegmentRow {
  const float* query = nullptr;
  const float* rotary_query = nullptr;
  int64_t first = 0;
  int64_t position = 0;
  Running* running = nullptr;
  float* sum = nullptr;  // [value_width]
};

// Adds the segment to the row's sum. term: scratch [value_width].
void AddSegment(const Segment& segment, const SegmentRow& row, float scale, float* term);

inline constexpr int64_t kSegmentRows = 64;  // of a block at most

// Rows (or heads of one row, where they share their keys) that see all of a segment's first `seen` positions: their
// scores are one product, their sums of values another. Each row's bits are those of AddSegment above.
struct SegmentBlock {
  int64_t rows = 0, seen = 0;
  bool first = false;                     // no row sees anything of an earlier segment
  const float* queries = nullptr;         // [rows, key_width]
  const float* rotary_queries = nullptr;  // [rows, rotary_width]
  Running* running = nullptr;             // of row r: running[r running_stride], sums + r sum_stride
  int64_t running_stride = 1;
  float* sums = nullptr;
  int64_t sum_stride = 0;
};
void AddSegment(const Segment& segment, const SegmentBlock& block, float scale, float* scratch);
// Floats of its scratch.
constexpr int64_t SegmentScratch(int64_t rows, int64_t value_width) { return rows * (2 * 64 + value_width); }

}  // namespace atl::models
