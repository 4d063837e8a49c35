// The walk over the cache for heads with keys and values of their own (gqa.h).
#include <algorithm>

#include "models/layers/gqa.h"
#include "models/layers/segment.h"
#include "models/spec/rank_memory.h"

namespace atl::models {
namespace {

// Keys and values [count, kv heads, head_dim] of a segment, in f32.
class Walk {
 public:
  Walk(const Step& step, const Gqa& gqa, const KvCache& cache, int layer, std::span<const float> query,
       std::span<float> out)
      : step_(step),
        gqa_(gqa),
        cache_(cache),
        layer_(layer),
        width_(gqa.spec.head_dim),
        row_width_(2 * gqa.kv_heads.size() * width_),
        scale_(static_cast<float>(gqa.spec.scale)),
        query_(query),
        out_(out),
        running_(step.workspace.Take<Running>("attention.state", step.rows * gqa.head_count())),
        segment_(step.workspace.Take<float>("attention.segment_kv", kKvBlockTokens * row_width_)),
        terms_(step.workspace.Take<float>("attention.term", gqa.head_count() * width_)) {}

  void Over(const SequenceRows& sequence) {
    const int64_t end = sequence.position + sequence.rows, first = gqa_.reach.FirstVisible(sequence.position);
    for (int64_t begin = first / kKvBlockTokens * kKvBlockTokens; begin < end; begin += kKvBlockTokens) {
      Load(sequence, begin, std::max(begin, first), end);
      ParallelFor(step_.pool, gqa_.head_count(), [&](int64_t head, int64_t last) {
        for (; head < last; ++head) AddTo(sequence, head, begin, std::min(kKvBlockTokens, end - begin));
      });
    }
    for (int64_t i = sequence.row_begin; i < sequence.row_begin + sequence.rows; ++i) {
      for (int64_t head = 0; head < gqa_.head_count(); ++head) {
        const int64_t at = i * gqa_.head_count() + head;
        kernels::Scale(1.0f / running_[at].sum, width_, out_.data() + at * width_);
      }
    }
  }

 private:
  // Positions [from, end) of the segment at `begin`; what lies before is seen by no row.
  void Load(const SequenceRows& sequence, int64_t begin, int64_t from, int64_t end) {
    for (int64_t position = from; position < std::min(begin + kKvBlockTokens, end); ++position) {
      cache_.Load(cache_.Row(layer_, sequence.blocks, position), {0, row_width_},
                  segment_.data() + (position - begin) * row_width_);
    }
  }

  void AddTo(const SequenceRows& sequence, int64_t head, int64_t begin, int64_t count) {
    const int64_t kv_head = (gqa_.heads.begin + head) / gqa_.readers - gqa_.kv_heads.begin;
    Segment segment{.begin = begin, .count = count};
    segment.keys = segment_.data() + kv_head * width_;
    segment.values = segment.keys + gqa_.kv_heads.size() * width_;
    segment.key_stride = segment.value_stride = row_width_;
    segment.key_width = segment.value_width = width_;
    for (int64_t i = 0; i < sequence.rows; ++i) {
      const int64_t position = sequence.position + i, at = (sequence.row_begin + i) * gqa_.head_count() + head;
      const SegmentRow row{.query = query_.data() + at * width_,
                           .first = gqa_.reach.FirstVisible(position),
                           .position = position,
                           .running = &running_[at],
                           .sum = out_.data() + at * width_};
      AddSegment(segment, row, scale_, terms_.data() + head * width_);
    }
  }

  const Step& step_;
  const Gqa& gqa_;
  const KvCache& cache_;
  const int layer_;
  const int64_t width_, row_width_;
  const float scale_;
  const std::span<const float> query_;
  const std::span<float> out_;
  const std::span<Running> running_;  // [rows, heads]
  const std::span<float> segment_;    // [kKvBlockTokens, key heads | value heads, head_dim]
  const std::span<float> terms_;      // [heads, head_dim]: scratch of the head's thread
};

}  // namespace

void Attend(const Step& step, const Gqa& gqa, const KvCache& cache, int layer, std::span<const float> query,
            std::span<float> out) {
  Walk walk(step, gqa, cache, layer, query, out);
  for (const SequenceRows& sequence : step.batch.sequences) walk.Over(sequence);
}

}  // namespace atl::models
