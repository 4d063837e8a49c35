// Products of integers, of every type of weights, beside the limits of the machine, measured in the same run:
//
//   build/release/benchmarks/packed_benchmark
//
// "of read": bytes of weights a second over the read bandwidth of as many threads; "of peak": operations over the int8
// multiply-add peak of vector instructions. One row is bound by the first, many by the second.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "models/kernels/packed.h"
#include "tests/benchmarks/machine_limits.h"

namespace atl::models::kernels {
namespace {

using benchmark::Counter;

// Arguments: type (PackedType), rows, outputs, inputs, threads, instruction set (0: the best). Each call finds its
// weights in memory, as a step over layers does.
void BM_MatMulPacked(benchmark::State& state) {
  const auto type = static_cast<PackedType>(state.range(0));
  const int64_t rows = state.range(1), outs = state.range(2), depth = state.range(3);
  const auto threads = static_cast<int>(state.range(4));
  static constexpr const char* kTargets[] = {"", "avx512-vnni", "avx2"};
  const char* best = PackedTarget();
  const char* target = state.range(5) == 0 ? best : kTargets[state.range(5)];
  if (!SetPackedTarget(target)) return state.SkipWithError("this machine lacks it");
  const MachineLimits& limits = LimitsOf(threads);
  ThreadPool pool(threads);
  const int64_t bytes = PackedBytes(type, outs, depth), copies = static_cast<int64_t>(ColdMemory().size()) / bytes;
  std::vector<float> x(rows * depth), y(rows * outs);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 101) * 0.01f - 0.5f;
  std::vector<std::byte> memory(QuantizedRowsBytes(rows, depth));
  const std::vector<int64_t> cuts = CanonicalCuts(depth, kGroup);
  int64_t next = 0;
  for (auto _ : state) {
    const PackedWeights w{ColdMemory().data() + next++ % copies * bytes, type, outs, depth};
    MatMulPacked(QuantizeRows(x, rows, depth, memory, &pool), w, cuts, y, &pool);
    benchmark::DoNotOptimize(y.data());
  }
  const auto calls = static_cast<double>(state.iterations());
  state.counters["of read"] = Counter(calls * static_cast<double>(bytes) / limits.bytes_per_second, Counter::kIsRate);
  state.counters["of peak"] =
      Counter(calls * 2.0 * static_cast<double>(rows * outs * depth) / limits.int8, Counter::kIsRate);
  state.counters["GOP/s"] = Counter(calls * 2e-9 * static_cast<double>(rows * outs * depth), Counter::kIsRate);
  if (limits.int8_tiles > 0) state.counters["GOP/s of tiles"] = limits.int8_tiles / 1e9;
  state.counters["GB/s limit"] = limits.bytes_per_second / 1e9;
  state.counters["GOP/s limit"] = limits.int8 / 1e9;
  static constexpr const char* kNames[] = {"INT4", "INT8", "Q4_0", "Q8_0", "Q4_K", "Q6_K"};
  state.SetLabel(std::string(kNames[state.range(0)]) + " " + target);
  SetPackedTarget(best);
}
BENCHMARK(BM_MatMulPacked)
    ->ArgNames({"type", "rows", "outs", "depth", "threads", "target"})
    ->ArgsProduct({{0}, {1, 2, 3, 4, 6, 8, 12, 16, 64, 128}, {1408}, {2048}, {1, 2}, {0, 1, 2}})
    ->ArgsProduct({{0}, {1, 8, 64}, {2048}, {7168}, {2}, {0}})
    ->ArgsProduct({{1, 2, 3, 4, 5}, {1, 4, 64}, {1408}, {2048}, {1, 2}, {0, 1, 2}})
    ->UseRealTime();

}  // namespace
}  // namespace atl::models::kernels
