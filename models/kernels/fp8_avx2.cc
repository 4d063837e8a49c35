// AVX2: 16 columns of two outputs at once. FP8's bits make the upper half of an f32 of 2^-120 the value, of which a
// scale times 2^120 makes the weight, rounded once: 9 instructions for 32 of them, where conversions from f16 take 15.
// Bytes 4 i + j of a load become vector j without a shuffle, hence the order of x. A subnormal value is a subnormal f32
// on the way (scales are at most 128: slice_reader.cc); processors that are slow with those meet one in ten thousand
// weights.
#include "models/kernels/fp8_rows.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")

namespace atl::models::kernels {
namespace {

constexpr int64_t kColumns = 16;   // of an output at once
constexpr int64_t kAheadRows = 8;  // asked for in advance: prefetchers do not follow four rows at once

// Vector j: columns 4 i + j of the first output, then of the second.
inline void Decode(const uint8_t* first, const uint8_t* second, __m256 scale, __m256 (&w)[4]) {
  const __m256i bytes =
      _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(first))),
                              _mm_loadu_si128(reinterpret_cast<const __m128i*>(second)), 1);
  // In 16 bits: the sign, and 4 + 3 bits where an f32's exponent ends and its mantissa begins.
  const __m256i mask = _mm256_set1_epi16(static_cast<int16_t>(0x87f0)), upper = _mm256_set1_epi32(-65536);
  const __m256i odd = _mm256_and_si256(_mm256_srai_epi16(bytes, 4), mask);
  const __m256i even = _mm256_and_si256(_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 4), mask);
  const __m256i words[4] = {_mm256_slli_epi32(even, 16), _mm256_slli_epi32(odd, 16), _mm256_and_si256(even, upper),
                            _mm256_and_si256(odd, upper)};
  for (int j = 0; j < 4; ++j) w[j] = _mm256_mul_ps(_mm256_castsi256_ps(words[j]), scale);
}

// The fixed tree over lanes, to the first float of each half: vector j holds lanes j, 4 + j, 8 + j, 12 + j.
inline __m256 SumLanes(const __m256 (&v)[4]) {
  __m256 eighths[4];
  for (int j = 0; j < 4; ++j) eighths[j] = _mm256_add_ps(v[j], _mm256_permute_ps(v[j], 0x4e));
  const __m256 even = _mm256_hadd_ps(eighths[0], eighths[2]), odd = _mm256_hadd_ps(eighths[1], eighths[3]);
  return _mm256_add_ps(_mm256_add_ps(even, _mm256_permute_ps(even, 0x4e)),
                       _mm256_add_ps(odd, _mm256_permute_ps(odd, 0x4e)));
}

// 2 kPairs outputs.
template <int kPairs>
struct Outputs {
  const uint8_t* weights[2 * kPairs];
  const float* scales[2 * kPairs];  // of the first block that the matrix touches

  // From `out` on; beyond `end` the last one again.
  Outputs(const Matrix& w, int64_t out, int64_t end) {
    for (int i = 0; i < 2 * kPairs; ++i) {
      const int64_t o = std::min(out + i, end - 1);
      weights[i] = w.Row<uint8_t>(o);
      scales[i] = Fp8Scales(w, o);
    }
  }
  __m256 Scale(int pair, int64_t block) const {
    const auto one = [&](int i) { return _mm_set1_ps(scales[i][block] * 0x1p120f); };
    return _mm256_set_m128(one(2 * pair + 1), one(2 * pair));
  }
  void PrefetchLines(int64_t at) const {
    for (const uint8_t* row : weights) _mm_prefetch(reinterpret_cast<const char*>(row + at), _MM_HINT_T0);
  }
};

// Of row r and pair p: [r * kPairs + p].
template <int kSums>
struct LaneSums {
  __m256 of[kSums][4];
};
template <int kSums>
struct OutputSums {
  __m256 of[kSums];
};

