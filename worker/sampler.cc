#include "worker/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "models/logits.h"
#include "parallel/base/mix.h"

namespace atl::worker {
namespace {

// A logit that takes part in comparisons: NaN counts as the worst.
float Ordered(float logit) { return std::isnan(logit) ? -INFINITY : logit; }

bool HasPenalties(const v1::Sampling& p) {
  return (p.repetition_penalty() != 0 && p.repetition_penalty() != 1) || p.presence_penalty() != 0 ||
         p.frequency_penalty() != 0;
}

// seen: scratch, zeros before and after.
void Penalize(std::span<const int32_t> prompt_ids, std::span<const int32_t> emitted_ids, const v1::Sampling& params,
              std::span<float> logits, std::vector<int32_t>* seen) {
  if (seen->size() < logits.size()) seen->resize(logits.size());
  const auto for_ids = [&](std::span<const int32_t> ids, const auto& body) {
    for (const int32_t id : ids) {
      if (id >= 0 && id < static_cast<int32_t>(logits.size())) body((*seen)[id], logits[id]);
    }
  };
  // Of each id one more than how often it was emitted.
  for_ids(prompt_ids, [](int32_t& times, float&) { times = 1; });
  for_ids(emitted_ids, [](int32_t& times, float&) { times = std::max(times, 1) + 1; });
  const float repetition = params.repetition_penalty() == 0 ? 1 : params.repetition_penalty();
  const auto penalize = [&](int32_t& times, float& logit) {
    const int32_t emitted = std::exchange(times, 0) - 1;
    if (emitted < 0) return;  // done already
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (emitted > 0) logit -= params.presence_penalty() + params.frequency_penalty() * static_cast<float>(emitted);
  };
  for_ids(prompt_ids, penalize);
  for_ids(emitted_ids, penalize);
}

// Draws by temperature, after top-k, top-p and min-p. The whole vocabulary is never sorted: what no cut can keep is
// left out first.
int32_t Draw(std::span<const float> logits, const v1::Sampling& params, int64_t position,
             std::vector<Candidate>* candidates) {
  const int32_t best = models::BestLogit(logits);
  const double best_logit = Ordered(logits[best]);
  if (!std::isfinite(best_logit)) return best;
  // Weights relative to the best; doubles, added in one order.
  candidates->clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    const double logit = Ordered(logits[id]);
    candidates->push_back({std::exp((logit - best_logit) / params.temperature()), static_cast<int32_t>(id)});
  }
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.weight > b.weight || (a.weight == b.weight && a.id < b.id);
  };
  const bool top_k = params.top_k() > 0 && params.top_k() < static_cast<int64_t>(logits.size());
  if (top_k) {
    std::partial_sort(candidates->begin(), candidates->begin() + params.top_k(), candidates->end(), better);
    candidates->resize(params.top_k());
  }
  double total = 0;
  for (const Candidate& c : *candidates) total += c.weight;
  const bool top_p = params.top_p() > 0 && params.top_p() < 1;
  const double nucleus = top_p ? params.top_p() * total : INFINITY;
  if (top_p || params.min_p() > 0) {
    // All lighter than this weigh less together than what top-p leaves out, so none of them is in the nucleus.
    const double out = top_p ? (total - nucleus) / static_cast<double>(candidates->size()) : 0;
    const double least = std::max<double>(out, params.min_p());
    std::erase_if(*candidates, [&](const Candidate& c) { return c.weight < least; });
    if (!top_k) std::sort(candidates->begin(), candidates->end(), better);
  }
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates->size() && (kept == 0 || sum < nucleus)) sum += (*candidates)[kept++].weight;

  const uint64_t bits = KeyedRandom(params.seed(), params.choice(), static_cast<uint64_t>(position));
  double target = static_cast<double>(bits >> 11) * 0x1p-53 * sum;
  for (size_t i = 0; i < kept; ++i) {
    target -= (*candidates)[i].weight;
    if (target < 0) return (*candidates)[i].id;
  }
  return (*candidates)[kept - 1].id;  // rounding left a little
}

}  // namespace

uint64_t KeyedRandom(uint64_t seed, uint64_t choice, uint64_t position) {
  uint64_t state = Mix(seed + 0x9e3779b97f4a7c15u);
  state = Mix(state ^ (choice + 0xbf58476d1ce4e5b9u));
  return Mix(state ^ (position * 0x94d049bb133111ebu + 1));
}

float LogProbability(std::span<const float> logits, int32_t token) {
  return static_cast<float>(static_cast<double>(logits[token]) - models::LogSumExp(logits));
}

std::span<const TokenLogprob> MostLikely(std::span<const float> logits, int64_t count, int64_t vocab_limit,
                                         SamplerScratch* scratch) {
  const auto better = [&](int32_t a, int32_t b) {
    const float x = Ordered(logits[a]), y = Ordered(logits[b]);
    return x > y || (x == y && a < b);
  };
  std::vector<int32_t>& order = scratch->order;
  const auto vocab = static_cast<int64_t>(logits.size());
  order.resize(vocab_limit > 0 ? std::min(vocab_limit, vocab) : vocab);
  std::iota(order.begin(), order.end(), 0);
  count = std::min<int64_t>(count, static_cast<int64_t>(order.size()));
  std::partial_sort(order.begin(), order.begin() + count, order.end(), better);
  const double sum = models::LogSumExp(logits);
  std::vector<TokenLogprob>& top = scratch->top;
  top.clear();
  for (int64_t i = 0; i < count; ++i) {
    top.push_back({order[i], static_cast<float>(static_cast<double>(Ordered(logits[order[i]])) - sum)});
  }
  return top;
}

Sampled SampleToken(std::span<const float> logits, std::span<const int32_t> prompt_ids,
                    std::span<const int32_t> emitted_ids, const v1::Sampling& params, int64_t position,
                    int64_t vocab_limit, SamplerScratch* scratch) {
  std::span<const float> candidates = logits;
  if (vocab_limit > 0 && vocab_limit < static_cast<int64_t>(logits.size())) candidates = logits.first(vocab_limit);
  if (HasPenalties(params)) {
    scratch->logits.assign(candidates.begin(), candidates.end());
    Penalize(prompt_ids, emitted_ids, params, scratch->logits, &scratch->seen);
    candidates = scratch->logits;
  }
  Sampled sampled;
  sampled.token = params.temperature() > 0 ? Draw(candidates, params, position, &scratch->candidates)
                                           : models::BestLogit(candidates);
  sampled.logprob = LogProbability(logits, sampled.token);
  return sampled;
}

}  // namespace atl::worker
