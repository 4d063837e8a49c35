#include "worker/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>
#include <set>

namespace atl::worker {
namespace {

int32_t Sample(std::vector<float> logits, const v1::Sampling& params, int64_t position = 0, int64_t limit = 0,
               std::vector<int32_t> prompt = {}, std::vector<int32_t> emitted = {}) {
  SamplerScratch scratch;
  return SampleToken(logits, prompt, emitted, params, position, limit, &scratch).token;
}

v1::Sampling Params(float temperature, uint64_t seed = 1) {
  v1::Sampling params;
  params.set_temperature(temperature);
  params.set_seed(seed);
  return params;
}

std::map<int32_t, double> Shares(const std::vector<float>& logits, v1::Sampling params, int draws = 20000) {
  std::map<int32_t, double> shares;
  for (int i = 0; i < draws; ++i) shares[Sample(logits, params, i)] += 1.0 / draws;
  return shares;
}

TEST(Sampler, GreedyTakesTheBestAndTheLowestOfEquals) {
  EXPECT_EQ(Sample({0, 3, 1, 3}, Params(0)), 1);
  EXPECT_EQ(Sample({NAN, -1, NAN}, Params(0)), 1);
}

TEST(Sampler, PaddingRowsAreNeverChosen) {
  EXPECT_EQ(Sample({0, 1, 9}, Params(0), 0, 2), 1);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(Sample({0, 1, 9}, Params(5), i, 2), 2);
}

TEST(Sampler, DrawsFollowTheSoftmax) {
  const std::vector<float> logits = {0, 1, 2, 3};
  const double temperature = 1.5;
  double sum = 0;
  for (const float l : logits) sum += std::exp(l / temperature);
  const auto shares = Shares(logits, Params(temperature));
  for (int i = 0; i < 4; ++i) EXPECT_NEAR(shares.at(i), std::exp(logits[i] / temperature) / sum, 0.015) << i;
}

TEST(Sampler, CutsRemoveTheTail) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  v1::Sampling params = Params(1);
  params.set_top_k(2);
  EXPECT_EQ(Shares(logits, params).size(), 2u);
  params = Params(1);
  params.set_top_p(0.79f);  // 0.5 is not enough, 0.5 + 0.3 is
  EXPECT_EQ(Shares(logits, params).size(), 2u);
  params = Params(1);
  params.set_min_p(0.2f);  // at least a fifth of the best one's probability
  EXPECT_EQ(Shares(logits, params).size(), 3u);
}

// The definition: all sorted, then cut one after another.
std::vector<int32_t> KeptBySorting(const std::vector<float>& logits, const v1::Sampling& params) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  if (params.top_k() > 0 && params.top_k() < static_cast<int64_t>(order.size())) order.resize(params.top_k());
  const auto weight = [&](int32_t id) { return std::exp((logits[id] - logits[order[0]]) / params.temperature()); };
  double total = 0, sum = 0;
  for (const int32_t id : order) total += weight(id);
  std::vector<int32_t> kept;
  for (const int32_t id : order) {
    const bool full = params.top_p() > 0 && params.top_p() < 1 && sum >= params.top_p() * total;
    if (!kept.empty() && (full || weight(id) < params.min_p())) break;
    sum += weight(id);
    kept.push_back(id);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

TEST(Sampler, KeepsWhatSortingTheWholeVocabularyKeeps) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(60);
  for (float& logit : logits) logit = normal(random);
  for (const float temperature : {0.7f, 1.5f}) {
    for (const int top_k : {0, 1, 7, 60, 100}) {
      for (const float top_p : {0.0f, 0.05f, 0.6f, 0.97f, 1.0f}) {
        for (const float min_p : {0.0f, 0.02f, 0.3f, 1.0f}) {
          v1::Sampling params = Params(temperature);
          params.set_top_k(top_k);
          params.set_top_p(top_p);
          params.set_min_p(min_p);
          const std::vector<int32_t> kept = KeptBySorting(logits, params);
          std::set<int32_t> drawn;
          for (int i = 0; i < 3000; ++i) drawn.insert(Sample(logits, params, i));
          for (const int32_t id : drawn) {
            EXPECT_TRUE(std::binary_search(kept.begin(), kept.end(), id))
                << id << ": top_k " << top_k << ", top_p " << top_p << ", min_p " << min_p;
          }
          const int32_t best = static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
          double total = 0;  // what is drawn once in some hundred times must have been drawn
          for (const int32_t id : kept) total += std::exp((logits[id] - logits[best]) / temperature);
          for (const int32_t id : kept) {
            const double share = std::exp((logits[id] - logits[best]) / temperature) / total;
            if (share > 0.01) EXPECT_TRUE(drawn.contains(id)) << id << ": " << share;
          }
        }
      }
    }
  }
}

TEST(Sampler, PenaltiesChangeTheChoice) {
  v1::Sampling params = Params(0);
  params.set_repetition_penalty(2);
  EXPECT_EQ(Sample({4, 3, 0}, params, 0, 0, {0}), 1);    // 4 / 2 < 3
  EXPECT_EQ(Sample({-1, -1.5f}, params, 0, 0, {0}), 1);  // -1 * 2 < -1.5
  params = Params(0);
  params.set_presence_penalty(2);
  EXPECT_EQ(Sample({4, 3}, params, 0, 0, {0}, {}), 0);  // only emitted tokens count
  EXPECT_EQ(Sample({4, 3}, params, 0, 0, {}, {0}), 1);
  params = Params(0);
  params.set_frequency_penalty(0.6f);
  EXPECT_EQ(Sample({4, 3}, params, 0, 0, {}, {0}), 0);
  EXPECT_EQ(Sample({4, 3}, params, 0, 0, {}, {0, 0}), 1);
}

TEST(Sampler, TheSameKeyDrawsTheSameNumber) {
  const std::vector<float> logits(1000, 0.0f);
  EXPECT_EQ(Sample(logits, Params(1, 7), 5), Sample(logits, Params(1, 7), 5));
  int same = 0;
  for (int i = 0; i < 100; ++i) {
    if (Sample(logits, Params(1, 7), i) == Sample(logits, Params(1, 8), i)) ++same;
  }
  EXPECT_LT(same, 5);
  EXPECT_NE(KeyedRandom(1, 0, 0), KeyedRandom(0, 1, 0));
  EXPECT_NE(KeyedRandom(0, 1, 0), KeyedRandom(0, 0, 1));
}

TEST(Sampler, LogProbabilityIsOfTheModelsOwnDistribution) {
  SamplerScratch scratch;
  const std::vector<float> logits = {0, std::log(3.0f)};
  v1::Sampling params = Params(0.01f);
  const Sampled sampled = SampleToken(logits, {}, {}, params, 0, 0, &scratch);
  EXPECT_EQ(sampled.token, 1);
  EXPECT_NEAR(sampled.logprob, std::log(0.75), 1e-6);
}

TEST(Sampler, WhatACallLeavesInTheScratchChangesNoOther) {
  std::vector<float> logits(64);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = std::sin(static_cast<float>(i)) * 3;
  SamplerScratch scratch;
  for (int i = 0; i < 200; ++i) {
    v1::Sampling params = Params(i % 3 == 0 ? 0.0f : 1.0f, i);
    params.set_repetition_penalty(1.5f);
    params.set_frequency_penalty(0.7f);
    params.set_presence_penalty(i % 2 == 0 ? 0.5f : 0.0f);
    const std::vector<int32_t> prompt = {i % 64, 7, 7, -1, 64}, emitted = {7, (i * 5) % 64, (i * 5) % 64, 63};
    const int64_t limit = i % 4 == 0 ? 40 : 0;
    EXPECT_EQ(SampleToken(logits, prompt, emitted, params, i, limit, &scratch).token,
              Sample(logits, params, i, limit, prompt, emitted));
    EXPECT_EQ(MostLikely(logits, i % 5, limit, &scratch).size(), i % 5);
  }
}

TEST(Sampler, TheMostLikelyAreTheBestLogitsInOrder) {
  SamplerScratch scratch;
  const std::vector<float> logits = {1, 3, NAN, 3, 2, 9};
  const auto top = MostLikely(logits, 3, /*vocab_limit=*/5, &scratch);  // id 5 is padding
  ASSERT_EQ(top.size(), 3u);
  const int32_t expected[] = {1, 3, 4};  // ties: the lowest id
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(top[i].token, expected[i]);
    EXPECT_EQ(top[i].logprob, LogProbability(logits, expected[i]));
  }
  EXPECT_EQ(MostLikely(logits, 100, 0, &scratch).size(), logits.size());
  EXPECT_TRUE(MostLikely(logits, 0, 0, &scratch).empty());
}

}  // namespace
}  // namespace atl::worker
