// The loops that limits.cc times: nothing but multiply-adds on registers.
#pragma once

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

}  // namespace atl::models::kernels
