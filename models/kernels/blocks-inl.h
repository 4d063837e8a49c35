// GGUF's blocks of 32 and of 256 weights in plain loops, which the compiler turns into each target's vectors. A block
// is a struct of its sizes and Decode; products are rounded one by one in the order that the format's own code has, so
// a weight has the same bits everywhere.
#include <bit>
#include <cstring>

#include "models/kernels/codebooks.h"
#include "models/kernels/kernels.h"
#include "models/kernels/six_bits.h"
// clang-format off
#include "models/kernels/targets.h"
#include "hwy/highway.h"
// clang-format on

#if defined(ATOLL_MODELS_KERNELS_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_BLOCKS_INL_H_
#undef ATOLL_MODELS_KERNELS_BLOCKS_INL_H_
#else
#define ATOLL_MODELS_KERNELS_BLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

// Little-endian words of a block, which lie at any address.
HWY_INLINE uint32_t Word16(const uint8_t* at) {
  uint16_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}
HWY_INLINE uint32_t Word32(const uint8_t* at) {
  uint32_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}
HWY_INLINE float Half(const uint8_t* at) { return ToFloat(F16{static_cast<uint16_t>(Word16(at))}); }
HWY_INLINE int Nibble(const uint8_t* nibbles, int i) { return nibbles[i / 2] >> (4 * (i % 2)) & 15; }

// Blocks of 32: weight i < 16 is the low nibble of byte i, weight 16 + i its high nibble.

struct Q4_0 {
  static constexpr int kGroup = 32, kBytes = 18;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>((block[2 + i] & 15) - 8);
      out[16 + i] = d * static_cast<float>((block[2 + i] >> 4) - 8);
    }
  }
};

struct Q4_1 {
  static constexpr int kGroup = 32, kBytes = 20;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block), least = Half(block + 2);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(block[4 + i] & 15) + least;
      out[16 + i] = d * static_cast<float>(block[4 + i] >> 4) + least;
    }
  }
};

// The fifth bit of weight i is bit i of a 32-bit word.
struct Q5_0 {
  static constexpr int kGroup = 32, kBytes = 22;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    const uint32_t high = Word32(block + 2);
    for (int i = 0; i < 16; ++i) {
      const int low = (block[6 + i] & 15) | (high >> i & 1) << 4, upper = block[6 + i] >> 4 | (high >> (16 + i) & 1)
                                                                                                  << 4;
      out[i] = d * static_cast<float>(low - 16);
      out[16 + i] = d * static_cast<float>(upper - 16);
    }
  }
};

struct Q5_1 {
  static constexpr int kGroup = 32, kBytes = 24;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block), least = Half(block + 2);
    const uint32_t high = Word32(block + 4);
    for (int i = 0; i < 16; ++i) {
      const int low = (block[8 + i] & 15) | (high >> i & 1) << 4, upper = block[8 + i] >> 4 | (high >> (16 + i) & 1)
                                                                                                  << 4;
      out[i] = d * static_cast<float>(low) + least;
      out[16 + i] = d * static_cast<float>(upper) + least;
    }
  }
};

struct Q8_0 {
  static constexpr int kGroup = 32, kBytes = 34;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
};

// The scale is a power of two, stored as the exponent of its double; halved, as the values are stored doubled.
struct MXFP4 {
  static constexpr int kGroup = 32, kBytes = 17;
  static void Decode(const uint8_t* block, float* out) {
    const uint32_t e = block[0];
    const auto d = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(kE2m1Doubled[block[1 + i] & 15]);
      out[16 + i] = d * static_cast<float>(kE2m1Doubled[block[1 + i] >> 4]);
    }
  }
};

struct IQ4_NL {
  static constexpr int kGroup = 32, kBytes = 18;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 16; ++i) {
      out[i] = d * static_cast<float>(kIq4Values[block[2 + i] & 15]);
      out[16 + i] = d * static_cast<float>(kIq4Values[block[2 + i] >> 4]);
    }
  }
};

// Blocks of 256: runs of 16 or 32 weights with small integer scales of their own, times the block's f16 scale. Bits of
// a weight are spread so that one byte serves weights 32 (or 64) apart.

