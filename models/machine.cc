#include "models/machine.h"

#include "models/arena.h"
#include "models/kernels/kernels.h"
#include "models/kernels/limits.h"
#include "models/kernels/packed.h"

namespace atl::models {

MachineLimits MeasureMachine(const MachineOptions& options, const std::function<void(const char* what)>& progress) {
  ThreadPool pool(options.threads);
  MachineLimits limits{
      .threads = options.threads, .kernel_target = kernels::Target(), .packed_target = kernels::PackedTarget()};
  progress("memory: touching");
  const AlignedBytes memory(options.memory_bytes);
  ParallelFor(&pool, options.memory_bytes / 4096, [&](int64_t begin, int64_t end) {
    for (int64_t page = begin; page < end; ++page) memory.data()[page * 4096] = std::byte{1};
  });
  const std::span<const std::byte> bytes(memory.data(), static_cast<size_t>(options.memory_bytes));
  progress("memory: reading with one thread");
  limits.read_one = kernels::ReadBandwidth(bytes, nullptr);
  progress("memory: reading with all threads");
  limits.read_all = options.threads > 1 ? kernels::ReadBandwidth(bytes, &pool) : limits.read_one;
  progress("multiply-adds");
  limits.f32 = kernels::MultiplyAddPeak(kernels::Arithmetic::kF32, &pool);
  limits.bf16 = kernels::MultiplyAddPeak(kernels::Arithmetic::kBF16, &pool);
  limits.int8 = kernels::MultiplyAddPeak(kernels::Arithmetic::kInt8, &pool);
  limits.int8_tiles = kernels::MultiplyAddPeak(kernels::Arithmetic::kInt8Tiles, &pool);
  return limits;
}

}  // namespace atl::models
