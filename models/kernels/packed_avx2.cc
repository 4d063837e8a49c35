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

// What some rows bring to a group of 32 inputs: row r's values [32], scale and offset lie r * stride groups further on.
struct RowsOfGroup {
  const int8_t* values;
  const float* scales;
  const int32_t* offsets;
  int64_t stride;

  // Four values in all places, loaded once for 16 outputs.
  [[gnu::always_inline]] inline __m256i Quad(int r, int j) const {
    int32_t word;
    std::memcpy(&word, values + r * stride * kGroup + 4 * j, 4);
    return InRegister(_mm256_set1_epi32(word));
  }
  __m256 Scale(int r) const { return _mm256_set1_ps(scales[r * stride]); }
  int32_t Offset(int r) const { return offsets[r * stride]; }
};

template <int kRows>
struct Sums {
  __m256 of[kRows][2];  // of both halves of a tile's outputs
};
template <int kRows>
using IntegerSums = __m256i[kRows][2];

// A group's sums of integers. Four inputs of all 16 outputs meet all rows before the next four are unpacked, and each
// product is added at once: so weights, activations and the sums of four rows fit the registers. Left to itself GCC
// keeps the products in memory and adds them up at the end, which takes half as long again.

// 4 unsigned bits: products are added in pairs of 16 bits, which hold 16 products of 15 x 127.
template <int kRows>
[[gnu::always_inline]] inline void NibbleSums(const std::byte* group, const RowsOfGroup& x, IntegerSums<kRows>& sums) {
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const int j = i / 2 + i % 2 * 4;  // both nibbles of a byte, one after the other
    const __m256i w[2] = {Nibbles(group, 0, j), Nibbles(group, 1, j)};
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i quad = x.Quad(r, j);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i pairs = _mm256_maddubs_epi16(w[half], quad);
        sums[r][half] = InRegister(i == 0 ? pairs : _mm256_add_epi16(sums[r][half], pairs));
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    for (__m256i& sum : sums[r]) sum = _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
  }
}

// Signed bytes of both halves: magnitudes up to 128 times activations that take their signs, two products of 16 bits.
struct SignedBytes {
  __m256i w[2], magnitudes[2];
  [[gnu::always_inline]] SignedBytes(__m256i first, __m256i second)
      : w{first, second}, magnitudes{_mm256_abs_epi8(first), _mm256_abs_epi8(second)} {}
  [[gnu::always_inline]] __m256i Pairs(int half, __m256i quad) const {
    return _mm256_maddubs_epi16(magnitudes[half], _mm256_sign_epi8(quad, w[half]));
  }
};

template <int kRows>
[[gnu::always_inline]] inline void ByteSums(const std::byte* group, const RowsOfGroup& x, IntegerSums<kRows>& sums) {
  const __m256i zero = _mm256_set1_epi8(-128);
#pragma GCC unroll 8
  for (int j = 0; j < 8; ++j) {
    const SignedBytes w(_mm256_xor_si256(LoadBytes(group + 64 * j), zero),
                        _mm256_xor_si256(LoadBytes(group + 64 * j + 32), zero));
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const __m256i quad = x.Quad(r, j);
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half) {
        const __m256i sum = _mm256_madd_epi16(w.Pairs(half, quad), _mm256_set1_epi16(1));
        sums[r][half] = InRegister(j == 0 ? sum : _mm256_add_epi32(sums[r][half], sum));
      }
    }
  }
}

// Q6_K: 16 inputs have one scale; 8 products of 32 x 127 fit 16 bits.
template <int kRows>
[[gnu::always_inline]] inline void SixBitSums(const std::byte* group, const RowsOfGroup& x, IntegerSums<kRows>& sums) {
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    IntegerSums<kRows> pairs;
#pragma GCC unroll 4
    for (int j = 4 * i; j < 4 * i + 4; ++j) {
      const SignedBytes w(SixBits(group, 0, j), SixBits(group, 1, j));
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i quad = x.Quad(r, j);
#pragma GCC unroll 2
        for (int half = 0; half < 2; ++half) {
          const __m256i more = w.Pairs(half, quad);
          pairs[r][half] = InRegister(j == 4 * i ? more : _mm256_add_epi16(pairs[r][half], more));
        }
      }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) {
      const __m256i scales = SixBitScales(group, half, i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const __m256i sum = _mm256_madd_epi16(pairs[r][half], scales);
        sums[r][half] = i == 0 ? sum : _mm256_add_epi32(sums[r][half], sum);
      }
    }
  }
}

