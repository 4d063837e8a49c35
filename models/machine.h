// The limits of one machine, as the kernels see it: what figures of speed are compared with.
//
//   const MachineLimits limits = MeasureMachine({.threads = 2}, [](const char* what) { Log()->info("{}", what); });
//   limits.read_all, limits.int8
//
// Takes some seconds. Run it on a machine that does nothing else.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace atl::models {

struct MachineOptions {
  int threads = 1;
  int64_t memory_bytes = int64_t{4} << 30;  // read for the bandwidth; far above the caches
};

struct MachineLimits {
  int threads = 1;
  std::string kernel_target;           // of the f32 and bf16 kernels
  std::string packed_target;           // of the INT4 and INT8 kernels
  double read_one = 0, read_all = 0;   // bytes a second, one thread and all of them
  double f32 = 0, bf16 = 0, int8 = 0;  // operations a second, all threads; two a multiply-add
  double int8_tiles = 0;               // by matrix tiles (AMX), 0 without
};

MachineLimits MeasureMachine(const MachineOptions& options, const std::function<void(const char* what)>& progress);

}  // namespace atl::models
