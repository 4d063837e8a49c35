// Kernels at the shapes of DeepSeek-V3 and Kimi K2, one thread or several:
//
//   build/release/benchmarks/kernels_benchmark [--benchmark_filter=MatMul]
//
// "bytes" is what has to be read at least (weights once), "flop" two for each multiply-add. "of_limit" is how near the
// machine's own limit that is, where the weights come from memory: with one row its read bandwidth, with many its
// multiply-add rate, both measured first, with as many threads.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "models/kernels/kernels.h"
#include "tests/benchmarks/machine_limits.h"

namespace atl::models::kernels {
namespace {

using benchmark::Counter;

void SetRates(benchmark::State& state, double bytes, double flop) {
  const auto iterations = static_cast<double>(state.iterations());
  state.counters["bytes"] = Counter(bytes * iterations, Counter::kIsRate, Counter::kIs1024);
  state.counters["flop"] = Counter(flop * iterations, Counter::kIsRate);
  state.SetLabel(Target());
}

// For weights that come from memory: made before the loop, asked after it.
class Limit {
 public:
  explicit Limit(int threads = 1) : most_(LimitsOf(threads)) {}
  void SetRates(benchmark::State& state, double bytes, double flop) const {
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    const double least = std::max(bytes / most_.bytes_per_second, flop / most_.f32);
    state.counters["of_limit"] = least * static_cast<double>(state.iterations()) / seconds;
    kernels::SetRates(state, bytes, flop);
  }

 private:
  const MachineLimits& most_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Enough copies of a matrix that each call finds its weights in memory, as a step over all layers does.
class ColdWeights {
 public:
  ColdWeights(int64_t rows, int64_t cols) : rows_(rows), cols_(cols), copies_(1 + kBytes / (rows * cols * 2)) {
    data_.resize(copies_ * rows * cols);
    for (size_t i = 0; i < data_.size(); ++i) data_[i].bits = static_cast<uint16_t>(0x3c00 + i % 97);
  }
  Matrix Next() {
    const int64_t copy = next_++ % copies_;
    return PlainMatrix(data_.data() + copy * rows_ * cols_, rows_, cols_, cols_);
  }

