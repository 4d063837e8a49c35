// Chooses the next token of a sequence: a pure function of its logits, tokens so far, parameters and position.
//
//   Sampled s = SampleToken(logits, prompt_ids, emitted_ids, params, position, vocab_limit, &scratch);
//
// Order, as most servers apply it: repetition, presence and frequency penalties; greedy if temperature is 0;
// temperature; top-k; top-p; min-p; then one draw of a counter-based generator keyed by (seed, choice, position), so
// that a replay, on any shape of the cluster, draws the same number. Ties go to the lowest id.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "atoll/v1/step.pb.h"

namespace atl::worker {

struct Sampled {
  int32_t token = 0;
  float logprob = 0;  // of the model's own distribution (before penalties, temperature and cuts)
};

// Reused between calls so that a step allocates nothing once it is warm.
struct Candidate {
  double weight = 0;  // exp((logit - best logit) / temperature)
  int32_t id = 0;
};
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};
struct SamplerScratch {
  std::vector<float> logits;
  std::vector<int32_t> order;
  std::vector<int32_t> seen;  // by id: 0 between calls
  std::vector<Candidate> candidates;
  std::vector<TokenLogprob> top;
};

// logits [vocab]; ids >= vocab_limit (padding rows of the embedding) are never chosen. `position`: the new token's.
Sampled SampleToken(std::span<const float> logits, std::span<const int32_t> prompt_ids,
                    std::span<const int32_t> emitted_ids, const v1::Sampling& params, int64_t position,
                    int64_t vocab_limit, SamplerScratch* scratch);

// log softmax(logits)[token] (models/logits.h).
float LogProbability(std::span<const float> logits, int32_t token);

// The `count` most likely tokens (fewer where there are fewer), the best first, ties to the lowest id: LogProbability
// of each, to the bit. Ids >= vocab_limit are left out, as they are never chosen. They lie in the scratch.
std::span<const TokenLogprob> MostLikely(std::span<const float> logits, int64_t count, int64_t vocab_limit,
                                         SamplerScratch* scratch);

// 64 random bits of a counter-based generator: the same arguments, the same bits, on every machine.
uint64_t KeyedRandom(uint64_t seed, uint64_t choice, uint64_t position);

}  // namespace atl::worker
