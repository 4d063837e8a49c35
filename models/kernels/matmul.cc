#include <algorithm>
#include <cstring>
#include <vector>

#include "models/kernels/fp8_rows.h"
#include "models/kernels/kernels.h"
#include "models/kernels/targets.h"
#include "parallel/base/partition.h"

// foreach_target comes before highway.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "models/kernels/matmul.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "models/kernels/lanes-inl.h"
#include "models/kernels/many_rows-inl.h"
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

constexpr int64_t kNearCache = 16 << 10;  // bytes of weights that stay in the first-level cache beside some rows
constexpr int64_t kLine = 64;
constexpr int64_t kManyRows = 8;  // from here on weights are made f32 once for a group of rows

// Sums over [0, count) of a tile; sums[r * kStrip + o]. Vectors narrower than 16 lanes pass over the block once for
// each part of the lanes: the accumulators stay in registers, and the second pass reads from the first-level cache.
// Weights of two bytes come from memory: those of the same inputs `ahead` rows further are asked for, as eight rows of
// a page each are too short for the processor's own guesses (26 -> 32 of 35 GB/s).
template <int kRows, int kOuts, typename T>
HWY_INLINE void BlockSums(const float* x, int64_t x_stride, const T* w, int64_t w_stride, int64_t count, int64_t ahead,
                          float* sums) {
  Lanes acc[kRows][kOuts];
  const int64_t whole = count / kLanes * kLanes;
  for (int part = 0; part < kParts; ++part) {
    V sum[kRows][kOuts];
    for (auto& row : sum) {
      for (V& v : row) v = hn::Zero(D());
    }
    for (int64_t k = part * kWidth; k < whole; k += kLanes) {
      V values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = LoadPart(x + r * x_stride + k);
      if (sizeof(T) == 2 && part == 0 && k % (kLine / sizeof(T)) == 0) {
        for (int o = 0; o < kOuts; ++o) __builtin_prefetch(w + (o + ahead) * w_stride + k, 0, 2);
      }
      for (int o = 0; o < kOuts; ++o) {
        const V weights = InRegister(LoadPart(w + o * w_stride + k));
        for (int r = 0; r < kRows; ++r) sum[r][o] = Fma(values[r], weights, sum[r][o]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) acc[r][o].part[part] = sum[r][o];
    }
  }
  if (whole < count) {  // lanes beyond the end add 0 x 0
    Lanes weights[kOuts];
    for (int o = 0; o < kOuts; ++o) weights[o] = LoadRest(w + o * w_stride + whole, count - whole);
    for (int r = 0; r < kRows; ++r) {
      const Lanes values = LoadRest(x + r * x_stride + whole, count - whole);
      for (int o = 0; o < kOuts; ++o) FmaTo(values, weights[o], &acc[r][o]);
    }
  }
  for (int r = 0; r < kRows; ++r) SumLanes(acc[r], sums + r * kStrip);
}

template <int kRows, typename T>
HWY_INLINE void TileRow(const float* x, int64_t x_stride, const T* w, int64_t w_stride, int64_t outs, int64_t count,
                        float* sums) {
  constexpr int kWide = kRows == 1 ? 2 * kTileOuts : kTileOuts;
  int64_t o = 0;
  for (; o + kWide <= outs; o += kWide) {
    BlockSums<kRows, kWide>(x, x_stride, w + o * w_stride, w_stride, count, outs, sums + o);
  }
  for (; o < outs; ++o) BlockSums<kRows, 1>(x, x_stride, w + o * w_stride, w_stride, count, outs, sums + o);
}

template <typename T>
HWY_INLINE void Tiles(const float* x, int64_t x_stride, int64_t rows, const T* w, int64_t w_stride, int64_t outs,
                      int64_t count, float* sums) {
  int64_t r = 0;
  for (; r + kTileRows <= rows; r += kTileRows) {
    TileRow<kTileRows>(x + r * x_stride, x_stride, w, w_stride, outs, count, sums + r * kStrip);
  }
  for (; kTileRows > 2 && r + 2 <= rows; r += 2) {
    TileRow<2>(x + r * x_stride, x_stride, w, w_stride, outs, count, sums + r * kStrip);
  }
  if (r < rows) TileRow<1>(x + r * x_stride, x_stride, w, w_stride, outs, count, sums + r * kStrip);
}

// The usual numbers of outputs as moves of known size: a call for each row would cost as much as its sums.
HWY_INLINE void CopyOuts(const float* from, int64_t outs, float* to) {
  if (outs == kStrip) {
    std::memcpy(to, from, kStrip * sizeof(float));
  } else if (outs == kTileOuts) {
    std::memcpy(to, from, kTileOuts * sizeof(float));
  } else {
    std::copy_n(from, outs, to);
  }
}

// At most kDecodedRows rows and kStrip outputs from `out`.
template <typename T>
HWY_NOINLINE void Strip(const RowGroup& x, const Matrix& w, int64_t out, int64_t outs, std::span<const int64_t> cuts,
                        float* y) {
  float sums[kCanonicalBlocks][kDecodedRows * kStrip];
  const int blocks = static_cast<int>(cuts.size()) - 1;
  for (int b = 0; b < blocks; ++b) {
    if (std::is_same_v<T, Decoded> || x.rows >= kManyRows) {
      DecodedBlock<T>(x, w, out, outs, cuts[b], cuts[b + 1], sums[b]);
    } else if constexpr (!std::is_same_v<T, Decoded>) {
      Tiles(x.data + cuts[b], w.cols, x.rows, w.Row<T>(out) + cuts[b], w.row_bytes / static_cast<int64_t>(sizeof(T)),
            outs, cuts[b + 1] - cuts[b], sums[b]);
    }
  }
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int step = 1; step < blocks; step *= 2) {
      for (int b = 0; b + step < blocks; b += 2 * step) {
        for (int64_t o = r * kStrip; o < r * kStrip + outs; ++o) sums[b][o] += sums[b + step][o];
      }
    }
    CopyOuts(sums[0] + r * kStrip, outs, y + r * w.rows + out);
  }
}

