// AVX2 with FMA: two products of bytes an instruction into 16 bits, 16 outputs in two registers.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "models/kernels/packed_avx2-inl.h"

namespace atl::models::kernels {
namespace {

inline __m256i Broadcast(const int8_t* quad) {
  int32_t word;
  std::memcpy(&word, quad, 4);
  return _mm256_set1_epi32(word);
}

// Products of 4 unsigned bits with a row's group, in pairs of 16 bits: no sum overflows, of 16 products of 15 x 127.
inline __m256i NibbleSum(const __m256i (&w)[8], const int8_t* x) {
  __m256i even = _mm256_maddubs_epi16(w[0], Broadcast(x)), odd = _mm256_maddubs_epi16(w[1], Broadcast(x + 4));
  for (int j = 2; j < 8; j += 2) {
    even = _mm256_add_epi16(even, _mm256_maddubs_epi16(w[j], Broadcast(x + 4 * j)));
    odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(w[j + 1], Broadcast(x + 4 * j + 4)));
  }
  return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
}

// Of signed bytes: magnitudes up to 128 times activations that take their signs, two products of 16 bits.
inline __m256i SignedPairs(__m256i w, const int8_t* quad) {
  return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(Broadcast(quad), w));
}

// A group's weights for 8 outputs in registers, and acc plus their product with a row's group (packed.h). offset is the
// row's of the group.
template <PackedType type>
struct HalfGroup {  // INT4, Q4_0
  __m256i w[8];
  __m256 scale;
  void Load(const std::byte* /*header*/, const std::byte* group, int half) {
    LoadNibbles(group, half, w);
    scale = Scales<type>(group + 256 + 16 * half);
  }
  __m256 Add(const int8_t* x, float x_scale, int32_t offset, __m256 acc) const {
    const __m256i sum = _mm256_add_epi32(NibbleSum(w, x), _mm256_set1_epi32(offset));
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(x_scale)), acc);
  }
};

template <PackedType type>
struct HalfGroupOfBytes {  // INT8, Q8_0
  __m256i w[8];
  __m256 scale;
  void Load(const std::byte* /*header*/, const std::byte* group, int half) {
    const __m256i offset = _mm256_set1_epi8(-128);
    for (int j = 0; j < 8; ++j) w[j] = _mm256_xor_si256(LoadBytes(group + 64 * j + 32 * half), offset);
    scale = Scales<type>(group + 512 + 16 * half);
  }
  __m256 Add(const int8_t* x, float x_scale, int32_t /*offset*/, __m256 acc) const {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 8; ++j) {
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(SignedPairs(w[j], x + 4 * j), _mm256_set1_epi16(1)));
    }
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(x_scale)), acc);
  }
};
template <>
struct HalfGroup<PackedType::kInt8> : HalfGroupOfBytes<PackedType::kInt8> {};
template <>
struct HalfGroup<PackedType::kQ8_0> : HalfGroupOfBytes<PackedType::kQ8_0> {};

template <>
struct HalfGroup<PackedType::kQ4_K> {
  __m256i w[8];
  __m256 scale, least;  // d s, dmin m / 8
  void Load(const std::byte* header, const std::byte* group, int half) {
    LoadNibbles(group, half, w);
    scale = FourBitScales(header, group, half);
    least = FourBitLeast(header, group, half);
  }
  __m256 Add(const int8_t* x, float x_scale, int32_t offset, __m256 acc) const {
    const __m256 sum = _mm256_mul_ps(_mm256_cvtepi32_ps(NibbleSum(w, x)), scale);
    const __m256 part = _mm256_fmadd_ps(least, _mm256_set1_ps(static_cast<float>(offset)), sum);
    return _mm256_fmadd_ps(part, _mm256_set1_ps(x_scale), acc);
  }
};

template <>
struct HalfGroup<PackedType::kQ6_K> {
  __m256i w[8];      // signed
  __m256i scale[2];  // s of each 16 inputs, twice in 32 bits
  __m256 d;
  void Load(const std::byte* header, const std::byte* group, int half) {
    LoadSixBits(group, half, w);
    for (int i = 0; i < 2; ++i) scale[i] = SixBitScales(group, half, i);
    d = Halves(header + 16 * half);
  }
  __m256 Add(const int8_t* x, float x_scale, int32_t /*offset*/, __m256 acc) const {
    __m256i sum[2];
    for (int i = 0; i < 2; ++i) {  // 8 products of 32 x 127 fit 16 bits
      const __m256i* of = w + 4 * i;
      const int8_t* quads = x + 16 * i;
      const __m256i first = _mm256_add_epi16(SignedPairs(of[0], quads), SignedPairs(of[1], quads + 4));
      const __m256i second = _mm256_add_epi16(SignedPairs(of[2], quads + 8), SignedPairs(of[3], quads + 12));
      sum[i] = _mm256_madd_epi16(_mm256_add_epi16(first, second), scale[i]);
    }
    const __m256 total = _mm256_cvtepi32_ps(_mm256_add_epi32(sum[0], sum[1]));
    return _mm256_fmadd_ps(total, _mm256_mul_ps(d, _mm256_set1_ps(x_scale)), acc);
  }
};

