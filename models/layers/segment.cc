#include "models/layers/segment.h"

#include <algorithm>
#include <cmath>

namespace atl::models {

namespace {

// The local softmax of one row: its scores, both parts added already, become exponentials; the rest of the merge needs
// the weighted sum of values in `term`, or in the row's own sum if this is its first segment.
Running Exponentials(int64_t seen, float scale, float* scores) {
  kernels::Scale(scale, seen, scores);
  const float max = kernels::Max(scores, seen);
  return {max, kernels::ExpMinus(scores, seen, max, scores)};
}

}  // namespace

void MergeSegment(bool first, const Running& local, const float* term, int64_t width, Running* running, float* sum) {
  if (first) {
    *running = local;
    std::copy_n(term, width, sum);
    return;
  }
  const float max = std::max(running->max, local.max);
  const float keep = std::exp(running->max - max), take = std::exp(local.max - max);
  kernels::Axpby(take, term, keep, width, sum);
  *running = {max, running->sum * keep + local.sum * take};
}

void AddSegment(const Segment& s, const SegmentRow& row, float scale, float* term) {
  const int64_t begin = std::max<int64_t>(row.first - s.begin, 0), end = std::min(s.count, row.position - s.begin + 1);
  const int64_t seen = end - begin;
  if (seen <= 0) return;
  float scores[kKvBlockTokens];
  if (s.keys_by_column) {
    kernels::WeightedSum(row.query, s.keys + begin, s.key_stride, s.key_width, seen, scores);
  } else {
    kernels::Dots(row.query, s.keys + begin * s.key_stride, s.key_stride, seen, s.key_width, scores);
  }
  const Running local = Exponentials(seen, scale, scores);
  const bool is_first = row.first >= s.begin;
  kernels::WeightedSum(scores, s.values + begin * s.value_stride, s.value_stride, seen, s.value_width,
                       is_first ? row.sum : term);
  if (is_first) {
    *row.running = local;
  } else {
    MergeSegment(false, local, term, s.value_width, row.running, row.sum);
  }
}

void AddSegment(const Segment& s, const SegmentBlock& block, float scale, float* scratch) {
  // Scores of what the last row sees, sums of values of what all of them do; the others' own positions come after.
  const int64_t rows = block.rows, seen = block.seen + block.more * (rows - 1);
  const std::span<float> scores(scratch, rows * seen);
  if (s.keys_by_column) {
    kernels::MatMulTransposed(block.queries, block.query_stride, rows,
                              kernels::PlainMatrix(s.keys, s.key_width, seen, s.key_stride), scores.data(), seen,
                              nullptr);
  } else {
    const int64_t cuts[] = {0, s.key_width};
    kernels::Matrix keys = kernels::PlainMatrix(s.keys, seen, s.key_width, s.key_stride);
    keys.ahead = block.ahead;
    kernels::MatMul({block.queries, static_cast<size_t>(rows * s.key_width)}, rows, keys, cuts, scores, nullptr);
  }
  Running local[kSegmentRows];
  ATOLL_CHECK(rows <= kSegmentRows, "{} rows of a segment at once", rows);
  for (int64_t r = 0; r < rows; ++r) {
    local[r] = Exponentials(block.seen + block.more * r, scale, scores.data() + r * seen);
  }
  // Of the first segment the weighted sums of values are the rows' own.
  float* terms = block.first ? block.sums : scratch + rows * kKvBlockTokens;
  const int64_t stride = block.first ? block.sum_stride : s.value_width;
  kernels::MatMulTransposed(scores.data(), seen, rows,
                            kernels::PlainMatrix(s.values, block.seen, s.value_width, s.value_stride), terms, stride,
                            nullptr);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = block.seen; j < block.seen + block.more * r; ++j) {
      kernels::Axpy(scores[r * seen + j], s.values + j * s.value_stride, s.value_width, terms + r * stride);
    }
    Running* running = block.running + r * block.running_stride;
    if (block.first) {
      *running = local[r];
    } else {
      MergeSegment(false, local[r], terms + r * stride, s.value_width, running, block.sums + r * block.sum_stride);
    }
  }
}

}  // namespace atl::models
