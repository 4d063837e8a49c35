#include "models/spec/parameters.h"

#include "models/spec/families/family.h"
#include "models/spec/tensor_list.h"

namespace atl::models {

const char* Name(ParameterKind kind) {
  switch (kind) {
    case ParameterKind::kEmbedding:
      return "embedding";
    case ParameterKind::kHead:
      return "head";
    case ParameterKind::kAttention:
      return "attention";
    case ParameterKind::kDense:
      return "dense";
    case ParameterKind::kSharedExpert:
      return "shared experts";
    case ParameterKind::kRoutedExpert:
      return "routed experts";
    case ParameterKind::kRouter:
      return "router";
    case ParameterKind::kNorm:
      return "norm";
  }
  return "?";
}

int64_t Parameter::elements() const {
  int64_t product = 1;
  for (const int64_t extent : shape) product *= extent;
  return product;
}

CanonicalAxis Parameter::axis() const {
  const bool of_expert = sharding == Sharding::kExpertRows || sharding == Sharding::kExpertColumns;
  return {is_cut_by_columns() ? shape[1] : shape[0], unit, of_expert ? kExpertBlocks : kCanonicalBlocks};
}

std::vector<Parameter> Parameters(const ModelSpec& spec) {
  TensorList list(spec);
  FamilyOf(spec).list(&list);
  std::vector<Parameter> parameters = list.Take();
  for (Parameter& p : parameters) p.format = p.shape.size() > 1 ? spec.formats.Of(p.name, p.kind) : WeightFormat::kF32;
  Keep(spec.kept, spec.tied_embeddings, &parameters);
  return parameters;
}

std::vector<std::string> PublishedNames(const std::string& tensor) {
  constexpr std::string_view kModel = "model.";
  if (tensor.starts_with(kModel)) {
    const std::string rest = tensor.substr(kModel.size());
    return {tensor, "language_model.model." + rest, "model.language_model." + rest};
  }
  if (tensor.starts_with("lm_head.")) return {tensor, "language_model." + tensor};
  return {tensor, "transformer." + tensor};  // GPT-2
}

Range HeadsOf(const ModelSpec& spec, int tp_rank, int tp) { return CanonicalAxis{spec.heads, 1}.OfRank(tp_rank, tp); }

Range KvHeadsOf(const ModelSpec& spec, int tp_rank, int tp) {
  const Range heads = HeadsOf(spec, tp_rank, tp);
  const int64_t readers = spec.heads / spec.gqa->kv_heads;
  return {heads.begin / readers, (heads.end - 1) / readers + 1};
}

std::optional<Slice> SliceOf(const Parameter& p, const ModelSpec& spec, const parallel::Topology& topology, int rank,
                             const parallel::ExpertPlacement& placement) {
  const int tp = topology.tp, tp_rank = topology.TpRankOf(rank);
  const int64_t rows = p.shape[0], columns = p.shape.size() > 1 ? p.shape[1] : 1;
  const Slice whole{{0, rows}, {0, columns}};
  const auto rows_of = [&](Range heads, int64_t all) {
    return Slice{{heads.begin * (rows / all), heads.end * (rows / all)}, whole.columns};
  };
  switch (p.sharding) {
    case Sharding::kReplicated:
      return whole;
    case Sharding::kHeadRows:
      return rows_of(HeadsOf(spec, tp_rank, tp), spec.heads);
    case Sharding::kKvHeadRows:
      return rows_of(KvHeadsOf(spec, tp_rank, tp), spec.gqa->kv_heads);
    case Sharding::kAxisRows:
      return Slice{p.axis().OfRank(tp_rank, tp), whole.columns};
    case Sharding::kAxisColumns:
      return Slice{whole.rows, p.axis().OfRank(tp_rank, tp)};
    case Sharding::kVocabRows:
      return Slice{EvenPart(rows, tp_rank, tp), whole.columns};
    case Sharding::kExpertRows:
    case Sharding::kExpertColumns: {
      const int local = placement.LocalIndex(rank, p.expert);
      if (local < 0) return std::nullopt;
      const Range mine = p.axis().OfRank(placement.SliceAt(rank, local), placement.slices());
      return p.is_cut_by_rows() ? Slice{mine, whole.columns} : Slice{whole.rows, mine};
    }
    case Sharding::kNowhere:
      return std::nullopt;
  }
  return std::nullopt;
}

ParameterCount CountParameters(const ModelSpec& spec) {
  ParameterCount count;
  int64_t routed = 0;
  for (const Parameter& p : Parameters(spec)) {
    count.total += p.elements();
    if (p.kind == ParameterKind::kEmbedding && !spec.embeddings_are_active) continue;
    (p.kind == ParameterKind::kRoutedExpert ? routed : count.active) += p.elements();
  }
  if (spec.moe) count.active += routed / spec.moe->experts * spec.moe->top_k;
  return count;
}

}  // namespace atl::models
