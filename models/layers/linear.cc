#include "models/layers/linear.h"

#include "models/layers/thread_scratch.h"
#include "models/spec/workspace.h"

namespace atl::models {

const kernels::QuantizedRows& Activations::Quantized(int64_t width) const {
  if (quantized_.values == nullptr) {
    const int64_t bytes = QuantizedBytes(rows_, width);
    static_assert(QuantizedBytes(3, 100) == kernels::QuantizedRowsBytes(3, 100));
    const std::span<std::byte> memory = step_.workspace.Take<std::byte>("products.quantized", bytes);
    quantized_ = kernels::QuantizeRows(x_, rows_, width, memory, step_.pool);
  }
  return quantized_;
}

void Linear::Count(const Step& step, int64_t rows) const {
  if (step.costs == nullptr) return;
  const int64_t bytes =
      PackingOf(weight.format, {0, weight.rows}, {weight.skip_cols, weight.skip_cols + weight.cols}).bytes;
  step.costs->AddProduct(rows, weight.rows * weight.cols, bytes);
}

void Linear::Apply(const Activations& x, std::span<float> y) const {
  if (x.rows() == 0) return;
  Count(x.step(), x.rows());
  if (IsPacked(weight.format)) {
    kernels::MatMulPacked(x.Quantized(weight.cols), kernels::AsPacked(weight), cuts, y, x.step().pool);
  } else {
    kernels::MatMul(x.values(), x.rows(), weight, cuts, y, x.step().pool);
  }
}

void MultiplyHere(std::span<const float> x, int64_t rows, const kernels::Matrix& w, std::span<float> y) {
  const int64_t cuts[] = {0, w.cols};
  if (!IsPacked(w.format)) return kernels::MatMul(x, rows, w, cuts, y, nullptr);
  const std::span<float> memory = ThreadScratch(QuantizedBytes(rows, w.cols) / static_cast<int64_t>(sizeof(float)));
  const kernels::QuantizedRows quantized =
      kernels::QuantizeRows(x, rows, w.cols, std::as_writable_bytes(memory), nullptr);
  kernels::MatMulPacked(quantized, kernels::AsPacked(w), cuts, y, nullptr);
}

}  // namespace atl::models
