#include "coordinator/cli/inspect.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numeric>

#include "coordinator/cli/inspection.h"
#include "models/spec/matformer.h"
#include "models/weights/formats/gguf.h"
#include "models/weights/read_model.h"

namespace atl::coordinator {
namespace {

using models::JobShape;
using models::ModelSpec;
using models::Parameter;
using models::ParameterKind;
using models::RankMemory;

std::vector<RankClass> ClassesOf(const ModelSpec& spec, const JobShape& shape, int slices) {
  const int world = shape.topology.world;
  const auto placement =
      parallel::ExpertPlacement::Contiguous(spec.moe ? static_cast<int>(spec.moe->experts) : 1, world, slices);
  // Experts are all of one size, and their slices: which of them a rank has does not matter, only how many. So a
  // thousand ranks are planned a few times, not a thousand.
  std::map<std::pair<int, size_t>, size_t> planned;  // (tp rank, experts) -> class
  std::vector<RankClass> classes;
  for (int rank = 0; rank < world; ++rank) {
    const auto key = std::make_pair(shape.topology.TpRankOf(rank), spec.moe ? placement.ExpertsOf(rank).size() : 0);
    auto found = planned.find(key);
    if (found == planned.end()) {
      const RankMemory memory = models::PlanRankMemory(spec, shape, rank, placement);
      const auto same = std::find_if(classes.begin(), classes.end(), [&](const auto& c) { return c.memory == memory; });
      found = planned.emplace(key, same - classes.begin()).first;
      if (same == classes.end()) classes.push_back({{}, memory});
    }
    classes[found->second].ranks.push_back(rank);
  }
  return classes;
}

// Whether the weights beside config.json are those that it asks for, and in what formats they are stored. Headers only;
// no weights at all is no error.
FileFacts CheckFiles(const std::string& path, ModelSpec* spec) {
  if (!std::filesystem::is_directory(path) && !models::IsGgufFile(path)) {
    return {false, "not looked for (a config file was given)"};
  }
  const absl::StatusOr<models::Checkpoint> checkpoint = models::Checkpoint::Open(path);
  if (!checkpoint.ok()) return {false, ToString(checkpoint.status().message())};
  const absl::StatusOr<models::StoredWeights> stored = models::AddStoredFormats(*checkpoint, spec);
  if (!stored.ok()) return {false, ToString(stored.status().message())};
  return {true, fmt::format("all {} tensors found, matrices in {}; {} others are not used", stored->tensors,
                            fmt::join(stored->formats, ", "), stored->unused)};
}

// Puts every product of the layers (or, for a plain format, every matrix) into one format.
absl::Status Reformat(const std::string& name, ModelSpec* spec) {
  std::string known;
  for (int i = 0; i < models::kWeightFormats; ++i) {
    const auto format = static_cast<models::WeightFormat>(i);
    known += fmt::format("{}{}", known.empty() ? "" : ", ", models::Name(format));
    if (name != models::Name(format)) continue;
    const bool plain = models::InfoOf(format).group == 1 && models::InfoOf(format).scale_rows == 0;
    std::map<std::string, models::WeightFormat> formats;
    for (const Parameter& p : models::Parameters(*spec)) {
      const bool product = p.kind == ParameterKind::kAttention || p.kind == ParameterKind::kDense ||
                           p.kind == ParameterKind::kSharedExpert || p.kind == ParameterKind::kRoutedExpert;
      if (plain || product) formats[p.name] = format;
    }
    spec->formats.SetAll(std::move(formats));
    return absl::OkStatus();
  }
  return InvalidArgument("--weights {} is unknown; there are: {}", name, known);
}

absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  constexpr std::pair<const char*, double> kUnits[] = {{"B", 1},         {"MB", 1e6},      {"GB", 1e9}, {"TB", 1e12},
                                                       {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"", 1}};
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  for (const auto& [name, bytes] : kUnits) {
    if (error == std::errc() && unit == name && value > 0 && value * bytes < 1e18) {
      return static_cast<int64_t>(value * bytes);
    }
  }
  return InvalidArgument("--memory {} is not understood; write it like 64GB, 60GiB or 500MB", text);
}

// Lines of KV blocks that every rank has room for beside the rest; negative: the rest does not fit.
int64_t LinesThatFit(const ModelSpec& spec, const JobShape& shape, const std::vector<RankClass>& classes,
                     int64_t memory) {
  int64_t lines = INT64_MAX;
  for (const RankClass& c : classes) {
    const int64_t free = memory - (c.memory.total() - c.memory.kv);
    const int64_t line =
        models::kKvBlockTokens *
        models::KvBytesPerToken(spec, shape.numerics, shape.topology.TpRankOf(c.ranks[0]), shape.topology.tp);
    lines = std::min(lines, free < 0 ? -1 : free / line);
  }
  return lines;
}

// The fewest ranks of any tensor-parallel degree on which one line of KV fits. More ranks never hold more each.
JobShape LeastShape(const ModelSpec& spec, const JobShape& asked, int slices, int64_t memory) {
  JobShape best = asked;
  best.topology = {0, 0};
  for (const int tp : {1, 2, 4, 8}) {
    const int step = std::lcm(tp, slices);  // in ranks
    const auto fits = [&](int steps) {
      JobShape shape = asked;
      shape.topology = {step * steps, tp};
      return models::CheckShape(spec, shape).ok() &&
             LinesThatFit(spec, shape, ClassesOf(spec, shape, slices), memory) >= 1;
    };
    // Only experts are spread over attention groups.
    int fit = spec.moe ? static_cast<int>(spec.moe->experts) / step : 1, below = 0;
    if (fit == 0 || !fits(fit)) continue;
    while (fit - below > 1) {
      const int middle = below + (fit - below) / 2;
      (fits(middle) ? fit : below) = middle;
    }
    if (best.topology.world == 0 || step * fit < best.topology.world) best.topology = {step * fit, tp};
  }
  return best;
}

Fit FitInto(const Inspection& of, int64_t memory) {
  const models::KvLayout layout = models::KvLayoutOf(of.spec);
  Fit fit{.bytes = memory, .least = of.shape};
  for (const RankClass& c : of.classes) fit.without_kv = std::max(fit.without_kv, c.memory.total() - c.memory.kv);
  const int64_t lines = LinesThatFit(of.spec, of.shape, of.classes, memory);
  if (lines < 1) {
    fit.least = LeastShape(of.spec, of.shape, of.expert_slices, memory);
    return fit;
  }
  const int64_t blocks = lines * layout.line, most = of.spec.max_positions;
  fit.kv_tokens = lines * models::kKvBlockTokens;
  fit.longest_sequence = models::LongestSequence(layout.groups, models::kKvBlockTokens, blocks, most);
  fit.longest_together = blocks / models::KvBlocksHeld(layout.groups, models::kKvBlockTokens, 0, most, 1);
  return fit;
}

void CountLayers(Inspection* of) {
  const ModelSpec& spec = of->spec;
  of->layers.resize(spec.num_layers());
  std::map<std::string, int64_t> formats;
  for (const Parameter& p : models::Parameters(spec)) {
    if (p.shape.size() > 1) {
      const models::Packing whole = models::PackingOf(p.format, {0, p.shape[0]}, {0, p.shape[1]});
      formats[models::Name(p.format)] += whole.bytes;
    }
    if (p.layer < 0) continue;
    LayerFacts& layer = of->layers[p.layer];
    layer.parameters += p.elements();
    if (p.kind == ParameterKind::kEmbedding && !spec.embeddings_are_active) continue;
    // Each expert's part of what a token reads; whole numbers, since experts are all of one size.
    if (p.kind != ParameterKind::kRoutedExpert || p.expert < spec.moe->top_k) layer.active += p.elements();
  }
  of->formats.assign(formats.begin(), formats.end());
  const int64_t row = models::KvRowBytes(spec, of->shape.numerics, 0, 1);
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    of->layers[i].kv_bytes_per_token = spec.layers[i].kv_layer == i ? row : 0;
  }
  const models::KvLayout layout = models::KvLayoutOf(spec);
  const int64_t held = models::KvBlocksHeld(layout.groups, models::kKvBlockTokens, 0, spec.max_positions, 1);
  of->kv_bytes_of_longest = held * layout.block_layers * models::kKvBlockTokens * row;
  of->kv_bytes_per_token = models::KvBytesPerToken(spec, of->shape.numerics);
}

}  // namespace

