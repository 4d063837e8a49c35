#include "models/layers/mla.h"

#include <algorithm>

#include "models/layers/tensor_parallel.h"

namespace atl::models {
namespace {

// [query input | c | k_pe] of the home rows: [home, query input + kv_lora_rank + rope_dim].
std::span<float> HomeLatents(const Step& step, const Mla& mla, std::span<const float> x) {
  const int64_t rows = step.home.size(), input = mla.query_up.weight.cols, hidden = mla.kv_down.weight.cols;
  const int64_t rank = mla.attention.mla.kv_lora_rank, rotary = mla.attention.mla.rope_dim, kv_width = rank + rotary;
  const int64_t width = input + kv_width;
  const std::span<float> kv = step.workspace.Take<float>("attention.kv_a", rows * kv_width);
  const Activations in(step, x, rows);
  mla.kv_down.Apply(in, kv);
  std::span<const float> query = x;
  if (mla.query_down) {
    const std::span<float> down = step.workspace.Take<float>("attention.query_a", rows * input);
    mla.query_down->Apply(in, down);
    ParallelRows(step.pool, rows, input * SizeOf(DType::kF32), [&](int64_t begin, int64_t end) {
      mla.query_norm.Apply(down.data() + begin * input, end - begin, down.data() + begin * input);
    });
    query = down;
  }
  ATOLL_CHECK(mla.query_down || input == hidden, "queries read {} values of a hidden state of {}", input, hidden);
  const std::span<float> latents = step.workspace.Take<float>("attention.latent", rows * width);
  ParallelRows(step.pool, rows, width * SizeOf(DType::kF32), [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      float* to = latents.data() + row * width;
      const float* from = kv.data() + row * kv_width;
      std::copy_n(query.data() + row * input, input, to);
      mla.kv_norm.Apply(from, 1, to + input);
      std::copy_n(from + rank, rotary, to + input + rank);
      Rotate(step.Rotary(0, step.home.begin + row, rotary), rotary, to + input + rank);
    }
  });
  return latents;
}

// Writes c and k_pe of all rows, rounded to the cache type, and returns the query inputs [rows, input].
std::span<float> CacheLatents(const Step& step, const Mla& mla, const KvCache& cache, int layer, ConstBuffer latents) {
  const int64_t input = mla.query_up.weight.cols, kv_width = mla.attention.mla.latent_dim(), width = input + kv_width;
  const std::span<float> query_input = step.workspace.Take<float>("attention.query_input", step.rows * input);
  const std::span<float> kv_rows = step.workspace.Take<float>("attention.kv_row", step.rows * kv_width);
  for (const SequenceRows& sequence : step.batch.sequences) {
    ParallelRows(step.pool, sequence.rows, width * SizeOf(DType::kF32), [&](int64_t i, int64_t end) {
      for (; i < end; ++i) {
        const int64_t row = sequence.row_begin + i;
        const std::byte* from = RowOf(latents, row, width);
        kernels::Widen(from, input, latents.type, query_input.data() + row * input);
        float* kv = kv_rows.data() + row * kv_width;
        kernels::Widen(from + input * SizeOf(latents.type), kv_width, latents.type, kv);
        cache.Store(kv, {0, kv_width}, cache.Row(layer, sequence.blocks, sequence.position + i));
      }
    });
  }
  return query_input;
}

}  // namespace

absl::Status RunMla(const Step& step, const Mla& mla, const KvCache& cache, int layer, std::span<const float> x,
                    std::span<float> out) {
  if (step.rows == 0) return absl::OkStatus();
  const LatentAttention& attention = mla.attention;
  const int64_t width = mla.query_up.weight.cols + attention.mla.latent_dim(), hidden = mla.out.weight.rows;
  const ConstBuffer home = ToWire(step, HomeLatents(step, mla, x), width);
  ATOLL_ASSIGN_OR_RETURN(const ConstBuffer all, GatherRows(step, home, step.homes, width, {"latent gather", layer}));
  const std::span<float> query_input = CacheLatents(step, mla, cache, layer, all);

  const int64_t qk = attention.mla.qk_dim(), rotary = attention.mla.rope_dim;
  const std::span<float> query = step.workspace.Take<float>("attention.query", step.rows * attention.heads * qk);
  mla.query_up.Apply({step, query_input, step.rows}, query);
  ParallelRows(step.pool, step.rows, attention.heads * rotary * SizeOf(DType::kF32), [&](int64_t row, int64_t end) {
    for (; row < end; ++row) {
      for (int64_t head = 0; head < attention.heads; ++head) {
        Rotate(step.Rotary(0, row, rotary), rotary,
               query.data() + (row * attention.heads + head) * qk + attention.mla.nope_dim);
      }
    }
  });
  const int64_t values = attention.heads * attention.mla.v_dim;
  const std::span<float> mixed = step.workspace.Take<float>("attention.out", step.rows * values);
  Attend(step, attention, cache, layer, query, mixed);
  const std::span<float> partial = step.workspace.Take<float>("reduce.partial", step.rows * hidden);
  mla.out.Apply({step, mixed, step.rows}, partial);
  return ReduceToHomes(step, partial, hidden, out, {"o_proj reduce", layer});
}

}  // namespace atl::models
