// AVX-512: 64 columns of an output at once. One permutation puts their bytes where fp8_avx2.cc's decoding makes vector
// j of columns 16 j to 16 j + 15, so a vector of sums is an output's lanes. (16 columns of four outputs in a vector
// need no permutation, but three inserts, and a broadcast for each load of x: 17 GB/s of weights a core in the cache,
// this 23.)
#include "models/kernels/fp8_rows.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi")

namespace atl::models::kernels {
namespace {

constexpr int64_t kColumns = 64;  // of an output at once
// Asked for in advance: prefetchers do not follow eight rows at once. Eight rows more are too many for the first-level
// cache, from the second one the next lines come shortly before their use.
constexpr int64_t kAheadRows = 8, kNear = 128;
constexpr int kSums = 8;  // vectors of lanes that are summed together

template <int kOuts>
struct Outputs {
  const uint8_t* weights[kOuts];
  const float* scales[kOuts];  // of the first block that the matrix touches

  // From `out` on; beyond `end` the last one again.
  Outputs(const Matrix& w, int64_t out, int64_t end) {
    for (int i = 0; i < kOuts; ++i) {
      const int64_t o = std::min(out + i, end - 1);
      weights[i] = w.Row<uint8_t>(o);
      scales[i] = Fp8Scales(w, o);
    }
  }
};

// Byte 4 l + j: column 16 j + l.
inline __m512i ColumnOrder() {
  alignas(64) uint8_t order[kColumns];
  for (int i = 0; i < kColumns; ++i) order[i] = static_cast<uint8_t>(16 * (i % 4) + i / 4);
  return _mm512_load_si512(order);
}

// Vector j: columns 16 j to 16 j + 15.
inline void Decode(__m512i bytes, __m512 scale, __m512 (&w)[4]) {
  // In 16 bits: the sign, and 4 + 3 bits where an f32's exponent ends and its mantissa begins.
  const __m512i mask = _mm512_set1_epi16(static_cast<int16_t>(0x87f0)), upper = _mm512_set1_epi32(-65536);
  const __m512i odd = _mm512_and_si512(_mm512_srai_epi16(bytes, 4), mask);
  const __m512i even = _mm512_and_si512(_mm512_srai_epi16(_mm512_slli_epi16(bytes, 8), 4), mask);
  const __m512i words[4] = {_mm512_slli_epi32(even, 16), _mm512_slli_epi32(odd, 16), _mm512_and_si512(even, upper),
                            _mm512_and_si512(odd, upper)};
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) w[j] = _mm512_mul_ps(_mm512_castsi512_ps(words[j]), scale);
}

// The fixed tree over the lanes (l and l + 8, 4, 2, 1) of each of eight vectors: sum i is that of v[i].
inline __m256 SumLanes(const __m512* v) {
  __m512 halves[4], quarters[2];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    halves[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                              _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {  // 128 bits of each of v[4 i] to v[4 i + 3]
    quarters[i] = _mm512_add_ps(_mm512_shuffle_f32x4(halves[2 * i], halves[2 * i + 1], 0x88),
                                _mm512_shuffle_f32x4(halves[2 * i], halves[2 * i + 1], 0xdd));
  }
  const __m512 eighths = _mm512_add_ps(_mm512_shuffle_ps(quarters[0], quarters[1], 0x44),
                                       _mm512_shuffle_ps(quarters[0], quarters[1], 0xee));
  const __m512 sums = _mm512_add_ps(eighths, _mm512_permute_ps(eighths, 0xb1));  // of v[l] and v[4 + l] in 128 bits l
  return _mm512_castps512_ps256(
      _mm512_permutexvar_ps(_mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0), sums));
}

// Columns [begin, end) of x and the outputs: those of output o and row r to lanes[r kOuts + o].
template <int kRows, int kOuts>
[[gnu::always_inline]] inline void BlockLanes(const float* x, const Matrix& w, const Outputs<kOuts>& outputs,
                                              int64_t begin, int64_t end, __m512 (&lanes)[kRows * kOuts]) {
  const __m512i order = ColumnOrder();
#pragma GCC unroll 16
  for (int i = 0; i < kRows * kOuts; ++i) lanes[i] = _mm512_setzero_ps();
  for (int64_t k = begin; k < end;) {  // those that share their scales
    const int64_t block = (w.scales.skip_cols + k) / kFp8Block;
    const int64_t stop = std::min(end, (block + 1) * kFp8Block - w.scales.skip_cols);
    float scales[kOuts];
    for (int o = 0; o < kOuts; ++o) scales[o] = outputs.scales[o][block] * 0x1p120f;
    for (; k + kColumns <= stop; k += kColumns) {
#pragma GCC unroll 8
      for (int o = 0; o < kOuts; ++o) {
        const uint8_t* at = outputs.weights[o] + k;
        _mm_prefetch(reinterpret_cast<const char*>(at + kAheadRows * w.row_bytes), _MM_HINT_T1);
        if (kRows == 1) _mm_prefetch(reinterpret_cast<const char*>(at + kNear), _MM_HINT_T0);
        __m512 weights[4];
        Decode(_mm512_permutexvar_epi8(order, _mm512_loadu_si512(at)), _mm512_set1_ps(scales[o]), weights);
#pragma GCC unroll 16
        for (int i = 0; i < 4 * kRows; ++i) {
          const int j = i / kRows, r = i % kRows;
          __m512* sum = &lanes[r * kOuts + o];
          *sum = _mm512_fmadd_ps(_mm512_loadu_ps(x + r * w.cols + k + 16 * j), weights[j], *sum);
        }
      }
    }
    for (; k < stop; k += 16) {  // what is left of a block
#pragma GCC unroll 8
      for (int o = 0; o < kOuts; ++o) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(outputs.weights[o] + k));
        __m512 weights[4];
        Decode(_mm512_permutexvar_epi8(order, _mm512_castsi128_si512(bytes)), _mm512_set1_ps(scales[o]), weights);
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          __m512* sum = &lanes[r * kOuts + o];
          *sum = _mm512_fmadd_ps(_mm512_loadu_ps(x + r * w.cols + k), weights[0], *sum);
        }
      }
    }
  }
}

