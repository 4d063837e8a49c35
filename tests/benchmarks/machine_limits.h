// What this machine can do at best, measured when it is first asked for: the roof under which a kernel's rate stands.
//
//   const MachineLimits& most = LimitsOf(/*threads=*/2);
//   // no kernel reads `bytes` from memory and does `operations` in less than
//   max(bytes / most.bytes_per_second, operations / most.f32)
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace atl {

struct MachineLimits {
  double bytes_per_second = 0;  // reading memory that no cache holds
  double f32 = 0, int8 = 0;     // operations a second on registers, two a multiply-add
  double int8_tiles = 0;        // by matrix tiles (AMX), 0 without
};
const MachineLimits& LimitsOf(int threads);

// 2 GiB of random bits that no cache holds, none of them a NaN or infinite bf16: weights as good as any.
std::span<std::byte> ColdMemory();

// Borders of the canonical blocks of a sum of `depth` terms, whole units of `unit`: what products are given.
std::vector<int64_t> CanonicalCuts(int64_t depth, int64_t unit);

}  // namespace atl