// [16 scales and minima | 64 x 4 weights of 2 bits | d | dmin]
struct Q2_K {
  static constexpr int kGroup = 256, kBytes = 84;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block + 80), dmin = Half(block + 82);
    for (int run = 0; run < 16; ++run, out += 16) {
      const float scale = d * static_cast<float>(block[run] & 15), least = dmin * static_cast<float>(block[run] >> 4);
      const uint8_t* from = block + 16 + run / 8 * 32 + run % 2 * 16;
      const int shift = run % 8 / 2 * 2;
      for (int i = 0; i < 16; ++i) out[i] = scale * static_cast<float>(from[i] >> shift & 3) - least;
    }
  }
};

// [32 x 8 third bits, 0 meaning minus 4 | 64 x 4 weights of 2 bits | 16 scales of 6 bits | d]
struct Q3_K {
  static constexpr int kGroup = 256, kBytes = 110;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block + 108);
    const uint8_t* scales = block + 96;
    for (int run = 0; run < 16; ++run, out += 16) {
      const int low = run < 8 ? scales[run] & 15 : scales[run - 8] >> 4;
      const int high = scales[8 + run % 4] >> (run / 4 * 2) & 3;
      const float scale = d * static_cast<float>((low | high << 4) - 32);
      const uint8_t* from = block + 32 + run / 8 * 32 + run % 2 * 16;
      const uint8_t* third = block + run % 2 * 16;
      const int shift = run % 8 / 2 * 2, bit = run / 2;
      for (int i = 0; i < 16; ++i) {
        out[i] = scale * static_cast<float>((from[i] >> shift & 3) - (third[i] >> bit & 1 ? 0 : 4));
      }
    }
  }
};

// Of run j of Q4_K and Q5_K.
struct ScaleAndMin {
  float scale, least;
  ScaleAndMin(const uint8_t* packed, int j, float d, float dmin) {
    const SixBits of = SixBitsOf(packed, j);
    scale = d * static_cast<float>(of.scale);
    least = dmin * static_cast<float>(of.least);
  }
};

// [d | dmin | scales | 128 x 2 weights of 4 bits]
struct Q4_K {
  static constexpr int kGroup = 256, kBytes = 144;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block), dmin = Half(block + 2);
    for (int run = 0; run < 8; ++run, out += 32) {
      const ScaleAndMin of(block + 4, run, d, dmin);
      const uint8_t* from = block + 16 + run / 2 * 32;
      const int shift = run % 2 * 4;
      for (int i = 0; i < 32; ++i) out[i] = of.scale * static_cast<float>(from[i] >> shift & 15) - of.least;
    }
  }
};

// [d | dmin | scales | 32 x 8 fifth bits | 128 x 2 weights of 4 bits]
struct Q5_K {
  static constexpr int kGroup = 256, kBytes = 176;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block), dmin = Half(block + 2);
    const uint8_t* fifth = block + 16;
    for (int run = 0; run < 8; ++run, out += 32) {
      const ScaleAndMin of(block + 4, run, d, dmin);
      const uint8_t* from = block + 48 + run / 2 * 32;
      const int shift = run % 2 * 4;
      for (int i = 0; i < 32; ++i) {
        out[i] = of.scale * static_cast<float>((from[i] >> shift & 15) | (fifth[i] >> run & 1) << 4) - of.least;
      }
    }
  }
};

// [128 x 2 low 4 bits | 64 x 4 upper 2 bits | 16 scales of 8 bits | d]
struct Q6_K {
  static constexpr int kGroup = 256, kBytes = 210;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block + 208);
    for (int run = 0; run < 16; ++run, out += 16) {
      const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + run]));
      const int half = run / 8, quarter = run % 8 / 2;  // of 128; of that 128, a quarter of 32
      const uint8_t* low = block + half * 64 + quarter % 2 * 32 + run % 2 * 16;
      const uint8_t* upper = block + 128 + half * 32 + run % 2 * 16;
      for (int i = 0; i < 16; ++i) {
        const int q = (low[i] >> (quarter / 2 * 4) & 15) | (upper[i] >> (quarter * 2) & 3) << 4;
        out[i] = scale * static_cast<float>(q - 32);
      }
    }
  }
};

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
