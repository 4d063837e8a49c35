// What this machine can do at most: the figures that every benchmark prints beside its own.
//
//   const double bytes = ReadBandwidth(memory, &pool);                // bytes a second, all of the pool's threads
//   const double ops = MultiplyAddPeak(Arithmetic::kInt8, &pool);     // 2 operations a multiply-add
//
// Each call takes some tenths of a second and returns the best of several tries: a limit is what was reached once.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "parallel/base/thread_pool.h"

namespace atl::models::kernels {

// Reads all of `memory` (much larger than the caches, touched before) in several patterns; the best of them.
double ReadBandwidth(std::span<const std::byte> memory, ThreadPool* pool);

enum class Arithmetic { kF32, kBF16, kInt8, kInt8Tiles };
// With the widest vector instructions that the machine has (bf16 without its own counts as f32), or those of matrix
// tiles (AMX): 0 where there are none.
double MultiplyAddPeak(Arithmetic arithmetic, ThreadPool* pool);
// Which those are: "avx512-vnni"; "none".
std::string MultiplyAddInstructions(Arithmetic arithmetic);

}  // namespace atl::models::kernels
