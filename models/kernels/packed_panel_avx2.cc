// AVX2, Q6_K and many rows: the weights of some tiles are unpacked once, as bytes in the first-level cache, and all
// rows pass over them, two at a time: a weight is loaded once for both, an activation is broadcast once for all outputs
// of the panel. Two rows' activations of half a group are what the registers hold, so the panel is passed over twice,
// and the first half's sums wait in memory. Six bits are dear to unpack; those of the other types are not, and four
// rows at a time (packed_avx2.cc) are faster than a panel of them.
//
// Signs: _mm256_maddubs_epi16 wants its first factor unsigned. That is the activation (x + 128), and 128 times the
// scaled sum of the weights is subtracted. The same integers. No sum of 16 bits overflows: it has 4 products of at most
// 255 x 32.
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
  __m256i weights[kVectors][8];   // [v][j]: inputs 4 j .. 4 j + 3 of each output, signed
  __m256i halves[kVectors][2];    // s of each 16 inputs, twice in 32 bits
  __m256i corrections[kVectors];  // -128 x the scaled sum of the weights
  __m256 scales[kVectors];        // d
};

// Sums of kRowsAtOnce rows: of the block at hand, and of the blocks that wait for their neighbours in the tree.
struct RowSums {
  __m256 block[kVectors];
  __m256 waiting[kVectors][3];
};

void Unpack(const std::byte* header, const std::byte* group, UnpackedGroup* to, int vector) {
  for (int half = 0; half < 2; ++half, ++vector) {
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i(&w)[8] = to->weights[vector];
    __m256i sums[2] = {};  // of 16 inputs each, in 16 bits
    LoadSixBits(group, half, w);
    for (int j = 0; j < 8; ++j) sums[j / 4] = _mm256_add_epi16(sums[j / 4], _mm256_maddubs_epi16(ones, w[j]));
    __m256i(&halves)[2] = to->halves[vector];
    for (int i = 0; i < 2; ++i) halves[i] = SixBitScales(group, half, i);
    const __m256i sum = _mm256_add_epi32(_mm256_madd_epi16(sums[0], halves[0]), _mm256_madd_epi16(sums[1], halves[1]));
    to->corrections[vector] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(sum, 7));
    to->scales[vector] = Halves(header + 16 * half);
  }
}

// What a row brings to a group of 32 inputs, and its sums [vectors].
struct RowOfGroup {
  const int8_t* x;
  float scale;
  __m256* sums;
};

// The same of two rows. Functions of it are inlined, or GCC would keep it in memory.
struct Pair {
  __m256i x, y;
};

// Four values of a row in all places, x + 128.
[[gnu::always_inline]] inline __m256i Spread(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  return InRegister(_mm256_xor_si256(_mm256_set1_epi32(word), _mm256_set1_epi8(-128)));
}
[[gnu::always_inline]] inline Pair Spread(const RowOfGroup& x, const RowOfGroup& y, int64_t at) {
  return {Spread(x.x + at), Spread(y.x + at)};
}

// Four inputs of 8 outputs with both rows' four values: sums of two in 16 bits.
[[gnu::always_inline]] inline Pair Products(const __m256i& weights, const Pair& quad) {
  const __m256i w = InRegister(weights);
  return {_mm256_maddubs_epi16(quad.x, w), _mm256_maddubs_epi16(quad.y, w)};
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

// Half a group's scaled sums of vector v.
[[gnu::always_inline]] inline Pair HalfSum(const UnpackedGroup& group, int v, int half, const Pair (&quads)[4]) {
  const __m256i* w = group.weights[v] + 4 * half;
  const __m256i scales = group.halves[v][half];
  const Pair first = Add16(Products(w[0], quads[0]), Products(w[1], quads[1]));
  const Pair second = Add16(Products(w[2], quads[2]), Products(w[3], quads[3]));
  return Add32(SumOfTwo(first, scales), SumOfTwo(second, scales));
}

// Adds the group's products with two rows' 32 values to their sums. Not inlined: GCC jams two groups together, and
// the activations no longer fit the registers.
template <bool whole_panel>
[[gnu::noinline]] void AddGroup(const UnpackedGroup& group, int some_vectors, const RowOfGroup& x,
                                const RowOfGroup& y) {
  const int vectors = whole_panel ? kVectors : std::min(some_vectors, kVectors);
  Pair waiting[kVectors];
  {
    const Pair quads[4] = {Spread(x, y, 0), Spread(x, y, 4), Spread(x, y, 8), Spread(x, y, 12)};
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) waiting[v] = HalfSum(group, v, 0, quads);
  }
  const Pair quads[4] = {Spread(x, y, 16), Spread(x, y, 20), Spread(x, y, 24), Spread(x, y, 28)};
  // In memory, so that the quads may have the registers.
  __m256 scales[2] = {_mm256_set1_ps(x.scale), _mm256_set1_ps(y.scale)};
  asm volatile("" : "+m"(waiting), "+m"(scales));  // NOLINT(hicpp-no-assembler): no instruction
#pragma GCC unroll 8
  for (int v = 0; v < vectors; ++v) {
    const __m256i correction = group.corrections[v];
    const Pair both = Add32(waiting[v], HalfSum(group, v, 1, quads));
    const Pair sum = Add32(both, {correction, correction});
    const __m256 scale = group.scales[v];
    x.sums[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum.x), _mm256_mul_ps(scale, scales[0]), x.sums[v]);
    y.sums[v] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum.y), _mm256_mul_ps(scale, scales[1]), y.sums[v]);
  }
}

// The groups that are unpacked next, of this panel or the one behind it, asked for while rows are at work: nothing else
// runs while they are unpacked, so that memory, or the second-level cache, would be waited for. No division for a line:
// two of them cost a tenth of the products.
class NextGroups {
 public:
  NextGroups(const PackedTileCall& call, int tiles, int64_t group)
      : of_tile_(kGroupsAtOnce * LayoutOf(PackedType::kQ6_K).group_bytes / 64),
        stride_(call.tile_bytes),
        lines_(tiles * of_tile_) {
    const bool behind = group == call.cuts[call.blocks];
    at_ = behind ? call.tile + tiles * call.tile_bytes : GroupOf(PackedType::kQ6_K, call.tile, call.skip + group);
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
          Unpack(HeaderOf(PackedType::kQ6_K, from, at), GroupOf(PackedType::kQ6_K, from, at), &panel[i], 2 * tile);
        }
      }
      NextGroups next(call, tiles, g + count);
      for (int64_t r = 0; r < rows; r += 2) {
        next.PrefetchUpTo(std::min(r + 2, rows), rows);
        // An odd row is its own neighbour, whose sums nobody reads.
        const int64_t at = (first + r) * groups + g, neighbour = r + 1 < rows ? at + groups : at;
        for (int64_t i = 0; i < count; ++i) {
          const auto of_row = [&](int64_t group, __m256* to) {
            return RowOfGroup{call.x->values + group * kGroup, call.x->scales[group], to};
          };
          const RowOfGroup x = of_row(at + i, sums[r].block), y = of_row(neighbour + i, sums[r + 1].block);
          tiles == kPanelTiles ? AddGroup<true>(panel[i], vectors, x, y) : AddGroup<false>(panel[i], vectors, x, y);
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

void Run(PackedType /*type*/, const PackedTileCall& call, int tiles) {
  for (int64_t row = 0; row < call.x->rows; row += kRowsAtOnce) {
    Rows(call, tiles, row, std::min(kRowsAtOnce, call.x->rows - row));
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
