#include "models/layers/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "models/spec/workspace.h"

namespace atl::models {
namespace {

double Magnitude(double factor, double mscale) { return 0.1 * mscale * std::log(factor) + 1.0; }

// YaRN: dimensions that turn often over the original context stay, those that hardly turn are stretched, a ramp
// between.
double Stretched(const YarnSpec& yarn, double theta, int64_t i, int64_t dim, double frequency) {
  // The dimension that makes `turns` full turns over the original context.
  const auto dimension = [&](double turns) {
    return dim * std::log(yarn.original_positions / (2 * std::numbers::pi * turns)) / (2 * std::log(theta));
  };
  const double low = std::max(std::floor(dimension(yarn.beta_fast)), 0.0);
  double high = std::min(std::ceil(dimension(yarn.beta_slow)), static_cast<double>(dim - 1));
  if (high == low) high += 0.001;
  const double ramp = std::clamp((i - low) / (high - low), 0.0, 1.0);
  return frequency / yarn.factor * ramp + frequency * (1 - ramp);
}

double Stretched(const Llama3RopeSpec& llama3, double frequency) {
  const double waves = llama3.original_positions * frequency / (2 * std::numbers::pi);  // over the original context
  if (waves > llama3.high) return frequency;
  if (waves < llama3.low || llama3.low == llama3.high) return frequency / llama3.factor;
  const double plain = (waves - llama3.low) / (llama3.high - llama3.low);
  return (1 - plain) * frequency / llama3.factor + plain * frequency;
}

}  // namespace

Rope MakeRope(const ModelSpec& spec, int64_t index) {
  const RopeSpec& from = spec.ropes[index];
  const int64_t dim = RotaryWidth(spec);
  Rope rope;
  rope.dim = dim;
  for (int64_t i = 0; i < dim / 2; ++i) {
    double frequency = std::pow(from.theta, -2.0 * i / dim) / from.linear;
    if (!from.divisors.empty()) frequency /= from.divisors[i];
    if (from.llama3) frequency = Stretched(*from.llama3, frequency);
    if (from.yarn) frequency = Stretched(*from.yarn, from.theta, i, dim, frequency);
    rope.frequencies.push_back(static_cast<float>(frequency));
  }
  if (from.yarn) {
    const YarnSpec& yarn = *from.yarn;
    rope.magnitude =
        static_cast<float>(Magnitude(yarn.factor, yarn.mscale) / Magnitude(yarn.factor, yarn.mscale_all_dim));
  }
  return rope;
}

float ScoreScale(const ModelSpec& spec) {
  if (spec.gqa) return static_cast<float>(spec.gqa->scale);
  double scale = 1.0 / std::sqrt(static_cast<double>(spec.mla->qk_dim()));
  if (const auto& yarn = spec.ropes[0].yarn) {
    const double magnitude = Magnitude(yarn->factor, yarn->mscale_all_dim);
    scale *= magnitude * magnitude;
  }
  return static_cast<float>(scale);
}

void RotaryTable(const Rope& rope, const Batch& batch, std::span<float> table) {
  for (const SequenceRows& sequence : batch.sequences) {
    for (int64_t i = 0; i < sequence.rows; ++i) {
      float* row = table.data() + (sequence.row_begin + i) * rope.dim;
      for (int64_t pair = 0; pair < rope.dim / 2; ++pair) {
        const float angle = static_cast<float>(sequence.position + i) * rope.frequencies[pair];
        row[2 * pair] = static_cast<float>(std::cos(static_cast<double>(angle))) * rope.magnitude;
        row[2 * pair + 1] = static_cast<float>(std::sin(static_cast<double>(angle))) * rope.magnitude;
      }
    }
  }
}

}  // namespace atl::models
