// AVX-512: fp8_avx2.cc's decoding with 16 columns of four outputs at once.
#include "models/kernels/fp8_rows.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")

namespace atl::models::kernels {
namespace {

constexpr int64_t kColumns = 16;  // of an output at once
// Asked for in advance: prefetchers do not follow eight rows at once. Eight rows more are too many for the first-level
// cache (into that: 12.1 instead of 12.6 GB/s a core), from the second one the next lines come shortly before their use
// (13.2; with two rows at a time it costs 2 %).
constexpr int64_t kAheadRows = 8, kNear = 128;
constexpr int kLanes = 4;  // outputs of a vector, each in 128 bits

// 4 kQuads outputs.
template <int kQuads>
struct Outputs {
  const uint8_t* weights[kLanes * kQuads];
  const float* scales[kLanes * kQuads];  // of the first block that the matrix touches

  // From `out` on; beyond `end` the last one again.
  Outputs(const Matrix& w, int64_t out, int64_t end) {
    for (int i = 0; i < kLanes * kQuads; ++i) {
      const int64_t o = std::min(out + i, end - 1);
      weights[i] = w.Row<uint8_t>(o);
      scales[i] = Fp8Scales(w, o);
    }
  }
  __m512 Scale(int quad, int64_t block) const {
    alignas(64) float all[16];
    for (int i = 0; i < kLanes; ++i) std::fill_n(all + 4 * i, 4, scales[kLanes * quad + i][block] * 0x1p120f);
    return _mm512_load_ps(all);
  }
  __m512i Bytes(int quad, int64_t column) const {
    const auto load = [&](int i) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights[kLanes * quad + i] + column));
    };
    __m512i bytes = _mm512_castsi128_si512(load(0));
    bytes = _mm512_inserti32x4(bytes, load(1), 1);
    bytes = _mm512_inserti32x4(bytes, load(2), 2);
    return _mm512_inserti32x4(bytes, load(3), 3);
  }
  void PrefetchFar(int64_t at) const {
    for (const uint8_t* row : weights) _mm_prefetch(reinterpret_cast<const char*>(row + at), _MM_HINT_T1);
  }
  void PrefetchNear(int64_t at) const {
    for (const uint8_t* row : weights) _mm_prefetch(reinterpret_cast<const char*>(row + at), _MM_HINT_T0);
  }
};

// Vector j: columns 4 i + j of each output.
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

// The fixed tree over lanes (l and l + 8, 4, 2, 1), to the first float of each 128 bits: vector j holds lanes j, 4 + j,
// 8 + j, 12 + j.
inline __m512 SumLanes(const __m512 (&v)[4]) {
  __m512 sums[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512 eighths = _mm512_add_ps(v[j], _mm512_permute_ps(v[j], 0x4e));
    sums[j] = _mm512_add_ps(eighths, _mm512_permute_ps(eighths, 0xb1));
  }
  return _mm512_add_ps(_mm512_add_ps(sums[0], sums[2]), _mm512_add_ps(sums[1], sums[3]));
}

// In one piece: the last loop as a function of its own costs a tenth.
template <int kRows, int kQuads>
// NOLINTNEXTLINE(readability-function-cognitive-complexity)
void Sums(const float* x, const Matrix& w, int64_t out, int64_t end, std::span<const int64_t> cuts, float* y) {
  const Outputs<kQuads> outputs(w, out, end);
  const auto add = [](__m512* a, const __m512& b) { *a = _mm512_add_ps(*a, b); };
  const int blocks = static_cast<int>(cuts.size()) - 1;
  __m512 waiting[kRows][kQuads][3], sums[kRows][kQuads];
  for (int b = 0; b < blocks; ++b) {
    __m512 lanes[kRows][kQuads][4];
#pragma GCC unroll 2
    for (int i = 0; i < kRows * kQuads; ++i) {
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) lanes[i / kQuads][i % kQuads][j] = _mm512_setzero_ps();
    }
    for (int64_t k = cuts[b]; k < cuts[b + 1];) {
      const int64_t at = w.scales.skip_cols + k, stop = std::min(cuts[b + 1], k + kFp8Block - at % kFp8Block);
      __m512 scale[kQuads];
      for (int q = 0; q < kQuads; ++q) scale[q] = outputs.Scale(q, at / kFp8Block);
      for (; k < stop; k += kColumns) {
        if (k % 64 < kColumns) outputs.PrefetchFar(k + kAheadRows * w.row_bytes);
        if (kRows == 1 && k % 64 < kColumns) outputs.PrefetchNear(k + kNear);
#pragma GCC unroll 2
        for (int q = 0; q < kQuads; ++q) {
          __m512 weights[4];
          Decode(outputs.Bytes(q, k), scale[q], weights);
#pragma GCC unroll 2
          for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; ++j) {
              const __m512 value = _mm512_broadcast_f32x4(_mm_loadu_ps(x + r * w.cols + k + 4 * j));
              lanes[r][q][j] = _mm512_fmadd_ps(value, weights[j], lanes[r][q][j]);
            }
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int i = 0; i < kRows * kQuads; ++i) sums[i / kQuads][i % kQuads] = SumLanes(lanes[i / kQuads][i % kQuads]);
    for (int i = 0; i < kRows * kQuads; ++i) {
      AddToTree(b, blocks, &sums[i / kQuads][i % kQuads], waiting[i / kQuads][i % kQuads], add);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int q = 0; q < kQuads; ++q) {
      alignas(64) float all[16];
      _mm512_store_ps(all, sums[r][q]);
      for (int64_t i = 0; i < std::min<int64_t>(kLanes, end - out - kLanes * q); ++i) {
        y[r * w.rows + out + kLanes * q + i] = all[4 * i];
      }
    }
  }
}

void Run(const float* x, int64_t rows, const Matrix& w, int64_t begin, int64_t end, std::span<const int64_t> cuts,
         float* y) {
  // Rows in pairs over a strip whose weights the first-level cache keeps.
  constexpr int64_t kStrip = 2 * kLanes;
  for (int64_t strip = begin; strip < end; strip += kStrip) {
    const int64_t last = std::min(strip + kStrip, end);
    int64_t r = 0;
    for (; r + 2 <= rows; r += 2) {
      for (int64_t o = strip; o < last; o += kLanes) Sums<2, 1>(x + r * w.cols, w, o, last, cuts, y + r * w.rows);
    }
    if (r < rows) Sums<1, 2>(x + r * w.cols, w, strip, last, cuts, y + r * w.rows);
  }
}

}  // namespace

Fp8RowsFunction Fp8RowsAvx512() { return HasAvx512Vnni() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
Fp8RowsFunction Fp8RowsAvx512() { return nullptr; }
}  // namespace atl::models::kernels

#endif
