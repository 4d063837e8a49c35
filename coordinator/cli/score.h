// `atoll score`: logits of given ids through a real cluster, for comparison with a reference and between shapes.
//   --input  safetensors with input_ids [B, S] i32; --output gets logits [B, S, V] f32, and with --generate K
//            generated_ids [1, K] i32: greedy ids that continue the first --prompt-length ids of row 0
//   --text   JSON lines {"text": ...} instead: prints the perplexity; --output gets JSON lines
//            {"ids": [...], "logprobs": [...]}
#pragma once

#include "coordinator/cli/flags.h"

namespace atl::coordinator {

struct ScoreFlags {
  ClusterFlags cluster;
  std::string input, output, text;
  int64_t chunk = 0;  // prompt rows of one sequence in one step; 0: as the budget allows
  int64_t generate = 0;
  int64_t prompt_length = 24;
};

absl::Status RunScore(const ScoreFlags& flags);

}  // namespace atl::coordinator
