// Products of many rows, and of weights in formats of groups, whatever the rows: weights are made f32 tile by tile.
// Compiled once for each target, as part of matmul.cc: the guard is Highway's.
#include <algorithm>
#include <type_traits>
#include <vector>

#include "models/kernels/kernels.h"
#include "models/kernels/lanes-inl.h"

#if defined(ATOLL_MODELS_KERNELS_MANY_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_MANY_ROWS_INL_H_
#undef ATOLL_MODELS_KERNELS_MANY_ROWS_INL_H_
#else
#define ATOLL_MODELS_KERNELS_MANY_ROWS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

// Outputs of a strip, whose weights stay in the first-level cache while rows pass over them.
inline constexpr int64_t kStrip = 16;
// Accumulators of one tile, each a vector: as many as registers allow beside the operands.
inline constexpr int kTileOuts = 4;
inline constexpr int kTileRows = HWY_TARGET == HWY_AVX2 ? 3 : 4;

// Rows of the next tile where `left` are left. A single row after whole tiles would wait for its own sums.
constexpr int64_t NextRows(int64_t left) {
  return left <= kTileRows ? left : left == kTileRows + 1 ? (left + 1) / 2 : kTileRows;
}

// Loaded once for all rows: GCC would make the load an operand of each of their multiply-adds.
HWY_INLINE V InRegister(V v) {
#if HWY_TARGET == HWY_AVX2
  asm("" : "+x"(v.raw));  // NOLINT(hicpp-no-assembler): no instruction
#endif
  return v;
}

// kStrip rows of kDecoded weights lie in the first-level cache while a group's rows pass over them. Sums are carried in
// their 16 lanes from tile to tile, so the order of additions is that of plain elements: the answer has the bits of the
// decoded matrix.
//
// Rows 28 KB apart share the same few lines of that cache, and so would be fetched again for every tile of outputs:
// they are copied once, a tile's columns of a group's rows side by side (a loop alone: 44 -> 77 GFLOP/s of 94).
inline constexpr int64_t kDecoded = 256;
inline constexpr int64_t kDecodedRows = 64;    // 64 KB of sums
inline constexpr int64_t kPlainColumns = 640;  // of f32, which need no copy; then half a strip stays in the cache

// A group of rows of x [rows, cols]: as they are, or tile after tile of columns between cuts.
struct RowGroup {
  const float* data;
  int64_t rows, cols;
  bool by_tile;
  // Columns [k, k + count) of a tile, row r's at r Stride(count).
  const float* Tile(int64_t k) const { return data + (by_tile ? rows * k : k); }
  int64_t Stride(int64_t count) const { return by_tile ? count : cols; }
};

// A strip's weights in f32: [kStrip], `stride` apart.
struct StripTile {
  const float* weights;
  int64_t stride;
};

// Sums of rows and a strip's outputs on their way from tile to tile.
struct CarriedSums {
  float* lanes;      // [rows][kStrip][kLanes]
  float* sums;       // [rows][kStrip], written with the last tile
  bool first, last;  // tile of the block
  CarriedSums At(int64_t row, int64_t out) const {
    return {lanes + (row * kStrip + out) * kLanes, sums + row * kStrip + out, first, last};
  }
  // Of a block's only tile nothing is carried, so all use the same lanes, which stay in the cache.
  CarriedSums OfTile(int64_t row, int64_t out) const {
    CarriedSums to = At(row, out);
    if (first && last) to.lanes = lanes;
    return to;
  }
};