// out[r, c] = sum over i of a[r, i] rows[i, c], i ascending, for kVectors vectors of columns held in registers. adds:
// to what out has.
template <int kRows, int kVectors, bool adds = false, typename T>
HWY_INLINE void WeightedColumns(const float* a, int64_t a_stride, const T* rows, int64_t stride, int64_t count,
                                float* out, int64_t out_stride) {
  V sum[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      sum[r][v] = adds ? LoadPart(out + r * out_stride + v * kWidth) : hn::Zero(D());
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    V values[kVectors];
    for (int v = 0; v < kVectors; ++v) values[v] = InRegister(LoadPart(rows + i * stride + v * kWidth));
    for (int r = 0; r < kRows; ++r) {
      const V factor = hn::Set(D(), a[r * a_stride + i]);
      for (int v = 0; v < kVectors; ++v) sum[r][v] = Fma(factor, values[v], sum[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) hn::StoreU(sum[r][v], D(), out + r * out_stride + v * kWidth);
  }
}

template <int kRows, bool adds = false, typename T>
HWY_INLINE void WeightedRows(const float* a, int64_t a_stride, const T* rows, int64_t stride, int64_t count,
                             int64_t width, float* out, int64_t out_stride) {
  constexpr int64_t kWide = kRows == 1 ? 8 : HWY_TARGET == HWY_AVX2 ? 3 : 4;
  int64_t c = 0;
  // One vector after whole ones would wait for its own sums: it is taken with another.
  for (; c + kWide * kWidth <= width && width - c != (kWide + 1) * kWidth; c += kWide * kWidth) {
    WeightedColumns<kRows, kWide, adds>(a, a_stride, rows + c, stride, count, out + c, out_stride);
  }
  for (; kWide > 2 && c + 2 * kWidth <= width; c += 2 * kWidth) {
    WeightedColumns<kRows, 2, adds>(a, a_stride, rows + c, stride, count, out + c, out_stride);
  }
  for (; c + kWidth <= width; c += kWidth) {
    WeightedColumns<kRows, 1, adds>(a, a_stride, rows + c, stride, count, out + c, out_stride);
  }
  for (; c < width; ++c) {
    for (int r = 0; r < kRows; ++r) {
      float sum = adds ? out[r * out_stride + c] : 0;
      for (int64_t i = 0; i < count; ++i) sum = std::fma(a[r * a_stride + i], Widened(rows[i * stride + c]), sum);
      out[r * out_stride + c] = sum;
    }
  }
}

// WeightedRows for any number of rows.
template <bool adds = false, typename T>
HWY_INLINE void AllWeightedRows(const float* a, int64_t a_stride, int64_t rows, const T* from, int64_t stride,
                                int64_t count, int64_t width, float* out, int64_t out_stride) {
  const auto some = [&]<int kRows>(int64_t row) {
    WeightedRows<kRows, adds>(a + row * a_stride, a_stride, from, stride, count, width, out + row * out_stride,
                              out_stride);
  };
  int64_t row = 0;
  for (; row + 4 <= rows; row += 4) some.template operator()<4>(row);
  for (; row + 2 <= rows; row += 2) some.template operator()<2>(row);
  if (row < rows) some.template operator()<1>(row);
}

// Columns [first, first + count), at most kDecoded, of weights that are decoded, kStrip rows of them at a time.
HWY_NOINLINE void DecodedColumns(const float* x, int64_t x_stride, int64_t rows, const Matrix& w, int64_t first,
                                 int64_t count, float* y, int64_t y_stride) {
  HWY_ALIGN float tile[kStrip * kDecoded];
  for (int64_t r = 0; r < rows; ++r) std::fill_n(y + r * y_stride, count, 0.0f);
  for (int64_t o = 0; o < w.rows; o += kStrip) {
    const int64_t some = std::min(kStrip, w.rows - o);
    DecodeRows(w, o, some, first, count, tile, kDecoded);
    AllWeightedRows<true>(x + o, x_stride, rows, tile, kDecoded, some, count, y, y_stride);
  }
}

// Few rows, where the machine has a kernel for them and each block of K is of whole groups of lanes.
bool Fp8Rows(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end, std::span<const int64_t> cuts,
             float* y) {
  static const Fp8RowsKernel kernel = Fp8RowsAvx512().run != nullptr ? Fp8RowsAvx512() : Fp8RowsAvx2();
  if (kernel.run == nullptr || rows > kernel.most_rows || w.scales.skip_cols % kLanes != 0) return false;
  if (!std::all_of(cuts.begin(), cuts.end(), [](int64_t cut) { return cut % kLanes == 0; })) return false;
  if (kernel.in_lane_order) {
    thread_local std::vector<float> ordered;
    ordered.resize(rows * w.cols);
    InLaneOrder(x, rows * w.cols, ordered.data());
    x = ordered.data();
  }
  kernel.run(x, rows, w, begin, end, cuts, y);
  return true;
}

template <typename T>
HWY_INLINE void Strips(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end,
                       std::span<const int64_t> cuts, float* y) {
  // Few rows: the weights are read once, whole outputs one after another. Many: strips of outputs.
  constexpr int64_t kColumns = std::is_same_v<T, float> ? kPlainColumns : kDecoded;
  const int64_t row_bytes = cuts[1] * InfoOf(w.format).group_bytes;  // of a block of K, about
  const bool wide = row_bytes * kStrip > kNearCache;
  const int64_t strip = rows <= kTileRows                  ? 2 * kTileOuts
                        : rows < kManyRows                 ? (wide ? kTileOuts : kStrip)
                        : std::is_same_v<T, float> && wide ? kStrip / 2
                                                           : kStrip;
  for (int64_t row = 0; row < rows; row += kDecodedRows) {
    const int64_t count = std::min(kDecodedRows, rows - row);
    const float* from = x + row * w.cols;
    const RowGroup group =
        count >= kManyRows ? GroupRows(from, count, w.cols, kColumns, cuts) : RowGroup{from, count, w.cols, false};
    for (int64_t out = begin; out < end; out += strip) {
      Strip<T>(group, w, out, std::min(strip, end - out), cuts, y + row * w.rows);
    }
  }
}

}  // namespace

void MatMulPart(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end,
                std::span<const int64_t> cuts, float* y) {
  switch (w.format) {
    case WeightFormat::kF32:
      return Strips<float>(x, rows, w, begin, end, cuts, y);
    case WeightFormat::kF16:
      return Strips<F16>(x, rows, w, begin, end, cuts, y);
    case WeightFormat::kBF16:
      return Strips<BF16>(x, rows, w, begin, end, cuts, y);
    case WeightFormat::kFp8Block:
      if (HWY_TARGET != HWY_SCALAR && Fp8Rows(x, rows, w, begin, end, cuts, y)) return;
      [[fallthrough]];
    default:
      return Strips<Decoded>(x, rows, w, begin, end, cuts, y);
  }
}

void MatMulTransposedPart(const float* x, int64_t x_stride, int64_t rows, const Matrix& w, int64_t begin, int64_t end,
                          float* y, int64_t y_stride) {
  const auto plain = [&](const auto* data) {
    const auto stride = w.row_bytes / static_cast<int64_t>(sizeof(*data));
    AllWeightedRows(x, x_stride, rows, data + begin, stride, w.rows, end - begin, y + begin, y_stride);
  };
  switch (w.format) {
    case WeightFormat::kF32:
      return plain(w.Row<float>(0));
    case WeightFormat::kF16:
      return plain(w.Row<F16>(0));
    case WeightFormat::kBF16:
      return plain(w.Row<BF16>(0));
    default:
      if (IsPacked(w.format) &&
          MatMulTransposedPacked(x, x_stride, rows, AsPacked(w), {begin, end}, y + begin, y_stride)) {
        return;
      }
      for (int64_t c = begin; c < end; c += kDecoded) {
        DecodedColumns(x, x_stride, rows, w, c, std::min(kDecoded, end - c), y + c, y_stride);
      }
  }
}

// Four by four, in 128-bit vectors; what is left one by one.
void TransposeImpl(const float* x, int64_t stride, int64_t rows, int64_t width, float* out, int64_t out_stride) {
  int64_t whole_rows = 0, whole_width = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> four;
  const hn::RepartitionToWide<decltype(four)> two;
  whole_rows = rows / 4 * 4;
  whole_width = width / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4) {
    for (int64_t c = 0; c < whole_width; c += 4) {
      const float* from = x + r * stride + c;
      float* to = out + c * out_stride + r;
      const auto a = hn::LoadU(four, from), b = hn::LoadU(four, from + stride), d = hn::LoadU(four, from + 2 * stride),
                 e = hn::LoadU(four, from + 3 * stride);
      const auto ab = hn::BitCast(two, hn::InterleaveLower(four, a, b)),
                 de = hn::BitCast(two, hn::InterleaveLower(four, d, e)),
                 ab_high = hn::BitCast(two, hn::InterleaveUpper(four, a, b)),
                 de_high = hn::BitCast(two, hn::InterleaveUpper(four, d, e));
      hn::StoreU(hn::BitCast(four, hn::InterleaveLower(two, ab, de)), four, to);
      hn::StoreU(hn::BitCast(four, hn::InterleaveUpper(two, ab, de)), four, to + out_stride);
      hn::StoreU(hn::BitCast(four, hn::InterleaveLower(two, ab_high, de_high)), four, to + 2 * out_stride);
      hn::StoreU(hn::BitCast(four, hn::InterleaveUpper(two, ab_high, de_high)), four, to + 3 * out_stride);
    }
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_width : 0; c < width; ++c) out[c * out_stride + r] = x[r * stride + c];
  }
}

