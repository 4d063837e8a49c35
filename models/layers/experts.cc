#include "models/layers/experts.h"

#include <algorithm>
#include <array>

#include "models/layers/gated.h"
#include "models/layers/tensor_parallel.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

void QuantizeRow(ConstBuffer rows, int64_t row, int64_t hidden, const kernels::MutableQuantizedRows& to, int64_t at) {
  const std::byte* from = RowOf(rows, row, hidden);
  float values[kernels::kGroup];
  for (int64_t i = 0; i < hidden; i += kernels::kGroup) {
    kernels::Widen(from + i * SizeOf(rows.type), kernels::kGroup, rows.type, values);
    kernels::QuantizeGroupOfRow(values, to, at, i / kernels::kGroup);
  }
}

// Quantised rows of some pairs. Where these are all pairs, a row is rounded once for all experts that want it, which is
// ten times the work of copying it.
void QuantizePairs(const Step& step, const parallel::Dispatched& in, Range pairs, int64_t hidden,
                   const kernels::MutableQuantizedRows& to) {
  const auto shared = [&](int64_t n, int64_t worth, const auto& body) {
    ParallelFor(n >= worth ? step.pool : nullptr, n, [&](int64_t i, int64_t last) {
      for (; i < last; ++i) body(i);
    });
  };
  if (pairs.size() < in.num_pairs) {
    shared(pairs.size(), 16, [&](int64_t i) { QuantizeRow(in.rows, in.pair_row[pairs.begin + i], hidden, to, i); });
    return;
  }
  const auto once =
      kernels::PlaceRows(in.num_rows, hidden,
                         step.workspace.Take<std::byte>("experts.quantized_once", QuantizedBytes(in.num_rows, hidden)));
  shared(in.num_rows, 16, [&](int64_t row) { QuantizeRow(in.rows, row, hidden, once, row); });
  shared(in.num_pairs, 128, [&](int64_t i) { kernels::CopyRow(once, in.pair_row[i], to, i); });
}

// Experts whose products are of integers, some hundred pairs at a time.
void RunPackedExperts(const Step& step, const std::vector<Expert>& experts, const parallel::Dispatched& in,
                      int64_t hidden, Buffer results) {
  const int64_t width = experts[0].gate.weight.rows;
  size_t e = 0;
  for (int64_t begin = 0; begin < in.num_pairs; begin += kExpertPairs) {
    const int64_t pairs = std::min(kExpertPairs, in.num_pairs - begin);
    const auto rows = kernels::PlaceRows(
        pairs, hidden, step.workspace.Take<std::byte>("experts.quantized", QuantizedBytes(pairs, hidden)));
    const auto inner = kernels::PlaceRows(
        pairs, width, step.workspace.Take<std::byte>("experts.quantized_inner", QuantizedBytes(pairs, width)));
    QuantizePairs(step, in, {begin, begin + pairs}, hidden, rows);
    const std::span<GatedPart> all =
        step.workspace.Take<GatedPart>("experts.parts", std::min<int64_t>(pairs, std::ssize(experts)));
    static_assert(sizeof(GatedPart) <= kGatedPartBytes);
    int64_t used = 0;
    for (int64_t at = begin; at < begin + pairs;) {
      while (in.pair_begin[e + 1] <= at) ++e;
      const int64_t count = std::min<int64_t>(in.pair_begin[e + 1], begin + pairs) - at;
      all[used++] = {.gate = &experts[e].gate,
                     .up = &experts[e].up,
                     .down = &experts[e].down,
                     .in = kernels::QuantizedRows(rows).Rows(at - begin, count),
                     .inner = inner.Rows(at - begin, count),
                     .first_row = at};
      at += count;
    }
    const std::span<const GatedPart> parts = all.first(used);
    for (const GatedPart& part : parts) CountProducts(step, part);
    RunGated(step.pool, Activation::kSilu, parts);
    RunDown(step.pool, parts, results);
  }
}

// Rows [first, first + rows) of a tile, which want this expert.
struct PlainPart {
  const Expert* expert = nullptr;
  int64_t first = 0, rows = 0;
};

