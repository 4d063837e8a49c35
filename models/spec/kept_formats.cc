#include "models/spec/kept_formats.h"

#include <numeric>

#include "models/spec/parameters.h"

namespace atl::models {
namespace {

using Format = std::optional<WeightFormat>;

struct NamedFormat {
  const char* name;
  Format format;
  bool native = false;
};
const NamedFormat kNames[] = {{"stored", std::nullopt},
                              {"bf16", WeightFormat::kBF16},
                              {"fp8", WeightFormat::kFp8Block},
                              {"int8", WeightFormat::kPackedInt8},
                              {"int4", WeightFormat::kPackedInt4},
                              {"q4_0", WeightFormat::kPackedQ4_0},
                              {"q8_0", WeightFormat::kPackedQ8_0},
                              {"q4_k", WeightFormat::kPackedQ4_K},
                              {"q6_k", WeightFormat::kPackedQ6_K},
                              {"native", std::nullopt, true}};

absl::Status Find(const char* flag, const std::string& name, Format* format, bool* native) {
  std::string names;
  for (const NamedFormat& known : kNames) {
    if (name == known.name || (name.empty() && &known == kNames)) {
      *format = known.format;
      *native = known.native;
      return absl::OkStatus();
    }
    names += fmt::format("{}{}", names.empty() ? "" : &known == std::end(kNames) - 1 ? " and " : ", ", known.name);
  }
  return InvalidArgument("{} {} is unknown; {} exist", flag, name, names);
}

bool CanPack(const Parameter& p) {
  if (p.shape[1] % kPackedGroup != 0 || p.both_ways) return false;
  return p.sharding != Sharding::kAxisColumns || p.unit == 1 || p.unit % kPackedGroup == 0;
}

Format Chosen(const KeptFormats& kept, bool tied_embeddings, const Parameter& p) {
  const Format native = PackedFrom(p.format), layers = kept.native_layers ? native : kept.layers;
  const Format head = kept.native_head ? native : kept.head;
  switch (p.kind) {
    case ParameterKind::kAttention:
    case ParameterKind::kDense:
    case ParameterKind::kSharedExpert:
    case ParameterKind::kRoutedExpert:
      return layers;
    case ParameterKind::kHead:
      return head;
    case ParameterKind::kEmbedding:
      return tied_embeddings && p.sharding == Sharding::kVocabRows ? head : std::nullopt;
    default:
      return std::nullopt;
  }
}

}  // namespace

absl::StatusOr<KeptFormats> KeptFormats::Named(const std::string& weights, const std::string& head_weights) {
  KeptFormats kept;
  ATOLL_RETURN_IF_ERROR(Find("--weights", weights, &kept.layers, &kept.native_layers));
  ATOLL_RETURN_IF_ERROR(Find("--head-weights", head_weights, &kept.head, &kept.native_head));
  return kept;
}

void Keep(const KeptFormats& kept, bool tied_embeddings, std::vector<Parameter>* parameters) {
  if (!kept.any()) return;
  int64_t unit = 1;  // of the axis that the next matrix in the list is cut along; those before it make its inputs
  for (size_t i = parameters->size(); i-- > 0;) {
    Parameter& p = (*parameters)[i];
    if (p.shape.size() > 1) {
      const Format chosen = Chosen(kept, tied_embeddings, p);
      if (chosen && (!IsPacked(*chosen) || CanPack(p))) p.format = *chosen;
    }
    if (p.sharding == Sharding::kAxisColumns) {
      if (IsPacked(p.format)) p.unit = std::lcm(p.unit, kPackedGroup);
      unit = p.unit;
    } else if (p.sharding == Sharding::kAxisRows) {
      p.unit = unit;
    }
  }
}

}  // namespace atl::models
