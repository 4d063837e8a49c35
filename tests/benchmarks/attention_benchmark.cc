// Latent attention of one emitted token over a long context, beside the limits of the machine measured in the same run:
//
//   build/release/benchmarks/attention_benchmark
//
// A step reads the cache once (kv_lora_rank + rope_dim values a position) and, for each head, multiplies and adds as
// many for the score and kv_lora_rank for the sum: some 30 operations a byte of bf16 cache for 16 heads. "of limit" is
// the slower of the two at the read bandwidth and the f32 multiply-add peak of as many threads, over the time taken.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <vector>

#include "models/layers/attention.h"
#include "models/spec/workspace.h"
#include "tests/benchmarks/machine_limits.h"

namespace atl::models {
namespace {

constexpr int64_t kLayers = 4;  // taken in turn, so that no cache of the machine holds what is read

// Arguments: context, sequences, heads, type of the cache (16: bf16, 32: f32), threads.
void BM_EmittedToken(benchmark::State& state) {
  const int64_t context = state.range(0), count = state.range(1);
  const DType type = state.range(3) == 16 ? DType::kBF16 : DType::kF32;
  const auto threads = static_cast<int>(state.range(4));
  ModelSpec spec;
  spec.layers.assign(kLayers, {.mlp = 8});
  spec.ropes = {{}};
  spec.heads = state.range(2);
  spec.hidden = spec.vocab = 8;
  spec.mla = MlaSpec{.q_lora_rank = 0, .kv_lora_rank = 512, .nope_dim = 128, .rope_dim = 64, .v_dim = 128};
  const MlaSpec& mla = *spec.mla;
  const JobShape shape{.topology = {},
                       .numerics = {.name = "f32", .kv = type},
                       .kv_blocks = count * (context / kKvBlockTokens + 1),
                       .max_batch_tokens = count};
  const Arena workspace(WorkspacePlan(spec, shape, 0));
  const KvCache cache(spec, shape, 0);
  ThreadPool pool(threads);
  std::vector<int32_t> blocks(shape.kv_blocks * KvLayoutOf(spec).line);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::vector<float> latent(mla.latent_dim());
  for (int64_t p = 0; p < shape.kv_blocks * kKvBlockTokens; ++p) {
    for (size_t i = 0; i < latent.size(); ++i) latent[i] = static_cast<float>((p * 31 + i * 17) % 101) / 101 - 0.5f;
    for (int layer = 0; layer < kLayers; ++layer) {
      kernels::Round(latent.data(), mla.latent_dim(), type, cache.Row(layer, blocks, p));
    }
  }
  const std::vector<BF16> up(spec.heads * (mla.nope_dim + mla.v_dim) * mla.kv_lora_rank, ToBF16(0.01f));
  const LatentAttention attention{mla, spec.heads,
                                  kernels::PlainMatrix(up.data(), static_cast<int64_t>(up.size()) / mla.kv_lora_rank,
                                                       mla.kv_lora_rank, mla.kv_lora_rank),
                                  0.1f};
  const std::vector<float> query(count * spec.heads * mla.qk_dim(), 0.1f);
  std::vector<float> out(count * spec.heads * mla.v_dim);
  const std::vector<int32_t> ids(count);
  std::vector<SequenceRows> sequences;
  const std::span<const int32_t> all(blocks);
  for (int64_t i = 0; i < count; ++i) {
    const auto of = static_cast<int64_t>(all.size()) / count;
    sequences.push_back({i, 1, context - 1, 1, all.subspan(i * of, of)});
  }
  const Batch batch{.ids = ids, .sequences = sequences, .logit_rows = {}};
  const parallel::ParallelContext alone;
  const Step step{batch, alone, workspace, &pool, DType::kF32, count, {0, count}, {count}, nullptr, {}};
  const MachineLimits& most = LimitsOf(threads);
  const auto start = std::chrono::steady_clock::now();
  int layer = 0;
  for (auto _ : state) {
    Attend(step, attention, cache, layer, query, out);
    layer = (layer + 1) % kLayers;
    benchmark::DoNotOptimize(out.data());
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto calls = static_cast<double>(state.iterations());
  const auto bytes = static_cast<double>(count * context * mla.latent_dim() * SizeOf(type));
  const auto operations =
      2.0 * static_cast<double>(count * context * spec.heads * (mla.latent_dim() + mla.kv_lora_rank));
  state.counters["of limit"] = calls * std::max(bytes / most.bytes_per_second, operations / most.f32) / seconds;
  state.counters["GB/s"] = calls * bytes / seconds / 1e9;
  state.counters["GFLOP/s"] = calls * operations / seconds / 1e9;
  state.counters["GB/s limit"] = most.bytes_per_second / 1e9;
  state.counters["GFLOP/s limit"] = most.f32 / 1e9;
}
BENCHMARK(BM_EmittedToken)
    ->ArgNames({"context", "sequences", "heads", "cache", "threads"})
    ->ArgsProduct({{32768}, {1}, {16, 64}, {16, 32}, {1, 2}})
    ->ArgsProduct({{144}, {1, 64}, {16}, {16}, {1, 2}})
    ->UseRealTime();

}  // namespace
}  // namespace atl::models
