#include "models/spec/matformer.h"

#include <algorithm>
#include <charconv>
#include <sstream>

namespace atl::models {
namespace {

constexpr const char* kForm = "write it like \"skip=20-24 mlp=8192\" or \"mlp=8192*10,16384*25\"";

std::vector<std::string> Split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// "A" is {A, otherwise}, "A<separator>B" is {A, B}.
absl::StatusOr<std::pair<int64_t, int64_t>> Pair(const std::string& text, char separator, int64_t otherwise) {
  int64_t first = 0, second = otherwise;
  const char* end = text.data() + text.size();
  auto [at, error] = std::from_chars(text.data(), end, first);
  if (error == std::errc() && at != end && *at == separator) {
    const auto rest = std::from_chars(at + 1, end, second);
    at = rest.ptr, error = rest.ec;
  }
  if (error != std::errc() || at != end) return InvalidArgument("--matformer: {} is not understood; {}", text, kForm);
  return std::make_pair(first, second);
}

absl::StatusOr<std::vector<bool>> LeftOut(const std::string& list, int64_t layers) {
  std::vector<bool> out(layers);
  for (const std::string& run : Split(list, ',')) {
    ATOLL_ASSIGN_OR_RETURN(auto range, Pair(run, '-', -1));
    if (range.second < 0) range.second = range.first;
    if (range.first < 0 || range.second >= layers || range.first > range.second) {
      return InvalidArgument("--matformer: skip {} is not a run of layers 0 to {}", run, layers - 1);
    }
    std::fill(out.begin() + range.first, out.begin() + range.second + 1, true);
  }
  return out;
}

absl::StatusOr<std::vector<int64_t>> Widths(const std::string& list, int64_t layers) {
  std::vector<int64_t> widths;
  for (const std::string& run : Split(list, ',')) {
    ATOLL_ASSIGN_OR_RETURN(const auto pair, Pair(run, '*', 1));
    if (pair.first < 1 || pair.second < 1 || pair.second > layers) {
      return InvalidArgument("--matformer: mlp {} is no width, or more layers than there are; {}", run, kForm);
    }
    widths.insert(widths.end(), pair.second, pair.first);
  }
  if (widths.size() == 1) widths.assign(layers, widths[0]);
  if (static_cast<int64_t>(widths.size()) != layers) {
    return InvalidArgument("--matformer: mlp gives {} widths, {} layers remain", widths.size(), layers);
  }
  return widths;
}

absl::Status Remove(const std::vector<bool>& out, ModelSpec* spec) {
  std::vector<int> number(out.size());  // of the layers that remain
  int next = 0;
  for (size_t i = 0; i < out.size(); ++i) number[i] = out[i] ? -1 : next++;
  std::vector<LayerSpec> kept;
  for (size_t i = 0; i < out.size(); ++i) {
    if (out[i]) continue;
    LayerSpec layer = spec->layers[i];
    if (number[layer.kv_layer] < 0) {
      return InvalidArgument("--matformer: layer {} cannot be left out, layer {} reads its keys and values",
                             layer.kv_layer, i);
    }
    layer.kv_layer = number[layer.kv_layer];
    kept.push_back(layer);
  }
  if (kept.empty()) return InvalidArgument("--matformer: skip leaves no layer");
  spec->layers = std::move(kept);
  return absl::OkStatus();
}

}  // namespace

std::vector<StoredRun> StoredRuns(const ModelSpec& spec) {
  std::vector<StoredRun> runs;
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    const int64_t stored = spec.layers[i].stored_layer;
    if (!runs.empty() && runs.back().stored + runs.back().count == stored) {
      ++runs.back().count;
    } else {
      runs.push_back({.layer = i, .stored = stored, .count = 1, .suffix = fmt::format(".{}", stored)});
    }
  }
  if (runs.size() == 1 && runs[0].count == spec.gemma3n->stored_layers) runs[0].suffix.clear();
  return runs;
}

absl::Status SliceMatFormer(const std::string& slice, ModelSpec* spec) {
  if (!spec->gemma3n) {
    return InvalidArgument("--matformer slices Gemma 3n; this is {}", spec->model_type);
  }
  std::string skip, mlp;
  for (const std::string& part : Split(slice, ' ')) {
    if (part.starts_with("skip=")) {
      skip = part.substr(5);
    } else if (part.starts_with("mlp=")) {
      mlp = part.substr(4);
    } else {
      return InvalidArgument("--matformer: {} is not understood; {}", part, kForm);
    }
  }
  ATOLL_ASSIGN_OR_RETURN(const std::vector<bool> out, LeftOut(skip, spec->num_layers()));
  ATOLL_RETURN_IF_ERROR(Remove(out, spec));
  if (mlp.empty()) return absl::OkStatus();
  ATOLL_ASSIGN_OR_RETURN(const std::vector<int64_t> widths, Widths(mlp, spec->num_layers()));
  for (int64_t i = 0; i < spec->num_layers(); ++i) {
    LayerSpec& layer = spec->layers[i];
    if (widths[i] > layer.stored_mlp) {
      return InvalidArgument("--matformer: width {} of layer {} is more than the checkpoint's {}", widths[i],
                             layer.stored_layer, layer.stored_mlp);
    }
    layer.mlp = widths[i];
  }
  return absl::OkStatus();
}

}  // namespace atl::models