// A tile of at most kExpertTile pairs from `begin` on. A thread makes its share of the outputs of all experts before it
// waits for the others; it used to wait three times an expert. (Pieces that threads take as they can would let a
// thread's scratch grow in any step.)
void RunPlainTile(const Step& step, std::span<const PlainPart> parts, const parallel::Dispatched& in, int64_t begin,
                  int64_t hidden, Buffer results) {
  const int64_t width = parts[0].expert->gate.weight.rows, rows = parts.back().first + parts.back().rows;
  const std::span<float> x = step.workspace.Take<float>("experts.rows", rows * hidden);
  const std::span<float> gate = step.workspace.Take<float>("experts.gate", rows * width);
  const std::span<float> up = step.workspace.Take<float>("experts.up", rows * width);
  const std::span<float> y = step.workspace.Take<float>("experts.out", rows * hidden);
  ParallelRows(step.pool, rows, hidden * SizeOf(DType::kF32), [&](int64_t i, int64_t last) {
    for (; i < last; ++i) {
      kernels::Widen(RowOf(in.rows, in.pair_row[begin + i], hidden), hidden, in.rows.type, x.data() + i * hidden);
    }
  });
  // body(part, the thread's share of its outputs)
  const auto share = [&](int64_t outputs, const auto& body) {
    constexpr int64_t kGrain = kernels::kOutputGrain;
    ParallelFor(step.pool, (outputs + kGrain - 1) / kGrain, [&](int64_t first, int64_t last) {
      for (const PlainPart& part : parts) body(part, {first * kGrain, std::min(last * kGrain, outputs)});
    });
  };
  share(width, [&](const PlainPart& part, Range outputs) {
    const std::span<const float> from = x.subspan(part.first * hidden, part.rows * hidden);
    const auto product = [&](const Linear& linear, std::span<float> to) {
      kernels::MatMulOutputs(from, part.rows, linear.weight, linear.cuts, to.subspan(part.first * width), outputs);
    };
    product(part.expert->gate, gate);
    product(part.expert->up, up);
    for (int64_t row = part.first; row < part.first + part.rows; ++row) {
      const int64_t at = row * width + outputs.begin;
      kernels::SiluMultiply(&gate[at], &up[at], outputs.size(), &gate[at]);
    }
  });
  share(hidden, [&](const PlainPart& part, Range outputs) {
    const Linear& down = part.expert->down;
    kernels::MatMulOutputs(gate.subspan(part.first * width), part.rows, down.weight, down.cuts,
                           y.subspan(part.first * hidden), outputs);
    for (int64_t row = part.first; row < part.first + part.rows; ++row) {
      const int64_t at = (begin + row) * hidden + outputs.begin;
      kernels::Round(&y[row * hidden + outputs.begin], outputs.size(), results.type,
                     static_cast<std::byte*>(results.data) + at * SizeOf(results.type));
    }
  });
  for (const PlainPart& part : parts) {
    for (const Linear* linear : {&part.expert->gate, &part.expert->up, &part.expert->down}) {
      linear->Count(step, part.rows);
    }
  }
}

// Experts none of whose products are of integers: a tile is as many whole experts as fit, or a part of one.
void RunPlainExperts(const Step& step, const std::vector<Expert>& experts, const parallel::Dispatched& in,
                     int64_t hidden, Buffer results) {
  std::array<PlainPart, kExpertTile> parts;  // of one row each at least
  int64_t used = 0, begin = 0, end = 0;      // of the tile: its pairs [begin, end)
  const auto finish = [&] {
    if (used > 0) RunPlainTile(step, {parts.data(), static_cast<size_t>(used)}, in, begin, hidden, results);
    used = 0;
    begin = end;
  };
  for (size_t e = 0; e < experts.size(); ++e) {
    const int64_t stop = in.pair_begin[e + 1];
    if (stop - begin > kExpertTile) finish();
    while (end < stop) {
      const int64_t rows = std::min(stop - end, kExpertTile);
      parts[used++] = {.expert = &experts[e], .first = end - begin, .rows = rows};
      end += rows;
      if (end < stop) finish();
    }
  }
  finish();
}

}  // namespace

void RunExperts(const Step& step, const std::vector<Expert>& experts, const parallel::Dispatched& in, int64_t hidden,
                Buffer results) {
  if (!experts.empty() && ArePacked(experts[0].gate, experts[0].up, experts[0].down)) {
    return RunPackedExperts(step, experts, in, hidden, results);
  }
  const auto plain = [](const Linear& linear) { return !IsPacked(linear.weight.format); };
  if (!experts.empty() && plain(experts[0].gate) && plain(experts[0].up) && plain(experts[0].down)) {
    return RunPlainExperts(step, experts, in, hidden, results);
  }
  for (size_t e = 0; e < experts.size(); ++e) {
    const Expert& expert = experts[e];
    const int64_t width = expert.gate.weight.rows;
    for (int64_t begin = in.pair_begin[e]; begin < in.pair_begin[e + 1]; begin += kExpertTile) {
      const int64_t rows = std::min<int64_t>(kExpertTile, in.pair_begin[e + 1] - begin);
      const std::span<float> x = step.workspace.Take<float>("experts.rows", rows * hidden);
      const std::span<float> gate = step.workspace.Take<float>("experts.gate", rows * width);
      const std::span<float> up = step.workspace.Take<float>("experts.up", rows * width);
      const std::span<float> y = step.workspace.Take<float>("experts.out", rows * hidden);
      for (int64_t i = 0; i < rows; ++i) {
        kernels::Widen(RowOf(in.rows, in.pair_row[begin + i], hidden), hidden, in.rows.type, x.data() + i * hidden);
      }
      const Activations in_rows(step, x, rows);
      expert.gate.Apply(in_rows, gate);
      expert.up.Apply(in_rows, up);
      kernels::SiluMultiply(gate.data(), up.data(), rows * width, gate.data());
      expert.down.Apply({step, gate, rows}, y);
      kernels::Round(y.data(), rows * hidden, results.type,
                     static_cast<std::byte*>(results.data) + begin * hidden * SizeOf(results.type));
    }
  }
}

}  // namespace atl::models
