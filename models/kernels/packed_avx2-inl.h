// How AVX2 reads packed weights (packed_layout.h): what packed_avx2.cc and packed_panel_avx2.cc share. Included inside
// their target pragma, so it includes nothing itself. `half`: outputs 8 half .. 8 half + 7 of a tile.
#pragma once

namespace atl::models::kernels {
namespace {

inline __m256i LoadBytes(const std::byte* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }
inline __m128i Load16(const std::byte* at) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at)); }
inline __m128i Load8(const std::byte* at) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)); }
inline __m256 Halves(const std::byte* at) { return _mm256_cvtph_ps(Load16(at)); }
inline __m256 Bytes(const std::byte* at) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(Load8(at))); }

// Scales in 16 bits: f16 of Q4_0 and Q8_0, bf16 of INT4 and INT8.
template <PackedType type>
inline __m256 Scales(const std::byte* at) {
  if constexpr (type == PackedType::kQ4_0 || type == PackedType::kQ8_0) return Halves(at);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(Load16(at)), 16));
}

// Nibbles of a group as unsigned bytes: vector j has inputs 4 j .. 4 j + 3 of each output.
inline void LoadNibbles(const std::byte* group, int half, __m256i (&w)[8]) {
  const __m256i low = _mm256_set1_epi8(15);
  for (int j = 0; j < 4; ++j) {
    const __m256i both = LoadBytes(group + 64 * j + 32 * half);
    w[j] = _mm256_and_si256(both, low);
    w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  }
}

// Q6_K's weights, signed, likewise.
inline void LoadSixBits(const std::byte* group, int half, __m256i (&w)[8]) {
  const __m256i upper = _mm256_set1_epi8(0x30), zero = _mm256_set1_epi8(32);
  LoadNibbles(group, half, w);
  for (int l = 0; l < 2; ++l) {
    const __m256i high = LoadBytes(group + 256 + 64 * l + 32 * half);
    const auto join = [&](__m256i* to, __m256i bits) {
      *to = _mm256_sub_epi8(_mm256_or_si256(*to, _mm256_and_si256(bits, upper)), zero);
    };
    join(&w[2 * l], _mm256_slli_epi16(high, 4));
    join(&w[2 * l + 1], _mm256_slli_epi16(high, 2));
    join(&w[2 * l + 4], high);
    join(&w[2 * l + 5], _mm256_srli_epi16(high, 2));
  }
}
// Its s of 16 inputs (i: which of the two), twice in 32 bits.
inline __m256i SixBitScales(const std::byte* group, int half, int i) {
  const __m256i s = _mm256_cvtepi8_epi32(Load8(group + 384 + 16 * i + 8 * half));
  return _mm256_blend_epi16(s, _mm256_slli_epi32(s, 16), 0xaa);
}

// Q4_K's d s, and dmin m / 8, which is exact.
inline __m256 FourBitScales(const std::byte* header, const std::byte* group, int half) {
  return _mm256_mul_ps(Halves(header + 16 * half), Bytes(group + 256 + 8 * half));
}
inline __m256 FourBitLeast(const std::byte* header, const std::byte* group, int half) {
  return _mm256_mul_ps(Halves(header + 32 + 16 * half),
                       _mm256_mul_ps(Bytes(group + 272 + 8 * half), _mm256_set1_ps(0.125f)));
}

}  // namespace
}  // namespace atl::models::kernels
