// AVX2, 4 and 6 bits (INT4, Q4_0, Q4_K, Q6_K) and many rows: the weights of some tiles are unpacked once, as bytes in
// the first-level cache, and all rows pass over them, two at a time: a weight is loaded once for both, an activation is
// broadcast once for all outputs of the panel. Two rows' activations of half a group are what the registers hold, so
// the panel is passed over twice, and the first half's sums, of 16 bits, wait in memory.
//
// Signs: _mm256_maddubs_epi16 wants its first factor unsigned. That is the weight (q + 8, Q4_K's q), and the row's
// offset (-8 x its sum) is added to the group's integer sum; of Q6_K, whose scales are of 16 inputs, the activation
// (x + 128), and 128 times the scaled sum of the weights is subtracted. The same integers. No sum of 16 bits overflows:
// it has 16 products of at most 15 x 128, or 4 of 255 x 32.
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
constexpr int64_t kRowsAtOnce = 32;                    // even; 32 KB of sums

// One group of the panel: vector v has outputs 8 v .. 8 v + 7.
struct UnpackedGroup {
  __m256i weights[kVectors][8];  // [v][j]: inputs 4 j .. 4 j + 3 of each output
  __m256 scales[kVectors];
  union {
    __m256 least[kVectors];  // Q4_K: dmin m / 8
    struct {
      __m256i corrections[kVectors];  // -128 x the scaled sum of the weights
      __m256i halves[kVectors][2];    // s of each 16 inputs, twice in 32 bits
    } six_bits;                       // Q6_K
  };
};

// Sums of kRowsAtOnce rows: of the block at hand, and of the blocks that wait for their neighbours in the tree.
struct RowSums {
  __m256 block[kVectors];
  __m256 waiting[kVectors][3];
};

template <PackedType type>
void Unpack(const std::byte* header, const std::byte* group, UnpackedGroup* to, int vector) {
  for (int half = 0; half < 2; ++half, ++vector) {
    __m256i(&w)[8] = to->weights[vector];
    if constexpr (type == PackedType::kQ6_K) {
      const __m256i one_bytes = _mm256_set1_epi8(1);
      __m256i sums[2] = {};  // of 16 inputs each, in 16 bits
      LoadSixBits(group, half, w);
      for (int j = 0; j < 8; ++j) {
        sums[j / 4] = _mm256_add_epi16(sums[j / 4], _mm256_maddubs_epi16(one_bytes, w[j]));
      }
      __m256i(&halves)[2] = to->six_bits.halves[vector];
      for (int i = 0; i < 2; ++i) halves[i] = SixBitScales(group, half, i);
      const __m256i sum =
          _mm256_add_epi32(_mm256_madd_epi16(sums[0], halves[0]), _mm256_madd_epi16(sums[1], halves[1]));
      to->six_bits.corrections[vector] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, 7));
      to->scales[vector] = Halves(header + 16 * half);
    } else {
      LoadNibbles(group, half, w);
      if constexpr (type == PackedType::kQ4_K) {
        to->scales[vector] = FourBitScales(header, group, half);
        to->least[vector] = FourBitLeast(header, group, half);
      } else {
        to->scales[vector] = Scales<type>(group + 256 + 16 * half);
      }
    }
  }
}

// A value that stays in a register: GCC would load it anew for each use.
[[gnu::always_inline]] inline __m256i InRegister(__m256i v) {
  asm volatile("" : "+x"(v));  // NOLINT(hicpp-no-assembler): no instruction
  return v;
}

// What a row brings to a group of 32 inputs, and its sums [vectors].
struct RowOfGroup {
  const int8_t* x;
  float scale;
  int32_t offset;
  __m256* sums;
};

// The same of two rows. Functions of it are inlined, or GCC would keep it in memory.
struct Pair {
  __m256i x, y;
};

// Four values of a row in all places; of Q6_K x + 128.
template <PackedType type>
[[gnu::always_inline]] inline __m256i Spread(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  const __m256i quad = _mm256_set1_epi32(word);
  return InRegister(type == PackedType::kQ6_K ? _mm256_xor_si256(quad, _mm256_set1_epi8(-128)) : quad);
}
template <PackedType type>
[[gnu::always_inline]] inline Pair Spread(const RowOfGroup& x, const RowOfGroup& y, int64_t at) {
  return {Spread<type>(x.x + at), Spread<type>(y.x + at)};
}

