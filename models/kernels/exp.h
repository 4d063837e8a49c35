// The constants of exp(x) in f32, shared by the vector form and its plain reference:
//   n = x / ln 2 rounded to an integer, r = x - n ln 2 (ln 2 in two parts), exp(x) = 2^n (1 + r + r^2 p(r)).
// p is the polynomial of degree 4 with the least largest error on |r| <= ln(2) / 2 (relative error of exp below 4e-9
// before rounding), so a result is within 2 units in the last place.
#pragma once

namespace atl::models::kernels::exp_constants {

// Beyond these exp is 0 or infinity in f32.
inline constexpr float kLowest = -104.0f, kHighest = 89.0f;
inline constexpr float kPerLn2 = 0x1.715476p+0f;
// Adding it to |n| < 2^22 leaves n, rounded to nearest even, in the low bits of the mantissa.
inline constexpr float kRounder = 0x1.8p+23f;
inline constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kP[] = {0x1.fffffcp-2f, 0x1.55548ap-3f, 0x1.555914p-5f, 0x1.123fb8p-7f, 0x1.6a1bf8p-10f};

}  // namespace atl::models::kernels::exp_constants
