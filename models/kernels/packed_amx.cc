// AMX, for many rows: a group of one tile is unpacked to signed bytes once, and 16 rows are multiplied with it by one
// instruction into 16 x 16 exact sums, which vector instructions then scale and add: three for each row, and nothing
// else for 512 products of it. Scaling is what bounds this: a group's 32 inputs fill half of an instruction's 64.
#include "models/kernels/amx.h"
#include "models/kernels/packed_layout.h"
#include "models/kernels/packed_tile.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#pragma GCC push_options
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 says it of its own header's undefined operands
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq")
#include "models/kernels/packed_avx512-inl.h"

namespace atl::models::kernels {
namespace {

constexpr int64_t kGroupsAtOnce = 32;  // unpacked: 20 KB
constexpr int64_t kRowsAtOnce = 64;    // 16 KB of sums
constexpr int kBlockRows = 16;         // of one instruction
// Groups that are multiplied before the first of them is scaled: a vector load waits until the tile's store has left
// the store buffer, nothing is forwarded.
constexpr int kAhead = 4;

// One group of a tile; vectors have the 16 outputs in their lanes.
template <PackedType type>
struct UnpackedGroup {
  __m512i weights[8];  // [j]: inputs 4 j .. 4 j + 3 of each output, signed
  __m512 scale;
  __m512 least;  // Q4_K: dmin m / 8
};

// Sums of one row and tile: of the block at hand, and of the blocks that wait for their neighbours in the tree.
struct RowSums {
  __m512 block;
  __m512 waiting[3];
};

template <PackedType type>
void Unpack(const std::byte* header, const std::byte* group, UnpackedGroup<type>* to) {
  if constexpr (IsNibbles(type)) {
    const __m512i zero = _mm512_set1_epi8(ZeroOf(type));
    __m512i w[8];
    LoadNibbles(group, w);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) to->weights[j] = _mm512_sub_epi8(w[j], zero);
  } else {
    const __m512i offset = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) to->weights[j] = _mm512_xor_si512(LoadBytes(group + 64 * j), offset);
  }
  if constexpr (type == PackedType::kQ4_K) {
    to->scale = FourBitScales(header, group);
    to->least = FourBitLeast(header, group);
  } else {
    to->scale = Scales<type>(group + LayoutOf(type).group_bytes - 2 * kTileRows);
  }
}

// Consecutive rows of x from one group on.
struct RowsOfGroups {
  const int8_t* values;
  const float* scales;
  const int32_t* offsets;
  int64_t groups;  // a row's

  RowsOfGroups(const QuantizedRows& x, int64_t row, int64_t group) : groups(PackedGroups(x.depth)) {
    const int64_t at = row * groups + group;
    values = x.values + at * kGroup;
    scales = x.scales + at;
    offsets = x.offsets + at;
  }
};

// acc plus a row's product with a group, whose integer sums are `products` (packed.h).
template <PackedType type>
inline __m512 Scaled(const int32_t* products, const UnpackedGroup<type>& group, float x_scale, int32_t offset,
                     __m512 acc) {
  const __m512 sum = _mm512_cvtepi32_ps(_mm512_load_si512(products));
  if constexpr (type == PackedType::kQ4_K) {
    const __m512 part =
        _mm512_fmadd_ps(group.least, _mm512_cvtepi32_ps(_mm512_set1_epi32(offset)), _mm512_mul_ps(sum, group.scale));
    return _mm512_fmadd_ps(part, _mm512_set1_ps(x_scale), acc);
  } else {
    return _mm512_fmadd_ps(sum, _mm512_mul_ps(group.scale, _mm512_set1_ps(x_scale)), acc);
  }
}

struct alignas(64) Products {
  int32_t of[kBlockRows][kTileRows];
};

// Unpacked groups [begin, end) of a tile.
template <PackedType type>
struct Chunk {
  int64_t begin = 0, end = 0;
  UnpackedGroup<type> groups[kGroupsAtOnce];
};

// kBlockRows rows, or fewer, times group i of the chunk, by tile registers kSum, kA and kB.
template <int kSum, int kA, int kB, PackedType type>
[[gnu::always_inline]] inline void Multiply(const RowsOfGroups& x, const Chunk<type>& chunk, int64_t i,
                                            Products* products) {
  ZeroTile<kSum>();
  LoadTile<kA>(x.values + i * kGroup, x.groups * kGroup);
  LoadTile<kB>(chunk.groups[i].weights, 64);
  MultiplyTiles<kSum, kA, kB>();
  StoreTile<kSum>(products->of, 64);
}