void DotsImpl(const float* x, const float* rows, int64_t stride, int64_t count, int64_t width, float* out) {
  TileRow<1>(x, width, rows, stride, count, width, out);
}

void WeightedSumImpl(const float* a, const float* rows, int64_t stride, int64_t count, int64_t width, float* out) {
  WeightedRows<1>(a, count, rows, stride, count, width, out, width);
}

}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace atl::models::kernels {

HWY_EXPORT(MatMulPart);
HWY_EXPORT(MatMulTransposedPart);
HWY_EXPORT(DotsImpl);
HWY_EXPORT(WeightedSumImpl);
HWY_EXPORT(TransposeImpl);

void MatMul(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts, std::span<float> y,
            ThreadPool* pool) {
  ParallelFor(pool, (w.rows + kOutputGrain - 1) / kOutputGrain, [&](int64_t begin, int64_t end) {
    MatMulOutputs(x, rows, w, cuts, y, {begin * kOutputGrain, std::min(end * kOutputGrain, w.rows)});
  });
}

void MatMulOutputs(std::span<const float> x, int64_t rows, const Matrix& w, std::span<const int64_t> cuts,
                   std::span<float> y, Range outputs) {
  HWY_DYNAMIC_DISPATCH(MatMulPart)(x.data(), rows, w, outputs.begin, outputs.end, cuts, y.data());
}

void MatMulTransposed(const float* x, int64_t x_stride, int64_t rows, const Matrix& w, float* y, int64_t y_stride,
                      ThreadPool* pool) {
  ParallelFor(pool, w.cols, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(MatMulTransposedPart)(x, x_stride, rows, w, begin, end, y, y_stride);
  });
}

void Dots(const float* x, const float* rows, int64_t stride, int64_t count, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(DotsImpl)(x, rows, stride, count, width, out);
}

void WeightedSum(const float* a, const float* rows, int64_t stride, int64_t count, int64_t width, float* out) {
  HWY_DYNAMIC_DISPATCH(WeightedSumImpl)(a, rows, stride, count, width, out);
}

void Transpose(const float* x, int64_t stride, int64_t rows, int64_t width, float* out, int64_t out_stride) {
  HWY_DYNAMIC_DISPATCH(TransposeImpl)(x, stride, rows, width, out, out_stride);
}

}  // namespace atl::models::kernels
#endif