absl::StatusOr<Inspection> Inspect(const InspectOptions& options) {
  Inspection of;
  ATOLL_ASSIGN_OR_RETURN(of.spec, models::ReadDescription(options.path));
  if (!options.matformer.empty()) ATOLL_RETURN_IF_ERROR(models::SliceMatFormer(options.matformer, &of.spec));
  ATOLL_ASSIGN_OR_RETURN(const models::Numerics numerics, models::NumericsNamed(options.profile));
  of.shape = {.topology = {options.ranks, options.tp},
              .numerics = numerics,
              .kv_blocks = models::BlocksFor(options.kv_tokens),
              .max_batch_tokens = options.max_batch_tokens};
  ATOLL_RETURN_IF_ERROR(models::CheckShape(of.spec, of.shape));
  of.files = CheckFiles(options.path, &of.spec);
  const auto kept = models::KeptFormats::Named(options.weights, options.head_weights);
  if (kept.ok()) {
    of.spec.kept = *kept;
  } else if (!models::KeptFormats::Named("", options.head_weights).ok()) {
    return kept.status();
  } else {  // another format that files may be in
    ATOLL_RETURN_IF_ERROR(Reformat(options.weights, &of.spec));
  }
  of.count = models::CountParameters(of.spec);
  ATOLL_RETURN_IF_ERROR(models::CheckExpertSlices(of.spec, options.ranks, options.expert_slices));
  of.expert_slices = options.expert_slices;
  of.classes = ClassesOf(of.spec, of.shape, of.expert_slices);
  CountLayers(&of);
  if (!options.memory.empty()) {
    ATOLL_ASSIGN_OR_RETURN(const int64_t memory, ParseBytes(options.memory));
    of.fit = FitInto(of, memory);
  }
  return of;
}

