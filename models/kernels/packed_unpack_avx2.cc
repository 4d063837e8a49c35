// Packed weights back into f32, a tile at a time, for products that integers cannot make: the transposed ones of latent
// attention. 170 instructions for 256 weights, where one output after another takes ten times as many.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "models/kernels/packed_avx2-inl.h"

namespace atl::models::kernels {
namespace {

// Eight outputs' 32 signed or (Q4_K) unsigned bytes: vector j has inputs 4 j .. 4 j + 3 of each.
template <PackedType type>
inline void LoadWeights(const std::byte* group, int half, __m256i (&w)[8]) {
  if constexpr (type == PackedType::kQ6_K) {
    LoadSixBits(group, half, w);
  } else if constexpr (IsNibbles(type)) {
    LoadNibbles(group, half, w);
    const __m256i zero = _mm256_set1_epi8(static_cast<char>(ZeroOf(type)));
    for (__m256i& v : w) v = _mm256_sub_epi8(v, zero);
  } else {
    for (int j = 0; j < 8; ++j) {
      w[j] = _mm256_xor_si256(LoadBytes(group + 64 * j + 32 * half), _mm256_set1_epi8(-128));
    }
  }
}

// Vector o has all 32 inputs of output o: a transposition of 8 x 8 quads.
inline void ByOutput(__m256i (&w)[8]) {
  __m256i a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[2 * i] = _mm256_unpacklo_epi32(w[2 * i], w[2 * i + 1]);
    a[2 * i + 1] = _mm256_unpackhi_epi32(w[2 * i], w[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int k = 0; k < 2; ++k) {
      b[4 * i + 2 * k] = _mm256_unpacklo_epi64(a[4 * i + k], a[4 * i + 2 + k]);
      b[4 * i + 2 * k + 1] = _mm256_unpackhi_epi64(a[4 * i + k], a[4 * i + 2 + k]);
    }
  }
  for (int o = 0; o < 4; ++o) {
    w[o] = _mm256_permute2x128_si256(b[o], b[4 + o], 0x20);
    w[4 + o] = _mm256_permute2x128_si256(b[o], b[4 + o], 0x31);
  }
}

// Bytes that are asked for ahead: without, a tile from memory takes half as long again.
constexpr int64_t kAhead = 4608;

// What eight outputs' values are multiplied with, of each half of the inputs, and what is subtracted then.
struct Factors {
  alignas(32) float scales[2][8];
  alignas(32) float least[8];
};
template <PackedType type>
inline void LoadFactors(const std::byte* header, const std::byte* group, int half, Factors* to) {
  __m256 scales[2];
  if constexpr (type == PackedType::kQ6_K) {
    for (int i = 0; i < 2; ++i) {
      scales[i] = _mm256_mul_ps(Halves(header + 16 * half), Bytes(group + 384 + 16 * i + 8 * half));
    }
  } else if constexpr (type == PackedType::kQ4_K) {
    scales[0] = scales[1] = FourBitScales(header, group, half);
    _mm256_store_ps(to->least, _mm256_mul_ps(Halves(header + 32 + 16 * half), Bytes(group + 272 + 8 * half)));
  } else {
    scales[0] = scales[1] = Scales<type>(group + LayoutOf(type).group_bytes - 32 + 16 * half);
  }
  for (int i = 0; i < 2; ++i) _mm256_store_ps(to->scales[i], scales[i]);
}

template <PackedType type>
void Unpack(const std::byte* tile, Range groups, float* out, int64_t stride) {
  for (int64_t g = groups.begin; g < groups.end; ++g, out += kGroup) {
    const std::byte *header = HeaderOf(type, tile, g), *group = GroupOf(type, tile, g);
    for (int64_t line = 0; line < LayoutOf(type).group_bytes; line += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(group + kAhead + line), _MM_HINT_T0);
    }
    for (int half = 0; half < 2; ++half) {
      __m256i w[8];
      LoadWeights<type>(group, half, w);
      ByOutput(w);
      alignas(32) std::byte bytes[8][32];
      for (int o = 0; o < 8; ++o) _mm256_store_si256(reinterpret_cast<__m256i*>(bytes[o]), w[o]);
      Factors factors;
      LoadFactors<type>(header, group, half, &factors);
      for (int o = 0; o < 8; ++o) {
        float* to = out + (8 * half + o) * stride;
        for (int i = 0; i < 4; ++i) {
          __m256 values = _mm256_mul_ps(Bytes(bytes[o] + 8 * i), _mm256_broadcast_ss(&factors.scales[i / 2][o]));
          if constexpr (type == PackedType::kQ4_K) {
            values = _mm256_sub_ps(values, _mm256_broadcast_ss(&factors.least[o]));
          }
          _mm256_storeu_ps(to + 8 * i, values);
        }
      }
    }
  }
}

}  // namespace

void UnpackTileAvx2(PackedType type, const std::byte* tile, Range groups, float* out, int64_t stride) {
  WithType(type, [&]<PackedType of> { Unpack<of>(tile, groups, out, stride); });
}

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
void UnpackTileAvx2(PackedType, const std::byte*, Range, float*, int64_t) {}  // not among the targets
}  // namespace atl::models::kernels

#endif
