// The constants of GELU in its tanh form, shared by the vector form and its plain reference. With
// (1 + tanh(u)) / 2 = sigmoid(2 u):
//   gelu(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
#pragma once

namespace atl::models::kernels::gelu_constants {

inline constexpr float kCubic = 0.044715f;
inline constexpr float kTwiceRoot = 1.5957691216057308f;  // 2 sqrt(2 / pi)

}  // namespace atl::models::kernels::gelu_constants
