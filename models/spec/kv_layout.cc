#include "models/spec/kv_layout.h"

#include <algorithm>
#include <numeric>

namespace atl::models {

KvLayout KvLayoutOf(const ModelSpec& spec) {
  KvLayout layout;
  std::vector<std::vector<int64_t>> members;  // of each group: the layers that have keys and values of their own
  layout.layers.resize(spec.layers.size());
  for (int64_t i = 0; i < spec.num_layers(); ++i) {
    const LayerSpec& layer = spec.layers[i];
    if (layer.kv_layer != i) continue;
    const auto same = std::find_if(layout.groups.begin(), layout.groups.end(), [&](const KvGroup& group) {
      return group.reach == layer.reach && group.extent == layer.extent;
    });
    const int64_t group = same - layout.groups.begin();
    if (same == layout.groups.end()) {
      layout.groups.push_back({layer.reach, layer.extent, 0});
      members.emplace_back();
    }
    layout.layers[i] = {.group = group, .column = 0, .slot = static_cast<int64_t>(members[group].size())};
    members[group].push_back(i);
  }
  for (const auto& layers : members) {
    layout.block_layers = std::gcd(layout.block_layers, static_cast<int64_t>(layers.size()));
  }
  for (size_t g = 0; g < members.size(); ++g) {
    for (const int64_t i : members[g]) {
      KvPlace& place = layout.layers[i];
      place.column = layout.line + place.slot / layout.block_layers;
      place.slot %= layout.block_layers;
    }
    layout.groups[g].blocks = static_cast<int64_t>(members[g].size()) / layout.block_layers;
    layout.line += layout.groups[g].blocks;
  }
  for (int64_t i = 0; i < spec.num_layers(); ++i) layout.layers[i] = layout.layers[spec.layers[i].kv_layer];
  return layout;
}

int64_t KvBlocksHeld(const std::vector<KvGroup>& groups, int64_t block_tokens, int64_t from, int64_t to, int64_t step) {
  int64_t blocks = 0;
  for (const KvGroup& group : groups) {
    int64_t lines = LinesFor(to, block_tokens) - group.FirstVisible(from) / block_tokens;
    if (group.reach != Reach::kFull) {
      // A step of `step` rows reads at most this many neighbouring positions, at worst from the end of a line on.
      const int64_t span = group.extent - 1 + step;
      lines = std::min(lines, (span + block_tokens - 2) / block_tokens + 1);
    }
    blocks += group.blocks * std::max<int64_t>(lines, 0);
  }
  return blocks;
}

int64_t LongestSequence(const std::vector<KvGroup>& groups, int64_t block_tokens, int64_t blocks, int64_t most) {
  int64_t fits = 0, beyond = most + 1;
  while (beyond - fits > 1) {
    const int64_t tokens = fits + (beyond - fits) / 2;
    (KvBlocksHeld(groups, block_tokens, 0, tokens, 1) <= blocks ? fits : beyond) = tokens;
  }
  return fits;
}

}  // namespace atl::models
