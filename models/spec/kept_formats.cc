#include "models/spec/kept_formats.h"

#include <numeric>

#include "models/spec/parameters.h"

namespace atl::models {
namespace {

absl::StatusOr<std::optional<WeightFormat>> FormatNamed(const char* flag, const std::string& name) {
  using Format = std::optional<WeightFormat>;
  if (name.empty() || name == "stored") return Format();
  if (name == "bf16") return Format(WeightFormat::kBF16);
  if (name == "int8") return Format(WeightFormat::kPackedInt8);
  if (name == "int4") return Format(WeightFormat::kPackedInt4);
  return InvalidArgument("{} {} is unknown; stored, bf16, int8 and int4 exist", flag, name);
}

bool CanPack(const Parameter& p) {
  const int64_t group = InfoOf(WeightFormat::kPackedInt4).group;
  if (p.shape[1] % group != 0 || p.both_ways) return false;
  return p.sharding != Sharding::kAxisColumns || p.unit == 1 || p.unit % group == 0;
}

std::optional<WeightFormat> Chosen(const KeptFormats& kept, bool tied_embeddings, const Parameter& p) {
  switch (p.kind) {
    case ParameterKind::kAttention:
    case ParameterKind::kDense:
    case ParameterKind::kSharedExpert:
    case ParameterKind::kRoutedExpert:
      return kept.layers;
    case ParameterKind::kHead:
      return kept.head;
    case ParameterKind::kEmbedding:
      return tied_embeddings && p.sharding == Sharding::kVocabRows ? kept.head : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<KeptFormats> KeptFormats::Named(const std::string& weights, const std::string& head_weights) {
  KeptFormats kept;
  ATOLL_ASSIGN_OR_RETURN(kept.layers, FormatNamed("--weights", weights));
  ATOLL_ASSIGN_OR_RETURN(kept.head, FormatNamed("--head-weights", head_weights));
  return kept;
}

void Keep(const KeptFormats& kept, bool tied_embeddings, std::vector<Parameter>* parameters) {
  if (!kept.any()) return;
  int64_t unit = 1;  // of the axis that the next matrix in the list is cut along; those before it make its inputs
  for (size_t i = parameters->size(); i-- > 0;) {
    Parameter& p = (*parameters)[i];
    if (p.shape.size() > 1) {
      const std::optional<WeightFormat> chosen = Chosen(kept, tied_embeddings, p);
      if (chosen && (!IsPacked(*chosen) || CanPack(p))) p.format = *chosen;
    }
    if (p.sharding == Sharding::kAxisColumns) {
      if (IsPacked(p.format)) p.unit = std::lcm(p.unit, InfoOf(p.format).group);
      unit = p.unit;
    } else if (p.sharding == Sharding::kAxisRows) {
      p.unit = unit;
    }
  }
}

}  // namespace atl::models
