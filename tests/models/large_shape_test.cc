// The same bits on a shape whose widths fill the kernels' tiles: v3mini cut to two layers, weights made from names, a
// text over four KV segments, in prompt and in emitted form.
#include <gtest/gtest.h>

#include <cstring>

#include "tests/models/world.h"

namespace atl::models {
namespace {

uint64_t Hash(const std::vector<float>& values) {
  uint64_t hash = 14695981039346656037u;
  for (const float value : values) hash = (hash ^ std::bit_cast<uint32_t>(value)) * 1099511628211u;
  return hash;
}

TEST(LargeShapeTest, SameHashes) {
  constexpr int64_t kTokens = 200, kPrompt = 190;
  constexpr int kExperts = 64;
  constexpr std::pair<const char*, const char*> kNumerics[] = {
      {"f32", ""}, {"bf16", ""}, {"f32", "int4"}, {"bf16", "int8"}, {"f32", "q4_k"}};
  for (const auto& [profile, weights] : kNumerics) {
    std::optional<uint64_t> expected;
    const std::pair<parallel::Topology, int> shapes[] = {{{1, 1}, 1}, {{4, 2}, 2}, {{8, 8}, 1}, {{8, 8}, 4}};
    for (const auto& [topology, slices] : shapes) {
      World world({.path = std::string(ATOLL_SOURCE_DIR) + "/tests/golden/v3mini_2layers.json",
                   .topology = topology,
                   .profile = profile,
                   .kv_blocks = 4,
                   .max_batch_tokens = kTokens,
                   .dummy_weights = true,
                   .placement = parallel::ExpertPlacement::Contiguous(kExperts, topology.world, slices),
                   .weights = weights,
                   .head_weights = weights});
      std::vector<int32_t> ids(kTokens);
      for (int64_t i = 0; i < kTokens; ++i) ids[i] = static_cast<int32_t>(i * 7919 % world.spec().vocab);
      const int64_t chunk = topology.world == 4 ? 77 : kTokens;
      const uint64_t hash = Hash(world.Score(ids, kPrompt, chunk, topology.groups() - 1));
      std::printf("%s %s %dx%d, slices %d, chunk %d: %016llx\n", profile, weights, topology.world, topology.tp, slices,
                  static_cast<int>(chunk), static_cast<unsigned long long>(hash));
      if (!expected) expected = hash;
      EXPECT_EQ(hash, *expected) << profile << " " << weights << " " << topology.world << "x" << topology.tp << " "
                                 << slices;
    }
  }
}

}  // namespace
}  // namespace atl::models
