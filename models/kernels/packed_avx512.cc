// AVX-512 with VNNI: four products of bytes a lane and instruction, 16 outputs in the lanes.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")

namespace atl::models::kernels {
namespace {

constexpr int kAhead = 4096;  // bytes: a row alone waits for memory, and the hardware's prefetcher stops at pages

inline __m512i Broadcast(const int8_t* quad) {
  int32_t word;
  std::memcpy(&word, quad, 4);
  return _mm512_set1_epi32(word);
}

// The 8 vectors of a group's weights as unsigned bytes: vector j has inputs 4 j .. 4 j + 3 of each output.
template <PackedType type>
inline void LoadWeights(const std::byte* group, __m512i (&w)[8]) {
  if constexpr (IsNibbles(type)) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m512i both = _mm512_loadu_si512(group + 64 * j);
      w[j] = _mm512_and_si512(both, low);
      w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
    }
  } else {
    for (int j = 0; j < 8; ++j) w[j] = _mm512_loadu_si512(group + 64 * j);
  }
}

template <PackedType type>
inline __m512 Scales(__m256i halves) {
  if constexpr (type == PackedType::kQ4_0 || type == PackedType::kQ8_0) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// Rows [row, row + kRows). The weights are unpacked once for all of them.
template <PackedType type, int kRows>
void Rows(const PackedTileCall& call, int64_t row) {
  constexpr int64_t kBytes = LayoutOf(type).group_bytes;
  constexpr int kZero = -ZeroOf(type);
  const int64_t groups = PackedGroups(call.x->depth);
  const int8_t* values = call.x->values + row * groups * kGroup;
  const float* scales = call.x->scales + row * groups;
  const int32_t* sums = call.x->sums + row * groups;
  const std::byte* at = call.tile;
  const auto add = [](__m512* a, const __m512& b) { *a = _mm512_add_ps(*a, b); };
  __m512 waiting[kRows][3], acc[kRows];
  for (int block = 0; block < call.blocks; ++block) {
    for (__m512& a : acc) a = _mm512_setzero_ps();
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; ++g, at += kBytes) {
      if constexpr (kRows == 1) {
        for (int64_t line = 0; line < kBytes; line += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T0);
        }
      }
      __m512i w[8];
      LoadWeights<type>(at, w);
      const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + kBytes - 32));
      const __m512 scale = Scales<type>(halves);
      for (int r = 0; r < kRows; ++r) {
        const int8_t* x = values + r * groups * kGroup + g * kGroup;
        // Two chains: an instruction's result is there some cycles later.
        __m512i even = _mm512_set1_epi32(kZero * sums[r * groups + g]), odd = _mm512_setzero_si512();
        for (int j = 0; j < 8; j += 2) {
          even = _mm512_dpbusd_epi32(even, w[j], Broadcast(x + 4 * j));
          odd = _mm512_dpbusd_epi32(odd, w[j + 1], Broadcast(x + 4 * j + 4));
        }
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
        acc[r] = _mm512_fmadd_ps(sum, _mm512_mul_ps(scale, _mm512_set1_ps(scales[r * groups + g])), acc[r]);
      }
    }
    for (int r = 0; r < kRows; ++r) AddToTree(block, call.blocks, &acc[r], waiting[r], add);
  }
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(call.y + (row + r) * call.y_stride, acc[r]);
}

template <PackedType type>
void Tile(const PackedTileCall& call) {
  int64_t row = 0;
  for (; row + 8 <= call.x->rows; row += 8) Rows<type, 8>(call, row);
  for (; row + 4 <= call.x->rows; row += 4) Rows<type, 4>(call, row);
  for (; row + 2 <= call.x->rows; row += 2) Rows<type, 2>(call, row);
  for (; row < call.x->rows; ++row) Rows<type, 1>(call, row);
}

void Run(PackedType type, const PackedTileCall& call) {
  switch (type) {
    case PackedType::kInt4:
      return Tile<PackedType::kInt4>(call);
    case PackedType::kInt8:
      return Tile<PackedType::kInt8>(call);
    case PackedType::kQ4_0:
      return Tile<PackedType::kQ4_0>(call);
    case PackedType::kQ8_0:
      return Tile<PackedType::kQ8_0>(call);
    case PackedType::kQ4_K:
    case PackedType::kQ6_K:
      return PackedTileAvx2()(type, call);  // the same bits
  }
}

}  // namespace

PackedTileFunction PackedTileAvx512Vnni() {
  const bool has = HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
  return has ? Run : nullptr;
}

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
PackedTileFunction PackedTileAvx512Vnni() { return nullptr; }
}  // namespace atl::models::kernels

#endif