// Columns [begin, end) of x and the outputs, by value: sums that have an address are kept in memory.
template <int kRows, int kPairs>
[[gnu::always_inline]] inline LaneSums<kRows * kPairs> BlockLanes(const float* x, const Matrix& w,
                                                                  const Outputs<kPairs>& outputs, int64_t begin,
                                                                  int64_t end) {
  LaneSums<kRows * kPairs> sums;
#pragma GCC unroll 16
  for (int i = 0; i < kRows * kPairs * 4; ++i) sums.of[i / 4][i % 4] = _mm256_setzero_ps();
  for (int64_t k = begin; k < end;) {  // those that share their scales
    const int64_t block = (w.scales.skip_cols + k) / kFp8Block;
    const int64_t stop = std::min(end, (block + 1) * kFp8Block - w.scales.skip_cols);
    __m256 scale[kPairs];
#pragma GCC unroll 2
    for (int p = 0; p < kPairs; ++p) scale[p] = outputs.Scale(p, block);
    for (int64_t line = k; line < stop; line += 64) outputs.PrefetchLines(line + kAheadRows * w.row_bytes);
    for (; k < stop; k += kColumns) {
      __m256 weights[kPairs][4];
#pragma GCC unroll 2
      for (int p = 0; p < kPairs; ++p) {
        Decode(outputs.weights[2 * p] + k, outputs.weights[2 * p + 1] + k, scale[p], weights[p]);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows * 4; ++i) {
        const int r = i / 4, j = i % 4;
        const __m256 value = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(x + r * w.cols + k + 4 * j));
#pragma GCC unroll 2
        for (int p = 0; p < kPairs; ++p) {
          __m256* sum = &sums.of[r * kPairs + p][j];
          *sum = _mm256_fmadd_ps(value, weights[p][j], *sum);
        }
      }
    }
  }
  return sums;
}

template <int kRows, int kPairs>
void Sums(const float* x, const Matrix& w, int64_t out, int64_t end, std::span<const int64_t> cuts, float* y) {
  constexpr int kSums = kRows * kPairs;
  const Outputs<kPairs> outputs(w, out, end);
  const int blocks = static_cast<int>(cuts.size()) - 1;
  OutputSums<kSums> sums = {}, waiting[3];
  for (int b = 0; b < blocks; ++b) {
    const LaneSums<kSums> lanes = BlockLanes<kRows, kPairs>(x, w, outputs, cuts[b], cuts[b + 1]);
#pragma GCC unroll 4
    for (int i = 0; i < kSums; ++i) sums.of[i] = SumLanes(lanes.of[i]);
    AddToTree(b, blocks, &sums, waiting, [](OutputSums<kSums>* left, const OutputSums<kSums>& right) {
#pragma GCC unroll 4
      for (int i = 0; i < kSums; ++i) left->of[i] = _mm256_add_ps(left->of[i], right.of[i]);
    });
  }
#pragma GCC unroll 4
  for (int i = 0; i < kSums; ++i) {
    float* to = y + i / kPairs * w.rows + out + 2 * (i % kPairs);
    to[0] = _mm256_cvtss_f32(sums.of[i]);
    if (out + 2 * (i % kPairs) + 1 < end) to[1] = _mm_cvtss_f32(_mm256_extractf128_ps(sums.of[i], 1));
  }
}

void Run(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end, std::span<const int64_t> cuts,
         float* y) {
  // Rows in pairs over a strip whose weights the first-level cache keeps.
  constexpr int64_t kStrip = 8;
  for (int64_t strip = begin; strip < end; strip += kStrip) {
    const int64_t last = std::min(strip + kStrip, end);
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      for (int64_t o = strip; o < last; o += 2) Sums<2, 1>(x + r * w.cols, w, o, last, cuts, y + r * w.rows);
    }
    if (r == rows) continue;
    int64_t o = strip;
    for (; o + 4 <= last; o += 4) Sums<1, 2>(x + r * w.cols, w, o, last, cuts, y + r * w.rows);
    for (; o < last; o += 2) Sums<1, 1>(x + r * w.cols, w, o, last, cuts, y + r * w.rows);
  }
}

}  // namespace

void InLaneOrder(const float* x, int64_t n, float* to) {
  for (int64_t at = 0; at < n; at += kColumns) {
    for (int64_t j = 0; j < 4; ++j) {
      for (int64_t i = 0; i < 4; ++i) to[at + 4 * j + i] = x[at + 4 * i + j];
    }
  }
}

Fp8RowsKernel Fp8RowsAvx2() { return {.run = HasAvx2() ? Run : nullptr, .most_rows = 4, .in_lane_order = true}; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
Fp8RowsKernel Fp8RowsAvx2() { return {}; }
void InLaneOrder(const float*, int64_t, float*) {}
}  // namespace atl::models::kernels

#endif
