#include "tests/benchmarks/machine_limits.h"

#include <map>

#include "models/arena.h"
#include "models/kernels/limits.h"
#include "parallel/base/partition.h"

namespace atl {

std::span<std::byte> ColdMemory() {
  constexpr int64_t kBytes = int64_t{2} << 30;
  static const models::AlignedBytes memory = [] {
    models::AlignedBytes bytes(kBytes);
    uint64_t state = 88172645463325252u;
    auto* words = reinterpret_cast<uint64_t*>(bytes.data());
    for (int64_t i = 0; i < kBytes / 8; ++i) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;
      words[i] = (state & 0x3f7f3f7f3f7f3f7fu) | 0x3c003c003c003c00u;  // as bf16: from 2^-7 to 1
    }
    return bytes;
  }();
  return {memory.data(), static_cast<size_t>(kBytes)};
}

const MachineLimits& LimitsOf(int threads) {
  namespace kernels = models::kernels;
  static std::map<int, MachineLimits> known;
  MachineLimits& limits = known[threads];
  if (limits.f32 == 0) {
    ThreadPool pool(threads);
    limits = {.bytes_per_second = kernels::ReadBandwidth(ColdMemory(), &pool),
              .f32 = kernels::MultiplyAddPeak(kernels::Arithmetic::kF32, &pool),
              .int8 = kernels::MultiplyAddPeak(kernels::Arithmetic::kInt8, &pool),
              .int8_tiles = kernels::MultiplyAddPeak(kernels::Arithmetic::kInt8Tiles, &pool)};
  }
  return limits;
}

std::vector<int64_t> CanonicalCuts(int64_t depth, int64_t unit) {
  const CanonicalAxis axis{depth, unit};
  std::vector<int64_t> cuts;
  for (int b = 0; b <= kCanonicalBlocks; ++b) cuts.push_back(axis.BlockBegin(b));
  return cuts;
}

}  // namespace atl