// acc plus a group's products with the rows (packed.h).
template <PackedType type, int kRows>
[[gnu::always_inline]] inline void AddGroup(const std::byte* header, const std::byte* group, const RowsOfGroup& x,
                                            Sums<kRows>& acc) {
  IntegerSums<kRows> sums;
  if constexpr (!IsNibbles(type)) {
    ByteSums<kRows>(group, x, sums);
  } else if constexpr (type == PackedType::kQ6_K) {
    SixBitSums<kRows>(group, x, sums);
  } else {
    NibbleSums<kRows>(group, x, sums);
  }
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m256 scale, least;  // Q4_K: d s, dmin m / 8
    if constexpr (type == PackedType::kQ4_K) {
      scale = FourBitScales(header, group, half);
      least = FourBitLeast(header, group, half);
    } else if constexpr (type == PackedType::kQ6_K) {
      scale = Halves(header + 16 * half);
    } else {
      scale = Scales<type>(group + LayoutOf(type).group_bytes - 2 * kTileRows + 16 * half);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      __m256i sum = sums[r][half];
      if constexpr (type == PackedType::kQ4_K) {
        const __m256 part = _mm256_fmadd_ps(least, _mm256_set1_ps(static_cast<float>(x.Offset(r))),
                                            _mm256_mul_ps(_mm256_cvtepi32_ps(sum), scale));
        acc.of[r][half] = _mm256_fmadd_ps(part, x.Scale(r), acc.of[r][half]);
      } else {
        if constexpr (ZeroOf(type) == 8) sum = _mm256_add_epi32(sum, _mm256_set1_epi32(x.Offset(r)));
        acc.of[r][half] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, x.Scale(r)), acc.of[r][half]);
      }
    }
  }
}

// Of groups [begin, end), by value: sums that have an address are stored twice a group.
template <PackedType type, int kRows>
[[gnu::always_inline]] inline Sums<kRows> BlockSums(const PackedTileCall& call, int64_t begin, int64_t end, bool first,
                                                    RowsOfGroup x) {
  constexpr int64_t kAhead = 2048;  // the hardware's prefetcher stops at pages
  Sums<kRows> acc;
#pragma GCC unroll 4
  for (auto& both : acc.of) both[0] = both[1] = _mm256_setzero_ps();
  for (int64_t g = begin; g < end; ++g) {
    const std::byte *header = HeaderOf(type, call.tile, call.skip + g), *at = GroupOf(type, call.tile, call.skip + g);
    if (first) {
      for (int64_t line = 0; line < LayoutOf(type).group_bytes; line += 64) {
        _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T0);
      }
    }
    AddGroup<type, kRows>(header, at, {x.values + g * kGroup, x.scales + g, x.offsets + g, x.stride}, acc);
  }
  return acc;
}

// Rows [row, row + kRows). Both halves of a group at once, so that memory is read in one stream: some rows cost hardly
// more than one while they wait for it.
template <PackedType type, int kRows>
void Rows(const PackedTileCall& call, int64_t row) {
  const int64_t groups = PackedGroups(call.x->depth);
  const RowsOfGroup x{call.x->values + row * groups * kGroup, call.x->scales + row * groups,
                      call.x->offsets + row * groups, groups};
  // All sums of a tile climb the tree together: one after another they took a fifth of the time of eight blocks.
  Sums<kRows> sums, waiting[3];
  for (int block = 0; block < call.blocks; ++block) {
    sums = BlockSums<type, kRows>(call, call.cuts[block], call.cuts[block + 1], row == 0, x);
    AddToTree(block, call.blocks, &sums, waiting, [](Sums<kRows>* a, const Sums<kRows>& b) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        a->of[r][0] = _mm256_add_ps(a->of[r][0], b.of[r][0]);
        a->of[r][1] = _mm256_add_ps(a->of[r][1], b.of[r][1]);
      }
    });
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r) {
    float* y = call.y + (row + r) * call.y_stride;
    _mm256_storeu_ps(y, sums.of[r][0]);
    _mm256_storeu_ps(y + 8, sums.of[r][1]);
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
  WithType(type, [&]<PackedType of> { Tile<of>(call); });
}

}  // namespace

