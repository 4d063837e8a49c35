// Transposed products of few rows: a tile's weights become f32 in registers and are used there. Through a tile in
// memory (packed_unpack_avx2.cc) each vector is stored and loaded again, and a store of 64 bytes takes two cycles: with
// one row half of the time.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#include "models/kernels/packed_avx512-inl.h"

namespace atl::models::kernels {
namespace {

// Sixteen outputs' 32 signed or (Q4_K) unsigned bytes: vector j has inputs 4 j .. 4 j + 3 of each.
template <PackedType type>
inline void LoadWeights(const std::byte* group, __m512i (&w)[8]) {
  if constexpr (type == PackedType::kQ6_K) {
    LoadSixBits(group, w);
  } else if constexpr (IsNibbles(type)) {
    LoadNibbles(group, w);
    const __m512i zero = _mm512_set1_epi8(static_cast<char>(ZeroOf(type)));
#pragma GCC unroll 8
    for (__m512i& v : w) v = _mm512_sub_epi8(v, zero);
  } else {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) w[j] = _mm512_xor_si512(LoadBytes(group + 64 * j), _mm512_set1_epi8(-128));
  }
}

// Of four vectors of quads a, b, c, d: to[o] has in lane l (128 bits) the 16 bytes of output 4 l + o.
inline void ByOutput(const __m512i* w, __m512i* to) {
  const __m512i ab[2] = {_mm512_unpacklo_epi32(w[0], w[1]), _mm512_unpackhi_epi32(w[0], w[1])};
  const __m512i cd[2] = {_mm512_unpacklo_epi32(w[2], w[3]), _mm512_unpackhi_epi32(w[2], w[3])};
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    to[2 * i] = _mm512_unpacklo_epi64(ab[i], cd[i]);
    to[2 * i + 1] = _mm512_unpackhi_epi64(ab[i], cd[i]);
  }
}

// What 16 outputs' values are multiplied with, of each half of the inputs, and what is subtracted then.
struct Factors {
  alignas(64) float scales[2][kTileRows];
  alignas(64) float least[kTileRows];
};
template <PackedType type>
inline void LoadFactors(const std::byte* header, const std::byte* group, Factors* to) {
  __m512 scales[2];
  if constexpr (type == PackedType::kQ6_K) {
    for (int i = 0; i < 2; ++i) scales[i] = _mm512_mul_ps(Halves(header), Bytes(group + 384 + 16 * i));
  } else if constexpr (type == PackedType::kQ4_K) {
    scales[0] = scales[1] = FourBitScales(header, group);
    _mm512_store_ps(to->least, _mm512_mul_ps(Halves(header + 32), Bytes(group + 272)));
  } else {
    scales[0] = scales[1] = Scales<type>(group + LayoutOf(type).group_bytes - 2 * kTileRows);
  }
  for (int i = 0; i < 2; ++i) _mm512_store_ps(to->scales[i], scales[i]);
}

// Bytes that are asked for ahead.
constexpr int64_t kAhead = 4608;

template <PackedType type, int kRows>
void Add(const TransposedTileCall& call) {
  for (int64_t g = call.groups.begin; g < call.groups.end; ++g) {
    const std::byte *header = HeaderOf(type, call.tile, g), *group = GroupOf(type, call.tile, g);
    for (int64_t line = 0; line < LayoutOf(type).group_bytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(group + kAhead + line), _MM_HINT_T0);
    }
    __m512i w[8], by_output[4];
    LoadWeights<type>(group, w);
    // Of half i of the inputs: output 4 l + o at [i][o][l].
    alignas(64) std::byte bytes[2][4][4][16];
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      ByOutput(w + 4 * i, by_output);
#pragma GCC unroll 4
      for (int o = 0; o < 4; ++o) _mm512_store_si512(bytes[i][o], by_output[o]);
    }
    Factors factors;
    LoadFactors<type>(header, group, &factors);
    // GCC would take them out of registers one by one, by the shuffling unit, instead of from memory.
    asm("" : "+m"(bytes), "+m"(factors));  // NOLINT(hicpp-no-assembler): no instruction
    float* y = call.y + (g - call.groups.begin) * kGroup;
    __m512 sums[kRows][2];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < 2; ++i) sums[r][i] = _mm512_loadu_ps(y + r * call.y_stride + 16 * i);
    }
#pragma GCC unroll 16
    for (int o = 0; o < kTileRows; ++o) {
#pragma GCC unroll 2
      for (int i = 0; i < 2; ++i) {
        __m512 values = _mm512_mul_ps(Bytes(bytes[i][o % 4][o / 4]), _mm512_set1_ps(factors.scales[i][o]));
        if constexpr (type == PackedType::kQ4_K) {
          values = _mm512_sub_ps(values, _mm512_set1_ps(factors.least[o]));
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
          sums[r][i] = _mm512_fmadd_ps(_mm512_set1_ps(call.x[r * call.x_stride + o]), values, sums[r][i]);
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      for (int i = 0; i < 2; ++i) _mm512_storeu_ps(y + r * call.y_stride + 16 * i, sums[r][i]);
    }
  }
}

template <PackedType type>
void Rows(const TransposedTileCall& call) {
  static_assert(kTransposedRows == 4);
  switch (call.rows) {
    case 1:
      return Add<type, 1>(call);
    case 2:
      return Add<type, 2>(call);
    case 3:
      return Add<type, 3>(call);
    default:
      return Add<type, 4>(call);
  }
}

void Run(PackedType type, const TransposedTileCall& call) {
  WithType(type, [&]<PackedType of> { Rows<of>(call); });
}

}  // namespace

TransposedTileFunction TransposedTileAvx512() { return HasAvx512Vnni() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
TransposedTileFunction TransposedTileAvx512() { return nullptr; }
}  // namespace atl::models::kernels

#endif
