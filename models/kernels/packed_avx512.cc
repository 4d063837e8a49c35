// AVX-512 with VNNI: four products of bytes a lane and instruction, 16 outputs in the lanes.
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"
#include "parallel/base/partition.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#include "models/kernels/packed_avx512-inl.h"

namespace atl::models::kernels {
namespace {

// kRows rows of one group; row r's values are `stride` bytes after those of the row before it.
struct GroupOfRows {
  const int8_t* values;
  int64_t stride;
  const float* scales;
  const int32_t* offsets;
  int64_t groups;  // from one row's scale and offset to the next row's
};

// sums[r] += products of w [kVectors] with row r. The instruction wants unsigned bytes first, and only its second
// operand can be broadcast from memory as it is read: weights are the unsigned ones, as they are stored, and
// activations cost no instruction of their own, by asm, because GCC makes a broadcast of it. Rows are interleaved, in
// two chains each: one row after another, the instructions that wait for a sum fill the scheduler, and the multipliers
// stand half the time. Rows' addresses are held in registers: GCC made one for each quad, more than there are registers
// for, and kept them in memory and in vectors (3 to 6 rows 240..280 -> 316..357 GOP/s).
template <int kRows, int kVectors>
inline void AddProducts(const __m512i* w, const int8_t* x, int64_t stride, __m512i (&sums)[kRows]) {
  __m512i odd[kRows];
  const int8_t* rows[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    odd[r] = _mm512_setzero_si512();
    rows[r] = x + r * stride;
    asm volatile("" : "+r"(rows[r]));  // NOLINT(hicpp-no-assembler): no instruction
  }
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const auto* quad = reinterpret_cast<const int8_t(*)[4]>(rows[r] + 4 * j);
      __m512i* sum = j % 2 == 0 ? &sums[r] : &odd[r];
      // NOLINTNEXTLINE(hicpp-no-assembler)
      asm("vpdpbusd %[quad]%{1to16%}, %[weights], %[sum]" : [sum] "+v"(*sum) : [weights] "v"(w[j]), [quad] "m"(*quad));
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r] = _mm512_add_epi32(sums[r], odd[r]);
}

// The same with signed weights and x + 128 as the unsigned bytes.
template <int kRows, int kVectors>
inline void AddShiftedProducts(const __m512i* w, const int8_t* x, int64_t stride, __m512i (&sums)[kRows]) {
  const __m512i sign = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
  for (int j = 0; j < kVectors; ++j) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t quad;
      std::memcpy(&quad, x + r * stride + 4 * j, 4);
      sums[r] = _mm512_dpbusd_epi32(sums[r], _mm512_xor_si512(_mm512_set1_epi32(quad), sign), w[j]);
    }
  }
}

// A group's weights for 16 outputs in registers, and acc[r] plus their products with rows' group (packed.h).
template <PackedType type>
struct Group {  // INT4, Q4_0, INT8, Q8_0
  __m512i w[8];
  __m512 scale;
  void Load(const std::byte* /*header*/, const std::byte* group) {
    if constexpr (IsNibbles(type)) {
      LoadNibbles(group, w);
    } else {
#pragma GCC unroll 8
      for (int j = 0; j < 8; ++j) w[j] = LoadBytes(group + 64 * j);
    }
    scale = Scales<type>(group + LayoutOf(type).group_bytes - 2 * kTileRows);
  }
  template <int kRows>
  void Add(const GroupOfRows& x, __m512 (&acc)[kRows]) const {
    constexpr int kOffsets = ZeroOf(type) / 8;
    __m512i sums[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_set1_epi32(x.offsets[r * x.groups] * kOffsets);
    AddProducts<kRows, 8>(w, x.values, x.stride, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 step = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[r * x.groups]));
      acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[r]), step, acc[r]);
    }
  }
};

template <>
struct Group<PackedType::kQ4_K> {
  __m512i w[8];
  __m512 scale, least;  // d s, dmin m / 8
  void Load(const std::byte* header, const std::byte* group) {
    LoadNibbles(group, w);
    scale = FourBitScales(header, group);
    least = FourBitLeast(header, group);
  }
  template <int kRows>
  void Add(const GroupOfRows& x, __m512 (&acc)[kRows]) const {
    __m512i sums[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) sums[r] = _mm512_setzero_si512();
    AddProducts<kRows, 8>(w, x.values, x.stride, sums);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const __m512 offset = _mm512_set1_ps(static_cast<float>(x.offsets[r * x.groups]));
      const __m512 part = _mm512_fmadd_ps(least, offset, _mm512_mul_ps(_mm512_cvtepi32_ps(sums[r]), scale));
      acc[r] = _mm512_fmadd_ps(part, _mm512_set1_ps(x.scales[r * x.groups]), acc[r]);
    }
  }
};

