#include "models/layers/attention.h"

#include <algorithm>
#include <array>

#include "models/layers/segment.h"
#include "models/layers/thread_scratch.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

// Emitted rows [first, first + rows) of a sequence; they are rows [at, at + rows) of a tile.
struct EmittedRun {
  const SequenceRows* sequence;
  int64_t first, rows, at;
  int64_t begin() const { return sequence->position + first; }
  int64_t end() const { return begin() + rows; }
};

// One layer's attention of one step, with its scratch.
class Attending {
 public:
  Attending(const Step& step, const LatentAttention& a, const KvCache& cache, int layer, std::span<const float> query,
            std::span<float> out)
      : step_(step),
        a_(a),
        cache_(cache),
        layer_(layer),
        query_(query),
        out_(out),
        running_(step.workspace.Take<Running>("attention.state", step.rows * a.heads)),
        latents_(step.workspace.Take<float>("attention.segment_latent", kKvBlockTokens * a.mla.kv_lora_rank)),
        rotary_keys_(step.workspace.Take<float>("attention.segment_rope", 2 * kKvBlockTokens * a.mla.rope_dim)) {}

  // Rows [first, first + rows) of the sequence, all in prompt form.
  void Expanded(const SequenceRows& sequence, int64_t first, int64_t rows) {
    const int64_t width = a_.heads * (a_.mla.nope_dim + a_.mla.v_dim);
    const std::span<float> kv = step_.workspace.Take<float>("attention.segment_kv", kKvBlockTokens * width);
    const int64_t end = sequence.position + first + rows;
    for (int64_t begin = 0; begin < end; begin += kKvBlockTokens) {
      const Segment shared = Load(sequence, begin, end);
      const Activations latents(step_, latents_, shared.count);
      if (a_.mla.split_up) {
        WholeLinear(a_.value_up).Apply(latents, kv.subspan(shared.count * a_.heads * a_.mla.nope_dim));
      } else {
        WholeLinear(a_.up).Apply(latents, kv);
      }
      ParallelFor(step_.pool, a_.heads, [&](int64_t head, int64_t last) {
        for (; head < last; ++head) ExpandedHead(shared, kv, sequence, first, first + rows, head);
      });
    }
    ParallelFor(step_.pool, rows, [&](int64_t i, int64_t last) {
      for (i += sequence.row_begin + first, last += sequence.row_begin + first; i < last; ++i) {
        for (int64_t head = 0; head < a_.heads; ++head) {
          kernels::Scale(1.0f / running_[i * a_.heads + head].sum, a_.mla.v_dim, Out(i, head));
        }
      }
    });
  }