std::string ReachText(const ModelSpec& spec, int64_t layer) {
  const models::LayerSpec& l = spec.layers[layer];
  const char* reach = l.reach == models::Reach::kFull      ? "full"
                      : l.reach == models::Reach::kSliding ? "sliding"
                                                           : "chunked";
  std::string text = l.reach == models::Reach::kFull ? reach : fmt::format("{} {}", reach, l.extent);
  if (l.kv_layer != layer) text += fmt::format(", keys of {}", l.kv_layer);
  return text;
}

std::string FeedForwardText(const ModelSpec& spec, int64_t layer) {
  const models::LayerSpec& l = spec.layers[layer];
  if (!l.moe) {
    return fmt::format("mlp {}{}", l.mlp, l.sparsity > 0 ? fmt::format(", {:.0f}% zero", 100 * l.sparsity) : "");
  }
  const models::MoeSpec& moe = *spec.moe;
  std::string text = fmt::format("{} of {} x {}", moe.top_k, moe.experts, moe.intermediate);
  if (moe.shared_intermediate > 0) text += fmt::format(" + {}", moe.shared_intermediate);
  return text;
}

absl::StatusOr<std::string> InspectReport(const InspectOptions& options) {
  ATOLL_ASSIGN_OR_RETURN(const Inspection of, Inspect(options));
  return options.json ? ToJson(of) : ToText(of);
}

absl::Status RunInspect(const InspectOptions& options) {
  ATOLL_ASSIGN_OR_RETURN(const std::string report, InspectReport(options));
  std::fputs(report.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace atl::coordinator
