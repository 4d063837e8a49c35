#include "models/layers/mlp.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/layers/gated.h"
#include "models/layers/tensor_parallel.h"
#include "models/spec/workspace.h"

namespace atl::models {
namespace {

// gate [rows, my width]; the row's mean and deviation are of the whole width, so of all ranks.
absl::Status Sparsify(const Step& step, const Mlp& mlp, int layer, std::span<float> gate) {
  const int64_t mine = mlp.up.weight.rows;
  const auto whole = static_cast<float>(mlp.width);
  const std::span<float> partial = step.workspace.Take<float>("sums.partial", step.rows);
  const std::span<float> both = step.workspace.Take<float>("sums", 2 * step.rows);
  const std::span<float> sums = both.first(step.rows), means = both.last(step.rows);
  const auto add_up = [&](const auto& term) {
    for (int64_t row = 0; row < step.rows; ++row) {
      const float* values = gate.data() + row * mine;
      partial[row] =
          SumBlocks(mlp.down.cuts, [&](int64_t begin, int64_t end) { return term(values + begin, end - begin, row); });
    }
    return ReduceToAll(step, partial, 1, sums, {"sparsity", layer});
  };
  ATOLL_RETURN_IF_ERROR(add_up([](const float* x, int64_t n, int64_t) { return kernels::Sum(x, n); }));
  for (int64_t row = 0; row < step.rows; ++row) means[row] = sums[row] / whole;
  ATOLL_RETURN_IF_ERROR(
      add_up([&](const float* x, int64_t n, int64_t row) { return kernels::Squares(x, n, means[row]); }));
  for (int64_t row = 0; row < step.rows; ++row) {
    const float threshold = means[row] + *mlp.spread * std::sqrt(sums[row] / whole);
    for (float& value : gate.subspan(row * mine, mine)) value = std::max(value - threshold, 0.0f);
  }
  return absl::OkStatus();
}

}  // namespace

float SpreadOf(double sparsity) {
  // Newton's method on the normal distribution's function; it is concave from the median on.
  double x = 0;
  for (int i = 0; i < 60; ++i) {
    const double below = 0.5 * std::erfc(-x / std::numbers::sqrt2);
    x += (sparsity - below) * std::sqrt(2 * std::numbers::pi) * std::exp(x * x / 2);
  }
  return static_cast<float>(x);
}

absl::Status RunMlp(const Step& step, const Mlp& mlp, int layer, ConstBuffer wire, std::span<float> out) {
  if (step.rows == 0) return absl::OkStatus();
  const int64_t hidden = mlp.up.weight.cols, width = mlp.up.weight.rows;
  ATOLL_ASSIGN_OR_RETURN(const ConstBuffer all, GatherRows(step, wire, step.homes, hidden, {"mlp gather", layer}));
  const std::span<float> x = step.workspace.Take<float>("rows", step.rows * hidden);
  kernels::Widen(all.data, all.count, all.type, x.data());
  const std::span<float> up = step.workspace.Take<float>("mlp.up", step.rows * width);
  const Activations in(step, x, step.rows);
  const std::span<float> partial = step.workspace.Take<float>("reduce.partial", step.rows * hidden);
  if (mlp.gate && !mlp.spread && ArePacked(*mlp.gate, mlp.up, mlp.down)) {
    const auto memory = step.workspace.Take<std::byte>("mlp.quantized", QuantizedBytes(step.rows, width));
    const GatedPart all{.gate = &*mlp.gate,
                        .up = &mlp.up,
                        .down = &mlp.down,
                        .in = in.Quantized(hidden),
                        .inner = kernels::PlaceRows(step.rows, width, memory)};
    CountProducts(step, all);
    RunGated(step.pool, mlp.activation, {&all, 1});
    RunDown(step.pool, {&all, 1}, Buffer::Of(partial));
    return ReduceToHomes(step, partial, hidden, out, {"mlp reduce", layer});
  }
  mlp.up.Apply(in, up);
  mlp.up.AddBias(step.rows, up);
  const auto count = static_cast<int64_t>(up.size());
  if (mlp.gate) {
    const std::span<float> gate = step.workspace.Take<float>("mlp.gate", step.rows * width);
    mlp.gate->Apply(in, gate);
    if (mlp.spread) ATOLL_RETURN_IF_ERROR(Sparsify(step, mlp, layer, gate));
    const bool silu = mlp.activation == Activation::kSilu;
    (silu ? kernels::SiluMultiply : kernels::GeluTanhMultiply)(gate.data(), up.data(), count, up.data());
  } else {
    ATOLL_CHECK(mlp.activation == Activation::kGeluTanh, "layer {}: an MLP without a gate has GELU", layer);
    kernels::GeluTanh(up.data(), count, up.data());
  }
  mlp.down.Apply({step, up, step.rows}, partial);
  ATOLL_RETURN_IF_ERROR(ReduceToHomes(step, partial, hidden, out, {"mlp reduce", layer}));
  mlp.down.AddBias(step.home.size(), out);
  return absl::OkStatus();
}

}  // namespace atl::models
