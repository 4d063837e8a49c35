// GGUF's blocks of 256 whose weights come from codebooks (codebooks.h): IQ1 to IQ4_XS.
#include "models/kernels/blocks-inl.h"

#if defined(ATOLL_MODELS_KERNELS_CODEBOOK_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATOLL_MODELS_KERNELS_CODEBOOK_BLOCKS_INL_H_
#undef ATOLL_MODELS_KERNELS_CODEBOOK_BLOCKS_INL_H_
#else
#define ATOLL_MODELS_KERNELS_CODEBOOK_BLOCKS_INL_H_
#endif

HWY_BEFORE_NAMESPACE();
namespace atl::models::kernels::HWY_NAMESPACE {
namespace {

// out[i] = scale entry[i], negated where bit i of `signs` is set.
template <int kValues>
HWY_INLINE void Signed(const GridEntry<kValues>& entry, float scale, uint32_t signs, float* out) {
  for (int i = 0; i < kValues; ++i) {
    const float value = scale * static_cast<float>(entry.values[i]);
    out[i] = signs >> i & 1 ? -value : value;
  }
}

// Seven signs are stored; the eighth makes their number even.
HWY_INLINE uint32_t EvenSigns(uint32_t seven) { return seven | static_cast<uint32_t>(std::popcount(seven) & 1) << 7; }

// [d | 8 x (4 entries, 4 x 7 signs, scale of 4 bits)]
struct IQ2_XXS {
  static constexpr int kGroup = 256, kBytes = 66;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (const uint8_t* run = block + 2; run < block + kBytes; run += 8) {
      const uint32_t rest = Word32(run + 4);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.25f;
      for (int i = 0; i < 4; ++i, out += 8) {
        Signed(kIq2XxsGrid[run[i]], scale, EvenSigns(rest >> (7 * i) & 127), out);
      }
    }
  }
};

// [d | 32 x (entry of 9 bits, 7 signs) | 16 scales of 4 bits]
struct IQ2_XS {
  static constexpr int kGroup = 256, kBytes = 74;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 32; ++i, out += 8) {
      const uint32_t word = Word16(block + 2 + 2 * i);
      const float scale = d * (0.5f + static_cast<float>(Nibble(block + 66, i / 2))) * 0.25f;
      Signed(kIq2XsGrid[word & 511], scale, EvenSigns(word >> 9), out);
    }
  }
};

// [d | 32 entries | 32 x 8 signs | 32 x 2 upper bits of the entries | 16 scales of 4 bits]
struct IQ2_S {
  static constexpr int kGroup = 256, kBytes = 82;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 32; ++i, out += 8) {
      const int entry = block[2 + i] | (block[66 + i / 4] >> (i % 4 * 2) & 3) << 8;
      const float scale = d * (0.5f + static_cast<float>(Nibble(block + 74, i / 2))) * 0.25f;
      Signed(kIq2SGrid[entry], scale, block[34 + i], out);
    }
  }
};

// [d | 64 entries | 8 x (4 x 7 signs, scale of 4 bits)]
struct IQ3_XXS {
  static constexpr int kGroup = 256, kBytes = 98;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 32; ++i, out += 8) {
      const uint32_t rest = Word32(block + 66 + i / 4 * 4);
      const float scale = d * (0.5f + static_cast<float>(rest >> 28)) * 0.5f;
      const uint32_t signs = EvenSigns(rest >> (7 * (i % 4)) & 127);
      Signed(kIq3XxsGrid[block[2 + 2 * i]], scale, signs, out);
      Signed(kIq3XxsGrid[block[3 + 2 * i]], scale, signs >> 4, out + 4);
    }
  }
};

// [d | 64 entries | 64 upper bits of the entries | 64 x 4 signs | 8 scales of 4 bits]
struct IQ3_S {
  static constexpr int kGroup = 256, kBytes = 110;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 64; ++i, out += 4) {
      const int entry = block[2 + i] | (block[66 + i / 8] >> (i % 8) & 1) << 8;
      const float scale = d * static_cast<float>(1 + 2 * Nibble(block + 106, i / 8));
      Signed(kIq3SGrid[entry], scale, static_cast<uint32_t>(Nibble(block + 74, i)), out);
    }
  }
};

// out[i] = scale (entry[i] + shift)
HWY_INLINE void Shifted(const GridEntry<8>& entry, float scale, float shift, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * (static_cast<float>(entry.values[i]) + shift);
}
inline constexpr float kIq1Shift = 0.125f;

// [d | 32 entries | 8 x (4 x 3 upper bits of the entries, scale of 3 bits, sign of the shift)]
struct IQ1_S {
  static constexpr int kGroup = 256, kBytes = 50;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    for (int i = 0; i < 32; ++i, out += 8) {
      const uint32_t rest = Word16(block + 34 + i / 4 * 2);
      const float scale = d * static_cast<float>(2 * (rest >> 12 & 7) + 1);
      const uint32_t entry = block[2 + i] | (rest >> (3 * (i % 4)) & 7) << 8;
      Shifted(kIq1SGrid[entry], scale, rest & 0x8000 ? -kIq1Shift : kIq1Shift, out);
    }
  }
};

// [32 entries | 32 x (3 upper bits, sign of the shift) | 4 x (4 scales of 3 bits, a quarter of d)]
struct IQ1_M {
  static constexpr int kGroup = 256, kBytes = 56;
  static float Scale(const uint8_t* block) {
    uint32_t bits = 0;
    for (int i = 0; i < 4; ++i) bits |= (Word16(block + 48 + 2 * i) >> 12) << (4 * i);
    return ToFloat(F16{static_cast<uint16_t>(bits)});
  }
  static void Decode(const uint8_t* block, float* out) {
    const float d = Scale(block);
    for (int i = 0; i < 32; ++i, out += 8) {
      const int rest = Nibble(block + 32, i), run = i / 2;
      const float scale = d * static_cast<float>(2 * (Word16(block + 48 + run / 4 * 2) >> (3 * (run % 4)) & 7) + 1);
      Shifted(kIq1SGrid[block[i] | (rest & 7) << 8], scale, rest & 8 ? -kIq1Shift : kIq1Shift, out);
    }
  }
};

// [d | 8 x 2 upper bits of the scales | 8 x 4 lower bits | 128 x 2 weights of 4 bits]
struct IQ4_XS {
  static constexpr int kGroup = 256, kBytes = 136;
  static void Decode(const uint8_t* block, float* out) {
    const float d = Half(block);
    const uint32_t high = Word16(block + 2);
    for (int run = 0; run < 8; ++run, out += 32) {
      const int scale = Nibble(block + 4, run) | static_cast<int>(high >> (2 * run) & 3) << 4;
      const float factor = d * static_cast<float>(scale - 32);
      const uint8_t* from = block + 8 + 16 * run;
      for (int i = 0; i < 16; ++i) {
        out[i] = factor * static_cast<float>(kIq4Values[from[i] & 15]);
        out[16 + i] = factor * static_cast<float>(kIq4Values[from[i] >> 4]);
      }
    }
  }
};

}  // namespace
}  // namespace atl::models::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
