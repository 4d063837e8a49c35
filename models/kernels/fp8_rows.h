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
// first column in its first block of scales. x: [rows, w.cols].
using Fp8RowsFunction = void (*)(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end,
                                 std::span<const int64_t> cuts, float* y);
struct Fp8RowsKernel {
  Fp8RowsFunction run = nullptr;  // null: this machine lacks it
  int64_t most_rows = 0;          // beyond, decoded tiles are faster
  bool in_lane_order = false;     // each 16 values of x are in the order that InLaneOrder gives
};
Fp8RowsKernel Fp8RowsAvx512();
Fp8RowsKernel Fp8RowsAvx2();

// to[16 c + 4 j + i] = x[16 c + 4 i + j]; n is a multiple of 16.
void InLaneOrder(const float* x, int64_t n, float* to);

}  // namespace atl::models::kernels
