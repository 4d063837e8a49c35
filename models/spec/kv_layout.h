// Where keys and values lie: layers with the same reach form a group, and each group keeps only the positions that it
// can still read. Pure arithmetic, shared by planner, scheduler, worker and cache.
//
//   const KvLayout layout = KvLayoutOf(spec);
//   layout.groups[g].FirstVisible(position)      // the lowest position that a row at `position` reads in the group
//   layout.layers[l]                             // where layer l's rows are
//
// Memory is one pool of blocks, each kKvBlockTokens positions of `block_layers` layers: the greatest common divisor of
// the groups' layers, so that a block serves any group. A sequence's table has one line for each kKvBlockTokens
// positions, `line` blocks long, the groups' parts side by side:
//
//   table[(position / kKvBlockTokens) * line + place.column]
//
// A sliding or chunked group gives back the blocks behind what it sees; its places in those lines are then empty.
#pragma once

#include "models/spec/model_spec.h"

namespace atl::models {

struct KvGroup {
  Reach reach = Reach::kFull;
  int64_t extent = 0;
  int64_t blocks = 1;  // of one line

  int64_t FirstVisible(int64_t position) const {
    if (reach == Reach::kSliding) return position < extent ? 0 : position - extent + 1;
    if (reach == Reach::kChunked) return position / extent * extent;
    return 0;
  }
};

struct KvPlace {
  int64_t group = 0;
  int64_t column = 0;  // in a table's line
  int64_t slot = 0;    // of the block's layers
};

struct KvLayout {
  std::vector<KvGroup> groups;
  std::vector<KvPlace> layers;  // of each layer, its source's where it reads another's
  int64_t block_layers = 0;
  int64_t line = 0;  // blocks of one line: the groups' together
};
KvLayout KvLayoutOf(const ModelSpec& spec);

// Lines of `block_tokens` positions that hold positions [0, tokens).
constexpr int64_t LinesFor(int64_t tokens, int64_t block_tokens) {
  return tokens / block_tokens + (tokens % block_tokens > 0 ? 1 : 0);
}
// Blocks that one sequence holds at most while it runs positions [from, to) in steps of at most `step` rows.
int64_t KvBlocksHeld(const std::vector<KvGroup>& groups, int64_t block_tokens, int64_t from, int64_t to, int64_t step);
// The longest sequence that `blocks` blocks can hold, at most `most`.
int64_t LongestSequence(const std::vector<KvGroup>& groups, int64_t block_tokens, int64_t blocks, int64_t most);

}  // namespace atl::models
