// AVX2 with FMA: two products of bytes an instruction into 16 bits, 16 outputs in two registers.
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#pragma GCC push_options
#pragma GCC target("avx2,fma")

namespace atl::models::kernels {
namespace {

inline __m256i Broadcast(const int8_t* quad) {
  int32_t word;
  std::memcpy(&word, quad, 4);
  return _mm256_set1_epi32(word);
}

inline __m256i Load(const std::byte* at) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)); }

// A group's weights for outputs 8 half .. 8 half + 7: vector j has inputs 4 j .. 4 j + 3 of each. INT4 as unsigned
// bytes, INT8 with their signs.
template <PackedType type>
inline void LoadWeights(const std::byte* group, int half, __m256i (&w)[8]) {
  if constexpr (type == PackedType::kInt4) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int j = 0; j < 4; ++j) {
      const __m256i both = Load(group + 64 * j + 32 * half);
      w[j] = _mm256_and_si256(both, low);
      w[j + 4] = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
    }
  } else {
    const __m256i offset = _mm256_set1_epi8(-128);
    for (int j = 0; j < 8; ++j) w[j] = _mm256_xor_si256(Load(group + 64 * j + 32 * half), offset);
  }
}

// Their products with a row's group. Sums of 16 bits do not overflow: INT4 adds at most 16 products of 15 x 127 a lane;
// INT8 multiplies magnitudes up to 127 two at a time and widens at once.
template <PackedType type>
inline __m256i GroupSum(const __m256i (&w)[8], const int8_t* x, int32_t sum) {
  const __m256i ones = _mm256_set1_epi16(1);
  if constexpr (type == PackedType::kInt4) {
    __m256i even = _mm256_maddubs_epi16(w[0], Broadcast(x)), odd = _mm256_maddubs_epi16(w[1], Broadcast(x + 4));
    for (int j = 2; j < 8; j += 2) {
      even = _mm256_add_epi16(even, _mm256_maddubs_epi16(w[j], Broadcast(x + 4 * j)));
      odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(w[j + 1], Broadcast(x + 4 * j + 4)));
    }
    return _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(even, odd), ones), _mm256_set1_epi32(-8 * sum));
  } else {
    __m256i total = _mm256_setzero_si256();
    for (int j = 0; j < 8; ++j) {
      const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w[j]), _mm256_sign_epi8(Broadcast(x + 4 * j), w[j]));
      total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, ones));
    }
    return total;
  }
}

// Rows [row, row + kRows). Both halves of a group at once, so that memory is read in one stream: some rows cost hardly
// more than one while they wait for it.
template <PackedType type, int kRows>
void Rows(const PackedTileCall& call, int64_t row) {
  constexpr int64_t kBytes = PackedGroupBytes(type);
  constexpr int64_t kAhead = 2048;  // the hardware's prefetcher stops at pages
  const int64_t groups = PackedGroups(call.x->depth);
  const int8_t* values = call.x->values + row * groups * kGroup;
  const float* scales = call.x->scales + row * groups;
  const int32_t* sums = call.x->sums + row * groups;
  const std::byte* at = call.tile;
  const auto add = [](__m256* a, const __m256& b) { *a = _mm256_add_ps(*a, b); };
  __m256 waiting[2][kRows][3], acc[2][kRows];
  for (int block = 0; block < call.blocks; ++block) {
    for (int half = 0; half < 2; ++half) {
      for (__m256& a : acc[half]) a = _mm256_setzero_ps();
    }
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; ++g, at += kBytes) {
      if (row == 0) {
        for (int64_t line = 0; line < kBytes; line += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T0);
        }
      }
      for (int half = 0; half < 2; ++half) {
        __m256i w[8];
        LoadWeights<type>(at, half, w);
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at + kBytes - 32 + 16 * half));
        const __m256 scale = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
        for (int r = 0; r < kRows; ++r) {
          const int64_t i = r * groups + g;
          const __m256i sum = GroupSum<type>(w, values + i * kGroup, sums[i]);
          acc[half][r] =
              _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(scales[i])), acc[half][r]);
        }
      }
    }
    for (int half = 0; half < 2; ++half) {
      for (int r = 0; r < kRows; ++r) AddToTree(block, call.blocks, &acc[half][r], waiting[half][r], add);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    float* y = call.y + (row + r) * call.y_stride;
    _mm256_storeu_ps(y, acc[0][r]);
    _mm256_storeu_ps(y + 8, acc[1][r]);
  }
}

template <PackedType type>
void Tile(const PackedTileCall& call) {
  int64_t row = 0;
  for (; row + 4 <= call.x->rows; row += 4) Rows<type, 4>(call, row);
  switch (call.x->rows - row) {
    case 1:
      return Rows<type, 1>(call, row);
    case 2:
      return Rows<type, 2>(call, row);
    case 3:
      return Rows<type, 3>(call, row);
    default:
      return;
  }
}

void Run(PackedType type, const PackedTileCall& call) {
  type == PackedType::kInt4 ? Tile<PackedType::kInt4>(call) : Tile<PackedType::kInt8>(call);
}

}  // namespace

void QuantizeAvx2(const float* x, int8_t* values, float* scale, int32_t* sum) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), zero = _mm256_setzero_ps();
  __m256 v[4], most = zero, poison = zero;
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    most = _mm256_max_ps(_mm256_and_ps(v[i], magnitude), most);  // the second, where the first is no number
    poison = _mm256_add_ps(poison, _mm256_mul_ps(v[i], zero));
  }
  const auto halves = [](__m256 a, auto fold) {
    __m128 b = fold(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = fold(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(fold(b, _mm_shuffle_ps(b, b, 1)));
  };
  const float largest = halves(most, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); }) +
                        halves(poison, [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
  *scale = largest / 127.0f;
  auto* to = reinterpret_cast<__m256i*>(values);
  if (!(largest > kLeastMagnitude)) {
    _mm256_storeu_si256(to, _mm256_setzero_si256());
    *sum = 0;
    return;
  }
  const __m256 inverse = _mm256_set1_ps(127.0f / largest);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 rounded = _mm256_round_ps(_mm256_mul_ps(v[i], inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    q[i] = _mm256_cvtps_epi32(rounded);
  }
  const __m256i all = _mm256_add_epi32(_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
  __m128i folded = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  folded = _mm_add_epi32(folded, _mm_shuffle_epi32(folded, 0x4e));
  *sum = _mm_cvtsi128_si32(_mm_add_epi32(folded, _mm_shuffle_epi32(folded, 0xb1)));
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  _mm256_storeu_si256(to, _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

PackedTileFunction PackedTileAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? Run : nullptr;
}

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
PackedTileFunction PackedTileAvx2() { return nullptr; }
void QuantizeAvx2(const float* x, int8_t* values, float* scale, int32_t* sum) {
  QuantizePortable(x, values, scale, sum);
}
}  // namespace atl::models::kernels

#endif
