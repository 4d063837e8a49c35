// How AVX2 reads packed weights (packed_layout.h): what packed_avx2.cc and packed_panel_avx2.cc share. Included inside
// their target pragma, so it includes nothing itself. `half`: outputs 8 half .. 8 half + 7 of a tile.
#pragma once

namespace atl::models::kernels {
namespace {

// A value that is in a register at this point: GCC would load it anew for each use, or put off additions and keep what
// is to be added in memory.
[[gnu::always_inline]] inline __m256i InRegister(__m256i v) {
  asm volatile("" : "+x"(v));  // NOLINT(hicpp-no-assembler): no instruction
  return v;
}

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

// Nibbles of a group as unsigned bytes: inputs 4 j .. 4 j + 3 of each output.
[[gnu::always_inline]] inline __m256i Nibbles(const std::byte* group, int half, int j) {
  const __m256i both = LoadBytes(group + 64 * (j % 4) + 32 * half);
  return _mm256_and_si256(j < 4 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
}
inline void LoadNibbles(const std::byte* group, int half, __m256i (&w)[8]) {
  for (int j = 0; j < 8; ++j) w[j] = Nibbles(group, half, j);
}

// Q6_K's weights, signed, likewise.
[[gnu::always_inline]] inline __m256i SixBits(const std::byte* group, int half, int j) {
  __m256i high = LoadBytes(group + 256 + 64 * (j % 4 / 2) + 32 * half);
  switch (j % 2 + j / 4 * 2) {  // the two bits go to bits 4 and 5
    case 0:
      high = _mm256_slli_epi16(high, 4);
      break;
    case 1:
      high = _mm256_slli_epi16(high, 2);
      break;
    case 2:
      break;
    case 3:
      high = _mm256_srli_epi16(high, 2);
      break;
  }
  const __m256i bits = _mm256_and_si256(high, _mm256_set1_epi8(0x30));
  return _mm256_sub_epi8(_mm256_or_si256(Nibbles(group, half, j), bits), _mm256_set1_epi8(32));
}
inline void LoadSixBits(const std::byte* group, int half, __m256i (&w)[8]) {
  for (int j = 0; j < 8; ++j) w[j] = SixBits(group, half, j);
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