  // Rows in emitted form, at most kAbsorbedTile of them.
  void Absorbed(std::span<const EmittedRun> runs) {
    const int64_t rows = runs.back().at + runs.back().rows, nope = a_.mla.nope_dim, rank = a_.mla.kv_lora_rank,
                  value = a_.mla.v_dim, narrow = std::max(nope, value);
    const int64_t width = a_.mla.latent_dim();  // of a query: [q_nope W_UK | q_pe]
    const std::span<float> queries = step_.workspace.Take<float>("attention.absorbed_query", rows * a_.heads * width);
    const std::span<float> sums = step_.workspace.Take<float>("attention.absorbed_sum", rows * a_.heads * rank);
    const std::span<float> all = step_.workspace.Take<float>("attention.absorbed_head", rows * a_.heads * narrow);
    // queries: [rows, heads, width]. Of one head: [rows, nope_dim or v_dim], and of sums [rows, kv_lora_rank].
    const auto narrow_of = [&](int64_t head) { return all.subspan(head * rows * narrow, rows * narrow); };
    const auto sums_of = [&](int64_t head) { return sums.subspan(head * rows * rank, rows * rank); };
    const auto for_rows = [&](const auto& body) {
      for (const EmittedRun& run : runs) {
        for (int64_t i = 0; i < run.rows; ++i) body(run.at + i, run.sequence->row_begin + run.first + i);
      }
    };
    for (const kernels::Matrix* up : {&a_.up, &a_.key_up, &a_.value_up}) WholeLinear(*up).Count(step_, rows);
    ParallelFor(step_.pool, a_.heads, [&](int64_t head, int64_t last) {
      for (; head < last; ++head) {
        const std::span<float> plain = narrow_of(head).first(rows * nope);
        float* absorbed = queries.data() + head * width;  // rows heads x width apart
        for_rows([&](int64_t at, int64_t row) {
          std::copy_n(Query(row, head), nope, plain.data() + at * nope);
          std::copy_n(Query(row, head) + nope, a_.mla.rope_dim, absorbed + at * a_.heads * width + rank);
        });
        if (a_.mla.split_up) {
          const std::span<float> wide = sums_of(head);  // not in use yet
          MultiplyHere(plain, rows, KeyUp(head), wide);
          for (int64_t at = 0; at < rows; ++at) {
            std::copy_n(wide.data() + at * rank, rank, absorbed + at * a_.heads * width);
          }
        } else {
          kernels::MatMulTransposed(plain.data(), nope, rows, KeyUp(head), absorbed, a_.heads * width, nullptr);
        }
      }
    });
    // Sequences side by side; few are shared by heads, or, where each is long, by segments.
    const int64_t threads = step_.pool == nullptr ? 1 : step_.pool->threads(), count = std::ssize(runs);
    const bool few = count < 2 * threads;
    if (few && threads > 1 && std::ranges::all_of(runs, [&](const EmittedRun& run) {
          return run.rows == 1 && run.end() >= 4 * threads * kKvBlockTokens;
        })) {
      for (const EmittedRun& run : runs) AbsorbedBySegments(run, queries, sums);
    } else {
      const int64_t parts = few ? std::min(threads, a_.heads) : 1;
      ParallelPieces(step_.pool, count * parts, [&](int64_t piece) {
        const int64_t next = (piece + threads) / parts;  // most likely of this thread
        AbsorbedRun(runs[piece / parts], EvenPart(a_.heads, piece % parts, parts), queries, sums,
                    next < count ? NextRows(runs[next], 0) : kernels::Ahead());
      });
    }
    ParallelFor(step_.pool, a_.heads, [&](int64_t head, int64_t last) {
      for (; head < last; ++head) {
        const std::span<float> narrow_out = narrow_of(head).first(rows * value), wide = sums_of(head);
        for_rows([&](int64_t at, int64_t row) {
          kernels::Scale(1.0f / running_[row * a_.heads + head].sum, rank, wide.data() + at * rank);
        });
        MultiplyHere(wide, rows, ValueUp(head), narrow_out);
        for_rows([&](int64_t at, int64_t row) { std::copy_n(narrow_out.data() + at * value, value, Out(row, head)); });
      }
    });
  }

 private:
  // One head's rows [first, last) of the sequence against one segment.
  void ExpandedHead(const Segment& shared, std::span<float> kv, const SequenceRows& sequence, int64_t first,
                    int64_t last, int64_t head) {
    const int64_t width = a_.mla.qk_dim();
    const std::span<float> scratch = ThreadScratch(width * kKvBlockTokens + SegmentScratch(kSegmentRows, a_.mla.v_dim));
    const Segment segment = OfHead(shared, head, kv, scratch.data());
    const auto add = [&](int64_t i, int64_t rows, int64_t seen, int64_t more) {
      const int64_t row = sequence.row_begin + i;
      const SegmentBlock block{.rows = rows,
                               .seen = seen,
                               .more = more,
                               .first = segment.begin == 0,
                               .queries = Query(row, head),
                               .query_stride = a_.heads * width,
                               .running = &running_[row * a_.heads + head],
                               .running_stride = a_.heads,
                               .sums = Out(row, head),
                               .sum_stride = a_.heads * a_.mla.v_dim};
      AddSegment(segment, block, a_.scale, scratch.data() + width * kKvBlockTokens);
    };
    // Rows before `some` see nothing of it; up to `whole` a part, each one position more than the row before it. (Row
    // by row, these took as long as all others: each read all keys and values from the second-level cache.)
    const int64_t some = std::clamp(segment.begin - sequence.position, first, last),
                  whole = std::clamp(segment.begin + segment.count - 1 - sequence.position, first, last);
    for (int64_t i = some, rows = 0; i < whole; i += rows) {
      rows = std::min(kRisingRows, whole - i);
      add(i, rows, sequence.position + i - segment.begin + 1, /*more=*/1);
    }
    for (int64_t i = whole; i < last; i += kSegmentRows) add(i, std::min(kSegmentRows, last - i), segment.count, 0);
  }

