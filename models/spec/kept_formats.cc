#include "models/spec/kept_formats.h"

#include <numeric>

#include "models/spec/parameters.h"

namespace atl::models {
namespace {

struct NamedFormat {
  const char* name;
  KeptFormat kept;
};
const NamedFormat kNames[] = {{"stored", {std::nullopt}},
                              {"bf16", {WeightFormat::kBF16}},
                              {"fp8", {WeightFormat::kFp8Block}},
                              {"int8", {WeightFormat::kPackedInt8}},
                              {"int4", {WeightFormat::kPackedInt4}},
                              {"q4_0", {WeightFormat::kPackedQ4_0}},
                              {"q8_0", {WeightFormat::kPackedQ8_0}},
                              {"q4_k", {WeightFormat::kPackedQ4_K}},
                              {"q6_k", {WeightFormat::kPackedQ6_K}},
                              {"native", {std::nullopt, true}}};

absl::StatusOr<KeptFormat> FormatNamed(const char* flag, const std::string& name) {
  std::string names;
  for (const NamedFormat& known : kNames) {
    if (name == known.name || (name.empty() && &known == kNames)) return known.kept;
    names += fmt::format("{}{}", names.empty() ? "" : &known == std::end(kNames) - 1 ? " and " : ", ", known.name);
  }
  return InvalidArgument("{} {} is unknown; {} exist", flag, name, names);
}

// Whole groups, and parts of rows in whole tiles.
bool CanPack(const Parameter& p, WeightFormat format) {
  if (p.shape[1] % kPackedGroup != 0 || (p.parts > 1 && p.parts % InfoOf(format).tile_rows != 0)) return false;
  return !p.is_cut_by_columns() || p.unit == 1 || p.unit % kPackedGroup == 0;
}

std::optional<WeightFormat> Chosen(const KeptFormats& kept, bool tied_embeddings, const Parameter& p) {
  const auto of = [&](const KeptFormat& choice) { return choice.native ? PackedFrom(p.format) : choice.format; };
  switch (p.kind) {
    case ParameterKind::kAttention:
    case ParameterKind::kDense:
    case ParameterKind::kSharedExpert:
    case ParameterKind::kRoutedExpert:
      return of(kept.layers);
    case ParameterKind::kHead:
      return of(kept.head);
    case ParameterKind::kEmbedding:
      return tied_embeddings && p.sharding == Sharding::kVocabRows ? of(kept.head) : std::nullopt;
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
      if (chosen && (!IsPacked(*chosen) || CanPack(p, *chosen))) p.format = *chosen;
    }
    if (p.is_cut_by_columns()) {
      if (IsPacked(p.format)) p.unit = std::lcm(p.unit, kPackedGroup);
      unit = p.unit;
    } else if (p.is_cut_by_rows()) {
      p.unit = unit;
    }
  }
}

}  // namespace atl::models
