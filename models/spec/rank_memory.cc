#include "models/spec/rank_memory.h"

#include <algorithm>
#include <numeric>

namespace atl::models {
namespace {

// Bounds far above any machine; they keep every size below in 64 bits.
constexpr int64_t kMaxKvTokens = int64_t{1} << 32, kMaxBatchTokens = 1 << 20;

int64_t Sum(const std::vector<BufferPlan>& plan) {
  return std::accumulate(plan.begin(), plan.end(), int64_t{0},
                         [](int64_t sum, const BufferPlan& buffer) { return sum + ArenaAligned(buffer.bytes); });
}

// The largest of `candidates` that `fits` and is at most `wanted`, else 1.
template <typename Fits>
int64_t Nearest(std::initializer_list<int64_t> candidates, int64_t wanted, const Fits& fits) {
  int64_t best = 1;
  for (const int64_t c : candidates) {
    if (c <= wanted && fits(c)) best = std::max(best, c);
  }
  return best;
}

}  // namespace

int64_t RankMemory::weight_bytes() const { return std::accumulate(weights.begin(), weights.end(), int64_t{0}); }

absl::Status CheckShape(const ModelSpec& spec, const JobShape& shape) {
  const int64_t world = shape.topology.world, tp = shape.topology.tp;
  if (world < 1) return InvalidArgument("--ranks is {}; at least 1 is needed", world);
  const auto fits = [&](int64_t t) { return world % t == 0 && spec.heads % t == 0; };
  if (!IsTensorParallelDegree(tp) || !fits(tp)) {
    const char* why = !IsTensorParallelDegree(tp) ? "it must be 1, 2, 4 or 8"
                      : world % tp != 0           ? "it must divide the ranks"
                                                  : "it must divide the query heads";
    return InvalidArgument("--tp {} with {} ranks and {} query heads cannot be: {}; --tp {} works", tp, world,
                           spec.heads, why, Nearest({1, 2, 4, 8}, tp, fits));
  }
  if (spec.moe && world > spec.moe->experts) {
    return InvalidArgument("{} ranks are more than the model's {} experts; --ranks {} works", world, spec.moe->experts,
                           spec.moe->experts / tp * tp);
  }
  if (shape.kv_blocks < 1) {
    return InvalidArgument("--kv-tokens must be at least {} (one block) for each attention group; --kv-tokens {} works",
                           kKvBlockTokens, spec.max_positions);
  }
  if (shape.kv_blocks > kMaxKvTokens / kKvBlockTokens) {
    return InvalidArgument("--kv-tokens is more than {} for each attention group; --kv-tokens {} works", kMaxKvTokens,
                           kMaxKvTokens);
  }
  if (shape.max_batch_tokens < 1 || shape.max_batch_tokens > kMaxBatchTokens) {
    return InvalidArgument("--max-batch-tokens is {}; it must be from 1 to {}, and 512 works", shape.max_batch_tokens,
                           kMaxBatchTokens);
  }
  return absl::OkStatus();
}

absl::Status CheckExpertSlices(const ModelSpec& spec, int world, int slices) {
  if (slices == 1) return absl::OkStatus();
  if (!spec.moe) return InvalidArgument("--expert-slices {}: this model has no experts; leave it out", slices);
  int64_t length = 0, units = 0;  // of an inner axis; the fewest
  for (const Parameter& p : Parameters(spec)) {
    if (p.kind != ParameterKind::kRoutedExpert) continue;
    const CanonicalAxis axis = p.axis();
    length = axis.length;
    units = units == 0 ? length / axis.unit : std::gcd(units, length / axis.unit);
  }
  const auto fits = [&](int64_t s) { return world % s == 0 && units % s == 0; };
  if (slices > 0 && kExpertBlocks % slices == 0 && fits(slices)) return absl::OkStatus();
  const std::string why =
      slices < 1 || kExpertBlocks % slices != 0 ? "it must be 1, 2 or 4"
      : world % slices != 0
          ? "it must divide the ranks"
          : fmt::format("an expert's inner axis of {} is stored in {} groups, which it must divide", length, units);
  return InvalidArgument("--expert-slices {} with {} ranks cannot be: {}; --expert-slices {} works", slices, world, why,
                         Nearest({1, 2, 4}, slices, fits));
}

int64_t KvRowWidth(const ModelSpec& spec, int tp_rank, int tp) {
  if (spec.mla) return spec.mla->latent_dim();
  return 2 * KvHeadsOf(spec, tp_rank, tp).size() * spec.gqa->head_dim;
}

int64_t KvScaleGroup(const ModelSpec& spec) {
  constexpr int64_t kMost = 64;
  const int64_t parts = spec.mla ? std::gcd(spec.mla->kv_lora_rank, spec.mla->rope_dim) : spec.gqa->head_dim;
  for (int64_t group = std::min(kMost, parts);; --group) {
    if (parts % group == 0) return group;
  }
}

int64_t KvRowBytes(const ModelSpec& spec, const Numerics& numerics, int tp_rank, int tp) {
  const int64_t width = KvRowWidth(spec, tp_rank, tp);
  if (numerics.kv != DType::kI8) return width * SizeOf(numerics.kv);
  return KvScalesAt(width) + width / KvScaleGroup(spec) * SizeOf(DType::kF32);
}

int64_t MaxContext(const ModelSpec& spec, const JobShape& shape) {
  const KvLayout layout = KvLayoutOf(spec);
  return LongestSequence(layout.groups, kKvBlockTokens, shape.kv_blocks * layout.line, spec.max_positions);
}

int64_t KvBytesPerToken(const ModelSpec& spec, const Numerics& numerics, int tp_rank, int tp) {
  const KvLayout layout = KvLayoutOf(spec);
  return layout.line * layout.block_layers * KvRowBytes(spec, numerics, tp_rank, tp);
}

int64_t KvBytesPerToken(const ModelSpec& spec, const Numerics& numerics) {
  return KvBytesPerToken(spec, numerics, 0, 1);
}

RankMemory PlanRankMemory(const ModelSpec& spec, const JobShape& shape, int rank,
                          const parallel::ExpertPlacement& placement) {
  RankMemory memory;
  for (const Parameter& p : Parameters(spec)) {
    if (const auto slice = SliceOf(p, spec, shape.topology, rank, placement)) {
      memory.weights[static_cast<size_t>(p.kind)] +=
          ArenaAligned(PackingOf(p.format, slice->rows, slice->columns).bytes);
    }
  }
  memory.kv = shape.kv_blocks * kKvBlockTokens *
              KvBytesPerToken(spec, shape.numerics, shape.topology.TpRankOf(rank), shape.topology.tp);
  memory.workspace = Sum(WorkspacePlan(spec, shape, rank));
  memory.exchange = Sum(ExchangePlan(spec, shape, rank, placement));
  return memory;
}

}  // namespace atl::models