  // Heads of a run's i-th row: what the caller knows of the segment is not set yet.
  SegmentBlock HeadsOfRow(const EmittedRun& run, int64_t i, Range heads, std::span<const float> queries,
                          std::span<float> sums) const {
    const int64_t at = run.at + i, rank = a_.mla.kv_lora_rank, of_head = std::ssize(sums) / a_.heads;
    return {.rows = heads.size(),
            .queries = queries.data() + (at * a_.heads + heads.begin) * a_.mla.latent_dim(),
            .running = &running_[(run.sequence->row_begin + run.first + i) * a_.heads + heads.begin],
            .sums = sums.data() + heads.begin * of_head + at * rank,
            .sum_stride = of_head};
  }

  // Some heads of a run of rows over all of its cache; then: memory that is wanted after it.
  void AbsorbedRun(const EmittedRun& run, Range heads, std::span<const float> queries, std::span<float> sums,
                   const kernels::Ahead& then) {
    const int64_t width = a_.mla.latent_dim(), most = std::min(heads.size(), kSegmentRows);
    const std::span<float> scratch = ThreadScratch(kKvBlockTokens * width + SegmentScratch(most, a_.mla.kv_lora_rank));
    for (int64_t begin = 0; begin < run.end(); begin += kKvBlockTokens) {
      const int64_t end = begin + kKvBlockTokens;
      const Segment segment = Latents(*run.sequence, begin, run.end(), scratch.data());
      for (int64_t i = std::max<int64_t>(begin - run.begin(), 0); i < run.rows; ++i) {
        for (int64_t head = heads.begin; head < heads.end; head += most) {
          SegmentBlock block = HeadsOfRow(run, i, {head, std::min(head + most, heads.end)}, queries, sums);
          block.seen = std::min(segment.count, run.begin() + i - begin + 1);
          block.first = begin == 0;
          if (i + 1 == run.rows && head == heads.begin) block.ahead = end < run.end() ? NextRows(run, end) : then;
          AddSegment(segment, block, a_.scale, scratch.data() + kKvBlockTokens * width);
        }
      }
    }
  }

  // One row over a long cache: threads take segments, each for all heads, so that a segment is read and widened once;
  // what they give is merged from left to right.
  void AbsorbedBySegments(const EmittedRun& run, std::span<const float> queries, std::span<float> sums) {
    const int64_t rank = a_.mla.kv_lora_rank, width = a_.mla.latent_dim(), most = std::min(a_.heads, kSegmentRows);
    const std::span<Running> locals = step_.workspace.Take<Running>("attention.split_state", kSplitSegments * a_.heads);
    const std::span<float> terms =
        step_.workspace.Take<float>("attention.split_term", kSplitSegments * a_.heads * rank);
    const SegmentBlock whole = HeadsOfRow(run, 0, {0, a_.heads}, queries, sums);
    const int64_t segments = (run.end() + kKvBlockTokens - 1) / kKvBlockTokens;
    // At once: some for each thread, and what stays in the shared cache until it is merged. (A quarter of that, for the
    // threads' own caches, let threads wait for each other four times as often: 54 -> 63 % of the peak with 16 heads.)
    constexpr int64_t kCached = 512 << 10;  // floats
    const int64_t threads = step_.pool->threads(), cached = kCached / (a_.heads * rank);
    const int64_t at_once = std::min(kSplitSegments, std::max(2 * threads, cached / threads * threads));
    for (int64_t first = 0; first < segments; first += at_once) {
      const int64_t count = std::min(at_once, segments - first);
      ParallelPieces(step_.pool, count, [&](int64_t i) {
        const std::span<float> scratch = ThreadScratch(kKvBlockTokens * width + SegmentScratch(most, rank));
        const int64_t begin = (first + i) * kKvBlockTokens;
        const Segment segment = Latents(*run.sequence, begin, run.end(), scratch.data());
        for (int64_t head = 0; head < a_.heads; head += most) {
          SegmentBlock block = HeadsOfRow(run, 0, {head, std::min(head + most, a_.heads)}, queries, sums);
          block.seen = segment.count;
          block.first = true;  // alone
          block.running = &locals[i * a_.heads + head];
          block.sums = terms.data() + (i * a_.heads + head) * rank;
          block.sum_stride = rank;
          // What this thread most likely takes next.
          if (head == 0) block.ahead = NextRows(run, begin + threads * kKvBlockTokens);
          AddSegment(segment, block, a_.scale, scratch.data() + kKvBlockTokens * width);
        }
      });
      ParallelFor(step_.pool, a_.heads, [&](int64_t head, int64_t last) {
        for (; head < last; ++head) {
          for (int64_t i = 0; i < count; ++i) {
            const int64_t at = i * a_.heads + head;
            MergeSegment(first + i == 0, locals[at], terms.data() + at * rank, rank, &whole.running[head],
                         whole.sums + head * whole.sum_stride);
          }
        }
      });
    }
  }

