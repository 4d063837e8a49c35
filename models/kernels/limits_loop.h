// The loops that limits.cc times: nothing but multiply-adds on registers, or nothing but loads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "models/kernels/limits.h"

namespace atl::models::kernels {

// Runs `rounds` rounds; returns the operations done (two a multiply-add) and what was computed in *result.
using MultiplyAddLoop = int64_t (*)(int64_t rounds, uint64_t* result);

// Null where the machine lacks the instructions.
MultiplyAddLoop MultiplyAddAmx(Arithmetic arithmetic);
MultiplyAddLoop MultiplyAddAvx512(Arithmetic arithmetic);
MultiplyAddLoop MultiplyAddAvx2(Arithmetic arithmetic);
MultiplyAddLoop MultiplyAddPortable(Arithmetic arithmetic);

// Reads whole lines of 64 bytes from first to last, each by as few loads as the machine can: with four loads a line,
// the lines under way at a time are fewer (one core of Zen 4: 21 instead of 31 GB/s). Returns what hangs on all of
// them.
using ReadLoop = uint64_t (*)(const std::byte* data, int64_t bytes);
ReadLoop ReadAvx512();  // null where the machine lacks the instructions
ReadLoop ReadAvx2();

}  // namespace atl::models::kernels