// Loads 32 values; returns their largest magnitude, no number if one of them is none or infinite. Magnitudes are
// ordered as their bits are, and those that are no numbers come last.
static inline float LoadGroup(const float* x, __m256 (&v)[4]) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i most = _mm256_setzero_si256();
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(v[i]), magnitude));
  }
  __m128i half = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epu32(half, _mm_shuffle_epi32(half, 0xb1));
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(half));
  return largest + (largest - largest);  // infinity less itself is no number
}

// 32 integers as bytes, in their order.
static inline __m256i AsBytes(const __m256i (&q)[4]) {
  const __m256i bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

// Four bytes into each of four lines of 64.
static inline void StoreQuads(__m128i bytes, std::byte* to) {
  const int quads[4] = {_mm_cvtsi128_si32(bytes), _mm_extract_epi32(bytes, 1), _mm_extract_epi32(bytes, 2),
                        _mm_extract_epi32(bytes, 3)};
  for (int j = 0; j < 4; ++j) std::memcpy(to + 64 * j, &quads[j], 4);
}

// 32 weights rounded (QuantizeGroup) into bytes: q + 8 of INT4, q + 128 of INT8.
template <bool int4>
static inline __m256i RoundWeights(const float* values, BF16* scale) {
  const __m256i zero = _mm256_set1_epi8(static_cast<char>(int4 ? 8 : 128));
  __m256 v[4];
  *scale = ToBF16(LoadGroup(values, v) / (int4 ? 7.5f : 127.0f));
  const float divisor = ToFloat(*scale);
  if (!(divisor > 0)) return zero;
  const __m256 by = _mm256_set1_ps(divisor), least = _mm256_set1_ps(int4 ? -8.0f : -127.0f),
               most = _mm256_set1_ps(int4 ? 7.0f : 127.0f);
  __m256i q[4];
  for (int i = 0; i < 4; ++i) {
    const __m256 cut = _mm256_min_ps(_mm256_max_ps(_mm256_div_ps(v[i], by), least), most);
    q[i] = _mm256_cvtps_epi32(_mm256_round_ps(cut, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  return _mm256_add_epi8(AsBytes(q), zero);
}

template <bool int4>
static void PackGroups(const float* values, int64_t groups, std::byte* to, int64_t lane) {
  constexpr int64_t kBytes = LayoutOf(int4 ? PackedType::kInt4 : PackedType::kInt8).group_bytes;
  for (; groups > 0; --groups, values += kGroup, to += kBytes) {
    BF16 scale;
    const __m256i bytes = RoundWeights<int4>(values, &scale);
    __m128i low = _mm256_castsi256_si128(bytes);
    const __m128i high = _mm256_extracti128_si256(bytes, 1);
    if (int4) low = _mm_or_si128(low, _mm_slli_epi16(high, 4));
    std::byte* quads = to + 4 * lane;  // of this output, one in each line of 64 bytes
    StoreQuads(low, quads);
    if (!int4) StoreQuads(high, quads + 256);
    std::memcpy(to + kBytes - 2 * kTileRows + 2 * lane, &scale, 2);
  }
}

void PackGroupsAvx2(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane) {
  type == PackedType::kInt4 ? PackGroups<true>(values, groups, to, lane) : PackGroups<false>(values, groups, to, lane);
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
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), AsBytes(q));
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
void PackGroupsAvx2(PackedType type, const float* values, int64_t groups, std::byte* to, int64_t lane) {
  PackGroupsPortable(type, values, groups, to, lane);
}
}  // namespace atl::models::kernels

#endif
