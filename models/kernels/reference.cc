#include "models/kernels/reference.h"

#include <bit>
#include <cmath>
#include <vector>

#include "models/kernels/exp.h"
#include "models/kernels/gelu.h"
#include "parallel/base/partition.h"

namespace atl::models::kernels::reference {
namespace {

// Element k of a sum is fused into lane k mod 16; the lanes are added as a tree.
class LaneSum {
 public:
  void Add(int64_t k, float a, float b) { lanes_[k % kLanes] = std::fma(a, b, lanes_[k % kLanes]); }
  float Total() const {
    float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = lanes_[i];
    for (int step = kLanes / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
    }
    return lanes[0];
  }

 private:
  float lanes_[kLanes] = {};
};

}  // namespace

float Weight(const Matrix& w, int64_t row, int64_t col) {
  switch (w.format) {
    case WeightFormat::kF32:
      return w.Row<float>(row)[col];
    case WeightFormat::kF16:
      return ToFloat(w.Row<F16>(row)[col]);
    case WeightFormat::kBF16:
      return ToFloat(w.Row<BF16>(row)[col]);
    default: {
      float value;
      DecodeRow(w, row, col, 1, &value);
      return value;
    }
  }
}

void MatMul(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts,
            std::span<float> y) {
  const size_t blocks = cuts.size() - 1;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < w.rows; ++o) {
      std::vector<float> sums(blocks);
      for (size_t b = 0; b < blocks; ++b) {
        LaneSum sum;
        for (int64_t k = cuts[b]; k < cuts[b + 1]; ++k) {
          sum.Add(k - cuts[b], x[r * w.cols + k], Weight(w, o, k));
        }
        sums[b] = sum.Total();
      }
      for (size_t step = 1; step < blocks; step *= 2) {
        for (size_t b = 0; b < blocks; b += 2 * step) sums[b] += sums[b + step];
      }
      y[r * w.rows + o] = sums[0];
    }
  }
}

void MatMulTransposed(std::span<const float> x, int64_t rows, const Matrix& w, std::span<float> y) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < w.cols; ++c) {
      float sum = 0;
      for (int64_t o = 0; o < w.rows; ++o) sum = std::fma(x[r * w.rows + o], Weight(w, o, c), sum);
      y[r * w.cols + c] = sum;
    }
  }
}

void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const float scale = 1.0f / std::sqrt(Dot(row, row, width) / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[r * width + i] = row[i] * scale * weight[i];
  }
}

void SiluMultiply(const float* gate, const float* up, int64_t n, float* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = gate[i] * Sigmoid(gate[i]) * up[i];
}

float Exp(float x) {
  namespace e = exp_constants;
  if (x < e::kLowest) x = e::kLowest;
  if (x > e::kHighest) x = e::kHighest;
  if (std::isnan(x)) return x;
  const float n = std::fma(x, e::kPerLn2, e::kRounder) - e::kRounder;
  const float r = std::fma(n, -e::kLn2Low, std::fma(n, -e::kLn2High, x));
  float p = e::kP[4];
  for (int i = 3; i >= 0; --i) p = std::fma(p, r, e::kP[i]);
  return std::ldexp(std::fma(r * r, p, r) + 1.0f, static_cast<int>(n));
}

float Sigmoid(float x) { return 1.0f / (1.0f + Exp(-x)); }

float GeluTanh(float x) {
  const float inner = std::fma(x * x * x, gelu_constants::kCubic, x);
  return x * Sigmoid(inner * gelu_constants::kTwiceRoot);
}

float Tanh(float x) { return 2.0f * Sigmoid(2.0f * x) - 1.0f; }

float Sum(const float* x, int64_t n) {
  LaneSum sum;
  for (int64_t i = 0; i < n; ++i) sum.Add(i, x[i], 1.0f);
  return sum.Total();
}

float Squares(const float* x, int64_t n, float center) {
  LaneSum sum;
  for (int64_t i = 0; i < n; ++i) sum.Add(i, x[i] - center, x[i] - center);
  return sum.Total();
}

void ScaleBy(float factor, const float* weight, float plus, int64_t n, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] * factor * (weight[i] + plus);
}

void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int64_t rows, int64_t width,
               float* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * width;
    const float mean = Sum(row, width) / static_cast<float>(width);
    const float scale = 1.0f / std::sqrt(Squares(row, width, mean) / static_cast<float>(width) + eps);
    for (int64_t i = 0; i < width; ++i) y[r * width + i] = (row[i] - mean) * scale * weight[i] + bias[i];
  }
}

float Dot(const float* a, const float* b, int64_t n) {
  LaneSum sum;
  for (int64_t i = 0; i < n; ++i) sum.Add(i, a[i], b[i]);
  return sum.Total();
}

float ExpMinus(const float* x, int64_t n, float max, float* out) {
  LaneSum sum;
  for (int64_t i = 0; i < n; ++i) {
    out[i] = Exp(x[i] - max);
    sum.Add(i, out[i], 1.0f);
  }
  return sum.Total();
}

}  // namespace atl::models::kernels::reference
