// FP8: where a row's scales lie, and few rows by such a matrix: what x86 does better than the tiles of matmul.cc, with
// the same bits.
#pragma once

#include <cstdint>
#include <span>

#include "models/kernels/kernels.h"

namespace atl::models::kernels {

inline constexpr int64_t kFp8Block = 128;  // rows, and columns, that share a scale

// The row's scales; the first is that of column 0 less w.scales.skip_cols.
inline const float* Fp8Scales(const Matrix& w, int64_t row) {
  return reinterpret_cast<const float*>(w.scales.data + (w.scales.skip_rows + row) / kFp8Block * w.scales.row_bytes);
}

// y[r w.rows + o] for outputs o of [begin, end), as MatMul, whose cuts it takes: multiples of 16, like the matrix's
// first column in its first block of scales. x: [rows, w.cols], each 16 values in the order that InLaneOrder gives.
using Fp8RowsFunction = void (*)(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end,
                                 std::span<const int64_t> cuts, float* y);
Fp8RowsFunction Fp8RowsAvx512();  // null: this machine lacks it
Fp8RowsFunction Fp8RowsAvx2();

// to[16 c + 4 j + i] = x[16 c + 4 i + j]; n is a multiple of 16.
void InLaneOrder(const float* x, int64_t n, float* to);

}  // namespace atl::models::kernels
