#include "models/layers/gqa.h"

#include <cmath>

#include "models/layers/rope.h"
#include "models/layers/tensor_parallel.h"

namespace atl::models {
namespace {

// Calls body(row, position) for each row of the step.
template <typename Body>
void ForRows(const Step& step, const Body& body) {
  for (const SequenceRows& sequence : step.batch.sequences) {
    for (int64_t i = 0; i < sequence.rows; ++i) body(sequence.row_begin + i, sequence.position + i);
  }
}

// [rows, heads, head_dim] of one projection.
struct Heads {
  std::span<float> values;
  int64_t count = 0, width = 0;

  float* Row(int64_t row) const { return values.data() + row * count * width; }
};

Heads Project(const Step& step, const Linear& linear, const Activations& x, const char* buffer, int64_t width) {
  const Heads heads{step.workspace.Take<float>(buffer, step.rows * linear.weight.rows), linear.weight.rows / width,
                    width};
  linear.Apply(x, heads.values);
  linear.AddBias(step.rows, heads.values);
  return heads;
}

void NormHeads(const Gqa& gqa, const Heads& heads, int64_t rows, const float* weight) {
  for (int64_t i = 0; i < rows * heads.count; ++i) {
    float* head = heads.values.data() + i * heads.width;
    const float squares = kernels::Dot(head, head, heads.width);
    const float factor = 1.0f / std::sqrt(squares / static_cast<float>(heads.width) + gqa.eps);
    kernels::ScaleBy(factor, weight, gqa.norm_plus, heads.width, head);
  }
}

// Norms over the whole projection: the sum of squares runs over the heads of all ranks.
absl::Status NormAllHeads(const Step& step, const Gqa& gqa, const Heads& query, const Heads& key, int layer) {
  const std::span<float> partial = step.workspace.Take<float>("sums.partial", step.rows * 2);
  const std::span<float> sums = step.workspace.Take<float>("sums", step.rows * 2);
  const auto squares = [](const HeadAxis& axis, const float* x) {
    return SumBlocks(axis.cuts,
                     [&](int64_t begin, int64_t end) { return kernels::Dot(x + begin, x + begin, end - begin); });
  };
  for (int64_t row = 0; row < step.rows; ++row) {
    partial[2 * row] = squares(gqa.query_axis, query.Row(row));
    partial[2 * row + 1] = squares(gqa.key_axis, key.Row(row));
  }
  ATOLL_RETURN_IF_ERROR(ReduceToAll(step, partial, 2, sums, {"head norms", layer}));
  const auto norm = [&](float sum, const HeadAxis& axis, const float* weight, const Heads& heads, int64_t row) {
    const float factor = 1.0f / std::sqrt(sum / static_cast<float>(axis.width) + gqa.eps);
    kernels::ScaleBy(factor, weight, gqa.norm_plus, heads.count * heads.width, heads.Row(row));
  };
  for (int64_t row = 0; row < step.rows; ++row) {
    norm(sums[2 * row], gqa.query_axis, gqa.query_norm, query, row);
    norm(sums[2 * row + 1], gqa.key_axis, gqa.key_norm, key, row);
  }
  return absl::OkStatus();
}

void RotateHeads(const Step& step, const Gqa& gqa, const Heads& heads) {
  for (int64_t row = 0; row < step.rows; ++row) {
    const float* turns = step.Rotary(gqa.rope, row, heads.width);
    for (int64_t head = 0; head < heads.count; ++head) {
      float* x = heads.Row(row) + head * heads.width;
      gqa.interleaved ? Rotate(turns, heads.width, x) : RotateHalves(turns, heads.width, x);
    }
  }
}

// Keys and values of all rows into the cache, rounded to its type: [key heads | value heads].
void CacheRows(const Step& step, const Heads& key, const Heads& value, const KvCache& cache, int layer) {
  const auto index = [&](const SequenceRows& sequence, int64_t position) {
    return cache.Row(layer, sequence.blocks, position);
  };
  const int64_t width = key.count * key.width;
  for (const SequenceRows& sequence : step.batch.sequences) {
    for (int64_t i = 0; i < sequence.rows; ++i) {
      std::byte* to = index(sequence, sequence.position + i);
      cache.Store(key.Row(sequence.row_begin + i), {0, width}, to);
      cache.Store(value.Row(sequence.row_begin + i), {width, 2 * width}, to);
    }
  }
}

}  // namespace

absl::Status RunGqa(const Step& step, const Gqa& gqa, const KvCache& cache, int layer, std::span<const float> x,
                    std::span<float> out) {
  if (step.rows == 0) return absl::OkStatus();
  const int64_t hidden = gqa.query.weight.cols, width = gqa.spec.head_dim;
  ATOLL_ASSIGN_OR_RETURN(const ConstBuffer all,
                         GatherRows(step, ToWire(step, x, hidden), step.homes, hidden, {"attention gather", layer}));
  const std::span<float> rows = step.workspace.Take<float>("rows", step.rows * hidden);
  kernels::Widen(all.data, all.count, all.type, rows.data());

  const Activations in(step, rows, step.rows);
  const Heads query = Project(step, gqa.query, in, "attention.query", width);
  Heads key, value;
  if (gqa.key) {
    key = Project(step, *gqa.key, in, "attention.key", width);
    value = Project(step, *gqa.value, in, "attention.value", width);
  }
  if (gqa.spec.qk_norm == QkNorm::kAllHeads) {
    ATOLL_RETURN_IF_ERROR(NormAllHeads(step, gqa, query, key, layer));
  } else if (gqa.spec.qk_norm == QkNorm::kPerHead) {
    NormHeads(gqa, query, step.rows, gqa.query_norm);
    if (gqa.key) NormHeads(gqa, key, step.rows, gqa.key_norm);
  }
  if (gqa.spec.v_norm && gqa.key) NormUnweighted(gqa.eps, step.rows * value.count, width, value.values.data());
  if (gqa.rope >= 0) {
    RotateHeads(step, gqa, query);
    if (gqa.key) RotateHeads(step, gqa, key);
    if (gqa.spec.qk_norm == QkNorm::kL2) {
      NormUnweighted(gqa.eps, step.rows * query.count, width, query.values.data());
      NormUnweighted(gqa.eps, step.rows * key.count, width, key.values.data());
    }
  } else if (const auto& temperature = gqa.spec.temperature) {
    ForRows(step, [&](int64_t row, int64_t position) {
      const double steps = std::floor((static_cast<double>(position) + 1) / temperature->floor);
      const auto factor = static_cast<float>(std::log(steps + 1) * temperature->scale + 1);
      kernels::Scale(factor, query.count * width, query.Row(row));
    });
  }
  if (gqa.key) CacheRows(step, key, value, cache, layer);

  const std::span<float> mixed = step.workspace.Take<float>("attention.out", step.rows * query.count * width);
  Attend(step, gqa, cache, layer, query.values, mixed);
  const std::span<float> partial = step.workspace.Take<float>("reduce.partial", step.rows * hidden);
  gqa.out.Apply({step, mixed, step.rows}, partial);
  ATOLL_RETURN_IF_ERROR(ReduceToHomes(step, partial, hidden, out, {"o_proj reduce", layer}));
  gqa.out.AddBias(step.home.size(), out);
  return absl::OkStatus();
}

}  // namespace atl::models