  // The cache of the segment at `begin`, if the run sees it: asked for while the one before is at work.
  kernels::Ahead NextRows(const EmittedRun& run, int64_t begin) const {
    if (begin >= run.end()) return {};
    return {cache_.Row(layer_, run.sequence->blocks, begin),
            std::min(kKvBlockTokens, run.end() - begin) * cache_.row_bytes()};
  }

  // A segment whose keys and values are the latents themselves, keys with the rotary part behind: in the cache if that
  // is f32, else widened into `memory` [kKvBlockTokens, kv_lora_rank + rope_dim].
  Segment Latents(const SequenceRows& sequence, int64_t begin, int64_t end, float* memory) const {
    const int64_t width = a_.mla.latent_dim();
    Segment segment{.begin = begin, .count = std::min(kKvBlockTokens, end - begin)};
    segment.key_width = width;
    segment.value_width = a_.mla.kv_lora_rank;
    segment.key_stride = segment.value_stride = width;
    const std::byte* rows = cache_.Row(layer_, sequence.blocks, begin);  // and those after it
    if (cache_.type() == DType::kF32) {
      segment.keys = segment.values = reinterpret_cast<const float*>(rows);
      return segment;
    }
    for (int64_t j = 0; j < segment.count; ++j) {
      cache_.Load(rows + j * cache_.row_bytes(), {0, width}, memory + j * width);
    }
    segment.keys = segment.values = memory;
    return segment;
  }

  const float* Query(int64_t row, int64_t head) const {
    return query_.data() + (row * a_.heads + head) * a_.mla.qk_dim();
  }
  float* Out(int64_t row, int64_t head) const { return out_.data() + (row * a_.heads + head) * a_.mla.v_dim; }

  // One head's W_UK [nope_dim, kv_lora_rank] (or its transpose, of a split projection) and W_UV [v_dim, kv_lora_rank].
  kernels::Matrix KeyUp(int64_t head) const {
    const MlaSpec& mla = a_.mla;
    return mla.split_up ? a_.key_up.Rows(head * mla.kv_lora_rank, mla.kv_lora_rank)
                        : a_.up.Rows(head * (mla.nope_dim + mla.v_dim), mla.nope_dim);
  }
  kernels::Matrix ValueUp(int64_t head) const {
    const MlaSpec& mla = a_.mla;
    return mla.split_up ? a_.value_up.Rows(head * mla.v_dim, mla.v_dim)
                        : a_.up.Rows(head * (mla.nope_dim + mla.v_dim) + mla.nope_dim, mla.v_dim);
  }

