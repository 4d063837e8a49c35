// AVX2, 4 bits (INT4, Q4_0, Q4_K) and many rows: the weights of some tiles are unpacked once, as signed
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
  __m256 least[kVectors];  // Q4_K: dmin m / 8
};

// Sums of kRowsAtOnce rows: of the block at hand, and of the blocks that wait for their neighbours in the tree.
struct RowSums {
  __m256 block[kVectors];
  __m256 waiting[kVectors][3];
};

inline __m256 Halves(const std::byte* at) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
}
inline __m256 Bytes(const std::byte* at) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at))));
}

template <PackedType type>
void Unpack(const std::byte* header, const std::byte* group, UnpackedGroup* to, int vector) {
  const __m256i low = _mm256_set1_epi8(15), zero = _mm256_set1_epi8(8);
  const __m256i one_bytes = _mm256_set1_epi8(1), minus_128 = _mm256_set1_epi16(-128);
  for (int half = 0; half < 2; ++half, ++vector) {
    __m256i sum = _mm256_setzero_si256();
    for (int j = 0; j < 4; ++j) {
      const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(group + 64 * j + 32 * half));
      const __m256i first = _mm256_sub_epi8(_mm256_and_si256(both, low), zero);
      const __m256i second = _mm256_sub_epi8(_mm256_and_si256(_mm256_srli_epi16(both, 4), low), zero);
      to->weights[vector][j] = first;
      to->weights[vector][j + 4] = second;
      sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(one_bytes, _mm256_add_epi8(first, second)));
    }
    to->corrections[vector] = _mm256_madd_epi16(sum, minus_128);
    if constexpr (type == PackedType::kQ4_K) {
      to->scales[vector] = _mm256_mul_ps(Halves(header + 16 * half), Bytes(group + 256 + 8 * half));
      const __m256 eighths = _mm256_mul_ps(Bytes(group + 272 + 8 * half), _mm256_set1_ps(0.125f));  // exact
      to->least[vector] = _mm256_mul_ps(Halves(header + 32 + 16 * half), eighths);
    } else if constexpr (type == PackedType::kQ4_0) {
      to->scales[vector] = Halves(group + 256 + 16 * half);
    } else {
      const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(group + 256 + 16 * half));
      to->scales[vector] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
    }
  }
}

// sums += the group's product with a row's 32 values. Not inlined: GCC jams two groups together, and the quads no
// longer fit the registers.
template <PackedType type>
[[gnu::noinline]] void AddGroup(const UnpackedGroup& group, int vectors, const int8_t* x, float x_scale, int32_t offset,
                                __m256* sums) {
  const __m256i sign = _mm256_set1_epi8(-128), ones = _mm256_set1_epi16(1);
  const __m256 scale = _mm256_set1_ps(x_scale);
  const __m256i offsets = _mm256_set1_epi32(offset);
  __m256i quads[8];
  for (int j = 0; j < 8; ++j) {
    int32_t word;
    std::memcpy(&word, x + 4 * j, 4);
    quads[j] = _mm256_xor_si256(_mm256_set1_epi32(word), sign);
  }
  for (int v = 0; v < vectors; ++v) {
    const __m256i* w = group.weights[v];
    __m256i even = _mm256_maddubs_epi16(quads[0], w[0]), odd = _mm256_maddubs_epi16(quads[1], w[1]);
    for (int j = 2; j < 8; j += 2) {
      even = _mm256_add_epi16(even, _mm256_maddubs_epi16(quads[j], w[j]));
      odd = _mm256_add_epi16(odd, _mm256_maddubs_epi16(quads[j + 1], w[j + 1]));
    }
    const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(_mm256_add_epi16(even, odd), ones), group.corrections[v]);
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
      : stride_(call.tile_bytes), lines_(tiles * kLines), rows_(rows) {
    const bool behind = group == call.cuts[call.blocks];
    at_ = behind ? call.tile + tiles * call.tile_bytes : GroupOf(type, call.tile, call.skip + group);
  }
  // Row r's share.
  void Prefetch(int64_t r) const {
    if (rows_ == 0) return;
    for (int64_t line = r * lines_ / rows_; line < (r + 1) * lines_ / rows_; ++line) {
      _mm_prefetch(reinterpret_cast<const char*>(at_ + line / kLines * stride_ + line % kLines * 64), _MM_HINT_T0);
    }
  }

 private:
  static constexpr int64_t kLines = kGroupsAtOnce * 288 / 64;  // of a tile, less Q4_K's header
  const std::byte* at_;
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
      default:  // not among those that packed.cc gives
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
