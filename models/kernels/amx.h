// Intel's tile registers: 8 of at most 16 rows x 64 bytes, and one instruction that multiplies two of them.
//
//   if (HasAmx()) {                                   // asks the system for the registers, once a process
//     const AmxTiles tiles(shape);                    // this thread's registers take this shape until it ends
//     LoadTile<2>(a, stride); LoadTile<4>(b, 64); ZeroTile<0>();
//     MultiplyTiles<0, 2, 4>();                       // tile 0 += tile 2 x tile 4
//     StoreTile<0>(c, 64);
//   }
// c [m, n] i32, a [m, 4 k] i8, b [k, n] of four i8 that follow each other: c[m, n] += sum over k, i of a[m, 4 k + i]
// b[k, n][i].
#pragma once

#include <cstdint>

namespace atl::models::kernels {

#if defined(__x86_64__)

// What LDTILECFG reads.
struct alignas(64) AmxShape {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of tile 0, 1, ..
  uint8_t rows[16] = {};
  void Set(int tile, int64_t tile_rows, int64_t tile_row_bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(tile_row_bytes);
  }
};

bool HasAmx();  // with AMX-INT8; the system grants the registers

class AmxTiles {
 public:
  // NOLINTBEGIN(hicpp-no-assembler): the compiler's own functions do not say that they read memory
  explicit AmxTiles(const AmxShape& shape) { asm volatile("ldtilecfg %0" : : "m"(shape)); }
  ~AmxTiles() { asm volatile("tilerelease"); }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;
};

template <int kTile>
[[gnu::always_inline]] inline void ZeroTile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
[[gnu::always_inline]] inline void LoadTile(const void* at, int64_t stride) {
  asm volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(kTile), "r"(at), "r"(stride) : "memory");
}
template <int kTile>
[[gnu::always_inline]] inline void StoreTile(void* at, int64_t stride) {
  asm volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(kTile), "r"(at), "r"(stride) : "memory");
}
template <int kSum, int kA, int kB>
[[gnu::always_inline]] inline void MultiplyTiles() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kSum), "i"(kA), "i"(kB));
}
// NOLINTEND(hicpp-no-assembler)

#else

inline bool HasAmx() { return false; }

#endif

}  // namespace atl::models::kernels
