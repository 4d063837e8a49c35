// kernels.h in plain loops, bit for bit: what the fast forms are tested against, and the place to read what they mean.
#pragma once

#include "models/kernels/kernels.h"

namespace atl::models::kernels::reference {

float Weight(const Matrix& w, int64_t row, int64_t col);

void MatMul(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts, std::span<float> y);
void MatMulTransposed(std::span<const float> x, int64_t rows, const Matrix& w, std::span<float> y);
void RmsNorm(const float* x, const float* weight, float eps, int64_t rows, int64_t width, float* y);
void SiluMultiply(const float* gate, const float* up, int64_t n, float* out);
float Exp(float x);
float Sigmoid(float x);
float GeluTanh(float x);
float Tanh(float x);
float Sum(const float* x, int64_t n);
float Squares(const float* x, int64_t n, float center);
void ScaleBy(float factor, const float* weight, float plus, int64_t n, float* x);
void LayerNorm(const float* x, const float* weight, const float* bias, float eps, int64_t rows, int64_t width,
               float* y);
float Dot(const float* a, const float* b, int64_t n);
float ExpMinus(const float* x, int64_t n, float max, float* out);

}  // namespace atl::models::kernels::reference
