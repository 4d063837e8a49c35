// Which instruction sets the kernels are compiled for; comes before any header of Highway. Every one of them gives the
// same bits, so sets without fused multiply-add (SSE) are left out: such a machine takes the plain loops, which call
// the C library's fma(). Vectors of a length that the compiler does not know (SVE, RVV) do not fit in arrays: NEON.
#pragma once

#define HWY_BROKEN_EMU128 1  // the fallback is HWY_SCALAR on every compiler
#define HWY_DISABLED_TARGETS                                                                                   \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV | HWY_WASM | \
   HWY_WASM_EMU256 | HWY_PPC8)
