// The codebooks of GGUF's IQ formats: facts of the format. An entry of a grid is 8 (or 4) weights before their scale
// and signs; blocks hold the entries' numbers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace atl::models::kernels {

template <int kValues>
struct GridEntry {
  int8_t values[kValues];
};
extern const std::array<GridEntry<8>, 256> kIq2XxsGrid;
extern const std::array<GridEntry<8>, 512> kIq2XsGrid;
extern const std::array<GridEntry<8>, 1024> kIq2SGrid;
extern const std::array<GridEntry<4>, 256> kIq3XxsGrid;
extern const std::array<GridEntry<4>, 512> kIq3SGrid;
extern const std::array<GridEntry<8>, 2048> kIq1SGrid;  // IQ1_M's too

// What a nibble of IQ4_NL and IQ4_XS stands for.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
// Twice what a nibble of MXFP4 (e2m1) stands for.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace atl::models::kernels
