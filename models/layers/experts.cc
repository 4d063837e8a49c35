#include "models/layers/experts.h"

#include <algorithm>

#include "models/layers/gated.h"
#include "models/layers/tensor_parallel.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

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
    ParallelFor(pairs > 16 ? step.pool : nullptr, pairs, [&](int64_t pair, int64_t last) {
      for (; pair < last; ++pair) {
        const std::byte* row = RowOf(in.rows, in.pair_row[begin + pair], hidden);
        float values[kernels::kGroup];
        for (int64_t at = 0; at < hidden; at += kernels::kGroup) {
          kernels::Widen(row + at * SizeOf(in.rows.type), kernels::kGroup, in.rows.type, values);
          kernels::QuantizeGroupOfRow(values, rows, pair, at / kernels::kGroup);
        }
      }
    });
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

}  // namespace

void RunExperts(const Step& step, const std::vector<Expert>& experts, const parallel::Dispatched& in, int64_t hidden,
                Buffer results) {
  if (!experts.empty() && ArePacked(experts[0].gate, experts[0].up, experts[0].down)) {
    return RunPackedExperts(step, experts, in, hidden, results);
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
