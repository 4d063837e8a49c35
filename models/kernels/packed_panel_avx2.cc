// AVX2, 4 and 6 bits (INT4, Q4_0, Q4_K, Q6_K) and many rows: the weights of some tiles are unpacked once, as signed
// bytes in the first-level cache, and all rows pass over them. An activation is broadcast once for all outputs of the
// panel, and a weight is an operand in memory, which needs no instruction of its own: 22 for 256 products, where
// packed_avx2.cc's form takes 33.
//
// Signs: _mm256_maddubs_epi16 wants its first factor unsigned, so activations are taken as x + 128, and 128 times the
// sum of the weights is subtracted from the group's integer sum: the same integer. No sum of 16 bits overflows: it has
// 16 products of at most 255 x 8. Q4_K's weights, which have no sign, are taken as q - 8, and the row's offset (-8 x
// its sum) is subtracted again.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#include "models/kernels/packed_avx2-inl.h"

namespace atl::models::kernels {
namespace {

constexpr int kVectors = kPanelTiles * kTileRows / 8;  // of 8 outputs
constexpr int kGroupsAtOnce = 8;                       // 20 KB with their scales
constexpr int64_t kRowsAtOnce = 32;                    // 32 KB of sums

// One group of the panel: vector v has outputs 8 v .. 8 v + 7.
struct UnpackedGroup {
  __m256i weights[kVectors][8];   // [v][j]: inputs 4 j .. 4 j + 3 of each output
  __m256i corrections[kVectors];  // -128 x the sum of the weights
  __m256 scales[kVectors];
  __m256 least[kVectors];       // Q4_K: dmin m / 8
  __m256i halves[kVectors][2];  // Q6_K: s of each 16 inputs, twice in 32 bits
};

// Sums of kRowsAtOnce rows: of the block at hand, and of the blocks that wait for their neighbours in the tree.
struct RowSums {
  __m256 block[kVectors];
  __m256 waiting[kVectors][3];
};

template <PackedType type>
void Unpack(const std::byte* header, const std::byte* group, UnpackedGroup* to, int vector) {
  const __m256i zero = _mm256_set1_epi8(8), one_bytes = _mm256_set1_epi8(1);
  for (int half = 0; half < 2; ++half, ++vector) {
    __m256i(&w)[8] = to->weights[vector];
    __m256i sums[2] = {};  // of 16 inputs each, in 16 bits
    type == PackedType::kQ6_K ? LoadSixBits(group, half, w) : LoadNibbles(group, half, w);
    for (int j = 0; j < 8; ++j) {
      if (type != PackedType::kQ6_K) w[j] = _mm256_sub_epi8(w[j], zero);
      sums[j / 4] = _mm256_add_epi16(sums[j / 4], _mm256_maddubs_epi16(one_bytes, w[j]));
    }
    if constexpr (type == PackedType::kQ6_K) {
      for (int i = 0; i < 2; ++i) to->halves[vector][i] = SixBitScales(group, half, i);
      const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(sums[0], to->halves[vector][0]),
                                           _mm256_madd_epi16(sums[1], to->halves[vector][1]));
      to->corrections[vector] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, 7));
      to->scales[vector] = Halves(header + 16 * half);
    } else {
      to->corrections[vector] = _mm256_madd_epi16(_mm256_add_epi16(sums[0], sums[1]), _mm256_set1_epi16(-128));
      if constexpr (type == PackedType::kQ4_K) {
        to->scales[vector] = FourBitScales(header, group, half);
        to->least[vector] = FourBitLeast(header, group, half);
      } else {
        to->scales[vector] = Scales<type>(group + 256 + 16 * half);
      }
    }
  }
}

// The integer sum of the products of x + 128 with the weights of one vector.
template <PackedType type>
inline __m256i Products(const UnpackedGroup& group, int v, const __m256i (&quads)[8]) {
  const __m256i* w = group.weights[v];
  if constexpr (type == PackedType::kQ6_K) {  // two products of 255 x 32 an instruction: two of these fit 16 bits
    __m256i sum[2];
    for (int i = 0; i < 2; ++i) {
      const __m256i first = _mm256_add_epi16(_mm256_maddubs_epi16(quads[4 * i], w[4 * i]),
                                             _mm256_maddubs_epi16(quads[4 * i + 1], w[4 * i + 1]));
      const __m256i second = _mm256_add_epi16(_mm256_maddubs_epi16(quads[4 * i + 2], w[4 * i + 2]),
                                              _mm256_maddubs_epi16(quads[4 * i + 3], w[4 * i + 3]));
      const __m256i scale = group.halves[v][i];
      sum[i] = _mm256_add_epi32(_mm256_madd_epi16(first, scale), _mm256_madd_epi16(second, scale));
    }
    return _mm256_add_epi32(sum[0], sum[1]);
  } else {
    __m256i even = _mm256_maddubs_epi16(quads[0], w[0]), odd = _mm256_maddubs_epi16(quads[1], w[1]);
    for (int j = 2; j < 8; j += 2) {
      even = _mm256_add_epi16(even, _mm256_maddubs_epi16(quads[j], w[j]));
      odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(quads[j + 1], w[j + 1]));
    }
    return _mm256_madd_epi16(_mm256_add_epi16(even, odd), _mm256_set1_epi16(1));
  }
}

