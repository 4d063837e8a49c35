// The walk over the cache for heads with keys and values of their own (gqa.h).
#include <algorithm>

#include "models/layers/gqa.h"
#include "models/layers/segment.h"
#include "models/layers/thread_scratch.h"
#include "models/spec/rank_memory.h"

namespace atl::models {
namespace {

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
      const Positions segment{begin, std::min(kKvBlockTokens, end - begin),
                              Rows(sequence, begin, std::max(begin, first), end)};
      const int64_t threads = step_.pool ? step_.pool->threads() : 1;
      if (sequence.rows == 1 && gqa_.kv_heads.size() >= threads && first <= begin) {
        ParallelFor(step_.pool, gqa_.kv_heads.size(), [&](int64_t kv_head, int64_t last) {
          for (; kv_head < last; ++kv_head) AddReaders(sequence.row_begin, kv_head, segment, first == begin);
        });
        continue;
      }
      ParallelFor(step_.pool, gqa_.head_count(), [&](int64_t head, int64_t last) {
        for (; head < last; ++head) AddTo(sequence, head, segment);
      });
    }
    ParallelRows(step_.pool, sequence.rows, gqa_.head_count() * width_ * SizeOf(DType::kF32),
                 [&](int64_t i, int64_t last) {
                   for (int64_t at = (sequence.row_begin + i) * gqa_.head_count(); i < last; ++i) {
                     for (int64_t head = 0; head < gqa_.head_count(); ++head, ++at) {
                       kernels::Scale(1.0f / running_[at].sum, width_, out_.data() + at * width_);
                     }
                   }
                 });
  }

 private:
  // A segment's keys and values in f32: [count, key heads | value heads, head_dim].
  struct Positions {
    int64_t begin, count;
    const float* rows;
  };

  // Positions [from, end) of the segment at `begin`, in the cache if that is f32; what lies before is seen by no row.
  const float* Rows(const SequenceRows& sequence, int64_t begin, int64_t from, int64_t end) {
    const std::byte* rows = cache_.Row(layer_, sequence.blocks, begin);  // and those after it
    if (cache_.type() == DType::kF32) return reinterpret_cast<const float*>(rows);
    const int64_t count = std::min(begin + kKvBlockTokens, end) - from;
    ParallelRows(step_.pool, count, row_width_ * SizeOf(DType::kF32), [&](int64_t i, int64_t last) {
      for (i += from - begin, last += from - begin; i < last; ++i) {
        cache_.Load(rows + i * cache_.row_bytes(), {0, row_width_}, segment_.data() + i * row_width_);
      }
    });
    return segment_.data();
  }

  // The segment as those see it that read a key head.
  Segment OfKeyHead(int64_t kv_head, const Positions& positions) const {
    Segment segment{.begin = positions.begin, .count = positions.count};
    segment.keys = positions.rows + kv_head * width_;
    segment.values = segment.keys + gqa_.kv_heads.size() * width_;
    segment.key_stride = segment.value_stride = row_width_;
    segment.key_width = segment.value_width = width_;
    return segment;
  }

  // One row, which sees all of the segment, with all heads that read a key head: its keys are read once for them.
  void AddReaders(int64_t row, int64_t kv_head, const Positions& positions, bool first) {
    const int64_t of_group = (gqa_.kv_heads.begin + kv_head) * gqa_.readers;
    const int64_t last = std::min(of_group + gqa_.readers, gqa_.heads.end) - gqa_.heads.begin;
    int64_t head = std::max(of_group, gqa_.heads.begin) - gqa_.heads.begin;
    const std::span<float> scratch = ThreadScratch(SegmentScratch(kSegmentRows, width_));
    for (int64_t rows = 0; head < last; head += rows) {
      rows = std::min(kSegmentRows, last - head);
      const int64_t at = row * gqa_.head_count() + head;
      const SegmentBlock block{.rows = rows,
                               .seen = positions.count,
                               .first = first,
                               .queries = query_.data() + at * width_,
                               .running = &running_[at],
                               .sums = out_.data() + at * width_,
                               .sum_stride = width_};
      AddSegment(OfKeyHead(kv_head, positions), block, scale_, scratch.data());
    }
  }

  void AddTo(const SequenceRows& sequence, int64_t head, const Positions& positions) {
    const Segment segment = OfKeyHead((gqa_.heads.begin + head) / gqa_.readers - gqa_.kv_heads.begin, positions);
    for (int64_t i = 0, rows = 0; i < sequence.rows; i += rows) {
      const int64_t position = sequence.position + i, seen = position - segment.begin + 1;
      const int64_t at = (sequence.row_begin + i) * gqa_.head_count() + head;
      const bool rising = seen < segment.count;
      rows = RowsTogether(sequence, i, segment, rising ? std::min(kRisingRows, segment.count - seen) : kSegmentRows);
      if (rows > 1) {
        AddBlock(segment, at, rows, rising ? seen : segment.count, rising ? 1 : 0);
        continue;
      }
      rows = 1;
      const SegmentRow row{.query = query_.data() + at * width_,
                           .first = gqa_.reach.FirstVisible(position),
                           .position = position,
                           .running = &running_[at],
                           .sum = out_.data() + at * width_};
      AddSegment(segment, row, scale_, terms_.data() + head * width_);
    }
  }

  // Rows from the i-th on, at most `most`, that see the segment from its beginning and something before it, if there is
  // anything.
  int64_t RowsTogether(const SequenceRows& sequence, int64_t i, const Segment& segment, int64_t most) const {
    const auto sees_begin = [&](int64_t position) {
      const int64_t first = gqa_.reach.FirstVisible(position);
      return position >= segment.begin && (first < segment.begin || first + segment.begin == 0);
    };
    int64_t rows = 0;
    while (rows < std::min(most, sequence.rows - i) && sees_begin(sequence.position + i + rows)) ++rows;
    return rows;
  }

  // `rows` rows of one head, the first of which has its query and its sum at `at` [row, head] and sees `seen`
  // positions, each other one `more` than the row before it.
  void AddBlock(const Segment& segment, int64_t at, int64_t rows, int64_t seen, int64_t more) {
    const int64_t stride = gqa_.head_count() * width_;
    const std::span<float> scratch = ThreadScratch(kSegmentRows * width_ + SegmentScratch(kSegmentRows, width_));
    for (int64_t r = 0; r < rows; ++r) {
      std::copy_n(query_.data() + at * width_ + r * stride, width_, scratch.data() + r * width_);
    }
    const SegmentBlock block{.rows = rows,
                             .seen = seen,
                             .more = more,
                             .first = segment.begin == 0,
                             .queries = scratch.data(),
                             .running = &running_[at],
                             .running_stride = gqa_.head_count(),
                             .sums = out_.data() + at * width_,
                             .sum_stride = stride};
    AddSegment(segment, block, scale_, scratch.data() + kSegmentRows * width_);
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
