#include "models/spec/workspace.h"

#include <algorithm>

#include "parallel/exchange_size.h"

namespace atl::models {
namespace {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t kF32Bytes = 4;
constexpr int64_t kMaxSums = 2;  // of a row, taken over the group together

}  // namespace

RankShare ShareOf(const ModelSpec& spec, const JobShape& shape, int rank) {
  const int tp = shape.topology.tp, tp_rank = shape.topology.TpRankOf(rank);
  RankShare share;
  share.rows = shape.max_batch_tokens;
  share.home_rows = CeilDiv(share.rows, tp);
  share.logit_rows = shape.max_logit_rows > 0 ? std::min(shape.max_logit_rows, share.rows) : share.rows;
  share.home_logit_rows = CeilDiv(share.logit_rows, tp);
  share.heads = HeadsOf(spec, tp_rank, tp);
  share.vocab = EvenPart(spec.vocab, tp_rank, tp);
  const auto slice = [&](int64_t width) { return CanonicalAxis{width, 1}.OfRank(tp_rank, tp).size(); };
  for (const LayerSpec& layer : spec.layers) share.mlp = std::max(share.mlp, slice(layer.mlp));
  if (spec.moe) share.mlp = std::max(share.mlp, slice(spec.moe->shared_intermediate));
  for (const Parameter& p : spec.kept.packed() ? Parameters(spec) : std::vector<Parameter>()) {
    if (p.sharding != Sharding::kAxisRows) continue;  // blocks of whole groups
    share.mlp = std::max(share.mlp, p.axis().OfRank(tp_rank, tp).size());
  }
  if (spec.mla) {
    share.query_input = spec.mla->q_lora_rank > 0 ? spec.mla->q_lora_rank : spec.hidden;
    share.latent_width = share.query_input + spec.mla->latent_dim();
  }
  return share;
}

namespace {

void PlanLatentAttention(const MlaSpec& mla, const RankShare& share, std::vector<BufferPlan>* plan) {
  const int64_t rows = share.rows, home = share.home_rows, heads = share.heads.size();
  plan->insert(plan->end(),
               {
                   {"attention.latent", home * share.latent_width * kF32Bytes},
                   {"attention.kv_a", home * mla.latent_dim() * kF32Bytes},
                   {"attention.query_a", home * mla.q_lora_rank * kF32Bytes},
                   {"attention.kv_row", rows * mla.latent_dim() * kF32Bytes},
                   {"attention.query_input", rows * share.query_input * kF32Bytes},
                   {"attention.query", rows * heads * mla.qk_dim() * kF32Bytes},
                   {"attention.out", rows * heads * mla.v_dim * kF32Bytes},
                   {"attention.state", rows * heads * 2 * kF32Bytes},
                   {"attention.segment_latent", kKvBlockTokens * mla.kv_lora_rank * kF32Bytes},
                   {"attention.segment_rope", 2 * kKvBlockTokens * mla.rope_dim * kF32Bytes},
                   {"attention.segment_kv", kKvBlockTokens * heads * (mla.nope_dim + mla.v_dim) * kF32Bytes},
                   {"attention.absorbed_head", kAbsorbedTile * heads * std::max(mla.nope_dim, mla.v_dim) * kF32Bytes},
                   {"attention.absorbed_query", kAbsorbedTile * heads * mla.latent_dim() * kF32Bytes},
                   {"attention.absorbed_sum", kAbsorbedTile * heads * mla.kv_lora_rank * kF32Bytes},
                   {"attention.split_state", kSplitSegments * heads * 2 * kF32Bytes},
                   {"attention.split_term", kSplitSegments * heads * mla.kv_lora_rank * kF32Bytes},
               });
}

void PlanGqa(const GqaSpec& gqa, const RankShare& share, int64_t kv_heads, std::vector<BufferPlan>* plan) {
  const int64_t rows = share.rows, heads = share.heads.size(), width = gqa.head_dim;
  plan->insert(plan->end(), {
                                {"attention.query", rows * heads * width * kF32Bytes},
                                {"attention.key", rows * kv_heads * width * kF32Bytes},
                                {"attention.value", rows * kv_heads * width * kF32Bytes},
                                {"attention.out", rows * heads * width * kF32Bytes},
                                {"attention.state", rows * heads * 2 * kF32Bytes},
                                {"attention.segment_kv", kKvBlockTokens * 2 * kv_heads * width * kF32Bytes},
                                {"attention.term", heads * width * kF32Bytes},
                            });
}

void PlanMixture(const MoeSpec& moe, int64_t hidden, int64_t home, std::vector<BufferPlan>* plan) {
  plan->insert(plan->end(), {
                                {"router.scores", home * moe.experts * kF32Bytes},
                                {"router.choice", home * moe.experts * kF32Bytes},
                                {"router.experts", home * moe.top_k * kF32Bytes},
                                {"router.weights", home * moe.top_k * kF32Bytes},
                                {"moe.routed", home * hidden * kF32Bytes},
                                {"experts.rows", kExpertTile * hidden * kF32Bytes},
                                {"experts.gate", kExpertTile * moe.intermediate * kF32Bytes},
                                {"experts.up", kExpertTile * moe.intermediate * kF32Bytes},
                                {"experts.out", kExpertTile * hidden * kF32Bytes},
                            });
}

void PlanGemma3n(const ModelSpec& spec, int64_t home, std::vector<BufferPlan>* plan) {
  const Gemma3nSpec& extra = *spec.gemma3n;
  const int64_t hidden = spec.hidden, streams = extra.streams, inputs = spec.num_layers() * extra.per_layer_width;
  plan->insert(plan->end(), {
                                {"altup.predicted", home * streams * hidden * kF32Bytes},
                                {"altup.modalities", home * streams * kF32Bytes},
                                {"altup.coefficients", home * streams * streams * kF32Bytes},
                                {"altup.active", home * hidden * kF32Bytes},
                                {"altup.normed", home * hidden * kF32Bytes},
                                {"laurel.low", home * extra.laurel_rank * kF32Bytes},
                                {"laurel.high", home * hidden * kF32Bytes},
                                {"per_layer.inputs", home * inputs * kF32Bytes},
                                {"per_layer.embedded", home * inputs * kF32Bytes},
                                {"per_layer.gate", home * extra.per_layer_width * kF32Bytes},
                            });
}

// Inputs of products of integers.
void PlanQuantized(const ModelSpec& spec, const RankShare& share, std::vector<BufferPlan>* plan) {
  const int64_t heads = share.heads.size() * (spec.mla ? spec.mla->v_dim : spec.gqa->head_dim);
  int64_t depth = std::max({spec.hidden, share.query_input, share.mlp, heads});
  if (spec.gemma3n) depth = std::max({depth, spec.gemma3n->per_layer_width, spec.gemma3n->laurel_rank});
  const int64_t expert_depth = spec.moe ? std::max(spec.hidden, spec.moe->intermediate) : 0;
  const int64_t latent = spec.mla ? spec.mla->kv_lora_rank : 0;  // of a segment
  plan->push_back(
      {"products.quantized", std::max({QuantizedBytes(share.rows, depth), QuantizedBytes(kExpertTile, expert_depth),
                                       QuantizedBytes(kKvBlockTokens, latent)})});
  plan->push_back({"mlp.quantized", QuantizedBytes(share.rows, share.mlp)});
  if (!spec.moe) return;
  plan->push_back({"experts.quantized", QuantizedBytes(kExpertPairs, spec.hidden)});
  plan->push_back({"experts.quantized_once", QuantizedBytes(kExpertPairs, spec.hidden)});
  plan->push_back({"experts.quantized_inner", QuantizedBytes(kExpertPairs, spec.moe->intermediate)});
  plan->push_back({"experts.parts", std::min(kExpertPairs, spec.moe->experts) * kGatedPartBytes});
}

}  // namespace

std::vector<BufferPlan> WorkspacePlan(const ModelSpec& spec, const JobShape& shape, int rank) {
  const RankShare share = ShareOf(spec, shape, rank);
  const int tp = shape.topology.tp, tp_rank = shape.topology.TpRankOf(rank);
  const int64_t rows = share.rows, home = share.home_rows, hidden = spec.hidden;
  const int64_t wire = SizeOf(shape.numerics.wire), wire_width = std::max(hidden, share.latent_width);
  const int64_t embedded =
      std::max(hidden, spec.gemma3n ? spec.num_layers() * spec.gemma3n->per_layer_width : int64_t{0});
  std::vector<BufferPlan> plan = {
      {"residual", home * hidden * (spec.gemma3n ? spec.gemma3n->streams : 1) * kF32Bytes},
      {"normed", home * hidden * kF32Bytes},
      {"branch", home * hidden * kF32Bytes},
      {"rope", rows * static_cast<int64_t>(spec.ropes.size()) * RotaryWidth(spec) * kF32Bytes},
      {"position", (spec.learned_positions ? hidden : 0) * kF32Bytes},
      {"embedding.send", rows * embedded * kF32Bytes},
      {"embedding.recv", home * embedded * kF32Bytes},
      {"wire.home", home * wire_width * wire},
      {"wire.all", rows * wire_width * wire},
      {"rows", rows * hidden * kF32Bytes},
      {"reduce.partial", rows * hidden * kF32Bytes},
      {"reduce.scratch", tp > 1 ? home * tp * hidden * kF32Bytes : 0},
      {"sums.partial", rows * kMaxSums * kF32Bytes},
      {"sums.scratch", (tp > 1 ? home * tp : 0) * kMaxSums * kF32Bytes + home * kMaxSums * kF32Bytes},
      {"sums", rows * kMaxSums * kF32Bytes},
      {"mlp.gate", rows * share.mlp * kF32Bytes},
      {"mlp.up", rows * share.mlp * kF32Bytes},
      {"head.rows", share.logit_rows * hidden * kF32Bytes},
      {"head.slice", share.logit_rows * share.vocab.size() * kF32Bytes},
      {"head.recv", tp > 1 ? share.home_logit_rows * spec.vocab * kF32Bytes : 0},
      {"logits", share.home_logit_rows * spec.vocab * kF32Bytes},
  };
  if (spec.mla) PlanLatentAttention(*spec.mla, share, &plan);
  if (spec.gqa) PlanGqa(*spec.gqa, share, KvHeadsOf(spec, tp_rank, tp).size(), &plan);
  if (spec.moe) PlanMixture(*spec.moe, hidden, home, &plan);
  if (spec.gemma3n) PlanGemma3n(spec, home, &plan);
  if (spec.kept.packed()) PlanQuantized(spec, share, &plan);
  return plan;
}

std::vector<BufferPlan> ExchangePlan(const ModelSpec& spec, const JobShape& shape, int rank,
                                     const parallel::ExpertPlacement& placement) {
  if (!spec.moe) return {};
  const RankShare share = ShareOf(spec, shape, rank);
  const parallel::ExchangeBytes worst =
      parallel::WorstExchange({.world_rows = share.rows * shape.topology.groups(),
                               .home_rows = share.home_rows,
                               .world = shape.topology.world,
                               .top_k = spec.moe->top_k,
                               .width = spec.hidden,
                               .wire = shape.numerics.wire,
                               .local_experts = static_cast<int64_t>(placement.ExpertsOf(rank).size()),
                               .slices = placement.slices()});
  return {{"exchange.send", worst.send},
          {"exchange.recv", worst.recv},
          {"exchange.lists", worst.lists},
          {"exchange.results", worst.results}};
}

}  // namespace atl::models