// sums += the group's product with a row's 32 values. Not inlined: GCC jams two groups together, and the quads no
// longer fit the registers.
template <PackedType type>
[[gnu::noinline]] void AddGroup(const UnpackedGroup& group, int vectors, const int8_t* x, float x_scale, int32_t offset,
                                __m256* sums) {
  const __m256i sign = _mm256_set1_epi8(-128);
  const __m256 scale = _mm256_set1_ps(x_scale);
  const __m256i offsets = _mm256_set1_epi32(offset);
  __m256i quads[8];
  for (int j = 0; j < 8; ++j) {
    int32_t word;
    std::memcpy(&word, x + 4 * j, 4);
    quads[j] = _mm256_xor_si256(_mm256_set1_epi32(word), sign);
  }
  for (int v = 0; v < vectors; ++v) {
    const __m256i sum = _mm256_add_epi32(Products<type>(group, v, quads), group.corrections[v]);
    if constexpr (type == PackedType::kQ4_K) {
      const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(sum, offsets)), group.scales[v]);
      sums[v] = _mm256_fmadd_ps(_mm256_fmadd_ps(group.least[v], _mm256_cvtepi32_ps(offsets), scaled), scale, sums[v]);
    } else {
      sums[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(group.scales[v], scale), sums[v]);
    }
  }
}

// The groups that are unpacked next, of this panel or the one behind it, asked for while `rows` rows are at work:
// nothing else runs while they are unpacked, so that memory would be waited for.
class NextGroups {
 public:
  NextGroups(PackedType type, const PackedTileCall& call, int tiles, int64_t group, int64_t rows)
      : of_tile_(kGroupsAtOnce * LayoutOf(type).group_bytes / 64),
        stride_(call.tile_bytes),
        lines_(tiles * of_tile_),
        rows_(rows) {
    const bool behind = group == call.cuts[call.blocks];
    at_ = behind ? call.tile + tiles * call.tile_bytes : GroupOf(type, call.tile, call.skip + group);
  }
  // Row r's share.
  void Prefetch(int64_t r) const {
    if (rows_ == 0) return;
    for (int64_t line = r * lines_ / rows_; line < (r + 1) * lines_ / rows_; ++line) {
      _mm_prefetch(reinterpret_cast<const char*>(at_ + line / of_tile_ * stride_ + line % of_tile_ * 64), _MM_HINT_T0);
    }
  }

 private:
  const std::byte* at_;
  int64_t of_tile_;  // lines of one tile, less a header
  int64_t stride_, lines_, rows_;
};

template <PackedType type>
void Rows(const PackedTileCall& call, int tiles, int64_t first, int64_t rows) {
  const int64_t groups = PackedGroups(call.x->depth);
  const int vectors = tiles * 2;
  const auto add = [](__m256* a, const __m256& b) { *a = _mm256_add_ps(*a, b); };
  UnpackedGroup panel[kGroupsAtOnce];
  RowSums sums[kRowsAtOnce];
  for (int block = 0; block < call.blocks; ++block) {
    for (int64_t r = 0; r < rows; ++r) std::fill_n(sums[r].block, vectors, _mm256_setzero_ps());
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; g += kGroupsAtOnce) {
      const int64_t count = std::min<int64_t>(kGroupsAtOnce, call.cuts[block + 1] - g);
      for (int tile = 0; tile < tiles; ++tile) {
        const std::byte* from = call.tile + tile * call.tile_bytes;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t at = call.skip + g + i;
          Unpack<type>(HeaderOf(type, from, at), GroupOf(type, from, at), &panel[i], 2 * tile);
        }
      }
      const NextGroups next(type, call, tiles, g + count, first == 0 ? rows : 0);
      for (int64_t r = 0; r < rows; ++r) {
        next.Prefetch(r);
        const int64_t at = (first + r) * groups + g;
        for (int64_t i = 0; i < count; ++i) {
          AddGroup<type>(panel[i], vectors, call.x->values + (at + i) * kGroup, call.x->scales[at + i],
                         call.x->offsets[at + i], sums[r].block);
        }
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int v = 0; v < vectors; ++v) AddToTree(block, call.blocks, &sums[r].block[v], sums[r].waiting[v], add);
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* y = call.y + (first + r) * call.y_stride;
    for (int v = 0; v < vectors; ++v) _mm256_storeu_ps(y + 8 * v, sums[r].block[v]);
  }
}

void Run(PackedType type, const PackedTileCall& call, int tiles) {
  for (int64_t row = 0; row < call.x->rows; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, call.x->rows - row);
    switch (type) {
      case PackedType::kInt4:
        Rows<PackedType::kInt4>(call, tiles, row, rows);
        break;
      case PackedType::kQ4_0:
        Rows<PackedType::kQ4_0>(call, tiles, row, rows);
        break;
      case PackedType::kQ4_K:
        Rows<PackedType::kQ4_K>(call, tiles, row, rows);
        break;
      case PackedType::kQ6_K:
        Rows<PackedType::kQ6_K>(call, tiles, row, rows);
        break;
      default:  // 8 bits: not among those that packed.cc gives
        return;
    }
  }
}

}  // namespace

PackedPanelFunction PackedPanelAvx2() { return HasAvx2() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
PackedPanelFunction PackedPanelAvx2() { return nullptr; }
}  // namespace atl::models::kernels

#endif