// Four inputs of 8 outputs with both rows' four values: sums of two in 16 bits.
template <PackedType type>
[[gnu::always_inline]] inline Pair Products(const __m256i& weights, const Pair& quad) {
  const __m256i w = InRegister(weights);
  if constexpr (type == PackedType::kQ6_K) return {_mm256_maddubs_epi16(quad.x, w), _mm256_maddubs_epi16(quad.y, w)};
  return {_mm256_maddubs_epi16(w, quad.x), _mm256_maddubs_epi16(w, quad.y)};
}
[[gnu::always_inline]] inline Pair Add16(const Pair& a, const Pair& b) {
  return {_mm256_add_epi16(a.x, b.x), _mm256_add_epi16(a.y, b.y)};
}
[[gnu::always_inline]] inline Pair Add32(const Pair& a, const Pair& b) {
  return {_mm256_add_epi32(a.x, b.x), _mm256_add_epi32(a.y, b.y)};
}
[[gnu::always_inline]] inline Pair SumOfTwo(const Pair& a, __m256i factors) {
  return {_mm256_madd_epi16(a.x, factors), _mm256_madd_epi16(a.y, factors)};
}

// Half a group's sums of vector v, in 16 bits, of Q6_K in 32, scaled; added to `sum`.
template <PackedType type>
[[gnu::always_inline]] inline Pair AddHalf(const UnpackedGroup& group, int v, int half, const Pair (&quads)[4],
                                           Pair sum) {
  const __m256i* w = group.weights[v] + 4 * half;
  if constexpr (type == PackedType::kQ6_K) {
    const __m256i scales = group.six_bits.halves[v][half];
    const Pair first = Add16(Products<type>(w[0], quads[0]), Products<type>(w[1], quads[1]));
    const Pair second = Add16(Products<type>(w[2], quads[2]), Products<type>(w[3], quads[3]));
    return Add32(sum, Add32(SumOfTwo(first, scales), SumOfTwo(second, scales)));
  } else {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) sum = Add16(sum, Products<type>(w[j], quads[j]));
    return sum;
  }
}

// Adds the group's products with two rows' 32 values to their sums. Not inlined: GCC jams two groups together, and
// the activations no longer fit the registers.
template <PackedType type, bool whole_panel>
[[gnu::noinline]] void AddGroup(const UnpackedGroup& group, int some_vectors, const RowOfGroup& x,
                                const RowOfGroup& y) {
  constexpr bool six_bits = type == PackedType::kQ6_K;
  const int vectors = whole_panel ? kVectors : std::min(some_vectors, kVectors);
  Pair waiting[kVectors];
  {
    const Pair quads[4] = {Spread<type>(x, y, 0), Spread<type>(x, y, 4), Spread<type>(x, y, 8), Spread<type>(x, y, 12)};
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) waiting[v] = AddHalf<type>(group, v, 0, quads, Pair());
  }
  const Pair quads[4] = {Spread<type>(x, y, 16), Spread<type>(x, y, 20), Spread<type>(x, y, 24),
                         Spread<type>(x, y, 28)};
  // In memory, so that the quads may have the registers.
  Pair offsets = {_mm256_set1_epi32(x.offset), _mm256_set1_epi32(y.offset)};
  __m256 scales[2] = {_mm256_set1_ps(x.scale), _mm256_set1_ps(y.scale)};
  asm volatile("" : "+m"(waiting), "+m"(offsets), "+m"(scales));  // NOLINT(hicpp-no-assembler): no instruction
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    Pair sum = AddHalf<type>(group, v, 1, quads, waiting[v]);
    if constexpr (six_bits) {
      const __m256i correction = group.six_bits.corrections[v];
      sum = Add32(sum, {correction, correction});
    } else {
      sum = SumOfTwo(sum, _mm256_set1_epi16(1));
      if constexpr (type != PackedType::kQ4_K) sum = Add32(sum, offsets);
    }
    const __m256 scale = group.scales[v], sum_x = _mm256_cvtepi32_ps(sum.x), sum_y = _mm256_cvtepi32_ps(sum.y);
    if constexpr (type == PackedType::kQ4_K) {
      const __m256 least = group.least[v];
      const __m256 whole_x = _mm256_fmadd_ps(least, _mm256_cvtepi32_ps(offsets.x), _mm256_mul_ps(sum_x, scale));
      const __m256 whole_y = _mm256_fmadd_ps(least, _mm256_cvtepi32_ps(offsets.y), _mm256_mul_ps(sum_y, scale));
      x.sums[v] = _mm256_fmadd_ps(whole_x, scales[0], x.sums[v]);
      y.sums[v] = _mm256_fmadd_ps(whole_y, scales[1], y.sums[v]);
    } else {
      x.sums[v] = _mm256_fmadd_ps(sum_x, _mm256_mul_ps(scale, scales[0]), x.sums[v]);
      y.sums[v] = _mm256_fmadd_ps(sum_y, _mm256_mul_ps(scale, scales[1]), y.sums[v]);
    }
  }
}

