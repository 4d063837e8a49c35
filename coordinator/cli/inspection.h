// What `atoll inspect` finds out, as values; inspect_text.cc and inspect_json.cc print them.
#pragma once

#include <optional>
#include <vector>

#include "coordinator/cli/inspect.h"
#include "models/spec/rank_memory.h"

namespace atl::coordinator {

// Ranks that hold the same bytes.
struct RankClass {
  std::vector<int> ranks;  // ascending
  models::RankMemory memory;
};

struct LayerFacts {
  int64_t parameters = 0;
  int64_t active = 0;              // for a token
  int64_t kv_bytes_per_token = 0;  // of its own, in the profile's type
};

struct FileFacts {
  bool found = false;  // all weights that config.json asks for are there
  std::string says;
};

// What fits in a memory of `bytes` for each rank, at this shape.
struct Fit {
  int64_t bytes = 0;
  int64_t without_kv = 0;        // what the fullest rank holds beside the KV cache
  int64_t kv_tokens = 0;         // of one attention group, however they are cut into sequences; 0: nothing fits
  int64_t longest_sequence = 0;  // at most max_positions
  int64_t longest_together = 0;  // sequences of max_positions that one attention group holds at a time
  models::JobShape least;  // where nothing fits: the fewest ranks on which something does; world 0: there are none
};

struct Inspection {
  models::ModelSpec spec;
  models::JobShape shape;
  int expert_slices = 1;
  models::ParameterCount count;
  std::vector<LayerFacts> layers;
  std::vector<RankClass> classes;
  FileFacts files;
  std::optional<Fit> fit;
  int64_t kv_bytes_per_token = 0;                        // of the whole model, while nothing is given back
  int64_t kv_bytes_of_longest = 0;                       // of one sequence of max_positions
  std::vector<std::pair<std::string, int64_t>> formats;  // bytes of matrices by the format they are stored in
};
absl::StatusOr<Inspection> Inspect(const InspectOptions& options);

std::string ToText(const Inspection& of);
std::string ToJson(const Inspection& of);

// "sliding 512", "full", "reads 18".
std::string ReachText(const models::ModelSpec& spec, int64_t layer);
std::string FeedForwardText(const models::ModelSpec& spec, int64_t layer);

}  // namespace atl::coordinator