// Adds the chunk's products with `rows` rows to their sums; `block` is the one that the chunk begins in. 16 rows have
// their sums in registers.
template <PackedType type, bool kWhole>
int AddChunk(const PackedTileCall& call, const Chunk<type>& chunk, const RowsOfGroups& x, int rows, int block,
             RowSums* sums) {
  const auto add = [](__m512* a, const __m512& b) { *a = _mm512_add_ps(*a, b); };
  const int64_t count = chunk.end - chunk.begin;
  const int last = kWhole ? kBlockRows : rows;
  Products products[2 * kAhead];
  __m512 acc[kBlockRows];
#pragma GCC unroll 16
  for (int r = 0; r < last; ++r) acc[r] = sums[r].block;
  for (int64_t i = -kAhead; i < count; ++i) {
    if (const int64_t next = i + kAhead; next < count) {
      Products* to = &products[next % (2 * kAhead)];
      if (!kWhole) {
        Multiply<6, 7, 4>(x, chunk, next, to);
      } else if (next % 2 == 0) {
        Multiply<0, 2, 4>(x, chunk, next, to);
      } else {
        Multiply<1, 3, 5>(x, chunk, next, to);
      }
    }
    if (i < 0) continue;
    while (chunk.begin + i == call.cuts[block + 1]) {  // the block before is complete
#pragma GCC unroll 16
      for (int r = 0; r < last; ++r) {
        sums[r].block = acc[r];
        acc[r] = _mm512_setzero_ps();
      }
      for (int r = 0; r < last; ++r) AddToTree(block, call.blocks, &sums[r].block, sums[r].waiting, add);
      ++block;
    }
    const Products& of = products[i % (2 * kAhead)];
    int64_t at = i;
#pragma GCC unroll 16
    for (int r = 0; r < last; ++r, at += x.groups) {
      acc[r] = Scaled(of.of[r], chunk.groups[i], x.scales[at], x.offsets[at], acc[r]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < last; ++r) sums[r].block = acc[r];
  return block;
}

// Rows [first, first + rows) of one tile.
template <PackedType type>
void Rows(const PackedTileCall& call, const std::byte* tile, float* y, int64_t first, int64_t rows) {
  const auto add = [](__m512* a, const __m512& b) { *a = _mm512_add_ps(*a, b); };
  Chunk<type> chunk;
  RowSums sums[kRowsAtOnce];
  const int64_t whole = rows / kBlockRows * kBlockRows;
  const auto rest = static_cast<int>(rows - whole);
  for (int64_t r = 0; r < rows; ++r) sums[r].block = _mm512_setzero_ps();
  int block = 0;
  for (int64_t g = call.cuts[0]; g < call.cuts[call.blocks]; g = chunk.end) {
    chunk.begin = g;
    chunk.end = std::min(g + kGroupsAtOnce, call.cuts[call.blocks]);
    for (int64_t i = g; i < chunk.end; ++i) {
      const std::byte* group = GroupOf(type, tile, call.skip + i);
      Unpack<type>(HeaderOf(type, tile, call.skip + i), group, &chunk.groups[i - g]);
      if (first > 0) continue;
      for (int64_t line = 0; line < LayoutOf(type).group_bytes; line += 64) {  // of the next chunk
        _mm_prefetch(reinterpret_cast<const char*>(group + kGroupsAtOnce * LayoutOf(type).group_bytes + line),
                     _MM_HINT_T1);
      }
    }
    int after = block;
    for (int64_t r = 0; r < whole; r += kBlockRows) {
      after = AddChunk<type, true>(call, chunk, RowsOfGroups(*call.x, first + r, g), kBlockRows, block, sums + r);
    }
    if (rest > 0) {
      after = AddChunk<type, false>(call, chunk, RowsOfGroups(*call.x, first + whole, g), rest, block, sums + whole);
    }
    block = after;
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int b = block; b < call.blocks; ++b) {  // those behind the last group have none
      AddToTree(b, call.blocks, &sums[r].block, sums[r].waiting, add);
      if (b + 1 < call.blocks) sums[r].block = _mm512_setzero_ps();
    }
    _mm512_storeu_ps(y + (first + r) * call.y_stride, sums[r].block);
  }
}

template <PackedType type>
void Panel(const PackedTileCall& call, int tiles) {
  const int64_t rest = call.x->rows % kBlockRows;
  AmxShape shape;
  for (const int tile : {0, 1}) shape.Set(tile, kBlockRows, 64);
  for (const int tile : {2, 3}) shape.Set(tile, kBlockRows, kGroup);
  for (const int tile : {4, 5}) shape.Set(tile, kGroup / 4, 64);
  if (rest > 0) {
    shape.Set(6, rest, 64);
    shape.Set(7, rest, kGroup);
  }
  const AmxTiles registers(shape);
  for (int tile = 0; tile < tiles; ++tile) {
    for (int64_t row = 0; row < call.x->rows; row += kRowsAtOnce) {
      Rows<type>(call, call.tile + tile * call.tile_bytes, call.y + tile * kTileRows, row,
                 std::min(kRowsAtOnce, call.x->rows - row));
    }
  }
}

void Run(PackedType type, const PackedTileCall& call, int tiles) {
  WithType(type, [&]<PackedType of> {
    // Scales of 16 inputs: not among those that packed.cc gives.
    if constexpr (of != PackedType::kQ6_K) Panel<of>(call, tiles);
  });
}

bool AskForAmx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;
  if ((d & kTiles) == 0 || (d & kInt8) == 0) return false;
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool HasAmx() {
  static const bool has = HasAvx512Vnni() && AskForAmx();
  return has;
}

PackedPanelFunction PackedPanelAmx() { return HasAmx() ? Run : nullptr; }

}  // namespace atl::models::kernels

#pragma GCC pop_options

#else

namespace atl::models::kernels {
PackedPanelFunction PackedPanelAmx() { return nullptr; }
}  // namespace atl::models::kernels

#endif