template <int kRows, int kOuts>
void Sums(const float* x, const Matrix& w, int64_t out, int64_t end, std::span<const int64_t> cuts, float* y) {
  constexpr int kParts = kRows * kOuts / kSums;
  const Outputs<kOuts> outputs(w, out, end);
  const auto add = [](__m256* a, const __m256& b) { *a = _mm256_add_ps(*a, b); };
  const int blocks = static_cast<int>(cuts.size()) - 1;
  __m256 waiting[kParts][3], sums[kParts];
  for (int b = 0; b < blocks; ++b) {
    __m512 lanes[kRows * kOuts];
    BlockLanes<kRows, kOuts>(x, w, outputs, cuts[b], cuts[b + 1], lanes);
#pragma GCC unroll 2
    for (int i = 0; i < kParts; ++i) {
      sums[i] = SumLanes(lanes + kSums * i);
      AddToTree(b, blocks, &sums[i], waiting[i], add);
    }
  }
  alignas(32) float all[kParts * kSums];  // [kRows, kOuts]
  for (int i = 0; i < kParts; ++i) _mm256_store_ps(all + kSums * i, sums[i]);
  for (int r = 0; r < kRows; ++r) {
    std::copy_n(all + r * kOuts, std::min<int64_t>(kOuts, end - out), y + r * w.rows + out);
  }
}

void Run(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end, std::span<const int64_t> cuts,
         float* y) {
  // All rows over a strip whose weights the nearest caches keep.
  constexpr int64_t kStrip = 8;
  for (int64_t strip = begin; strip < end; strip += kStrip) {
    const int64_t last = std::min(strip + kStrip, end);
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) {
      for (int64_t o = strip; o < last; o += 4) Sums<4, 4>(x + r * w.cols, w, o, last, cuts, y + r * w.rows);
    }
    for (; r + 2 <= rows; r += 2) Sums<2, 8>(x + r * w.cols, w, strip, last, cuts, y + r * w.rows);
    if (r < rows) Sums<1, 8>(x + r * w.cols, w, strip, last, cuts, y + r * w.rows);
  }
}

bool HasVbmi() { return HasAvx512Vnni() && __builtin_cpu_supports("avx512vbmi"); }

}  // namespace

Fp8RowsKernel Fp8RowsAvx512() { return {.run = HasVbmi() ? Run : nullptr, .most_rows = 12}; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
Fp8RowsKernel Fp8RowsAvx512() { return {}; }
}  // namespace atl::models::kernels

#endif