// Adds the products over [0, count) of a tile's first outputs.
template <int kRows, int kOuts>
HWY_INLINE void AddTile(const float* x, int64_t x_stride, const StripTile& w, int64_t count, const CarriedSums& to) {
  const int64_t whole = count / kLanes * kLanes;
  for (int part = 0; part < kParts; ++part) {
    V sum[kRows][kOuts];
    float* lanes = to.lanes + part * kWidth;
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) {
        sum[r][o] = to.first ? hn::Zero(D()) : LoadPart(lanes + (r * kStrip + o) * kLanes);
      }
    }
    for (int64_t k = part * kWidth; k < whole; k += kLanes) {
      V values[kRows];
      for (int r = 0; r < kRows; ++r) values[r] = LoadPart(x + r * x_stride + k);
      for (int o = 0; o < kOuts; ++o) {
        const V weights = InRegister(LoadPart(w.weights + o * w.stride + k));
        for (int r = 0; r < kRows; ++r) sum[r][o] = Fma(values[r], weights, sum[r][o]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int o = 0; o < kOuts; ++o) hn::StoreU(sum[r][o], D(), lanes + (r * kStrip + o) * kLanes);
    }
  }
  for (int r = 0; r < kRows && whole < count; ++r) {
    const Lanes values = LoadRest(x + r * x_stride + whole, count - whole);
    for (int o = 0; o < kOuts; ++o) {
      Lanes sum = Load(to.At(r, o).lanes);
      FmaTo(values, LoadRest(w.weights + o * w.stride + whole, count - whole), &sum);
      Store(sum, to.At(r, o).lanes);
    }
  }
  for (int r = 0; r < kRows && to.last; ++r) {
    Lanes sets[kOuts];
    for (int o = 0; o < kOuts; ++o) sets[o] = Load(to.At(r, o).lanes);
    SumLanes(sets, to.At(r, 0).sums);
  }
}

// Elements of a format of groups.
struct Decoded {};

template <typename T>
HWY_INLINE void WidenTo(const T* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) hn::StoreU(LoadPart(from + i), D(), to + i);
  for (; i < count; ++i) to[i] = ToFloat(from[i]);
}

// Columns [k, k + count) of outputs [out, out + outs), in `memory` [kStrip][kDecoded] if they are not f32 already.
template <typename T>
HWY_INLINE StripTile MakeTile(const Matrix& w, int64_t out, int64_t outs, int64_t k, int64_t count, float* memory) {
  if constexpr (std::is_same_v<T, float>) {
    return {w.Row<float>(out) + k, w.row_bytes / static_cast<int64_t>(sizeof(float))};
  } else {
    if constexpr (std::is_same_v<T, Decoded>) {
      DecodeRows(w, out, outs, k, count, memory, kDecoded);
    } else {
      for (int64_t o = 0; o < outs; ++o) WidenTo(w.Row<T>(out + o) + k, count, memory + o * kDecoded);
    }
    return {memory, kDecoded};
  }
}

// The group, copied if it is wide. Memory is the thread's.
inline RowGroup GroupRows(const float* x, int64_t rows, int64_t cols, int64_t columns, std::span<const int64_t> cuts) {
  if (cols <= columns) return {x, rows, cols, false};
  thread_local std::vector<float> memory;
  if (static_cast<int64_t>(memory.size()) < kDecodedRows * cols) memory.resize(kDecodedRows * cols);
  float* to = memory.data();
  for (size_t block = 0; block + 1 < cuts.size(); ++block) {
    for (int64_t k = cuts[block]; k < cuts[block + 1]; k += columns) {
      const int64_t count = std::min(columns, cuts[block + 1] - k);
      for (int64_t r = 0; r < rows; ++r, to += count) std::copy_n(x + r * cols + k, count, to);
    }
  }
  return {memory.data(), rows, cols, true};
}