// Rows [row, row + kRows). Both halves of a group at once, so that memory is read in one stream: some rows cost hardly
// more than one while they wait for it.
template <PackedType type, int kRows>
void Rows(const PackedTileCall& call, int64_t row) {
  constexpr PackedLayout kLayout = LayoutOf(type);
  constexpr int64_t kAhead = 2048;  // the hardware's prefetcher stops at pages
  const int64_t groups = PackedGroups(call.x->depth);
  const int8_t* values = call.x->values + row * groups * kGroup;
  const float* scales = call.x->scales + row * groups;
  const int32_t* offsets = call.x->offsets + row * groups;
  const auto add = [](__m256* a, const __m256& b) { *a = _mm256_add_ps(*a, b); };
  __m256 waiting[2][kRows][3], acc[2][kRows];
  for (int block = 0; block < call.blocks; ++block) {
    for (int half = 0; half < 2; ++half) {
      for (__m256& a : acc[half]) a = _mm256_setzero_ps();
    }
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; ++g) {
      const std::byte *header = HeaderOf(type, call.tile, call.skip + g), *at = GroupOf(type, call.tile, call.skip + g);
      if (row == 0) {
        for (int64_t line = 0; line < kLayout.group_bytes; line += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T0);
        }
      }
      for (int half = 0; half < 2; ++half) {
        HalfGroup<type> weights;
        weights.Load(header, at, half);
        for (int r = 0; r < kRows; ++r) {
          const int64_t i = r * groups + g;
          acc[half][r] = weights.Add(values + i * kGroup, scales[i], offsets[i], acc[half][r]);
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
  if (call.x->rows == 5) {  // a tenth faster than four and one
    Rows<type, 3>(call, row);
    row += 3;
  }
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
      return Tile<PackedType::kQ4_K>(call);
    case PackedType::kQ6_K:
      return Tile<PackedType::kQ6_K>(call);
  }
}

}  // namespace

// Loads 32 values; returns their largest magnitude, no number if one of them is none or infinite.
static inline float LoadGroup(const float* x, __m256 (&v)[4]) {
  const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)), zero = _mm256_setzero_ps();
  __m256 most = zero, poison = zero;
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
  return halves(most, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); }) +
         halves(poison, [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
}

// 32 integers as bytes, in their order.
static inline void StoreBytes(const __m256i (&q)[4], int8_t* to) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)));
}

BF16 QuantizeWeightsAvx2(PackedType type, const float* values, int8_t* q) {
  __m256 v[4];
  const bool int4 = type == PackedType::kInt4;
  const BF16 scale = ToBF16(LoadGroup(values, v) / (int4 ? 7.5f : 127.0f));
  const float divisor = ToFloat(scale);
  if (!(divisor > 0)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(q), _mm256_setzero_si256());
    return scale;
  }
  const __m256 by = _mm256_set1_ps(divisor), least = _mm256_set1_ps(int4 ? -8.0f : -127.0f),
               most = _mm256_set1_ps(int4 ? 7.0f : 127.0f);
  __m256i integers[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 cut = _mm256_min_ps(_mm256_max_ps(_mm256_div_ps(v[i], by), least), most);
    integers[i] = _mm256_cvtps_epi32(_mm256_round_ps(cut, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  StoreBytes(integers, q);
  return scale;
}

void QuantizeAvx2(const float* x, int8_t* values, float* scale, int32_t* offset) {
  __m256 v[4];
  const float largest = LoadGroup(x, v);
  *scale = largest / 127.0f;
  if (!(largest > kLeastMagnitude)) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm256_setzero_si256());
    *offset = 0;
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
  *offset = -8 * _mm_cvtsi128_si32(_mm_add_epi32(folded, _mm_shuffle_epi32(folded, 0xb1)));
  StoreBytes(q, values);
}

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

PackedTileFunction PackedTileAvx2() { return HasAvx2() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
PackedTileFunction PackedTileAvx2() { return nullptr; }
bool HasAvx2() { return false; }
void QuantizeAvx2(const float* x, int8_t* values, float* scale, int32_t* offset) {
  QuantizePortable(x, values, scale, offset);
}
BF16 QuantizeWeightsAvx2(PackedType type, const float* values, int8_t* q) {
  return QuantizeWeightsPortable(type, values, q);
}
}  // namespace atl::models::kernels

#endif