// The groups that are unpacked next, of this panel or the one behind it, asked for while rows are at work: nothing else
// runs while they are unpacked, so that memory, or the second-level cache, would be waited for. No division for a line:
// two of them cost a tenth of the products.
class NextGroups {
 public:
  NextGroups(PackedType type, const PackedTileCall& call, int tiles, int64_t group)
      : of_tile_(kGroupsAtOnce * LayoutOf(type).group_bytes / 64), stride_(call.tile_bytes), lines_(tiles * of_tile_) {
    const bool behind = group == call.cuts[call.blocks];
    at_ = behind ? call.tile + tiles * call.tile_bytes : GroupOf(type, call.tile, call.skip + group);
  }
  // What is left of the share of the first `rows` of `all` rows.
  void PrefetchUpTo(int64_t rows, int64_t all) {
    for (const int64_t end = rows * lines_ / all; asked_ < end; ++asked_) {
      _mm_prefetch(reinterpret_cast<const char*>(at_ + line_ * 64), _MM_HINT_T0);
      if (++line_ < of_tile_) continue;
      line_ = 0;
      at_ += stride_;
    }
  }

 private:
  const std::byte* at_;
  int64_t of_tile_;  // lines of one tile, less a header
  int64_t stride_, lines_;
  int64_t line_ = 0, asked_ = 0;  // of the tile at at_; of all
};

template <PackedType type>
void Rows(const PackedTileCall& call, int tiles, int64_t first, int64_t rows) {
  const int64_t groups = PackedGroups(call.x->depth);
  const int vectors = tiles * 2;
  const auto add = [](__m256* a, const __m256& b) { *a = _mm256_add_ps(*a, b); };
  UnpackedGroup panel[kGroupsAtOnce];
  RowSums sums[kRowsAtOnce];
  for (int block = 0; block < call.blocks; ++block) {
    for (int64_t r = 0; r < (rows + 1) / 2 * 2; ++r) std::fill_n(sums[r].block, vectors, _mm256_setzero_ps());
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; g += kGroupsAtOnce) {
      const int64_t count = std::min<int64_t>(kGroupsAtOnce, call.cuts[block + 1] - g);
      for (int tile = 0; tile < tiles; ++tile) {
        const std::byte* from = call.tile + tile * call.tile_bytes;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t at = call.skip + g + i;
          Unpack<type>(HeaderOf(type, from, at), GroupOf(type, from, at), &panel[i], 2 * tile);
        }
      }
      NextGroups next(type, call, tiles, g + count);
      for (int64_t r = 0; r < rows; r += 2) {
        next.PrefetchUpTo(std::min(r + 2, rows), rows);
        // An odd row is its own neighbour, whose sums nobody reads.
        const int64_t at = (first + r) * groups + g, neighbour = r + 1 < rows ? at + groups : at;
        for (int64_t i = 0; i < count; ++i) {
          const auto of_row = [&](int64_t group, __m256* to) {
            return RowOfGroup{call.x->values + group * kGroup, call.x->scales[group], call.x->offsets[group], to};
          };
          const RowOfGroup x = of_row(at + i, sums[r].block), y = of_row(neighbour + i, sums[r + 1].block);
          tiles == kPanelTiles ? AddGroup<type, true>(panel[i], vectors, x, y)
                               : AddGroup<type, false>(panel[i], vectors, x, y);
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
