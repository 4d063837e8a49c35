// The arithmetic that a step spends its time in. Highway chooses the instruction set at run time; reference.h says the
// same in plain loops, and every instruction set gives its bits.
//
//   MatMul(x, rows, w, cuts, y, pool);    // y[r, o] = sum over k of x[r, k] w[o, k]
//
// Law 1: a result depends on its own row and its own weights only. Inside a block, element k of the sum goes to virtual
// lane k mod 16 by a fused multiply-add in ascending k; the 16 lanes are then added as a fixed tree: lanes i and i + 8,
// then i and i + 4, i and i + 2, 0 and 1. Every vector width does exactly this, whatever the number of rows, threads or
// outputs. The target's name is part of the numerics profile all the same: a mixture of machines is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include "models/kernels/packed.h"
#include "models/spec/weight_format.h"
#include "parallel/base/dtype.h"
#include "parallel/base/partition.h"
#include "parallel/base/thread_pool.h"

namespace atl::models::kernels {

inline constexpr int kLanes = 16;

// Memory that is read next, asked for while a product is at work.
struct Ahead {
  const std::byte* data = nullptr;
  int64_t bytes = 0;
};

// A weight matrix as stored: row o holds the K weights of output o. In a format of groups it is a slice of a tensor,
// whose first group and first block of scales may begin before it (models/spec/weight_format.h).
struct Matrix {
  const std::byte* data = nullptr;
  WeightFormat format = WeightFormat::kBF16;
  int64_t rows = 0;       // outputs
  int64_t cols = 0;       // inputs, K
  int64_t row_bytes = 0;  // from one row to the next
  int64_t skip_cols = 0;  // columns of the first group before column 0
  struct {
    const std::byte* data = nullptr;  // beside the matrix; null: none
    int64_t row_bytes = 0;
    int64_t skip_rows = 0, skip_cols = 0;  // elements of the first block of scales before element (0, 0)
  } scales;
  Ahead ahead{};  // of f32 and many rows: other formats' weights, which come from memory, ask for themselves

  // Rows [begin, begin + count).
  Matrix Rows(int64_t begin, int64_t count) const;
  // Plain elements of type T.
  template <typename T>
  const T* Row(int64_t row) const {
    return reinterpret_cast<const T*>(data + row * row_bytes);
  }
};

// A matrix of plain elements (f32, f16, bf16), its rows `stride` elements apart.
template <typename T>
Matrix PlainMatrix(const T* data, int64_t rows, int64_t cols, int64_t stride) {
  constexpr WeightFormat format = std::is_same_v<T, float> ? WeightFormat::kF32
                                  : std::is_same_v<T, F16> ? WeightFormat::kF16
                                                           : WeightFormat::kBF16;
  static_assert(sizeof(T) == (format == WeightFormat::kF32 ? 4 : 2));
  Matrix matrix;
  matrix.data = reinterpret_cast<const std::byte*>(data);
  matrix.format = format;
  matrix.rows = rows;
  matrix.cols = cols;
  matrix.row_bytes = stride * static_cast<int64_t>(sizeof(T));
  return matrix;
}

// The slice [rows, columns] of a tensor, packed at `data` as PackingOf says.
Matrix PackedMatrix(const std::byte* data, WeightFormat format, Range rows, Range columns);
// Of a packed format (IsPacked): its type, and a matrix for products of integers.
constexpr PackedType PackedTypeOf(WeightFormat format) {
  return static_cast<PackedType>(static_cast<int>(format) - static_cast<int>(WeightFormat::kPackedInt4));
}
static_assert(PackedTypeOf(WeightFormat::kPackedQ6_K) == PackedType::kQ6_K && kGroup == kPackedGroup);
PackedWeights AsPacked(const Matrix& matrix);

// out[i] = w[row, begin + i] in f32: the value that every product uses, whatever the format.
void DecodeRow(const Matrix& w, int64_t row, int64_t begin, int64_t count, float* out);
// Rows [row, row + rows) of it, to out, `stride` apart: whole tiles of a packed format at once.
void DecodeRows(const Matrix& w, int64_t row, int64_t rows, int64_t begin, int64_t count, float* out, int64_t stride);
// The whole row.
inline void WidenRow(const Matrix& w, int64_t row, float* out) { DecodeRow(w, row, 0, w.cols, out); }

// y[r, o] for x [rows, K], y [rows, w.rows]. K is cut at `cuts` (ascending, first 0, last K, empty blocks allowed) into
// 1, 2, 4 or 8 blocks, whose sums are added as the fixed binary tree. `pool` may be null: this thread alone.
void MatMul(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts, std::span<float> y,
            ThreadPool* pool);
// Outputs [begin, end) of it on this thread. Threads are handed some outputs together, so that tiles stay whole: begin
// is a multiple of kOutputGrain.
inline constexpr int64_t kOutputGrain = 16;
void MatMulOutputs(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts,
                   std::span<float> y, Range outputs);

// y[r, c] = sum over o of x[r, o] w[o, c], o ascending, by fused multiply-add; x [rows, w.rows], its rows x_stride
// apart, y [rows, w.cols], y_stride apart.
void MatMulTransposed(const float* x, int64_t x_stride, int64_t rows, const Matrix& w, float* y, int64_t y_stride,
                      ThreadPool* pool);

// y = x / sqrt(mean(x^2) + eps) * weight for each row of x [rows, width]; y may be x.
void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* y);