  // The segment as one head sees it. kv: keys and values of all heads [count, heads, nope_dim + v_dim]; of a split
  // projection [heads, count, nope_dim], made here, and [count, heads, v_dim]. Its keys lie by column: [nope_dim +
  // rope_dim, kKvBlockTokens].
  Segment OfHead(const Segment& shared, int64_t head, std::span<float> kv, float* by_column) const {
    const int64_t nope = a_.mla.nope_dim, value = a_.mla.v_dim, width = nope + value;
    Segment segment = shared;
    segment.keys = by_column;
    segment.keys_by_column = true;
    segment.key_width = a_.mla.qk_dim();
    segment.key_stride = kKvBlockTokens;
    segment.value_width = value;
    const float* keys = kv.data() + head * width;
    int64_t key_stride = a_.heads * width;
    segment.values = keys + nope;
    segment.value_stride = key_stride;
    if (a_.mla.split_up) {
      const std::span<float> mine = kv.subspan(head * shared.count * nope, shared.count * nope);
      kernels::MatMulTransposed(latents_.data(), a_.mla.kv_lora_rank, shared.count, KeyUp(head), mine.data(), nope,
                                nullptr);
      keys = mine.data();
      key_stride = nope;
      segment.values = kv.data() + shared.count * a_.heads * nope + head * value;
      segment.value_stride = a_.heads * value;
    }
    kernels::Transpose(keys, key_stride, shared.count, nope, by_column, kKvBlockTokens);
    std::copy_n(rotary_keys_.data(), a_.mla.rope_dim * kKvBlockTokens, by_column + nope * kKvBlockTokens);
    return segment;
  }

  // Latents and rotary keys of positions [begin, min(begin + kKvBlockTokens, end)) into f32.
  Segment Load(const SequenceRows& sequence, int64_t begin, int64_t end) const {
    const Segment segment{.begin = begin, .count = std::min(kKvBlockTokens, end - begin)};
    const int64_t rank = a_.mla.kv_lora_rank, rotary = a_.mla.rope_dim;
    float* rows = rotary_keys_.data() + rotary * kKvBlockTokens;
    for (int64_t j = 0; j < segment.count; ++j) {
      const std::byte* row = cache_.Row(layer_, sequence.blocks, begin + j);
      cache_.Load(row, {0, rank}, latents_.data() + j * rank);
      cache_.Load(row, {rank, rank + rotary}, rows + j * rotary);
    }
    kernels::Transpose(rows, rotary, segment.count, rotary, rotary_keys_.data(), kKvBlockTokens);
    return segment;
  }

  const Step& step_;
  const LatentAttention& a_;
  const KvCache& cache_;
  const int layer_;
  const std::span<const float> query_;
  const std::span<float> out_;
  const std::span<Running> running_;    // [rows, heads]
  const std::span<float> latents_;      // [kKvBlockTokens, kv_lora_rank]
  const std::span<float> rotary_keys_;  // [rope_dim, kKvBlockTokens], then [kKvBlockTokens, rope_dim]
};

}  // namespace

void Attend(const Step& step, const LatentAttention& attention, const KvCache& cache, int layer,
            std::span<const float> query, std::span<float> out) {
  Attending attending(step, attention, cache, layer, query, out);
  std::array<EmittedRun, kAbsorbedTile> tile;  // of one row each at least
  size_t runs = 0;
  const auto finish = [&] {
    if (runs > 0) attending.Absorbed({tile.data(), runs});
    runs = 0;
  };
  for (const SequenceRows& sequence : step.batch.sequences) {
    const int64_t prompt = std::clamp<int64_t>(sequence.prompt_length - sequence.position, 0, sequence.rows);
    if (prompt > 0) attending.Expanded(sequence, 0, prompt);
    for (int64_t first = prompt; first < sequence.rows;) {
      const int64_t at = runs == 0 ? 0 : tile[runs - 1].at + tile[runs - 1].rows;
      const int64_t rows = std::min(kAbsorbedTile - at, sequence.rows - first);
      if (rows > 0) tile[runs++] = {&sequence, first, rows, at};
      first += rows;
      if (at + rows == kAbsorbedTile) finish();
    }
  }
  finish();
}

}  // namespace atl::models