// Scales of 16 inputs: an offset would be needed for each half, so the weights are made signed, and the activations
// take 128 more, which `corrections` takes away again.
template <>
struct Group<PackedType::kQ6_K> {
  __m512i w[8];            // signed
  __m512i corrections[2];  // -128 x the sum of a half's weights
  __m512 scale[2];         // s of each half
  __m512 d;
  void Load(const std::byte* header, const std::byte* group) {
    LoadSixBits(group, w);
    for (int i = 0; i < 2; ++i) {
      __m512i sum = _mm512_setzero_si512();
      for (int j = 4 * i; j < 4 * i + 4; ++j) sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), w[j]);
      corrections[i] = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), sum), 7);
      scale[i] = Bytes(group + 384 + 16 * i);
    }
    d = Halves(header);
  }
  template <int kRows>
  void Add(const GroupOfRows& x, __m512 (&acc)[kRows]) const {
    __m512i first[kRows], second[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) first[r] = corrections[0];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) second[r] = corrections[1];
    AddShiftedProducts<kRows, 4>(w, x.values, x.stride, first);
    AddShiftedProducts<kRows, 4>(w + 4, x.values + 16, x.stride, second);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      // Exact: 32 x 127 x 128 x 32 is below 2^24, so the integer's own value comes out.
      const __m512 total = _mm512_fmadd_ps(_mm512_cvtepi32_ps(second[r]), scale[1],
                                           _mm512_mul_ps(_mm512_cvtepi32_ps(first[r]), scale[0]));
      const __m512 step = _mm512_mul_ps(d, _mm512_set1_ps(x.scales[r * x.groups]));
      acc[r] = _mm512_fmadd_ps(total, step, acc[r]);
    }
  }
};

template <int kRows>
struct Sums {
  __m512 of[kRows];
};

// Rows [row, row + kRows), all in registers: a group's weights are unpacked once for them.
template <PackedType type, int kRows>
void Rows(const PackedTileCall& call, int64_t row) {
  constexpr PackedLayout kLayout = LayoutOf(type);
  // One row leaves it to the processor, which reads faster alone. More rows take longer than a page's reading, in which
  // its guesses end; asked for into the second-level cache, and that far ahead (a core, from memory, GOP/s with 4 KB
  // into the first level -> now: INT4 1 row 81 -> 99, 3 rows 215 -> 300, 4 rows 230 -> 310, 8 rows 320 -> 362; INT8 4
  // rows 105 -> 175, 8 rows 182 -> 340). Whole blocks, so that no line is left out.
  constexpr bool kAsks = kRows > 1;
  constexpr int64_t kAhead = (8192 + kLayout.block_bytes() - 1) / kLayout.block_bytes() * kLayout.block_bytes();
  const int64_t groups = PackedGroups(call.x->depth);
  Sums<kRows> sums, waiting[3];
  for (int block = 0; block < call.blocks; ++block) {
    Sums<kRows> acc;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) acc.of[r] = _mm512_setzero_ps();
    for (int64_t g = call.cuts[block]; g < call.cuts[block + 1]; ++g) {
      const std::byte *header = HeaderOf(type, call.tile, call.skip + g), *at = GroupOf(type, call.tile, call.skip + g);
      if (kAsks && row == 0) {
        for (int64_t line = 0; line < kLayout.group_bytes; line += 64) {
          _mm_prefetch(reinterpret_cast<const char*>(at + kAhead + line), _MM_HINT_T1);
        }
        if (kLayout.header_bytes > 0) _mm_prefetch(reinterpret_cast<const char*>(header + kAhead), _MM_HINT_T1);
      }
      Group<type> weights;
      weights.Load(header, at);
      const int64_t i = row * groups + g;
      weights.Add({.values = call.x->values + i * kGroup,
                   .stride = groups * kGroup,
                   .scales = call.x->scales + i,
                   .offsets = call.x->offsets + i,
                   .groups = groups},
                  acc.of);
    }
    sums = acc;
    AddToTree(block, call.blocks, &sums, waiting, [](Sums<kRows>* a, const Sums<kRows>& b) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) a->of[r] = _mm512_add_ps(a->of[r], b.of[r]);
    });
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(call.y + (row + r) * call.y_stride, sums.of[r]);
}

template <PackedType type, int kMost>
void RowsUpTo(const PackedTileCall& call, int64_t row, int64_t rows) {
  if constexpr (kMost > 1) {
    if (rows < kMost) return RowsUpTo<type, kMost - 1>(call, row, rows);
  }
  Rows<type, kMost>(call, row);
}

template <PackedType type>
void Tile(const PackedTileCall& call) {
  constexpr int kMost = 8;  // even shares: one row alone takes nearly as long as three
  const int64_t rows = call.x->rows, passes = (rows + kMost - 1) / kMost;
  for (int64_t pass = 0; pass < passes; ++pass) {
    const Range share = EvenPart(rows, pass, passes);
    RowsUpTo<type, kMost>(call, share.begin, share.size());
  }
}

void Run(PackedType type, const PackedTileCall& call) {
  WithType(type, [&]<PackedType of> { Tile<of>(call); });
}

}  // namespace

bool HasAvx512Vnni() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

PackedTileFunction PackedTileAvx512Vnni() { return HasAvx512Vnni() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
bool HasAvx512Vnni() { return false; }
PackedTileFunction PackedTileAvx512Vnni() { return nullptr; }
}  // namespace atl::models::kernels

#endif