// out[i] = silu(gate[i]) * up[i]; out may be gate.
void SiluMultiply(const float* gate, const float* up, int64_t n, float* out);

// y = (x - mean) / sqrt(variance + eps) * weight + bias for each row; y may be x.
void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int64_t rows, int64_t width,
               float* y);
// x = x * factor * (weight + plus): what is left of an RMSNorm when the factor 1 / rms is known.
void ScaleBy(float factor, const float* weight, float plus, int64_t n, float* x);

// GELU in its tanh form (gelu.h); out may be x. The second multiplies by up.
void GeluTanh(const float* x, int64_t n, float* out);
void GeluTanhMultiply(const float* gate, const float* up, int64_t n, float* out);
// tanh as 2 sigmoid(2 x) - 1: within 2e-7 of it, not relatively close near 0. out may be x.
void Tanh(const float* x, int64_t n, float* out);

float Sum(const float* x, int64_t n);
float Squares(const float* x, int64_t n, float center);  // sum of (x[i] - center)^2

// out[i] = 1 / (1 + exp(-x[i])); out may be x.
void Sigmoid(const float* x, int64_t n, float* out);

float Dot(const float* a, const float* b, int64_t n);
// out[i] = Dot(x, row i) for `count` rows of `width` values, `stride` apart.
void Dots(const float* x, const float* rows, int64_t stride, int64_t count, int64_t width, float* out);
// out[c] = sum over i of a[i] row i [c], i ascending, fused: an Axpy for each row, from zero.
void WeightedSum(const float* a, const float* rows, int64_t stride, int64_t count, int64_t width, float* out);
// out[c, r] = x[r, c] for x [rows, width], its rows `stride` apart, those of out `out_stride`.
void Transpose(const float* x, int64_t stride, int64_t rows, int64_t width, float* out, int64_t out_stride);
void Axpy(float a, const float* x, int64_t n, float* y);            // y += a x, fused
void Axpby(float a, const float* x, float b, int64_t n, float* y);  // y = a x + b y: Scale, then Axpy
void Scale(float a, int64_t n, float* x);
float Max(const float* x, int64_t n);  // -infinity for n = 0
// out[i] = exp(x[i] - max); returns the sum in the lanes' order. out may be x.
float ExpMinus(const float* x, int64_t n, float max, float* out);

// f32 to a buffer of `type` (f32 or bf16) and back (f16 too).
void Round(const float* x, int64_t n, DType type, void* out);
void Widen(const void* x, int64_t n, DType type, float* out);

// int8 with an f32 scale for each `group` values, of which n is a multiple: scale = max |x| / 127, q the nearest to
// x / scale. A value that is not a number makes its group's scale none, so all of it reads as none.
void RoundInt8(const float* x, int64_t n, int64_t group, int8_t* q, float* scales);
void WidenInt8(const int8_t* q, const float* scales, int64_t n, int64_t group, float* out);

std::string Target();  // the instruction set in use: "AVX3"

}  // namespace atl::models::kernels