// What is asked for while rows are at work on columns [k, k + count) of a strip: the weights that are made f32 after
// them, because nothing else runs while they are made, so that memory would be waited for; of f32 weights their share
// of what the caller wants next.
class NextLines {
 public:
  template <typename T>
  static NextLines Of(const Matrix& w, int64_t out, int64_t outs, int64_t k, int64_t count) {
    if constexpr (std::is_same_v<T, float>) {
      const int64_t all = w.ahead.bytes / 64, parts = w.rows * w.cols;
      const int64_t begin = all * (out * w.cols + k * outs) / parts,
                    end = all * (out * w.cols + (k + count) * outs) / parts;
      return {w.ahead.data + begin * 64, 0, end - begin, end - begin};
    } else {
      const WeightFormatInfo info = InfoOf(w.format);
      const bool right = k + count < w.cols;
      const int64_t row = right ? out : out + outs, column = right ? k + count : 0;
      const int64_t group = (w.skip_cols + column) / info.group,
                    groups = std::min(kDecoded, w.cols - column) / info.group;
      const int64_t of_row = groups * info.group_bytes / 64 + 1;
      return {w.data + row * w.row_bytes + group * info.group_bytes, w.row_bytes, of_row,
              std::min(outs, w.rows - row) * of_row};
    }
  }
  // What is left of the share of the first `done` of `all`.
  void PrefetchUpTo(int64_t done, int64_t all) {
    for (const int64_t end = done * lines_ / all; asked_ < end; ++asked_) {
      __builtin_prefetch(at_ + line_ * 64);
      if (++line_ < of_row_) continue;
      line_ = 0;
      at_ += stride_;
    }
  }

 private:
  NextLines(const std::byte* at, int64_t stride, int64_t of_row, int64_t lines)
      : at_(at), stride_(stride), of_row_(of_row), lines_(lines) {}
  const std::byte* at_;
  int64_t stride_, of_row_, lines_;
  int64_t line_ = 0, asked_ = 0;  // of the row at at_; of all
};

// The first `outs` outputs of a strip. Between two tiles a share of what comes next is asked for: `ahead`'s first
// `done` of `all` outputs of rows were asked for before. Few lines at a time: more than the processor keeps track of
// would be waited for (a strip's in four bursts took a seventh of the products' time).
template <int kRows>
HWY_INLINE void AddTileRow(const float* x, int64_t x_stride, const StripTile& w, int64_t outs, int64_t count,
                           const CarriedSums& to, int64_t done, int64_t all, NextLines* ahead) {
  const auto from = [&](int64_t o) { return StripTile{w.weights + o * w.stride, w.stride}; };
  int64_t o = 0;
  for (; o + kTileOuts <= outs; o += kTileOuts) {
    ahead->PrefetchUpTo(done + kRows * (o + kTileOuts), all);
    AddTile<kRows, kTileOuts>(x, x_stride, from(o), count, to.OfTile(0, o));
  }
  for (; o < outs; ++o) AddTile<kRows, 1>(x, x_stride, from(o), count, to.OfTile(0, o));
}

// The sums of one block of K, [begin, end), of at most kDecodedRows rows and kStrip outputs.
template <typename T>
HWY_NOINLINE void DecodedBlock(const RowGroup& x, const Matrix& w, int64_t out, int64_t outs, int64_t begin,
                               int64_t end, float* sums) {
  constexpr int64_t kColumns = std::is_same_v<T, float> ? kPlainColumns : kDecoded;
  HWY_ALIGN float memory[std::is_same_v<T, float> ? 1 : kStrip * kDecoded];
  HWY_ALIGN float lanes[kDecodedRows * kStrip * kLanes];
  if (begin == end) std::fill_n(sums, x.rows * kStrip, 0.0f);
  for (int64_t k = begin; k < end; k += kColumns) {
    const int64_t count = std::min(kColumns, end - k), stride = x.Stride(count);
    const StripTile tile = MakeTile<T>(w, out, outs, k, count, memory);
    NextLines ahead = NextLines::Of<T>(w, out, outs, k, count);
    const CarriedSums carried{lanes, sums, k == begin, k + count == end};
    for (int64_t r = 0, next = 0; r < x.rows; r += next) {
      next = NextRows(x.rows - r);
      const float* from = x.Tile(k) + r * stride;
      const CarriedSums to = carried.OfTile(r, 0);
      const auto add = [&](auto of) {
        AddTileRow<of>(from, stride, tile, outs, count, to, r * outs, x.rows * outs, &ahead);
      };
      if (next == 1) add(std::integral_constant<int, 1>());
      if (next == 2) add(std::integral_constant<int, 2>());
      if (next == 3) add(std::integral_constant<int, 3>());
      if (next == 4) add(std::integral_constant<int, 4>());
    }
  }
}

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
