// How AVX-512 reads packed weights (packed_layout.h): what packed_avx512.cc, packed_amx.cc and
// packed_transposed_avx512.cc share. Included inside their target pragma, so it includes nothing itself.
#pragma once

namespace atl::models::kernels {
namespace {

inline __m512i LoadBytes(const std::byte* at) { return _mm512_loadu_si512(at); }

// Vector j has inputs 4 j .. 4 j + 3 of each output.
inline void LoadNibbles(const std::byte* group, __m512i (&w)[8]) {
  const __m512i low = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i both = LoadBytes(group + 64 * j);
    w[j] = _mm512_and_si512(both, low);
    w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
  }
}

// Q6_K's weights, signed.
inline void LoadSixBits(const std::byte* group, __m512i (&w)[8]) {
  const __m512i upper = _mm512_set1_epi8(0x30), zero = _mm512_set1_epi8(32);
  LoadNibbles(group, w);
  for (int l = 0; l < 2; ++l) {
    const __m512i high = LoadBytes(group + 256 + 64 * l);
    const auto join = [&](__m512i* to, __m512i bits) {
      *to = _mm512_sub_epi8(_mm512_or_si512(*to, _mm512_and_si512(bits, upper)), zero);
    };
    join(&w[2 * l], _mm512_slli_epi16(high, 4));
    join(&w[2 * l + 1], _mm512_slli_epi16(high, 2));
    join(&w[2 * l + 4], high);
    join(&w[2 * l + 5], _mm512_srli_epi16(high, 2));
  }
}

inline __m512 Halves(const std::byte* at) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
}
inline __m512 Bytes(const std::byte* at) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
}
template <PackedType type>
inline __m512 Scales(const std::byte* at) {
  if constexpr (type == PackedType::kQ4_0 || type == PackedType::kQ8_0) return Halves(at);
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Q4_K's d s, and dmin m / 8, which is exact.
inline __m512 FourBitScales(const std::byte* header, const std::byte* group) {
  return _mm512_mul_ps(Halves(header), Bytes(group + 256));
}
inline __m512 FourBitLeast(const std::byte* header, const std::byte* group) {
  return _mm512_mul_ps(Halves(header + 32), _mm512_mul_ps(Bytes(group + 272), _mm512_set1_ps(0.125f)));
}

}  // namespace
}  // namespace atl::models::kernels