 private:
  static constexpr int64_t kBytes = int64_t{256} << 20;
  int64_t rows_, cols_, copies_, next_ = 0;
  std::vector<BF16> data_;
};

// Arguments: rows, outputs, inputs, threads.
void BM_MatMul(benchmark::State& state) {
  const int64_t rows = state.range(0), outs = state.range(1), depth = state.range(2);
  ThreadPool pool(static_cast<int>(state.range(3)));
  ColdWeights weights(outs, depth);
  const std::vector<float> x(rows * depth, 0.5f);
  std::vector<float> y(rows * outs);
  const std::vector<int64_t> cuts = CanonicalCuts(depth, 1);
  const Limit limit(pool.threads());
  for (auto _ : state) {
    MatMul(x, rows, weights.Next(), cuts, y, &pool);
    benchmark::DoNotOptimize(y.data());
  }
  limit.SetRates(state, 2.0 * outs * depth, 2.0 * rows * outs * depth);
}
BENCHMARK(BM_MatMul)
    ->ArgNames({"rows", "outs", "depth", "threads"})
    ->ArgsProduct({{1, 2, 4, 16, 64, 256}, {2048}, {7168}, {1}})
    ->Args({1, 2048, 7168, 2})
    ->Args({64, 2048, 7168, 2})
    ->Args({1, 7168, 2048, 1})
    ->Args({16, 7168, 2048, 1})
    ->Args({1, 64, 7168, 1})
    ->UseRealTime();

// Random bits have a thousand times as many subnormal values as weights do, and scales of any size.
void LikeWeightsInFp8(const Packing& packing, std::byte* matrix) {
  for (int64_t i = 0; i < packing.matrix_bytes; ++i) matrix[i] |= std::byte{8};
  const float scale = 0.01f;
  for (int64_t at = packing.scales_at; at < packing.bytes; at += 4) std::memcpy(matrix + at, &scale, sizeof(scale));
}

// Weights as they are stored. Arguments: format (WeightFormat), rows, threads.
void BM_MatMulStored(benchmark::State& state) {
  const auto format = static_cast<WeightFormat>(state.range(0));
  const int64_t rows = state.range(1), outs = 1408, depth = 2048;
  ThreadPool pool(static_cast<int>(state.range(2)));
  const int64_t bytes = ArenaAligned(PackingOf(format, {0, outs}, {0, depth}).bytes);
  const int64_t copies = static_cast<int64_t>(ColdMemory().size()) / bytes;
  for (int64_t copy = 0; copy < copies && format == WeightFormat::kFp8Block; ++copy) {
    LikeWeightsInFp8(PackingOf(format, {0, outs}, {0, depth}), ColdMemory().data() + copy * bytes);
  }
  const std::vector<float> x(rows * depth, 0.5f);
  std::vector<float> y(rows * outs);
  const std::vector<int64_t> cuts = CanonicalCuts(depth, 1);
  const Limit limit(pool.threads());
  int64_t next = 0;
  for (auto _ : state) {
    const std::byte* at = ColdMemory().data() + next++ % copies * bytes;
    MatMul(x, rows, PackedMatrix(at, format, {0, outs}, {0, depth}), cuts, y, &pool);
    benchmark::DoNotOptimize(y.data());
  }
  limit.SetRates(state, static_cast<double>(bytes), 2.0 * static_cast<double>(rows * outs * depth));
  state.SetLabel(std::string(Name(format)) + " " + Target());
}
BENCHMARK(BM_MatMulStored)
    ->ArgNames({"format", "rows", "threads"})
    ->ArgsProduct({{static_cast<int>(WeightFormat::kBF16), static_cast<int>(WeightFormat::kFp8Block),
                    static_cast<int>(WeightFormat::kQ8_0), static_cast<int>(WeightFormat::kQ4_K)},
                   {1, 2, 4, 8, 16, 64},
                   {1, 2}})
    ->UseRealTime();

// One block over the whole depth, as projections that no rank shares have it.
void BM_MatMulWhole(benchmark::State& state) {
  const int64_t rows = state.range(0), outs = 1536, depth = 7168;
  ColdWeights weights(outs, depth);
  const std::vector<float> x(rows * depth, 0.5f);
  std::vector<float> y(rows * outs);
  const int64_t cuts[] = {0, depth};
  const Limit limit;
  for (auto _ : state) {
    MatMul(x, rows, weights.Next(), cuts, y, nullptr);
    benchmark::DoNotOptimize(y.data());
  }
  limit.SetRates(state, 2.0 * outs * depth, 2.0 * rows * outs * depth);
}
BENCHMARK(BM_MatMulWhole)->ArgName("rows")->Arg(1)->Arg(64)->Arg(256);

// A head's absorbed query: [rows, 128] by its key projection [128, 512]. Arguments: format (WeightFormat), rows.
void BM_MatMulTransposed(benchmark::State& state) {
  const auto format = static_cast<WeightFormat>(state.range(0));
  const int64_t rows = state.range(1), depth = 128, outs = 512;
  const int64_t bytes = PackingOf(format, {0, depth}, {0, outs}).bytes, copies = (int64_t{256} << 20) / bytes;
  const std::vector<std::byte> weights(copies * bytes, std::byte{0x3c});  // 0.0115 in bf16, as are scales
  const std::vector<float> x(rows * depth, 0.5f);
  std::vector<float> y(rows * outs);
  const Limit limit;
  int64_t next = 0;
  for (auto _ : state) {
    const std::byte* at = weights.data() + next++ % copies * bytes;
    MatMulTransposed(x.data(), depth, rows, PackedMatrix(at, format, {0, depth}, {0, outs}), y.data(), outs, nullptr);
    benchmark::DoNotOptimize(y.data());
  }
  limit.SetRates(state, static_cast<double>(bytes), 2.0 * static_cast<double>(rows * outs * depth));
  state.SetLabel(std::string(Name(format)) + " " + Target());
}
BENCHMARK(BM_MatMulTransposed)
    ->ArgNames({"format", "rows"})
    ->ArgsProduct({{static_cast<int>(WeightFormat::kBF16), static_cast<int>(WeightFormat::kFp8Block),
                    static_cast<int>(WeightFormat::kPackedInt4), static_cast<int>(WeightFormat::kPackedInt8),
                    static_cast<int>(WeightFormat::kPackedQ4_K), static_cast<int>(WeightFormat::kPackedQ6_K)},
                   {1, 4, 16, 64}});

// One row and head against a segment of 64 positions: scores, exponentials, values.
void BM_Segment(benchmark::State& state) {
  const int64_t count = 64, width = state.range(0);
  const std::vector<float> query(width, 0.1f), keys(count * width, 0.2f);
  std::vector<float> scores(count), sum(width);
  for (auto _ : state) {
    Dots(query.data(), keys.data(), width, count, width, scores.data());
    ExpMinus(scores.data(), count, Max(scores.data(), count), scores.data());
    WeightedSum(scores.data(), keys.data(), width, count, width, sum.data());
    benchmark::DoNotOptimize(sum.data());
  }
  SetRates(state, 4.0 * count * width, 4.0 * count * width);
}
BENCHMARK(BM_Segment)->ArgName("width")->Arg(128)->Arg(512);

void BM_SiluMultiply(benchmark::State& state) {
  std::vector<float> gate(16384, 0.5f), up(16384, 0.5f), out(16384);
  for (auto _ : state) {
    SiluMultiply(gate.data(), up.data(), 16384, out.data());
    benchmark::DoNotOptimize(out.data());
  }
  SetRates(state, 8.0 * 16384, 0);
}
BENCHMARK(BM_SiluMultiply);

void BM_RmsNorm(benchmark::State& state) {
  std::vector<float> x(7168, 0.5f), y(7168);
  const std::vector<float> weight(7168, 0.5f);
  for (auto _ : state) {
    RmsNorm(x.data(), weight.data(), 1e-6f, 1, 7168, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  SetRates(state, 8.0 * 7168, 4.0 * 7168);
}
BENCHMARK(BM_RmsNorm);

void BM_RoundBf16(benchmark::State& state) {
  std::vector<float> x(7168, 0.5f);
  std::vector<BF16> y(7168);
  for (auto _ : state) {
    Round(x.data(), 7168, DType::kBF16, y.data());
    benchmark::DoNotOptimize(y.data());
  }
  SetRates(state, 4.0 * 7168, 0);
}
BENCHMARK(BM_RoundBf16);

// What handing out a loop costs.
void BM_ParallelFor(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  for (auto _ : state) {
    pool.ParallelFor(64, [](int64_t begin, int64_t end) { benchmark::DoNotOptimize(begin + end); });
  }
}
BENCHMARK(BM_ParallelFor)->ArgName("threads")->Arg(2)->UseRealTime();

}  // namespace
}  // namespace atl::models::kernels
